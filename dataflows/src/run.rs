//! A run of a job: opens what it needs, starts the workers, answers questions, ends cleanly.
//!
//! ```text
//!  start: data folder (lock, generation) ─► processes meet ─► archive, sinks, sources ─► workers
//!  wait:  workers end ─► archives closed ─► sinks closed ─► summary
//! ```

use std::any::Any;
use std::error::Error;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use connectors::alarm::Alarm;
use connectors::archive::{ArchiveError, ArchiveHandle};
use connectors::clock::Clock;
use connectors::disk::SystemDisk;
use connectors::folder::{DataFolder, FolderError};
use connectors::sink::SinkHandle;
use connectors::source::SourceSetup;
use operators::decode::Decoder;
use operators::digital::{Envelope, Rows, RowsSettings};
use operators::twin::TwinType;
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::scheduling::SyncActivator;
use timely::worker::Worker;
use tracing::{error, info};

use crate::cluster::{self, ClusterError, ClusterOptions, Identity};
use crate::control::Command;
use crate::digital::Digital;
use crate::graph::{self, Parts};
use crate::ingest::Lane;
use crate::metrics::Metrics;
use crate::plan::{ArchivePlan, Limits, ListenerPlan, Plan, SourcePlan, TimeMode};
use crate::router::BinTable;
use crate::survey::{Answer, Survey};
use crate::twins::Twins;

/// How long sinks and archive may take to publish what they have when the run ends.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// Where and how wide a job runs.
pub struct RunOptions {
    /// Workers of this process.
    pub workers: usize,
    /// The job's data folder.
    pub data: PathBuf,
    /// The other processes, if there are any.
    pub cluster: Option<ClusterOptions>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Why a run could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The other processes.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A source or sink.
    #[error("connection `{name}`: {error}")]
    Connection {
        /// Name of the connection.
        name: String,
        /// What is wrong.
        error: Box<dyn Error + Send + Sync>,
    },
    /// The types do not fit into one archive.
    #[error("the types do not fit into one archive: {0}")]
    Columns(String),
    /// The engine underneath.
    #[error("the dataflow could not start: {0}")]
    Dataflow(String),
}

/// A job that runs.
pub struct Run {
    generation: u64,
    metrics: Arc<Metrics>,
    stopper: Stopper,
    answers: Mutex<mpsc::Receiver<Answer>>,
    next_survey: AtomicU64,
    workers: timely::communication::WorkerGuards<Result<u64, ArchiveError>>,
    sinks: Vec<Arc<SinkHandle>>,
    unpublished: Arc<AtomicU64>,
    start: Instant,
    /// Locked while the run lasts.
    _folder: Option<DataFolder>,
}

/// Asks a run to end; may be kept and sent elsewhere.
#[derive(Clone)]
pub struct Stopper {
    commands: mpsc::Sender<Command>,
    activator: Arc<Mutex<Option<SyncActivator>>>,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How the twins were at the last instant of load; in process 0.
    pub survey: Option<Survey>,
    /// Accepted physical events, of all processes in process 0, else of this one.
    pub events: u64,
    /// Messages and elements that could not be taken.
    pub dead_letters: u64,
    /// Digital events made.
    pub digital_events: u64,
    /// Digital events that no sink of this process took.
    pub unpublished: u64,
    /// Rows in the archive's files, of this process.
    pub archive_rows: u64,
    /// How long the run took.
    pub seconds: f64,
}

/// Starts a job.
pub fn start(plan: Plan, options: RunOptions) -> Result<Run, RunError> {
    let process = options.cluster.as_ref().map_or(0, |cluster| cluster.process);
    let processes = options.cluster.as_ref().map_or(1, |cluster| cluster.hosts.len());
    let workers = options.workers.max(1);
    let folder = match process {
        0 => Some(DataFolder::open(&options.data, &plan.job)?),
        // The run has one owner, process 0; the others learn its generation (rule 7.7).
        _ => None,
    };
    let mut generation = folder.as_ref().map_or(0, DataFolder::generation);
    if let (0, Some(archive)) = (process, &plan.archive) {
        connectors::archive::prepare(&archive.settings.path, &plan.job)?;
    }
    let (allocators, others) = match &options.cluster {
        Some(cluster) => {
            let identity = Identity {
                digest: digest(&plan),
                processes: processes as u32,
                workers: workers as u32,
                generation,
            };
            let (sockets, learnt) = cluster::meet(cluster, identity)?;
            generation = learnt;
            connect(sockets, process, workers)?
        }
        None => timely::CommunicationConfig::Process(workers).try_build().map_err(RunError::Dataflow)?,
    };
    let metrics = Arc::new(Metrics::default());
    let unpublished = Arc::new(AtomicU64::new(0));
    let (commands, received) = mpsc::channel();
    let (answered, answers) = mpsc::channel();
    let sinks = open_sinks(plan.sinks, process, &metrics)?;
    let mut shares = Shares {
        job: plan.job.clone(),
        generation,
        types: Arc::new(plan.types),
        source_names: plan.sources.iter().map(|source| source.name.clone()).collect(),
        listeners: plan.listeners,
        archive: plan.archive,
        limits: plan.limits,
        time: plan.time,
        clock: options.clock,
        sinks: sinks.clone(),
        unpublished: unpublished.clone(),
        metrics: metrics.clone(),
        workers,
        peers: workers * processes,
        first_worker: workers * process,
        start: Instant::now(),
        data: options.data.clone(),
        alarm: Arc::default(),
    };
    let mut parts = shares.parts(received, (process == 0).then_some(answered))?;
    if process == 0 {
        shares.open_sources(plan.sources, &mut parts)?;
    }
    let activator = Arc::new(Mutex::new(None));
    let stopper = Stopper { commands, activator: activator.clone() };
    let start = shares.start;
    let parts = Mutex::new(parts);
    let first_worker = shares.first_worker;
    let guards =
        timely::execute::execute_from(allocators, others, timely::WorkerConfig::default(), move |worker| {
            let index = worker.index() - first_worker;
            let mine = lock(&parts)[index].take();
            let (parts, archive) = mine.expect("each worker takes its own parts, once");
            let work = || work(worker, parts, &activator);
            // A worker that panicked has lost its twins: nothing sound can go on (rule 7.8).
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
                error!(worker = index, "worker panicked; the process ends");
                std::process::abort();
            }
            close_archive(archive)
        })
        .map_err(RunError::Dataflow)?;
    info!(job = %shares.job, generation, process, workers, "job runs");
    Ok(Run {
        generation,
        metrics,
        stopper,
        answers: Mutex::new(answers),
        next_survey: AtomicU64::new(1),
        workers: guards,
        sinks,
        unpublished,
        start,
        _folder: folder,
    })
}

type Allocators = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

/// Hands the sockets of the other processes to timely.
fn connect(sockets: Vec<Option<TcpStream>>, process: usize, workers: usize) -> Result<Allocators, RunError> {
    let hooks = Hooks::default();
    let within = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), None);
    let (builders, guard) = initialize_networking_from_sockets(within, sockets, process, workers, hooks)
        .map_err(|error| RunError::Dataflow(error.to_string()))?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    Ok((builders, Box::new(guard)))
}

/// What the workers of a process have in common.
struct Shares {
    job: String,
    generation: u64,
    types: Arc<Vec<TwinType>>,
    source_names: Vec<String>,
    listeners: Vec<ListenerPlan>,
    archive: Option<ArchivePlan>,
    limits: Limits,
    time: TimeMode,
    clock: Arc<dyn Clock>,
    sinks: Vec<Arc<SinkHandle>>,
    unpublished: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    workers: usize,
    peers: usize,
    first_worker: usize,
    start: Instant,
    data: PathBuf,
    alarm: Arc<Alarm>,
}

type WorkerParts = Option<(Parts, Option<Arc<ArchiveHandle>>)>;

impl Shares {
    /// The parts of each worker, without lanes.
    fn parts(
        &self,
        commands: mpsc::Receiver<Command>,
        answers: Option<mpsc::Sender<Answer>>,
    ) -> Result<Vec<WorkerParts>, RunError> {
        let (mut commands, mut answers) = (Some(commands), answers);
        let mut parts = Vec::new();
        for index in 0..self.workers {
            let archive = match &self.archive {
                Some(plan) => {
                    let worker = self.first_worker + index;
                    let handle =
                        connectors::archive::start(&plan.settings, &self.job, self.generation, worker)?;
                    self.metrics.add_archive(handle.stats.clone());
                    Some(Arc::new(handle))
                }
                None => None,
            };
            let one = Parts {
                lanes: Vec::new(),
                sources: Vec::new(),
                // Sources belong to process 0 (rule 7.9), and have a lane for each of its workers.
                workers_with_lanes: self.workers,
                commands: commands.take(),
                twins: self.twins()?,
                sinks: self.sinks.clone(),
                archive: archive.clone(),
                unpublished: self.unpublished.clone(),
                answers: answers.take(),
                time: self.time,
                clock: self.clock.clone(),
                start: self.start,
                metrics: self.metrics.clone(),
            };
            parts.push(Some((one, archive)));
        }
        Ok(parts)
    }

    fn twins(&self) -> Result<Twins, RunError> {
        let rows = match &self.archive {
            Some(plan) => {
                let settings = RowsSettings { physical: plan.physical };
                let rows = Rows::new(settings, self.types.iter(), self.source_names.clone());
                Some(rows.map_err(|problem| RunError::Columns(problem.message))?)
            }
            None => None,
        };
        let envelope = Envelope::new(&self.job, self.generation, self.types.iter());
        let digital = Digital::new(envelope, self.listeners.clone(), self.sinks.len(), rows);
        // Bins are dealt out evenly, and hashes fall evenly into bins.
        let twins_max = self.limits.twins_max.div_ceil(self.peers as u64);
        let sources = self.source_names.len();
        Ok(Twins::new(self.types.clone(), sources, digital, twins_max, self.metrics.clone()))
    }

    /// Opens the sources, and deals their lanes out to the workers.
    fn open_sources(&mut self, sources: Vec<SourcePlan>, parts: &mut [WorkerParts]) -> Result<(), RunError> {
        for (number, source) in sources.into_iter().enumerate() {
            let SourcePlan { name, decoder, open } = source;
            let setup = SourceSetup {
                name: name.clone(),
                filters: decoder.filters(),
                lanes: self.workers,
                lane_of: self.lane_of(&decoder),
                clock: self.clock.clone(),
                next: 0,
                folder: self.data.join("journal").join(&name),
                disk: Arc::new(SystemDisk),
                alarm: self.alarm.clone(),
            };
            let mut handle =
                open(setup).map_err(|error| RunError::Connection { name: name.clone(), error })?;
            self.metrics.add_source(&name, handle.stats.clone());
            let lanes = std::mem::take(&mut handle.lanes);
            for (lane, part) in lanes.into_iter().zip(parts.iter_mut()) {
                let Some((part, _)) = part else { continue };
                part.lanes.push(Lane::new(
                    number as u16,
                    &name,
                    lane,
                    decoder.clone(),
                    self.limits.in_flight_bytes_max,
                    self.time,
                    self.limits.dead_letters_per_second_max.div_ceil(self.workers as u32),
                ));
            }
            if let Some(Some((first, _))) = parts.first_mut() {
                first.sources.push(handle);
            }
        }
        Ok(())
    }

    /// A message is best decoded where its twin lives; where that is another process, anywhere,
    /// but always at the same place.
    fn lane_of(&self, decoder: &Decoder) -> connectors::source::LaneOf {
        let key = decoder.lane_key();
        let table = BinTable::even(self.peers);
        let lanes = self.workers;
        match lanes {
            1 => Arc::new(|_| 0),
            _ => Arc::new(move |topic| table.owner(key.of(topic)) as usize % lanes),
        }
    }
}

/// A worker's life.
fn work(worker: &mut Worker, parts: Parts, activator: &Mutex<Option<SyncActivator>>) {
    let is_first = parts.commands.is_some();
    let probe = worker.dataflow(|scope| {
        graph::build(scope, parts, |wake| {
            if is_first {
                *lock(activator) = Some(wake);
            }
        })
    });
    drop(probe);
    while worker.has_dataflows() {
        worker.step_or_park(None);
    }
}

fn open_sinks(
    plans: Vec<crate::plan::SinkPlan>,
    process: usize,
    metrics: &Metrics,
) -> Result<Vec<Arc<SinkHandle>>, RunError> {
    let mut sinks = Vec::new();
    for plan in plans {
        let handle =
            (plan.open)(process).map_err(|error| RunError::Connection { name: plan.name.clone(), error })?;
        metrics.add_sink(&plan.name, handle.stats.clone());
        sinks.push(Arc::new(handle));
    }
    Ok(sinks)
}

/// Ends the archive of a worker; how many rows are in its files.
fn close_archive(archive: Option<Arc<ArchiveHandle>>) -> Result<u64, ArchiveError> {
    // The graph is gone, and with it the only other holder.
    match archive.and_then(Arc::into_inner) {
        Some(archive) => Ok(archive.close(CLOSE_WAIT)?.rows),
        None => Ok(0),
    }
}

/// What of a job must be the same in all processes.
fn digest(plan: &Plan) -> u64 {
    let text =
        format!("{} {:?} {:?} {:?} {:?}", plan.job, plan.types, plan.listeners, plan.time, plan.limits);
    operators::id::hash(text.as_bytes())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that can panic runs while these are locked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stopper {
    /// Asks all processes of the run to end cleanly. Returns at once.
    pub fn stop(&self) {
        self.command(Command::Stop);
    }

    fn command(&self, command: Command) {
        // A run that has ended needs no commands.
        let _ = self.commands.send(command);
        if let Some(activator) = &*lock(&self.activator) {
            let _ = activator.activate();
        }
    }
}

impl Run {
    /// Number of this start of the job on its data folder.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The counters of this process.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// What asks the run to end.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// How the fleet is. None where the workers do not answer in time, or answer another process.
    pub fn survey(&self, timeout: Duration) -> Option<Survey> {
        let number = self.next_survey.fetch_add(1, Ordering::Relaxed);
        let answers = lock(&self.answers);
        self.stopper.command(Command::Survey(number));
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = answers.recv_timeout(left).ok()?;
            // One that came too late for its question is let go; the last one is for `wait`.
            if answer.number == number {
                return Some(answer.survey());
            }
        }
    }

    /// Whether all workers of this process have ended.
    pub fn is_finished(&self) -> bool {
        self.workers.guards().iter().all(std::thread::JoinHandle::is_finished)
    }

    /// Waits for the end: all that is under way is published, archived and closed.
    pub fn wait(self) -> Result<Summary, RunError> {
        let mut archive_rows = 0;
        for worker in self.workers.join() {
            archive_rows += worker.map_err(RunError::Dataflow)??;
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let mut unpublished = self.unpublished.load(Ordering::Relaxed);
        for sink in self.sinks {
            // The workers are gone, and with them the other holders.
            if let Some(sink) = Arc::into_inner(sink) {
                unpublished += sink.close(CLOSE_WAIT).unpublished;
            }
        }
        let last = lock(&self.answers).try_iter().find(|answer| answer.number == 0);
        let here = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Summary {
            events: last.as_ref().map_or(here(&self.metrics.events), |last| last.events),
            dead_letters: last.as_ref().map_or(here(&self.metrics.dead_letters), |last| last.dead_letters),
            digital_events: last.as_ref().map_or_else(
                || self.metrics.digital_events.iter().map(here).sum(),
                |last| last.digital_events,
            ),
            survey: last.map(Answer::survey),
            unpublished,
            archive_rows,
            seconds,
        })
    }
}

//! How a run starts: what it needs is opened in an order in which each step may rely on the ones before.
//!
//! ```text
//!  data folder (lock, generation) ─► checkpoint ─► archive put right ─► processes meet
//!    ─► each worker: its twins, archive, recorder ─► sinks ─► sources, from where the checkpoint says ─► go
//! ```

use std::any::Any;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use connectors::alarm::Alarm;
use connectors::archive::{ArchiveError, ArchiveHandle, ArchiveSetup, Committed, SegmentRef};
use connectors::clock::Clock;
use connectors::disk::Disk;
use connectors::folder::{self, DataFolder};
use connectors::sink::SinkHandle;
use connectors::source::SourceSetup;
use connectors::store::{self, Store};
use operators::decode::Decoder;
use operators::digital::{Envelope, Rows, RowsSettings};
use operators::adaptation::Adaptation;
use operators::layout::Layout;
use operators::twin::TwinType;
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::scheduling::SyncActivator;
use timely::worker::Worker;
use tracing::{error, info, warn};

use crate::checkpoint::committer::{self, CheckpointStats, Commit, CommitterSetup};
use crate::checkpoint::recorder::{self, RecorderSetup};
use crate::checkpoint::restore;
use crate::checkpoint::{CheckpointId, CommitterPort, Mailbox, Manifest};
use crate::cluster::{self, Identity};
use crate::control::Command;
use crate::digital::Digital;
use crate::graph::{self, Parts};
use crate::ingest::{Lane, LaneLimits};
use crate::metrics::Metrics;
use crate::plan::{ArchivePlan, CheckpointPlan, Limits, ListenerPlan, Plan, SourcePlan, TimeMode};
use crate::quarantine::{self, Quarantine};
use crate::router::BinTable;
use crate::run::{CLOSE_WAIT, Run, RunError, RunOptions, Stopper, lock};
use crate::survey::Answer;
use crate::twins::Twins;

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
    let store = open_store(&plan.checkpoint, &options)?;
    let mut begin = Begin { generation: folder.as_ref().map_or(0, DataFolder::generation), ..Begin::default() };
    if process == 0 {
        if let Some(found) = restore::find(&*store, &plan.job)? {
            (begin.manifest, begin.is_newest) = (Some(found.manifest), found.is_newest);
        }
        begin.adopted = begin.repair_archive(&plan, &options)?;
    }
    let (allocators, others) = match &options.cluster {
        Some(cluster) => {
            let id = begin.manifest.as_ref().map(|manifest| manifest.id);
            let identity = Identity {
                digest: digest(&plan),
                processes: processes as u32,
                workers: workers as u32,
                generation: begin.generation,
                checkpoint: id.map_or((0, 0), |id| (id.generation, id.number)),
            };
            let (sockets, learnt) = cluster::meet(cluster, identity)?;
            if process > 0 {
                begin.learn(learnt, &*store, &options)?;
            }
            connect(sockets, process, workers)?
        }
        None => timely::CommunicationConfig::Process(workers).try_build().map_err(RunError::Dataflow)?,
    };
    let metrics = Arc::new(Metrics::default());
    let (unpublished, alarm) = (Arc::new(AtomicU64::new(0)), Arc::new(Alarm::default()));
    let (commands, received) = mpsc::channel();
    let (answered, answers) = mpsc::channel();
    let sinks = open_sinks(plan.sinks, process, &metrics)?;
    let Begin { generation, manifest, adopted, .. } = begin;
    let types = Arc::new(plan.types);
    let state = match manifest {
        Some(manifest) => Some(State {
            adaptation: match options.fresh {
                true => None,
                false => Some(restore::adapt(&manifest, &types)?),
            },
            manifest,
        }),
        None => None,
    };
    let mut shares = Shares {
        job: plan.job,
        generation,
        types,
        source_names: plan.sources.iter().map(|source| source.name.clone()).collect(),
        listeners: plan.listeners,
        archive: plan.archive,
        checkpoint: plan.checkpoint,
        limits: plan.limits,
        time: plan.time,
        clock: options.clock,
        disk: options.disk,
        sinks: sinks.clone(),
        unpublished: unpublished.clone(),
        metrics: metrics.clone(),
        workers,
        peers: workers * processes,
        first_worker: workers * process,
        start: Instant::now(),
        data: options.data,
        until_us: options.until_us,
        alarm: alarm.clone(),
        store,
        state,
    };
    let (committer, committer_thread) = match process {
        0 => {
            let (port, thread) = shares.start_committer()?;
            (Some(port), Some(thread))
        }
        _ => (None, None),
    };
    let mut parts = shares.parts(received, (process == 0).then_some(answered), committer, adopted)?;
    shares.restore(&mut parts)?;
    if process == 0 {
        shares.open_sources(plan.sources, &mut parts)?;
    }
    let activator = Arc::new(Mutex::new(None));
    let stopper = Stopper { commands, activator: activator.clone() };
    let (start, first_worker) = (shares.start, shares.first_worker);
    let (parts, crashes) = (Mutex::new(parts), shares.data.join(quarantine::FOLDER));
    let (job, source_names, disk) = (shares.job.clone(), shares.source_names.clone(), shares.disk.clone());
    let failed = alarm.clone();
    let guards =
        timely::execute::execute_from(allocators, others, timely::WorkerConfig::default(), move |worker| {
            let index = worker.index() - first_worker;
            let mine = lock(&parts)[index].take();
            let (parts, archive) = mine.expect("each worker takes its own parts, once");
            let work = || work(worker, parts, &activator, &failed);
            // A worker that panicked has lost its twins: nothing sound can go on (rule 7.8).
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                quarantine::report(&*disk, &crashes, &job, generation, first_worker + index, &source_names, &*panic);
                error!(worker = index, "worker panicked; the process ends");
                std::process::abort();
            }
            match failed.reason() {
                // What is not committed is not to be seen.
                Some(_) => Ok(0),
                None => close_archive(archive),
            }
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
        alarm,
        committer: committer_thread,
        _folder: folder,
    })
}

/// What a run begins with.
#[derive(Default)]
struct Begin {
    generation: u64,
    manifest: Option<Manifest>,
    /// No later checkpoint was passed over for it.
    is_newest: bool,
    /// Segments of the archive that an earlier run has left.
    adopted: Vec<SegmentRef>,
}

/// A checkpoint that the run goes on from.
struct State {
    manifest: Manifest,
    /// How its records become twins; none where the run begins with empty ones.
    adaptation: Option<Adaptation>,
}

impl Begin {
    /// Puts the archive right: what is committed becomes visible, what is not goes.
    fn repair_archive(&self, plan: &Plan, options: &RunOptions) -> Result<Vec<SegmentRef>, RunError> {
        let Some(archive) = &plan.archive else { return Ok(Vec::new()) };
        let settings = &archive.settings;
        let segments = options.data.join(SEGMENTS);
        let committed = match &self.manifest {
            None => Committed::Nothing,
            Some(manifest) if self.is_newest => Committed::Newest(&manifest.archive),
            Some(manifest) => {
                Committed::Older { parts: &manifest.archive, generation: manifest.id.generation }
            }
        };
        Ok(connectors::archive::restore(&options.disk, settings, &plan.job, &segments, committed)?)
    }

    /// Takes over what process 0 knows.
    fn learn(&mut self, run: Identity, store: &dyn Store, options: &RunOptions) -> Result<(), RunError> {
        let seen = folder::generation_of(&options.data);
        if seen != Some(run.generation) {
            return Err(RunError::NotShared { path: options.data.clone(), generation: run.generation });
        }
        self.generation = run.generation;
        if let (generation @ 1.., number) = run.checkpoint {
            self.manifest = Some(restore::read(store, CheckpointId { generation, number })?);
        }
        Ok(())
    }
}

/// Where segments of the archive stand in the data folder.
const SEGMENTS: &str = "segments";
/// Where journals stand in the data folder.
const JOURNALS: &str = "journal";
/// Where checkpoints stand in the data folder, unless the job says otherwise.
pub const CHECKPOINTS: &str = "checkpoints";

/// The store of the job's checkpoints.
fn open_store(plan: &CheckpointPlan, options: &RunOptions) -> Result<Arc<dyn Store>, RunError> {
    let default = options.data.join(CHECKPOINTS).to_string_lossy().into_owned();
    let url = plan.store.as_ref().unwrap_or(&default);
    Ok(store::open(url, options.disk.clone())?)
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
    checkpoint: CheckpointPlan,
    limits: Limits,
    time: TimeMode,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    sinks: Vec<Arc<SinkHandle>>,
    unpublished: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    workers: usize,
    peers: usize,
    first_worker: usize,
    start: Instant,
    data: PathBuf,
    until_us: Option<i64>,
    alarm: Arc<Alarm>,
    store: Arc<dyn Store>,
    state: Option<State>,
}

type WorkerParts = Option<(Parts, Option<Arc<ArchiveHandle>>)>;

impl Shares {
    /// The parts of each worker, without twins and lanes.
    fn parts(
        &self,
        commands: mpsc::Receiver<Command>,
        answers: Option<mpsc::Sender<Answer>>,
        committer: Option<CommitterPort>,
        adopted: Vec<SegmentRef>,
    ) -> Result<Vec<WorkerParts>, RunError> {
        let (mut commands, mut answers, mut committer) = (Some(commands), answers, committer);
        let mut dealt: Vec<Vec<SegmentRef>> = vec![Vec::new(); self.workers];
        for (number, segment) in adopted.into_iter().enumerate() {
            dealt[number % self.workers].push(segment);
        }
        let mut parts = Vec::new();
        for (index, adopted) in dealt.into_iter().enumerate() {
            let worker = self.first_worker + index;
            let archive = self.start_archive(worker, adopted)?;
            let mailbox = Mailbox::shared();
            let recorder = recorder::start(RecorderSetup {
                store: self.store.clone(),
                generation: self.generation,
                worker,
                parts: mailbox.clone(),
                alarm: self.alarm.clone(),
            });
            let one = Parts {
                lanes: Vec::new(),
                sources: Vec::new(),
                // Sources belong to process 0 (rule 7.9), and have a lane for each of its workers.
                workers_with_lanes: self.workers,
                commands: commands.take(),
                twins: self.twins()?,
                sinks: self.sinks.clone(),
                archive: archive.clone(),
                recorder: recorder.map_err(RunError::Thread)?,
                parts: mailbox,
                interval: self.checkpoint.interval,
                committer: committer.take(),
                alarm: self.alarm.clone(),
                until_us: self.until_us,
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

    fn start_archive(
        &self,
        worker: usize,
        adopted: Vec<SegmentRef>,
    ) -> Result<Option<Arc<ArchiveHandle>>, RunError> {
        let Some(plan) = &self.archive else { return Ok(None) };
        let handle = connectors::archive::start(ArchiveSetup {
            settings: plan.settings.clone(),
            job: self.job.clone(),
            generation: self.generation,
            worker,
            segments: self.data.join(SEGMENTS),
            adopted,
            fallbacks: self.checkpoint.retain.saturating_sub(1),
            disk: self.disk.clone(),
            clock: self.clock.clone(),
            alarm: self.alarm.clone(),
        })?;
        self.metrics.add_archive(handle.stats.clone());
        Ok(Some(Arc::new(handle)))
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

    /// Gives each worker its twins, all at the same time.
    fn restore(&self, parts: &mut [WorkerParts]) -> Result<(), RunError> {
        let Some(State { manifest, adaptation: Some(adaptation) }) = &self.state else { return Ok(()) };
        let began = Instant::now();
        let table = BinTable::even(self.peers);
        let load = |index: usize, twins: &mut Twins| {
            let worker = (self.first_worker + index) as u32;
            restore::load(&*self.store, manifest, adaptation, |bin| table.owner_of(bin) == worker, twins)
        };
        std::thread::scope(|scope| {
            let loads: Vec<_> = parts
                .iter_mut()
                .enumerate()
                .filter_map(|(index, part)| Some((index, &mut part.as_mut()?.0.twins)))
                .map(|(index, twins)| scope.spawn(move || load(index, twins)))
                .collect();
            // A panic while twins are read is a bug of ours, and goes on.
            loads.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        info!(checkpoint = %manifest.id, twins = manifest.twins, took = ?began.elapsed(), "state restored");
        Ok(())
    }

    fn start_committer(&self) -> Result<(CommitterPort, std::thread::JoinHandle<()>), RunError> {
        let committed = Mailbox::shared();
        let stats = Arc::new(CheckpointStats::default());
        self.metrics.set_checkpoints(stats.clone());
        // Records of a job that was laid out otherwise are written anew, all of them.
        let is_kept = |state: &&State| state.adaptation.as_ref().is_some_and(Adaptation::is_identity);
        let parts = self.state.as_ref().filter(is_kept).map(|state| state.manifest.parts.clone());
        let setup = CommitterSetup {
            store: self.store.clone(),
            job: self.job.clone(),
            generation: self.generation,
            workers: self.peers,
            recorded: self.time == TimeMode::Recorded,
            sources: self.source_names.clone(),
            layout: Layout::of(&self.types),
            parts: parts.unwrap_or_default(),
            retain: self.checkpoint.retain,
            clock: self.clock.clone(),
            alarm: self.alarm.clone(),
            committed: committed.clone(),
            stats: stats.clone(),
        };
        let (commits, thread): (mpsc::Sender<Commit>, _) = committer::start(setup).map_err(RunError::Thread)?;
        Ok((CommitterPort { commits, committed, stats }, thread))
    }

    /// Opens the sources, from where the checkpoint says, and deals their lanes out to the workers.
    fn open_sources(&mut self, sources: Vec<SourcePlan>, parts: &mut [WorkerParts]) -> Result<(), RunError> {
        let quarantine = Quarantine::read(&*self.disk, &self.data.join(quarantine::FOLDER), &self.job);
        for (number, source) in sources.into_iter().enumerate() {
            let SourcePlan { name, decoder, open } = source;
            let setup = SourceSetup {
                filters: decoder.filters(),
                lanes: self.workers,
                lane_of: self.lane_of(&decoder),
                clock: self.clock.clone(),
                next: self.next(&name),
                until_us: self.until_us,
                folder: self.data.join(JOURNALS).join(&name),
                disk: self.disk.clone(),
                alarm: self.alarm.clone(),
                name: name.clone(),
            };
            let mut handle =
                open(setup).map_err(|error| RunError::Connection { name: name.clone(), error })?;
            self.metrics.add_source(&name, handle.stats.clone());
            let lanes = std::mem::take(&mut handle.lanes);
            let limits = LaneLimits {
                in_flight_bytes_max: self.limits.in_flight_bytes_max,
                dead_letters_per_second_max: self
                    .limits
                    .dead_letters_per_second_max
                    .div_ceil(self.workers as u32),
            };
            for (lane, part) in lanes.into_iter().zip(parts.iter_mut()) {
                let Some((part, _)) = part else { continue };
                let quarantined = quarantine.of(&name);
                part.lanes.push(Lane::new(
                    number as u16,
                    &name,
                    lane,
                    decoder.clone(),
                    self.time,
                    limits,
                    quarantined,
                ));
            }
            if let Some(Some((first, _))) = parts.first_mut() {
                first.sources.push(handle);
            }
        }
        Ok(())
    }

    /// Where a source goes on.
    fn next(&self, source: &str) -> u64 {
        let Some(state) = &self.state else { return 0 };
        let manifest = &state.manifest;
        if manifest.recorded != (self.time == TimeMode::Recorded) {
            warn!(source, "the job's clock has changed between recorded and live; the source is read from its begin");
            return 0;
        }
        let mark = manifest.sources.iter().find(|mark| mark.name == source);
        mark.map_or(0, |mark| mark.next)
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
fn work(worker: &mut Worker, parts: Parts, activator: &Mutex<Option<SyncActivator>>, alarm: &Alarm) {
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
        if alarm.reason().is_some() {
            // Nothing more can be kept, so nothing more is done; the next start goes on from the last
            // checkpoint.
            worker.installed_dataflows().into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
        }
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

//! How a run starts: what it needs is opened in an order in which each step may rely on the ones before.
//!
//! ```text
//!  data folder (lock, generation) ─► checkpoint ─► archive put right ─► processes meet
//!    ─► each worker: its twins, archive, recorder ─► sinks ─► sources, from where the checkpoint says ─► go
//! ```

use std::any::Any;
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use connectors::alarm::Alarm;
use connectors::archive::{ArchiveError, ArchiveHandle, Committed};
use connectors::folder::{self, DataFolder};
use connectors::outbox::{OutboxId, Unsent};
use connectors::parts::PartInfo;
use connectors::sink::SinkSetup;
use connectors::store::{self, Store};
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::scheduling::SyncActivator;
use timely::worker::Worker;
use tracing::{error, info};

use crate::checkpoint::manifest::OutboxPart;
use crate::checkpoint::restore::{self, RestoreError};
use crate::checkpoint::{CheckpointId, Manifest};
use crate::cluster::{self, Identity};
use crate::graph::{self, Parts};
use crate::metrics::Metrics;
use crate::plan::{CheckpointPlan, Plan, Sink};
use crate::publish::SinkPort;
use crate::quarantine;
use crate::run::{CLOSE_WAIT, Run, RunError, RunOptions, Stopper, lock};
use crate::shares::{SEGMENTS, Shares, State};

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
    let mut begin =
        Begin { generation: folder.as_ref().map_or(0, DataFolder::generation), ..Begin::default() };
    if process == 0 {
        store.clean().map_err(RestoreError::Io)?;
        if let Some(found) = restore::find(&*store, &plan.job)? {
            (begin.manifest, begin.is_newest) = (Some(found.manifest), found.is_newest);
        }
        begin.repair_archive(&plan, &options)?;
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
    let Begin { generation, manifest, .. } = begin;
    let are_keyed: Vec<bool> = plan.sinks.iter().map(|sink| sink.is_keyed).collect();
    let setup = SinkSetup {
        name: String::new(),
        job: plan.job.clone(),
        process,
        generation,
        store: store.clone(),
        unsent: Vec::new(),
        alarm: alarm.clone(),
    };
    let unsent = manifest.as_ref().map_or(&[][..], |manifest| &manifest.outboxes);
    let sinks = open_sinks(plan.sinks, &setup, processes, unsent, &metrics)?;
    let has_shared_sources = plan.sources.iter().any(|source| source.is_shared);
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
        are_keyed,
        unpublished: unpublished.clone(),
        metrics: metrics.clone(),
        workers,
        peers: workers * processes,
        processes,
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
    let mut parts =
        shares.parts(received, (process == 0).then_some(answered), committer, has_shared_sources)?;
    shares.restore(&mut parts)?;
    shares.open_sources(plan.sources, &mut parts)?;
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
                quarantine::report(
                    &*disk,
                    &crashes,
                    &job,
                    generation,
                    first_worker + index,
                    &source_names,
                    &*panic,
                );
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
}

impl Begin {
    /// Puts the archive right: what is committed becomes visible, what is not goes.
    fn repair_archive(&self, plan: &Plan, options: &RunOptions) -> Result<(), RunError> {
        let Some(archive) = &plan.archive else { return Ok(()) };
        let settings = &archive.settings;
        let segments = options.data.join(SEGMENTS);
        let committed = match &self.manifest {
            None => Committed::Nothing,
            Some(manifest) if self.is_newest => Committed::Newest(&manifest.archive),
            Some(manifest) => {
                Committed::Older { parts: &manifest.archive, generation: manifest.id.generation }
            }
        };
        // The writers adopt the open segments, each those of its number.
        connectors::archive::restore(&options.disk, settings, &plan.job, &segments, committed)?;
        Ok(())
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
    setup: &SinkSetup,
    processes: usize,
    unsent: &[OutboxPart],
    metrics: &Metrics,
) -> Result<Vec<SinkPort>, RunError> {
    let mut sinks = Vec::new();
    for plan in plans {
        // What a process left that is not there any more is sent by one that is.
        let mine = unsent.iter().filter(|part| part.process as usize % processes == setup.process);
        let unsent = by_outbox(mine.filter(|part| part.sink == plan.name));
        let setup = SinkSetup { name: plan.name.clone(), unsent, ..setup.clone() };
        let sink =
            (plan.open)(setup).map_err(|error| RunError::Connection { name: plan.name.clone(), error })?;
        let (port, stats) = match sink {
            Sink::Direct(handle) => {
                let stats = handle.stats.clone();
                (SinkPort::Direct(Arc::new(handle)), stats)
            }
            Sink::Outbox(handle) => {
                let stats = handle.stats.clone();
                (SinkPort::Outbox(Arc::new(handle)), stats)
            }
        };
        metrics.add_sink(&plan.name, stats);
        sinks.push(port);
    }
    Ok(sinks)
}

/// The objects of each process and checkpoint together, oldest checkpoint first.
fn by_outbox<'a>(parts: impl Iterator<Item = &'a OutboxPart>) -> Vec<Unsent> {
    let mut outboxes: BTreeMap<(OutboxId, u32), Vec<PartInfo>> = BTreeMap::new();
    for OutboxPart { process, id, part, .. } in parts {
        let id = OutboxId { generation: id.generation, number: id.number };
        outboxes.entry((id, *process)).or_default().push(part.clone());
    }
    let unsent = outboxes.into_iter();
    unsent.map(|((id, partition), parts)| Unsent { partition, id, parts }).collect()
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

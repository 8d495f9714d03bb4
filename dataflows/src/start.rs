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
use connectors::archive::{ArchiveHandle, Committed};
use connectors::folder::{self, DataFolder};
use connectors::outbox::{OutboxId, Unsent};
use connectors::parts::PartInfo;
use connectors::sink::SinkSetup;
use connectors::store::{self, Store};
use operators::layout::Layout;
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use tracing::info;

use crate::ask::Asker;
use crate::calls::Handover;
use crate::change::{FunctionChange, open_functions};
use crate::checkpoint::manifest::OutboxPart;
use crate::checkpoint::restore::{self, RestoreError};
use crate::checkpoint::{CheckpointId, Manifest};
use crate::cluster::{self, Identity};
use crate::engine::{EndPort, Engine, Installation, Shape};
use crate::graph::Parts;
use crate::metrics::Metrics;
use crate::plan::{CheckpointPlan, Limits, Plan, Sink, TimeMode};
use crate::publish::SinkPort;
use crate::quarantine::{self, Reporter};
use crate::quota::{Quota, Quotas, Rates};
use crate::run::{Run, RunError, RunOptions};
use crate::shares::{SEGMENTS, Shares, State};
use crate::twins::enrolment::RosterPort;

/// Starts a job on workers of its own, alone or with other processes.
pub fn start(plan: Plan, options: RunOptions) -> Result<Run, RunError> {
    let cluster = options.cluster.clone();
    let process = cluster.as_ref().map_or(0, |cluster| cluster.process);
    let processes = cluster.as_ref().map_or(1, |cluster| cluster.hosts.len());
    let shape = Shape { process, processes, workers: options.workers.max(1) };
    let mut begin = Begin::open(&plan, &options, process)?;
    let engine = match &cluster {
        Some(cluster) => {
            let id = begin.manifest.as_ref().map(|manifest| manifest.id);
            let identity = Identity {
                digest: digest(&plan),
                processes: processes as u32,
                workers: shape.workers as u32,
                generation: begin.generation,
                checkpoint: id.map_or((0, 0), |id| (id.generation, id.number)),
            };
            let (sockets, learnt) = cluster::meet(cluster, identity)?;
            if process > 0 {
                begin.learn(learnt, &options)?;
            }
            let (allocators, others) = connect(sockets, process, shape.workers)?;
            Engine::of(allocators, others, shape)?
        }
        None => Engine::start(shape.workers)?,
    };
    let run = install(&engine, plan, options, begin)?;
    Ok(Run { engine: Some(engine), ..run })
}

impl Engine {
    /// Starts a job on these workers, beside others. Of the options, `workers` and `cluster` say nothing here.
    pub fn run(&self, plan: Plan, options: RunOptions) -> Result<Run, RunError> {
        let begin = Begin::open(&plan, &options, self.shape().process)?;
        install(self, plan, options, begin)
    }
}

/// Opens what a job needs, and hands each worker its part.
fn install(engine: &Engine, plan: Plan, options: RunOptions, begin: Begin) -> Result<Run, RunError> {
    let (shape, job_number) = (engine.shape(), engine.next_job());
    let Shape { process, processes, workers } = shape;
    let metrics = Arc::new(Metrics::default());
    let (unpublished, alarm) = (Arc::new(AtomicU64::new(0)), Arc::new(Alarm::default()));
    let (commands, received) = mpsc::channel();
    let activator = Arc::new(Mutex::new(None));
    let (asker, replies) = Asker::new(commands, activator.clone());
    let Begin { folder, store, generation, manifest, .. } = begin;
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
    let mut types = plan.types;
    if plan.time == TimeMode::Recorded {
        types.iter_mut().for_each(|one| one.functions.wait_for_all());
    }
    let quotas = quotas(&plan.limits, plan.time, options.tenant);
    let functions = open_functions(plan.functions, &types, &metrics)?;
    let allowances = quotas.functions();
    metrics.draw_on(&allowances);
    let handover = Arc::new(Handover::new(shape.workers));
    let layout = Arc::new(Mutex::new(Layout::of(&types)));
    let has_shared_sources = plan.sources.iter().any(|source| source.is_shared);
    let types = Arc::new(types);
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
    let roster = RosterPort::new(Mutex::new(plan.roster));
    let mut shares = Shares {
        job: plan.job,
        roster: roster.clone(),
        job_number,
        generation,
        types,
        functions,
        handover: handover.clone(),
        layout: layout.clone(),
        source_names: plan.sources.iter().map(|source| source.name.clone()).collect(),
        listeners: plan.listeners,
        archive: plan.archive,
        checkpoint: plan.checkpoint,
        limits: plan.limits,
        quotas,
        time: plan.time,
        definition: options.definition,
        clock: options.clock,
        disk: options.disk,
        sinks: sinks.clone(),
        are_keyed,
        unpublished: unpublished.clone(),
        metrics: metrics.clone(),
        workers,
        peers: shape.peers(),
        processes,
        first_worker: shape.first_worker(),
        start: Instant::now(),
        data: options.data,
        until_us: options.until_us,
        alarm: alarm.clone(),
        store,
        state,
    };
    let (committer, committer_work) = (process == 0).then(|| shares.start_committer()).unzip();
    let mut parts =
        shares.parts(received, (process == 0).then_some(replies), committer, has_shared_sources)?;
    shares.restore(&mut parts)?;
    shares.enroll(&mut parts);
    match options.is_parked {
        true => shares.park_sources(plan.sources, &mut parts)?,
        false => shares.open_sources(plan.sources, &mut parts)?,
    }
    let reporter = Arc::new(Reporter {
        disk: shares.disk.clone(),
        folder: shares.data.join(quarantine::FOLDER),
        job: shares.job.clone(),
        generation,
        sources: shares.source_names.clone(),
    });
    let (archives, ended) = mpsc::channel();
    let end = EndPort { count: Arc::default(), archives };
    let installation = |(parts, archive): (Parts, Option<Arc<ArchiveHandle>>)| Installation {
        parts,
        archive,
        activator: activator.clone(),
        alarm: alarm.clone(),
        reporter: reporter.clone(),
        end: end.clone(),
    };
    engine.install(parts.into_iter().flatten().map(installation).collect());
    info!(job = %shares.job, generation, process, workers, "job runs");
    Ok(Run {
        change: FunctionChange { time: plan.time, handover, layout },
        allowances,
        generation,
        metrics,
        asker,
        workers,
        ended_count: end.count,
        ended,
        sinks,
        unpublished,
        start: shares.start,
        alarm,
        roster,
        committer: committer_work,
        folder,
        engine: None,
    })
}

/// What a run begins with.
struct Begin {
    /// Locked, where it is process 0's.
    folder: Option<DataFolder>,
    store: Arc<dyn Store>,
    generation: u64,
    manifest: Option<Manifest>,
    /// No later checkpoint was passed over for it.
    is_newest: bool,
}

impl Begin {
    /// Takes the data folder, finds its newest checkpoint, and puts the archive right.
    fn open(plan: &Plan, options: &RunOptions, process: usize) -> Result<Self, RunError> {
        let folder = match process {
            0 => Some(DataFolder::open(&options.data, &plan.job)?),
            // The run has one owner, process 0; the others learn its generation (rule 7.7).
            _ => None,
        };
        let generation = folder.as_ref().map_or(0, DataFolder::generation);
        let store = open_store(&plan.checkpoint, options)?;
        let mut begin = Self { folder, store, generation, manifest: None, is_newest: false };
        if process == 0 {
            begin.store.clean().map_err(RestoreError::Io)?;
            if let Some(found) = restore::find(&*begin.store, &plan.job)? {
                (begin.manifest, begin.is_newest) = (Some(found.manifest), found.is_newest);
            }
            begin.repair_archive(plan, options)?;
        }
        Ok(begin)
    }

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
    fn learn(&mut self, run: Identity, options: &RunOptions) -> Result<(), RunError> {
        let seen = folder::generation_of(&options.data);
        if seen != Some(run.generation) {
            return Err(RunError::NotShared { path: options.data.clone(), generation: run.generation });
        }
        self.generation = run.generation;
        if let (generation @ 1.., number) = run.checkpoint {
            self.manifest = Some(restore::read(&*self.store, CheckpointId { generation, number })?);
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

/// What the lanes and functions of a job draw on. Recorded input has all the time that it needs.
fn quotas(limits: &Limits, time: TimeMode, tenant: Option<Arc<Quota>>) -> Quotas {
    let is_bounded = limits.rates != Rates::default();
    let own = is_bounded.then(|| Arc::new(Quota::new(limits.rates)));
    match time {
        TimeMode::Live => Quotas::new(own.into_iter().chain(tenant).collect(), limits.overload),
        TimeMode::Recorded => Quotas::default(),
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

/// What of a job must be the same in all processes.
fn digest(plan: &Plan) -> u64 {
    let Plan { job, types, listeners, time, limits, roster, .. } = plan;
    let text = format!("{job} {types:?} {listeners:?} {time:?} {limits:?} {}", roster.len());
    operators::id::hash(text.as_bytes())
}

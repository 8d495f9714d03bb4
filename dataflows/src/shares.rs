//! What the workers of a process have in common, and the part of each that is made of it: archive,
//! recorder, twins from the checkpoint, lanes of the sources from where it says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use connectors::alarm::Alarm;
use connectors::archive::{ArchiveHandle, ArchiveSetup, SegmentRef};
use connectors::clock::Clock;
use connectors::disk::Disk;
use connectors::on_call::OnCall;
use connectors::outbox::OutboxHandle;
use connectors::place::Place;
use connectors::queue::Sender;
use connectors::source::{Share, SourceSetup};
use connectors::store::Store;
use operators::adaptation::Adaptation;
use operators::decode::Decoder;
use operators::digital::{Envelope, Rows, RowsSettings};
use operators::layout::Layout;
use operators::twin::TwinType;
use tracing::{info, warn};

use crate::ask::Replies;
use crate::calls::{Calls, Handover, OpenFunctions};
use crate::checkpoint::committer::{self, CheckpointStats, CommitterSetup};
use crate::checkpoint::manifest::OutboxPart;
use crate::checkpoint::recorder::{self, RecorderSetup};
use crate::checkpoint::{CommitterPort, Mailbox, Manifest, Part, PartMessage};
use crate::checkpoint::{memory, restore};
use crate::control::Command;
use crate::digital::Digital;
use crate::graph::Parts;
use crate::ingest::{Lane, LaneLimits};
use crate::metrics::Metrics;
use crate::plan::{ArchivePlan, CheckpointPlan, Limits, ListenerPlan, SourcePlan, TimeMode};
use crate::publish::SinkPort;
use crate::pulse::Pulse;
use crate::quarantine::{self, Quarantine};
use crate::quota::Quotas;
use crate::router::BinTable;
use crate::run::RunError;
use crate::twins::Twins;
use crate::twins::enrolment::{Enrolment, RosterPort};

/// Where segments of the archive stand in the data folder.
pub const SEGMENTS: &str = "segments";
/// Where journals stand in the data folder.
const JOURNALS: &str = "journal";
/// A checkpoint that the run goes on from.
pub(crate) struct State {
    pub(crate) manifest: Manifest,
    /// How its records become twins; none where the run begins with empty ones.
    pub(crate) adaptation: Option<Adaptation>,
}

/// What the workers of a process have in common.
pub(crate) struct Shares {
    pub(crate) job: String,
    /// Its number among those of the process.
    pub(crate) job_number: u32,
    pub(crate) generation: u64,
    /// Version of the job's definition.
    pub(crate) definition: u64,
    pub(crate) types: Arc<Vec<TwinType>>,
    pub(crate) functions: OpenFunctions,
    pub(crate) handover: Arc<Handover>,
    /// What the records of twins rely on, as it is now.
    pub(crate) layout: Arc<Mutex<Layout>>,
    pub(crate) source_names: Vec<String>,
    pub(crate) listeners: Vec<ListenerPlan>,
    pub(crate) archive: Option<ArchivePlan>,
    pub(crate) checkpoint: CheckpointPlan,
    pub(crate) limits: Limits,
    pub(crate) quotas: Quotas,
    pub(crate) time: TimeMode,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) sinks: Vec<SinkPort>,
    /// Which of them sort messages by a key.
    pub(crate) are_keyed: Vec<bool>,
    pub(crate) unpublished: Arc<AtomicU64>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) workers: usize,
    pub(crate) peers: usize,
    pub(crate) processes: usize,
    pub(crate) first_worker: usize,
    pub(crate) start: Instant,
    pub(crate) data: PathBuf,
    pub(crate) until_us: Option<i64>,
    pub(crate) alarm: Arc<Alarm>,
    /// Twins that are there before they speak.
    pub(crate) roster: RosterPort,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) state: Option<State>,
}

/// What a worker takes with it: its part of the graph, and its archive, which it closes at its end.
pub(crate) type WorkerParts = Option<(Parts, Option<Arc<ArchiveHandle>>)>;

impl Shares {
    /// The parts of each worker, without twins and lanes.
    pub(crate) fn parts(
        &self,
        commands: mpsc::Receiver<Command>,
        replies: Option<Replies>,
        committer: Option<CommitterPort>,
        has_shared_sources: bool,
    ) -> Result<Vec<WorkerParts>, RunError> {
        let (mut commands, mut replies, mut committer) = (Some(commands), replies, committer);
        let mut parts = Vec::new();
        let pulse = Arc::new(Pulse::new(self.processes == 1));
        for index in 0..self.workers {
            let worker = self.first_worker + index;
            let archive = self.start_archive(worker)?;
            let mailbox = Mailbox::shared();
            let recorder = self.start_recorder(worker, mailbox.clone());
            let one = Parts {
                job_number: self.job_number,
                lanes: Vec::new(),
                sources: Vec::new(),
                parked: Vec::new(),
                parked_memories: Vec::new(),
                // A source has a lane for each worker of the processes that read it.
                workers_with_lanes: if has_shared_sources { self.peers } else { self.workers },
                commands: commands.take(),
                twins: self.twins(worker)?,
                sinks: self.sinks.clone(),
                outboxes: if index == 0 { self.outboxes().into_values().collect() } else { Vec::new() },
                archive: archive.clone(),
                recorder,
                parts: mailbox,
                is_alone: self.processes == 1,
                interval: self.checkpoint.interval,
                committer: committer.take(),
                alarm: self.alarm.clone(),
                until_us: self.until_us,
                unpublished: self.unpublished.clone(),
                replies: replies.take(),
                time: self.time,
                clock: self.clock.clone(),
                start: self.start,
                metrics: self.metrics.clone(),
                pulse: pulse.clone(),
            };
            parts.push(Some((one, archive)));
        }
        Ok(parts)
    }

    /// The sinks that send from outboxes, by their numbers.
    fn outboxes(&self) -> BTreeMap<u16, Arc<OutboxHandle>> {
        let numbered = self.sinks.iter().enumerate();
        let outboxes = numbered.filter_map(|(number, port)| match port {
            SinkPort::Outbox(handle) => Some((number as u16, handle.clone())),
            SinkPort::Direct(_) => None,
        });
        outboxes.collect()
    }

    fn start_recorder(&self, worker: usize, parts: Arc<Mailbox<Part>>) -> Sender<PartMessage> {
        let outboxes = self.outboxes();
        let setup = RecorderSetup {
            store: self.store.clone(),
            generation: self.generation,
            worker,
            parts,
            outboxes: outboxes.clone(),
            alarm: self.alarm.clone(),
        };
        let recorder = recorder::start(setup);
        for outbox in outboxes.into_values() {
            let recorder = recorder.clone();
            outbox.add_waker(Arc::new(move || {
                // A recorder that has ended waits for nothing.
                let _ = recorder.send_over_bound(PartMessage::OutboxSent);
            }));
        }
        recorder
    }

    /// Segments of the archive that an earlier run has left, for this worker: those of the worker with its
    /// number, so that older rows of a twin stand before newer ones in one file.
    fn adopted(&self, worker: usize) -> Vec<SegmentRef> {
        let parts = self.state.iter().flat_map(|state| &state.manifest.archive);
        let mine = parts.filter(|part| part.worker % self.peers == worker);
        mine.flat_map(|part| part.segments.clone()).collect()
    }

    fn start_archive(&self, worker: usize) -> Result<Option<Arc<ArchiveHandle>>, RunError> {
        let Some(plan) = &self.archive else { return Ok(None) };
        let handle = connectors::archive::start(ArchiveSetup {
            settings: plan.settings.clone(),
            job: self.job.clone(),
            generation: self.generation,
            worker,
            segments: self.data.join(SEGMENTS),
            adopted: self.adopted(worker),
            fallbacks: self.checkpoint.retain.saturating_sub(1),
            disk: self.disk.clone(),
            clock: self.clock.clone(),
            alarm: self.alarm.clone(),
        })?;
        self.metrics.add_archive(handle.stats.clone());
        Ok(Some(Arc::new(handle)))
    }

    fn twins(&self, worker: usize) -> Result<Twins, RunError> {
        let rows = match &self.archive {
            Some(plan) => {
                let settings = RowsSettings { physical: plan.physical };
                let rows = Rows::new(settings, self.types.iter(), self.source_names.clone());
                Some(rows.map_err(|problem| RunError::Columns(problem.message))?)
            }
            None => None,
        };
        let envelope = Envelope::new(&self.job, self.generation, self.types.iter());
        let mut digital = Digital::new(envelope, self.listeners.clone(), &self.are_keyed, rows);
        digital.set_definition(self.definition);
        // Bins are dealt out evenly, and hashes fall evenly into bins.
        let twins_max = self.limits.twins_max.div_ceil(self.peers as u64);
        let sources = self.source_names.len();
        let calls =
            Calls::new(&self.job, &self.types, self.functions.clone(), self.handover.clone(), self.time);
        let metrics = self.metrics.clone();
        let mut twins = Twins::new(self.types.clone(), sources, digital, calls, twins_max, metrics);
        twins.set_enrolment(Enrolment::new(self.roster.clone(), self.peers, worker));
        Ok(twins)
    }

    /// Gives each worker its twins of the roster, all at the same time.
    pub(crate) fn enroll(&self, parts: &mut [WorkerParts]) {
        std::thread::scope(|scope| {
            for (part, _) in parts.iter_mut().flatten() {
                scope.spawn(|| part.twins.enroll_all());
            }
        });
    }

    /// Gives each worker its twins, all at the same time.
    pub(crate) fn restore(&self, parts: &mut [WorkerParts]) -> Result<(), RunError> {
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
            loads
                .into_iter()
                .try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        info!(checkpoint = %manifest.id, twins = manifest.twins, took = ?began.elapsed(), "state restored");
        Ok(())
    }

    pub(crate) fn start_committer(&self) -> (CommitterPort, OnCall) {
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
            layout: self.layout.clone(),
            parts: parts.unwrap_or_default(),
            unsent: self.unsent(),
            retain: self.checkpoint.retain,
            clock: self.clock.clone(),
            alarm: self.alarm.clone(),
            committed: committed.clone(),
            stats: stats.clone(),
        };
        let (commits, work) = committer::start(setup);
        (CommitterPort { commits, committed, stats }, work)
    }

    /// Outboxes that earlier runs may not have sent, of sinks that there still are.
    fn unsent(&self) -> Vec<OutboxPart> {
        let outboxes = self.outboxes();
        let known = |part: &&OutboxPart| outboxes.values().any(|handle| handle.name == part.sink);
        let all = self.state.iter().flat_map(|state| &state.manifest.outboxes);
        let (known, gone): (Vec<_>, Vec<_>) = all.partition(known);
        for part in gone {
            let messages = part.part.records;
            warn!(sink = %part.sink, messages, "the job has no such sink any more; what it had to send is dropped");
        }
        known.into_iter().cloned().collect()
    }

    /// Leaves the sources alone, and keeps where they are to go on.
    pub(crate) fn park_sources(
        &self,
        sources: Vec<SourcePlan>,
        parts: &mut [WorkerParts],
    ) -> Result<(), RunError> {
        for part in parts.iter_mut().flatten() {
            part.0.workers_with_lanes = 0;
        }
        if let Some(Some((first, _))) = parts.first_mut() {
            first.parked = (0u16..).zip(self.source_names.iter().map(|name| self.next(name))).collect();
            let records = self.memories()?;
            for (number, SourcePlan { name, mut decoder, .. }) in (0u16..).zip(sources) {
                memory::restore(&mut decoder, &name, &records, |_| true);
                first.parked_memories.push((number, decoder.memory()));
            }
        }
        Ok(())
    }

    /// Opens the sources of this process, from where the checkpoint says, and deals their lanes out to the
    /// workers.
    pub(crate) fn open_sources(
        &mut self,
        sources: Vec<SourcePlan>,
        parts: &mut [WorkerParts],
    ) -> Result<(), RunError> {
        let records = self.memories()?;
        let quarantine = Quarantine::read(&*self.disk, &self.data.join(quarantine::FOLDER), &self.job);
        for (number, source) in sources.into_iter().enumerate() {
            let SourcePlan { name, decoder, is_shared, open } = source;
            if !is_shared && self.first_worker > 0 {
                continue;
            }
            let lane_of = self.lane_of(&decoder);
            let setup = SourceSetup {
                filters: decoder.filters(),
                headers: decoder.headers().to_vec(),
                share: Share { process: self.first_worker / self.workers, processes: self.processes },
                lanes: self.workers,
                lane_of: lane_of.clone(),
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
                priority: self.limits.priority,
                quotas: self.quotas.clone(),
            };
            let count = lanes.len();
            for (index, (lane, part)) in lanes.into_iter().zip(parts.iter_mut()).enumerate() {
                let Some((part, _)) = part else { continue };
                let (quarantined, limits) = (quarantine.of(&name), limits.clone());
                let mut decoder = decoder.clone();
                memory::restore(&mut decoder, &name, &records, |topic| {
                    lane_of(topic.as_bytes()) % count == index
                });
                let mut lane = Lane::new(number as u16, &name, lane, decoder, self.time, limits, quarantined);
                lane.set_way_back(handle.way_back());
                part.lanes.push(lane);
            }
            if let Some(Some((first, _))) = parts.first_mut() {
                first.sources.push((number as u16, handle));
            }
        }
        Ok(())
    }

    /// What decoders remembered at the checkpoint, by their sources.
    fn memories(&self) -> Result<memory::Records, RunError> {
        match &self.state {
            Some(state) => Ok(memory::read(&*self.store, &state.manifest)?),
            None => Ok(memory::Records::new()),
        }
    }

    /// Where a source goes on.
    fn next(&self, source: &str) -> Place {
        let Some(state) = &self.state else { return Place::default() };
        let manifest = &state.manifest;
        if manifest.recorded != (self.time == TimeMode::Recorded) {
            warn!(
                source,
                "the job's clock has changed between recorded and live; the source is read from its begin"
            );
            return Place::default();
        }
        let mark = manifest.sources.iter().find(|mark| mark.name == source);
        mark.map_or_else(Place::default, |mark| mark.next.clone())
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

//! Makes checkpoints complete, on a thread of process 0 that is there while one is: the manifest is written last, then everybody may
//! know. What is no longer needed is removed, and deltas are merged, after that.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use connectors::alarm::Alarm;
use connectors::clock::Clock;
use connectors::failpoint::{self, Failpoint};
use connectors::on_call::OnCall;
use connectors::parts::{self, PartInfo};
use connectors::place::Place;
use connectors::queue::{self, Sender, Weigh};
use connectors::store::Store;
use operators::layout::Layout;
use tracing::{debug, info, warn};

use super::manifest::{MANIFESTS, OutboxPart, PARTS, id_of, manifest_name, merged_name};
use super::{CheckpointId, Committed, Mailbox, Manifest, Outbox, Part, SourceMark};

/// Objects that a checkpoint may consist of before they are merged, for each worker.
const OBJECTS_MAX_PER_WORKER: usize = 16;
/// Bytes of deltas that are not worth merging, whatever the state's size.
const DELTA_BYTES_MIN: u64 = 1 << 20;

/// What a committer works with.
pub struct CommitterSetup {
    /// Where checkpoints are kept.
    pub store: Arc<dyn Store>,
    /// The job.
    pub job: String,
    /// Number of the run.
    pub generation: u64,
    /// Workers in all processes.
    pub workers: usize,
    /// Whether recorded time rules.
    pub recorded: bool,
    /// Names of the sources, in their order.
    pub sources: Vec<String>,
    /// What the records of twins rely on.
    pub layout: Arc<Mutex<Layout>>,
    /// Objects that the state began with, oldest first.
    pub parts: Vec<PartInfo>,
    /// Outboxes that earlier runs may not have sent.
    pub unsent: Vec<OutboxPart>,
    /// How many checkpoints are kept.
    pub retain: usize,
    /// What stamps checkpoints.
    pub clock: Arc<dyn Clock>,
    /// What is raised where the store fails.
    pub alarm: Arc<Alarm>,
    /// Where the news of a checkpoint goes.
    pub committed: Arc<Mailbox<Committed>>,
    /// Numbers to show.
    pub stats: Arc<CheckpointStats>,
}

/// A checkpoint of which all parts are there.
#[derive(Debug)]
pub struct Commit {
    /// Its number.
    pub number: u64,
    /// The run ends with it.
    pub last: bool,
    /// Where each source goes on.
    pub places: Vec<Place>,
    /// The parts of all workers.
    pub parts: Vec<Part>,
}

/// What a checkpoint that is under way waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CheckpointPhase {
    /// None is under way.
    Idle,
    /// Sources and workers come to the boundary.
    Aligning,
    /// Workers write, the archive syncs, sinks publish.
    Writing,
    /// The manifest is written.
    Committing,
}

impl CheckpointPhase {
    /// All phases, in the order of their numbers.
    pub const ALL: [CheckpointPhase; 4] = [Self::Idle, Self::Aligning, Self::Writing, Self::Committing];

    /// The word to show.
    pub fn word(self) -> &'static str {
        ["idle", "aligning", "writing", "committing"][self as usize]
    }
}

/// Numbers of the checkpoints of a run.
#[derive(Debug, Default)]
pub struct CheckpointStats {
    /// Complete ones since the start.
    pub completed: AtomicU64,
    /// When the last complete one was cut, microseconds since 1970; 0 where none was.
    pub at_us: AtomicI64,
    /// How long it took from command to manifest, microseconds.
    pub duration_us: AtomicU64,
    /// Bytes of the objects that it added.
    pub bytes: AtomicU64,
    phase: AtomicU8,
}

impl CheckpointStats {
    /// What the one that is under way waits for.
    pub fn phase(&self) -> CheckpointPhase {
        CheckpointPhase::ALL[usize::from(self.phase.load(Ordering::Relaxed))]
    }

    pub(crate) fn set_phase(&self, phase: CheckpointPhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

/// Checkpoints that may wait; one is under way at a time.
const QUEUE_BYTES_MAX: usize = 1 << 20;

impl Weigh for Commit {
    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

/// A committer; it ends with its sender.
pub fn start(setup: CommitterSetup) -> (Sender<Commit>, OnCall) {
    let (sender, receiver) = queue::bounded(QUEUE_BYTES_MAX);
    let mut committer = Committer { kept: VecDeque::new(), has_begun: false, setup };
    let work = OnCall::of_queue("committer", receiver, move |commit| match committer.take(commit) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            committer.setup.alarm.raise(format!(
                "a checkpoint cannot be completed: {error}; check the disk and its free space, then start \
                 again: the run goes on from the checkpoint before"
            ));
            ControlFlow::Break(())
        }
    });
    (sender, work)
}

struct Committer {
    setup: CommitterSetup,
    /// Checkpoints that are kept, oldest first.
    kept: VecDeque<Kept>,
    /// It has learnt of those that earlier runs have left.
    has_begun: bool,
}

/// A checkpoint that is kept, as a run may have to fall back to it.
struct Kept {
    id: CheckpointId,
    /// The objects that it consists of.
    objects: Vec<String>,
    /// Where each source goes on, in the order of the job; none where the checkpoint does not say.
    places: Vec<Option<Place>>,
}

impl Committer {
    /// Learns of the checkpoints that earlier runs have left.
    fn begin(&mut self) -> io::Result<()> {
        for name in self.setup.store.list(MANIFESTS)? {
            let Some(id) = id_of(&name) else { continue };
            // One that cannot be read is nothing to fall back to.
            let manifest = self.setup.store.read(&name).ok().and_then(|bytes| Manifest::decode(&bytes).ok());
            if let Some(manifest) = manifest {
                self.keep(&manifest);
            } else {
                self.kept.push_back(Kept { id, objects: Vec::new(), places: Vec::new() });
            }
        }
        Ok(())
    }

    fn keep(&mut self, manifest: &Manifest) {
        let place = |name: &String| {
            let mark = manifest.sources.iter().find(|mark| mark.name == *name);
            mark.map(|mark| mark.next.clone())
        };
        self.kept.push_back(Kept {
            id: manifest.id,
            objects: manifest.objects().map(|part| part.name.clone()).collect(),
            places: self.setup.sources.iter().map(place).collect(),
        });
    }

    /// What each source need not keep: all before what the oldest checkpoint goes on from.
    fn released(&self) -> Vec<Place> {
        let of = |source: usize| {
            let places = self.kept.iter().filter_map(|kept| kept.places.get(source));
            let places = places.map(|place| place.clone().unwrap_or_default());
            places.reduce(|one, other| one.earlier(&other)).unwrap_or_default()
        };
        (0..self.setup.sources.len()).map(of).collect()
    }

    fn take(&mut self, commit: Commit) -> io::Result<()> {
        let start = Instant::now();
        if !std::mem::replace(&mut self.has_begun, true) {
            self.begin()?;
        }
        let Commit { number, last, places, mut parts } = commit;
        self.setup.stats.set_phase(CheckpointPhase::Committing);
        parts.sort_by_key(|part| part.worker);
        let added: Vec<PartInfo> = parts.iter().filter_map(|part| part.object.clone()).collect();
        let added_bytes: u64 = added.iter().map(|part| part.bytes).sum();
        self.setup.parts.extend(added);
        let id = CheckpointId { generation: self.setup.generation, number };
        self.note_outboxes(id, &parts);
        let manifest = self.manifest(id, &places, &parts);
        failpoint::hit(Failpoint::ManifestWrite)?;
        self.setup.store.put(&manifest_name(id), &manifest.encode())?;
        failpoint::hit(Failpoint::ManifestCommitted)?;
        self.keep(&manifest);
        let stats = &self.setup.stats;
        stats.completed.fetch_add(1, Ordering::Relaxed);
        stats.at_us.store(manifest.at_us, Ordering::Relaxed);
        stats.bytes.store(added_bytes, Ordering::Relaxed);
        stats.set_phase(CheckpointPhase::Idle);
        debug!(checkpoint = %id, twins = manifest.twins, bytes = added_bytes, took = ?start.elapsed(), "checkpoint complete");
        // What cannot be removed is in nobody's way: it is tried again the next time.
        if let Err(error) = self.remove_old(id) {
            warn!(%error, "old checkpoints are not removed");
        }
        self.setup.committed.put(Committed { number, last, places, released: self.released() });
        if !last {
            self.compact(id)?;
        }
        Ok(())
    }

    fn manifest(&self, id: CheckpointId, places: &[Place], parts: &[Part]) -> Manifest {
        let lost_us = parts.first().map(|part| part.lost_us.clone()).unwrap_or_default();
        let sources = self.setup.sources.iter().zip(places).enumerate();
        Manifest {
            job: self.setup.job.clone(),
            id,
            at_us: self.setup.clock.wall_us(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            workers: self.setup.workers as u32,
            bins: operators::id::BINS as u32,
            twins: parts.iter().map(|part| part.twins).sum(),
            recorded: self.setup.recorded,
            sources: sources
                .map(|(number, (name, next))| SourceMark {
                    name: name.clone(),
                    next: next.clone(),
                    lost_us: lost_us.get(number).copied().flatten(),
                })
                .collect(),
            layout: self.setup.layout.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            parts: self.setup.parts.clone(),
            archive: parts.iter().map(|part| part.archive.clone()).collect(),
            outboxes: self.setup.unsent.clone(),
            memories: parts.iter().filter_map(|part| part.memory.clone()).collect(),
        }
    }

    /// Outboxes stay in manifests until they are known to be sent; those of this checkpoint come behind.
    fn note_outboxes(&mut self, id: CheckpointId, parts: &[Part]) {
        let outboxes = || parts.iter().flat_map(|part| &part.outboxes);
        let processes = outboxes().map(|outbox| outbox.process + 1).max().unwrap_or(1);
        self.setup.unsent.retain(|unsent| {
            // What a process left that is not there any more is sent by one that is.
            let mut of = outboxes()
                .filter(|outbox| outbox.sink == unsent.sink && outbox.process == unsent.process % processes);
            of.all(|outbox| match outbox.sent {
                None => true,
                Some(sent) => unsent.id.generation == id.generation && unsent.id.number > sent,
            })
        });
        for Outbox { sink, process, part, .. } in outboxes() {
            if let Some(part) = part {
                let (sink, process, part) = (sink.clone(), *process, part.clone());
                self.setup.unsent.push(OutboxPart { sink, process, id, part });
            }
        }
    }

    /// Merges the objects into one once the later ones weigh more than the first, or are many. The next
    /// checkpoint lists it in their place.
    fn compact(&mut self, id: CheckpointId) -> io::Result<()> {
        let parts = &self.setup.parts;
        let Some((first, later)) = parts.split_first() else { return Ok(()) };
        let later_bytes: u64 = later.iter().map(|part| part.bytes).sum();
        let is_heavy = later_bytes > first.bytes.max(DELTA_BYTES_MIN);
        if !is_heavy && parts.len() <= OBJECTS_MAX_PER_WORKER * self.setup.workers {
            return Ok(());
        }
        let start = Instant::now();
        let merged = parts::merge(&*self.setup.store, parts, &merged_name(id)).map_err(io::Error::other)?;
        info!(objects = parts.len(), bytes = merged.bytes, took = ?start.elapsed(), "checkpoint deltas merged");
        self.setup.parts = vec![merged];
        Ok(())
    }

    /// Removes checkpoints beyond those that are kept, and then objects up to this checkpoint that none of
    /// the kept consists of.
    fn remove_old(&mut self, id: CheckpointId) -> io::Result<()> {
        while self.kept.len() > self.setup.retain.max(1)
            && let Some(old) = self.kept.front()
        {
            failpoint::hit(Failpoint::CheckpointRemove)?;
            self.setup.store.remove(&manifest_name(old.id))?;
            self.kept.pop_front();
        }
        let kept = self.kept.iter().flat_map(|kept| &kept.objects);
        let used: BTreeSet<&str> =
            kept.chain(self.setup.parts.iter().map(|part| &part.name)).map(String::as_str).collect();
        // Those of the next checkpoint may be under way.
        let end = super::manifest::part_name(CheckpointId { number: id.number + 1, ..id }, 0);
        let end = end.rsplit_once('-').map_or(end.as_str(), |(begin, _)| begin);
        for name in self.setup.store.list(PARTS)? {
            if name.as_str() < end && !used.contains(name.as_str()) {
                self.setup.store.remove(&name)?;
            }
        }
        Ok(())
    }
}

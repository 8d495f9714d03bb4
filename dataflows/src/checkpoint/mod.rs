//! Checkpoints: the state of all twins, the places of all sources and the committed rows of the archive,
//! at one instant of the dataflow (rules 7.1 to 7.6).
//!
//! ```text
//!  worker 0 commands ─► sources put a boundary into their lanes ─► chains cut where it has passed
//!
//!  each worker:  chain ── blocks of twins ──────────────────►┐
//!                publish ── messages for outboxes ──────────►│
//!                        ├─ boundary ─► archive: segments ──►├─ recorder ─► objects in the store ─► part
//!                        └─ sinks: all before it published ─►┘  (thread)                           │
//!                                                                                                  ▼
//!  worker 0:     all parts and the sources' marks ─► committer (thread) ─► manifest, written last
//!  each worker:  ◄── committed ── archive makes the files it decided on, journals let go, old ones go,
//!                                 outboxes are sent (rule 7.3)
//! ```
//! One checkpoint is under way at a time. It is complete when its manifest is there; a crash before that
//! leaves objects that nobody lists, which are removed later. Nothing waits for a disk but the two threads.

pub mod committer;
pub mod inspect;
pub mod manifest;
pub mod memory;
pub mod recorder;
pub mod restore;
mod streams;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use connectors::archive::ArchivePart;
use connectors::message::MessageBatch;
use connectors::parts::PartInfo;
use connectors::place::Place;
use connectors::queue::{Sender, Weigh};
use serde::{Deserialize, Serialize};
use timely::scheduling::SyncActivator;

use crate::board::Marks;
use crate::control::Boundary;

pub use manifest::{CheckpointId, Manifest, SourceMark};
pub use memory::Memories;
pub use streams::CommitterPort;
pub(crate) use streams::{CommitParts, commit};

/// What a recorder learns of its worker's part of a checkpoint.
#[derive(Debug)]
pub enum PartMessage {
    /// The worker has cut; its lanes have come to these places, and remember this.
    Begin(Boundary, Marks, Memories),
    /// Twins of one bin.
    Block {
        /// Number of the bin.
        bin: u16,
        /// How many.
        count: u32,
        /// Their records, as [`connectors::parts::push_record`] frames them.
        records: Vec<u8>,
    },
    /// All twins that had changed are written.
    Written {
        /// When each source was last lost.
        lost_us: Vec<Option<i64>>,
        /// How many twins the worker has.
        twins: u64,
    },
    /// Messages for the outbox of a sink.
    Outgoing {
        /// Number of the sink.
        sink: u16,
        /// The messages.
        batch: MessageBatch,
    },
    /// No more messages come for the outbox of a sink in this checkpoint.
    OutboxEnd {
        /// Number of the sink.
        sink: u16,
    },
    /// An outbox of an earlier checkpoint was sent.
    OutboxSent,
    /// What the archive has of this checkpoint is durable.
    Archived(ArchivePart),
    /// All messages that went out before the cut are published.
    Published,
}

impl Weigh for PartMessage {
    fn weight(&self) -> usize {
        match self {
            PartMessage::Block { records, .. } => size_of::<Self>() + records.len(),
            PartMessage::Outgoing { batch, .. } => size_of::<Self>() + batch.weight(),
            _ => size_of::<Self>(),
        }
    }
}

/// Tells the recorder that all that went out with it is published, once it is dropped.
pub struct Published {
    recorder: Sender<PartMessage>,
}

impl Published {
    /// Tells this recorder.
    pub fn new(recorder: Sender<PartMessage>) -> Self {
        Self { recorder }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // A recorder that has ended wants to know no more.
        let _ = self.recorder.send_over_bound(PartMessage::Published);
    }
}

/// A worker's part of a checkpoint, durable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Number of the checkpoint.
    pub number: u64,
    /// Recorded input: the instant of the cut.
    pub at_us: Option<i64>,
    /// The run ends with it.
    pub last: bool,
    /// Number of the worker.
    pub worker: u32,
    /// The object with the twins that had changed; none where none had.
    pub object: Option<PartInfo>,
    /// The worker's archive.
    pub archive: ArchivePart,
    /// When each source was last lost.
    pub lost_us: Vec<Option<i64>>,
    /// How many twins the worker has.
    pub twins: u64,
    /// Where the sources of the worker's lanes go on, by their numbers; none where one does not say.
    pub marks: Marks,
    /// The object with what the lanes of the worker remember; none where they remember nothing.
    pub memory: Option<PartInfo>,
    /// What goes out exactly once.
    pub outboxes: Vec<Outbox>,
}

/// What of a worker's messages goes out through a sink once the checkpoint holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outbox {
    /// Name of the sink.
    pub sink: String,
    /// Number of the worker's process.
    pub process: u32,
    /// The messages; none where there are none.
    pub part: Option<PartInfo>,
    /// Up to which checkpoint of this run the process has sent its outboxes; 0 where only those of earlier runs,
    /// none where not even those.
    pub sent: Option<u64>,
}

/// A checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Its number.
    pub number: u64,
    /// The run ends with it.
    pub last: bool,
    /// Where each source goes on from it.
    pub places: Vec<Place>,
    /// What each source need not keep: all before these, which the oldest kept checkpoint goes on from.
    pub released: Vec<Place>,
}

/// What a thread has for an operator: put in there, taken out here; the worker is woken.
pub struct Mailbox<T> {
    items: Mutex<Vec<T>>,
    activator: OnceLock<SyncActivator>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), activator: OnceLock::new() }
    }
}

impl<T> Mailbox<T> {
    /// A mailbox that thread and operator share.
    pub fn shared() -> Arc<Self> {
        Arc::default()
    }

    /// Puts an item in, and wakes the worker.
    pub fn put(&self, item: T) {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).push(item);
        if let Some(activator) = self.activator.get() {
            // A worker that has ended needs no waking.
            let _ = activator.activate();
        }
    }

    /// Takes all items out.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What wakes the worker; given once, by the operator.
    pub(crate) fn wakes(&self, activator: SyncActivator) {
        // A mailbox has one operator.
        let _ = self.activator.set(activator);
    }
}

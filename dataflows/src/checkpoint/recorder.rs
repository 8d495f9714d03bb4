//! A worker's part of a checkpoint, on a thread of its own: the object is written as the blocks come, and
//! the part is there when the object is complete, the archive's segments are synced, and all that went out
//! before the cut is published.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use connectors::alarm::Alarm;
use connectors::archive::ArchivePart;
use connectors::parts::{PartInfo, PartWriter};
use connectors::queue::{self, Receiver, Sender};
use connectors::store::Store;

use super::manifest::{CheckpointId, part_name};
use super::{Mailbox, Part, PartMessage};
use crate::control::Boundary;

/// Bytes of blocks that may wait for the store.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// What a recorder works with.
pub struct RecorderSetup {
    /// Where objects go.
    pub store: Arc<dyn Store>,
    /// Number of the run.
    pub generation: u64,
    /// Number of the worker.
    pub worker: usize,
    /// Where parts go.
    pub parts: Arc<Mailbox<Part>>,
    /// What is raised where the store fails.
    pub alarm: Arc<Alarm>,
}

/// Starts a recorder; it ends after the last checkpoint, or with its senders.
pub fn start(setup: RecorderSetup) -> io::Result<Sender<PartMessage>> {
    let (sender, receiver) = queue::bounded(QUEUE_BYTES_MAX);
    let name = format!("recorder-{}", setup.worker);
    std::thread::Builder::new().name(name).spawn(move || {
        let alarm = setup.alarm.clone();
        if let Err(error) = run(setup, &receiver) {
            alarm.raise(format!(
                "a checkpoint cannot be written: {error}; check the disk and its free space, then start again: \
                 the run goes on from the checkpoint before"
            ));
        }
    })?;
    Ok(sender)
}

/// What is there of a part.
struct Pending {
    boundary: Boundary,
    object: Option<PartWriter>,
    written: Option<(Option<PartInfo>, Vec<Option<i64>>, u64)>,
    archive: Option<ArchivePart>,
    is_published: bool,
}

fn run(setup: RecorderSetup, receiver: &Receiver<PartMessage>) -> io::Result<()> {
    // Two at most: the end of a run may overtake what is under way.
    let mut pending: VecDeque<Pending> = VecDeque::new();
    while let Some(message) = receiver.recv() {
        // Twins are of the checkpoint that was begun last; archive and sinks answer in order.
        let part = match message {
            PartMessage::Begin(boundary) => {
                pending.push_back(Pending::new(boundary));
                continue;
            }
            PartMessage::Archived(_) => pending.iter_mut().find(|part| part.archive.is_none()),
            PartMessage::Published => pending.iter_mut().find(|part| !part.is_published),
            PartMessage::Block { .. } | PartMessage::Written { .. } => pending.back_mut(),
        };
        // What comes between checkpoints is the last word of a run that ends.
        let Some(part) = part else { continue };
        match message {
            PartMessage::Begin(_) => {}
            PartMessage::Block { bin, count, records } => {
                let object = match &mut part.object {
                    Some(object) => object,
                    none => {
                        let id = CheckpointId { generation: setup.generation, number: part.boundary.number };
                        none.insert(PartWriter::begin(&*setup.store, &part_name(id, setup.worker))?)
                    }
                };
                object.block(bin, count, &records)?;
            }
            PartMessage::Written { lost_us, twins } => {
                let info = part.object.take().map(PartWriter::finish).transpose()?;
                part.written = Some((info, lost_us, twins));
            }
            PartMessage::Archived(archive) => part.archive = Some(archive),
            PartMessage::Published => part.is_published = true,
        }
        while pending.front().is_some_and(Pending::is_complete)
            && let Some(part) = pending.pop_front()
        {
            let is_last = part.boundary.last;
            if let Some(part) = part.finish(setup.worker) {
                setup.parts.put(part);
            }
            if is_last {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Pending {
    fn new(boundary: Boundary) -> Self {
        Self { boundary, object: None, written: None, archive: None, is_published: false }
    }

    fn is_complete(&self) -> bool {
        self.written.is_some() && self.archive.is_some() && self.is_published
    }

    fn finish(self, worker: usize) -> Option<Part> {
        let Boundary { number, at_us, last } = self.boundary;
        let ((object, lost_us, twins), archive) = self.written.zip(self.archive)?;
        Some(Part { number, at_us, last, worker: worker as u32, object, archive, lost_us, twins })
    }
}

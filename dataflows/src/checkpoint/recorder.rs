//! A worker's part of a checkpoint, on a thread that is there while one is made: objects are written as twins and outgoing messages
//! come, and the part is there when they are complete, the archive's segments are synced, and all that went
//! out before the cut is published or in an outbox.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use connectors::alarm::Alarm;
use connectors::archive::ArchivePart;
use connectors::failpoint::{self, Failpoint};
use connectors::message::MessageBatch;
use connectors::on_call::OnCall;
use connectors::outbox::{OutboxHandle, OutboxWriter};
use connectors::parts::{PartInfo, PartWriter};
use connectors::queue::{self, Sender};
use connectors::store::Store;

use super::manifest::{CheckpointId, memory_name, outbox_name, part_name};
use super::memory;
use super::{Mailbox, Outbox, Part, PartMessage};
use crate::board::Marks;
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
    /// The sinks that send from outboxes, by their numbers.
    pub outboxes: BTreeMap<u16, Arc<OutboxHandle>>,
    /// What is raised where the store fails.
    pub alarm: Arc<Alarm>,
}

/// Outboxes that may wait for their bus before the next checkpoint waits too.
const UNSENT_MAX: u64 = 8;

/// A recorder; it ends after the last checkpoint, or with its senders.
pub fn start(setup: RecorderSetup) -> Sender<PartMessage> {
    let (sender, receiver) = queue::bounded(QUEUE_BYTES_MAX);
    let (name, alarm) = (format!("recorder-{}", setup.worker), setup.alarm.clone());
    let mut recorder = Recorder::new(setup);
    OnCall::of_queue(&name, receiver, move |message| {
        recorder.hear(message).unwrap_or_else(|error| {
            alarm.raise(format!(
                "a checkpoint cannot be written: {error}; check the disk and its free space, then start again: \
                 the run goes on from the checkpoint before"
            ));
            ControlFlow::Break(())
        })
    });
    sender
}

struct Recorder {
    setup: RecorderSetup,
    /// Parts that are not complete. Two at most: the end of a run may overtake what is under way.
    pending: VecDeque<Pending>,
    /// The outboxes that messages go into now, by the numbers of their sinks.
    open: BTreeMap<u16, OpenOutbox>,
}

/// The outbox of a sink: it takes messages of the checkpoint that cuts next on their way.
#[derive(Default)]
struct OpenOutbox {
    /// None where nothing came since the last cut.
    writer: Option<OutboxWriter>,
    /// Number of the last checkpoint that cut it.
    number: u64,
}

/// What is there of a part.
struct Pending {
    boundary: Boundary,
    marks: Marks,
    memory: Option<PartInfo>,
    object: Option<PartWriter>,
    written: Option<(Option<PartInfo>, Vec<Option<i64>>, u64)>,
    archive: Option<ArchivePart>,
    is_published: bool,
    /// What each outbox has of it, by the numbers of the sinks, once no more comes.
    outboxes: BTreeMap<u16, Option<PartInfo>>,
}

impl Recorder {
    fn new(setup: RecorderSetup) -> Self {
        let open = setup.outboxes.keys().map(|sink| (*sink, OpenOutbox::default())).collect();
        Self { setup, pending: VecDeque::new(), open }
    }

    /// Takes a message, and hands over the parts that it makes complete; breaks after the last checkpoint.
    fn hear(&mut self, message: PartMessage) -> io::Result<ControlFlow<()>> {
        self.take(message)?;
        while self.pending.front().is_some_and(|part| self.is_complete(part))
            && let Some(part) = self.pending.pop_front()
        {
            let is_last = part.boundary.last;
            if let Some(part) = self.finish(part) {
                self.setup.parts.put(part);
            }
            if is_last {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Twins are of the checkpoint that was begun last; archive, sinks and outboxes answer in order. What comes
    /// between checkpoints is the last word of a run that ends.
    fn take(&mut self, message: PartMessage) -> io::Result<()> {
        match message {
            PartMessage::Begin(boundary, marks, memories) => {
                let id = CheckpointId { generation: self.setup.generation, number: boundary.number };
                let name = memory_name(id, self.setup.worker);
                let memory = memory::write(&*self.setup.store, &name, &memories)?;
                self.pending.push_back(Pending { memory, ..Pending::new(boundary, marks) });
            }
            PartMessage::Block { bin, count, records } => {
                let Some(part) = self.pending.back_mut() else { return Ok(()) };
                let object = match &mut part.object {
                    Some(object) => object,
                    none => {
                        let (generation, number) = (self.setup.generation, part.boundary.number);
                        let name = part_name(CheckpointId { generation, number }, self.setup.worker);
                        none.insert(PartWriter::begin(&*self.setup.store, &name)?)
                    }
                };
                object.block(bin, count, &records)?;
            }
            PartMessage::Written { lost_us, twins } => {
                let Some(part) = self.pending.back_mut() else { return Ok(()) };
                let info = part.object.take().map(PartWriter::finish).transpose()?;
                part.written = Some((info, lost_us, twins));
            }
            PartMessage::Archived(archive) => {
                if let Some(part) = self.pending.iter_mut().find(|part| part.archive.is_none()) {
                    part.archive = Some(archive);
                }
            }
            PartMessage::Published => {
                if let Some(part) = self.pending.iter_mut().find(|part| !part.is_published) {
                    part.is_published = true;
                }
            }
            PartMessage::Outgoing { sink, batch } => self.put(sink, &batch)?,
            PartMessage::OutboxEnd { sink } => self.end_outbox(sink)?,
            // It may have been what a part waited for.
            PartMessage::OutboxSent => {}
        }
        Ok(())
    }

    fn put(&mut self, sink: u16, batch: &MessageBatch) -> io::Result<()> {
        let RecorderSetup { store, generation, worker, .. } = &self.setup;
        let open = self.open.entry(sink).or_default();
        let writer = match &mut open.writer {
            Some(writer) => writer,
            none => {
                let id = CheckpointId { generation: *generation, number: open.number + 1 };
                none.insert(OutboxWriter::begin(&**store, &outbox_name(id, *worker, sink))?)
            }
        };
        writer.add(batch)
    }

    fn end_outbox(&mut self, sink: u16) -> io::Result<()> {
        let open = self.open.entry(sink).or_default();
        if open.writer.is_some() {
            failpoint::hit(Failpoint::OutboxFinish)?;
        }
        let outbox = open.writer.take().map(OutboxWriter::finish).transpose()?;
        if let Some(part) = self.pending.iter_mut().find(|part| !part.outboxes.contains_key(&sink)) {
            open.number = part.boundary.number;
            part.outboxes.insert(sink, outbox);
        }
        Ok(())
    }

    fn is_complete(&self, part: &Pending) -> bool {
        let Boundary { number, last, .. } = part.boundary;
        // The last one waits for no bus: the next run sends what this one could not.
        let is_sent = |outbox: &Arc<OutboxHandle>| {
            last || number <= UNSENT_MAX || outbox.sent().is_some_and(|sent| sent + UNSENT_MAX >= number)
        };
        part.written.is_some()
            && part.archive.is_some()
            && part.is_published
            && part.outboxes.len() == self.setup.outboxes.len()
            && self.setup.outboxes.values().all(is_sent)
    }

    fn finish(&self, part: Pending) -> Option<Part> {
        let Boundary { number, at_us, last } = part.boundary;
        let ((object, lost_us, twins), archive) = part.written.zip(part.archive)?;
        let outbox = |(sink, info): (u16, Option<PartInfo>)| {
            let handle = self.setup.outboxes.get(&sink)?;
            let (sink, process) = (handle.name.clone(), handle.process as u32);
            // Before anybody can say that the checkpoint holds.
            if let Some(info) = &info {
                handle.prepared(number, info.clone());
            }
            Some(Outbox { sink, process, part: info, sent: handle.sent() })
        };
        let outboxes = part.outboxes.into_iter().filter_map(outbox).collect();
        let (worker, marks, memory) = (self.setup.worker as u32, part.marks, part.memory);
        Some(Part { number, at_us, last, worker, object, archive, lost_us, twins, marks, memory, outboxes })
    }
}

impl Pending {
    fn new(boundary: Boundary, marks: Marks) -> Self {
        Self {
            boundary,
            marks,
            memory: None,
            object: None,
            written: None,
            archive: None,
            is_published: false,
            outboxes: BTreeMap::new(),
        }
    }
}

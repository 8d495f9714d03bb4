//! Step 5's way out: deliveries to sinks and archive, with back-pressure.
//!
//! A connector that is full refuses a batch. It then waits here, with the capability of its time:
//! the probe does not pass, admission closes, and the sources wait (rule 7.5). What waits for one
//! sink does not hold up another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use connectors::archive::{ArchiveBatch, ArchiveHandle, ArchivePart};
use connectors::message::{MessageBatch, Receipt};
use connectors::queue::{Refused, Sender, Weigh};
use connectors::sink::SinkHandle;
use operators::digital::TableRows;
use tracing::error;

use crate::checkpoint::{PartMessage, Published};
use crate::control::Boundary;
use crate::digital::Delivery;

/// Where the deliveries of one worker go. `H` is what is held while a batch waits.
pub struct Outlets<H> {
    sinks: Vec<Outlet<H, MessageBatch>>,
    handles: Vec<Arc<SinkHandle>>,
    archive: Outlet<H, ForArchive>,
    archive_handle: Option<Arc<ArchiveHandle>>,
    unpublished: Arc<AtomicU64>,
    /// Goes with each message batch; gone, it tells that all up to the next boundary is published.
    published: Arc<Published>,
    recorder: Sender<PartMessage>,
}

/// What goes to the archive.
enum ForArchive {
    Rows(ArchiveBatch),
    Boundary(Boundary),
}

/// Batches that wait for one connector.
struct Outlet<H, B> {
    waiting: VecDeque<(H, B)>,
    has_ended: bool,
}

impl<H: Clone> Outlets<H> {
    /// Outlets to these connectors; messages that are given up are counted in `unpublished`. The
    /// recorder learns how far what goes out belongs to a checkpoint.
    pub fn new(
        handles: Vec<Arc<SinkHandle>>,
        archive_handle: Option<Arc<ArchiveHandle>>,
        unpublished: Arc<AtomicU64>,
        recorder: Sender<PartMessage>,
    ) -> Self {
        Self {
            published: Arc::new(Published::new(recorder.clone())),
            recorder,
            sinks: handles.iter().map(|_| Outlet::default()).collect(),
            handles,
            archive: Outlet::default(),
            archive_handle,
            unpublished,
        }
    }

    /// Takes a delivery on its way; `held` is dropped once the connector has it.
    pub fn put(&mut self, held: &H, delivery: Delivery) {
        match delivery {
            Delivery::Messages(sink, mut batch) => {
                batch.receipt = Receipt::new(self.published.clone());
                self.sinks[sink].waiting.push_back((held.clone(), batch));
            }
            Delivery::Rows(TableRows { table, day, rows }) => {
                let batch = ArchiveBatch { table: table.word(), day, rows };
                self.archive.waiting.push_back((held.clone(), ForArchive::Rows(batch)));
            }
            Delivery::Boundary(boundary) => {
                self.archive.waiting.push_back((held.clone(), ForArchive::Boundary(boundary)));
                self.published = Arc::new(Published::new(self.recorder.clone()));
            }
        }
    }

    /// Hands over what the connectors take.
    pub fn flush(&mut self) {
        for (outlet, handle) in self.sinks.iter_mut().zip(&self.handles) {
            outlet.flush(&handle.name, |batch| handle.offer(batch));
        }
        let recorder = &self.recorder;
        match &self.archive_handle {
            Some(handle) => self.archive.flush("archive", |what| offer(handle, recorder, what)),
            None => self.archive.flush("archive", |what| {
                if let ForArchive::Boundary(_) = what {
                    tell(recorder, PartMessage::Archived(ArchivePart::default()));
                }
                Ok(())
            }),
        }
    }

    /// The connector that takes nothing now, if there is one.
    pub fn waits_for(&self) -> Option<&str> {
        let sinks = self.sinks.iter().zip(&self.handles);
        let mut waiting = sinks.filter(|(outlet, _)| !outlet.waiting.is_empty());
        let sink = waiting.next().map(|(_, handle)| handle.name.as_str());
        sink.or_else(|| (!self.archive.waiting.is_empty()).then_some("archive"))
    }

    /// Whether anything waits here.
    pub fn is_waiting(&self) -> bool {
        let is_waiting = |outlet: &Outlet<H, MessageBatch>| !outlet.waiting.is_empty();
        self.sinks.iter().any(is_waiting) || !self.archive.waiting.is_empty()
    }

    /// Drops the messages that no sink takes, so that a run can end without its listeners.
    pub fn give_up(&mut self) {
        for (outlet, handle) in self.sinks.iter_mut().zip(&self.handles) {
            let messages: usize = outlet.waiting.drain(..).map(|(_, batch)| batch.len()).sum();
            if messages > 0 {
                self.unpublished.fetch_add(messages as u64, Ordering::Relaxed);
                error!(sink = %handle.name, messages, "sink takes nothing; messages are given up");
            }
        }
    }

    /// Bytes that wait here.
    pub fn waiting_bytes(&self) -> usize {
        let messages = self.sinks.iter().flat_map(|outlet| &outlet.waiting);
        let rows = self.archive.waiting.iter();
        messages.map(|(_, batch)| batch.weight()).sum::<usize>()
            + rows.map(|(_, what)| what.weight()).sum::<usize>()
    }
}

impl ForArchive {
    fn weight(&self) -> usize {
        match self {
            ForArchive::Rows(batch) => batch.rows.get_array_memory_size(),
            ForArchive::Boundary(_) => 0,
        }
    }
}

/// Offers rows to the archive; at a boundary it tells the recorder what a checkpoint has of it.
fn offer(
    handle: &ArchiveHandle,
    recorder: &Sender<PartMessage>,
    what: ForArchive,
) -> Result<(), Refused<ForArchive>> {
    match what {
        ForArchive::Rows(batch) => handle.offer(batch).map_err(|refused| match refused {
            Refused::Full(batch) => Refused::Full(ForArchive::Rows(batch)),
            Refused::Closed(batch) => Refused::Closed(ForArchive::Rows(batch)),
        }),
        ForArchive::Boundary(boundary) => {
            let recorder = recorder.clone();
            let reply = move |part| tell(&recorder, PartMessage::Archived(part));
            handle.boundary(boundary.number, boundary.last, Box::new(reply));
            Ok(())
        }
    }
}

/// A recorder that has ended has raised the alarm.
fn tell(recorder: &Sender<PartMessage>, message: PartMessage) {
    let _ = recorder.send_over_bound(message);
}

impl<H, B> Default for Outlet<H, B> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), has_ended: false }
    }
}

impl<H, B> Outlet<H, B> {
    fn flush(&mut self, name: &str, mut offer: impl FnMut(B) -> Result<(), Refused<B>>) {
        while let Some((held, batch)) = self.waiting.pop_front() {
            match offer(batch) {
                Ok(()) => {}
                Err(Refused::Full(batch)) => return self.waiting.push_front((held, batch)),
                Err(Refused::Closed(_)) => {
                    // Its thread has ended and said why; nothing will take this any more.
                    if !std::mem::replace(&mut self.has_ended, true) {
                        error!(connector = name, "connector has ended; what goes to it is lost");
                    }
                }
            }
        }
    }
}

//! Step 5's way out: deliveries to sinks and archive, with back-pressure.
//!
//! A connector that is full refuses a batch. It then waits here, with the capability of its time:
//! the probe does not pass, admission closes, and the sources wait (rule 7.5). What waits for one
//! sink does not hold up another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use connectors::archive::{ArchiveBatch, ArchiveHandle};
use connectors::message::MessageBatch;
use connectors::queue::{Refused, Weigh};
use connectors::sink::SinkHandle;
use operators::digital::TableRows;
use tracing::error;

use crate::digital::Delivery;

/// Where the deliveries of one worker go. `H` is what is held while a batch waits.
pub struct Outlets<H> {
    sinks: Vec<Outlet<H, MessageBatch>>,
    handles: Vec<Arc<SinkHandle>>,
    archive: Outlet<H, ArchiveBatch>,
    archive_handle: Option<Arc<ArchiveHandle>>,
    unpublished: Arc<AtomicU64>,
}

/// Batches that wait for one connector.
struct Outlet<H, B> {
    waiting: VecDeque<(H, B)>,
    has_ended: bool,
}

impl<H: Clone> Outlets<H> {
    /// Outlets to these connectors; messages that are given up are counted in `unpublished`.
    pub fn new(
        handles: Vec<Arc<SinkHandle>>,
        archive_handle: Option<Arc<ArchiveHandle>>,
        unpublished: Arc<AtomicU64>,
    ) -> Self {
        Self {
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
            Delivery::Messages(sink, batch) => {
                self.sinks[sink].waiting.push_back((held.clone(), batch));
            }
            Delivery::Rows(TableRows { table, day, rows }) => {
                let batch = ArchiveBatch { table: table.word(), day, rows };
                self.archive.waiting.push_back((held.clone(), batch));
            }
        }
    }

    /// Hands over what the connectors take.
    pub fn flush(&mut self) {
        for (outlet, handle) in self.sinks.iter_mut().zip(&self.handles) {
            outlet.flush(&handle.name, |batch| handle.offer(batch));
        }
        match &self.archive_handle {
            Some(handle) => self.archive.flush("archive", |batch| handle.offer(batch)),
            None => self.archive.waiting.clear(),
        }
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
            + rows.map(|(_, batch)| batch.rows.get_array_memory_size()).sum::<usize>()
    }
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

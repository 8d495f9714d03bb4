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
use connectors::outbox::OutboxHandle;
use connectors::queue::{Refused, Sender, Weigh};
use connectors::sink::SinkHandle;
use operators::digital::TableRows;
use tracing::error;

use crate::checkpoint::{PartMessage, Published};
use crate::control::Boundary;
use crate::digital::Delivery;
use crate::look::Look;

/// Where the deliveries of one worker go. `H` is what is held while a batch waits.
pub struct Outlets<H> {
    sinks: Vec<Outlet<H, ForSink>>,
    ports: Vec<SinkPort>,
    archive: Outlet<H, ForArchive>,
    archive_handle: Option<Arc<ArchiveHandle>>,
    unpublished: Arc<AtomicU64>,
    /// Goes with each message batch; gone, it tells that all up to the next boundary is published.
    published: Arc<Published>,
    recorder: Sender<PartMessage>,
}

/// A sink of the process, as its workers share it.
#[derive(Clone)]
pub enum SinkPort {
    /// Takes messages as they come.
    Direct(Arc<SinkHandle>),
    /// Messages go into the worker's part of the checkpoint, and it sends them from there.
    Outbox(Arc<OutboxHandle>),
}

impl SinkPort {
    fn name(&self) -> &str {
        match self {
            SinkPort::Direct(handle) => &handle.name,
            SinkPort::Outbox(handle) => &handle.name,
        }
    }
}

/// What goes to a sink.
enum ForSink {
    Messages(MessageBatch),
    /// The outbox of a checkpoint is complete.
    Boundary,
}

/// What goes to the archive.
enum ForArchive {
    Rows(ArchiveBatch),
    Boundary(Boundary),
    Look(Look),
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
        ports: Vec<SinkPort>,
        archive_handle: Option<Arc<ArchiveHandle>>,
        unpublished: Arc<AtomicU64>,
        recorder: Sender<PartMessage>,
    ) -> Self {
        Self {
            published: Arc::new(Published::new(recorder.clone())),
            recorder,
            sinks: ports.iter().map(|_| Outlet::default()).collect(),
            ports,
            archive: Outlet::default(),
            archive_handle,
            unpublished,
        }
    }

    /// Takes a delivery on its way; `held` is dropped once the connector has it.
    pub fn put(&mut self, held: &H, delivery: Delivery) {
        match delivery {
            Delivery::Messages(sink, mut batch) => {
                if let SinkPort::Direct(_) = &self.ports[sink] {
                    batch.receipt = Receipt::new(self.published.clone());
                }
                self.sinks[sink].waiting.push_back((held.clone(), ForSink::Messages(batch)));
            }
            Delivery::Rows(TableRows { table, day, rows }) => {
                let batch = ArchiveBatch { table: table.word(), day, rows };
                self.archive.waiting.push_back((held.clone(), ForArchive::Rows(batch)));
            }
            Delivery::Look(look) => self.archive.waiting.push_back((held.clone(), ForArchive::Look(look))),
            Delivery::Boundary(boundary) => {
                self.archive.waiting.push_back((held.clone(), ForArchive::Boundary(boundary)));
                for (outlet, port) in self.sinks.iter_mut().zip(&self.ports) {
                    if let SinkPort::Outbox(_) = port {
                        outlet.waiting.push_back((held.clone(), ForSink::Boundary));
                    }
                }
                self.published = Arc::new(Published::new(self.recorder.clone()));
            }
        }
    }

    /// Hands over what the connectors take.
    pub fn flush(&mut self) {
        let recorder = &self.recorder;
        for (number, (outlet, port)) in self.sinks.iter_mut().zip(&self.ports).enumerate() {
            outlet.flush(port.name(), |what| match port {
                SinkPort::Direct(handle) => publish(handle, what),
                SinkPort::Outbox(handle) => put(handle, recorder, number as u16, what),
            });
        }
        match &self.archive_handle {
            Some(handle) => self.archive.flush("archive", |what| offer(handle, recorder, what)),
            None => self.archive.flush("archive", |what| {
                match what {
                    ForArchive::Rows(_) => {}
                    ForArchive::Boundary(_) => {
                        tell(recorder, PartMessage::Archived(ArchivePart::default()));
                    }
                    ForArchive::Look(look) => look.ask(None),
                }
                Ok(())
            }),
        }
    }

    /// The connector that takes nothing now, if there is one.
    pub fn waits_for(&self) -> Option<&str> {
        let sinks = self.sinks.iter().zip(&self.ports);
        let mut waiting = sinks.filter(|(outlet, _)| !outlet.waiting.is_empty());
        let sink = waiting.next().map(|(_, port)| port.name());
        sink.or_else(|| (!self.archive.waiting.is_empty()).then_some("archive"))
    }

    /// Whether anything waits here.
    pub fn is_waiting(&self) -> bool {
        let is_waiting = |outlet: &Outlet<H, ForSink>| !outlet.waiting.is_empty();
        self.sinks.iter().any(is_waiting) || !self.archive.waiting.is_empty()
    }

    /// Drops the messages that no sink takes, so that a run can end without its listeners. What is to be
    /// published exactly once is taken into the outbox, whatever its bound: the next run sends it.
    pub fn give_up(&mut self) {
        for (number, (outlet, port)) in self.sinks.iter_mut().zip(&self.ports).enumerate() {
            let waiting = outlet.waiting.drain(..).map(|(_, what)| what);
            let SinkPort::Outbox(handle) = port else {
                let messages: usize = waiting.map(|what| what.messages()).sum();
                if messages > 0 {
                    self.unpublished.fetch_add(messages as u64, Ordering::Relaxed);
                    error!(sink = port.name(), messages, "sink takes nothing; messages are given up");
                }
                continue;
            };
            waiting.for_each(|what| put_over_bound(handle, &self.recorder, number as u16, what));
        }
    }

    /// Bytes that wait here.
    pub fn waiting_bytes(&self) -> usize {
        let messages = self.sinks.iter().flat_map(|outlet| &outlet.waiting);
        let rows = self.archive.waiting.iter();
        messages.map(|(_, what)| what.weight()).sum::<usize>()
            + rows.map(|(_, what)| what.weight()).sum::<usize>()
    }
}

impl ForSink {
    fn messages(&self) -> usize {
        match self {
            ForSink::Messages(batch) => batch.len(),
            ForSink::Boundary => 0,
        }
    }

    fn weight(&self) -> usize {
        match self {
            ForSink::Messages(batch) => batch.weight(),
            ForSink::Boundary => 0,
        }
    }
}

/// Offers messages to a sink that publishes them as they come.
fn publish(handle: &SinkHandle, what: ForSink) -> Result<(), Refused<ForSink>> {
    let ForSink::Messages(batch) = what else { return Ok(()) };
    handle.offer(batch).map_err(|refused| match refused {
        Refused::Full(batch) => Refused::Full(ForSink::Messages(batch)),
        Refused::Closed(batch) => Refused::Closed(ForSink::Messages(batch)),
    })
}

/// Offers messages to the recorder, for the outbox of a sink, where that has room.
fn put(
    handle: &OutboxHandle,
    recorder: &Sender<PartMessage>,
    sink: u16,
    what: ForSink,
) -> Result<(), Refused<ForSink>> {
    let ForSink::Messages(batch) = what else {
        tell(recorder, PartMessage::OutboxEnd { sink });
        return Ok(());
    };
    if !handle.admits() {
        return Err(Refused::Full(ForSink::Messages(batch)));
    }
    handle.taken(&batch);
    let sent = recorder.try_send(PartMessage::Outgoing { sink, batch });
    sent.map_err(|refused| match refused {
        Refused::Full(PartMessage::Outgoing { batch, .. }) => {
            handle.refused(&batch);
            Refused::Full(ForSink::Messages(batch))
        }
        // A recorder that has ended has raised the alarm.
        Refused::Full(_) | Refused::Closed(_) => Refused::Closed(ForSink::Boundary),
    })
}

fn put_over_bound(handle: &OutboxHandle, recorder: &Sender<PartMessage>, sink: u16, what: ForSink) {
    match what {
        ForSink::Messages(batch) => {
            handle.taken(&batch);
            tell(recorder, PartMessage::Outgoing { sink, batch });
        }
        ForSink::Boundary => tell(recorder, PartMessage::OutboxEnd { sink }),
    }
}

impl ForArchive {
    fn weight(&self) -> usize {
        match self {
            ForArchive::Rows(batch) => batch.rows.get_array_memory_size(),
            ForArchive::Boundary(_) | ForArchive::Look(_) => 0,
        }
    }
}

/// Offers rows to the archive; at a boundary it tells the recorder what a checkpoint has of it.
fn offer(
    handle: &Arc<ArchiveHandle>,
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
        ForArchive::Look(look) => {
            look.ask(Some(handle));
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

//! Takes messages from a broker, and loses none (rules 7.1 and 7.2).
//!
//! ```text
//!                                  .--> lane 0: waiting --> queue
//!   socket --> event loop --> journal --> lane 1: waiting --> queue
//!      ^                         |
//!      '-- PUBACK, PUBREC <--- synced          at the start: journal --> lanes
//! ```
//! One thread drives the connection. What one read of the socket brings (up to 128 packets) is one
//! frame of the journal, and goes to the lanes at once, with one lock a lane: only the acknowledgement
//! waits for the disk. While a lane or the journal is full nothing is read, so that the broker and its
//! publishers feel it; a ping now and then keeps the connection.
//!
//! At quality of service 1 and 2 the broker keeps the session while the engine is down. What it then sends
//! again is known by packet id and digest where it had come already. At 0 the journal is for replays
//! only: what comes while nobody listens is gone.
//!
//! What 2 has over 1 is that the broker says when it will not send a message again (PUBREL):
//!
//! ```text
//!   broker   PUBLISH ─────────────────────► PUBREL ────────────► packet id is free
//!   source            journal, sync, PUBREC        Released, PUBCOMP
//!                     '─ kept: what comes again ─'
//! ```
//! Up to PUBREL the journal keeps the message, also where a checkpoint has it, so that a repeat is known over any
//! restart; after it a message with the same packet id and the same bytes is another one, and not taken for a repeat.
//! The library answers PUBREL at once, before `Released` is written. So one thing is not promised: when the process is
//! killed between the two, or the power goes before the next sync, a broker that has by then given the packet id to a
//! message with the same topic and bytes, and sends that again, has it taken for the one before. At QoS 1 the same
//! holds for the packet ids of the last 32,768 messages.

mod answers;
mod packet;

use answers::Unacknowledged;

use super::client::{Connection, Outage};
use super::protocol::{Client, Event, EventLoop, PACKET_BATCH_MAX, Trouble};
use super::repeats::Repeats;
use super::session::Session;
use super::socket::Line;
use super::{MqttError, MqttSettings, SHARED};
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::journal::{Journal, JournalError, JournalSetup, Record};
use crate::lanes::Lanes;
use crate::message::Intake;
use crate::place::Place;
use crate::queue::{Closed, Waker};
use crate::reminder::Reminder;
use crate::source::{SourceHandle, SourceSetup, SourceStats};
use crate::thread::{StopSignal, Worker};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::info;

/// About how many bytes one read of the socket may bring, so that 128 large messages are not
/// taken over the bound of a lane at once.
const READ_BYTES_TARGET: usize = 2 << 20;

/// About how many bytes of the journal are handed over before it is looked whether they have room.
const REPLAY_BYTES: usize = 256 << 10;

/// How long the end waits for the broker to take the last acknowledgements and the goodbye.
const GOODBYE_MAX: Duration = Duration::from_millis(100);

/// Starts a source that subscribes to `filters`. A broker that is away is no error: the source
/// tries for ever and tells of it on lane 0. A journal that cannot be used is one.
pub fn start(
    setup: SourceSetup,
    settings: &MqttSettings,
    client_id: &str,
) -> Result<SourceHandle, MqttError> {
    let SourceSetup { name, filters, lanes, lane_of, clock, headers, next, folder, disk, alarm, .. } = setup;
    check_filters(&filters).map_err(|reason| MqttError::Settings { name: name.clone(), reason })?;
    let (line, is_kept) = (Line::default(), settings.qos > 0);
    let connection = Connection::new(&name, settings, client_id, Some(line.clone()))?;
    let (stats, stop) = (Arc::new(SourceStats::default()), Arc::new(StopSignal::default()));
    let woken = Arc::new(Notify::new());
    let notified = woken.clone();
    let waker: Waker = Arc::new(move || notified.notify_one());
    let client_id = settings.client_id(client_id);
    let session = Session::read(&*disk, &folder);
    let session = session.map_err(|error| MqttError::Session { name: name.clone(), error })?;
    let session = session.filter(|session| is_kept && session.is_of(&settings.url, client_id));
    // Without a session nothing in the journal can come again.
    let mut repeats = Repeats::new(session.as_ref().map_or(u64::MAX, |session| session.since));
    let journal_setup = JournalSetup {
        name: name.clone(),
        folder: folder.clone(),
        disk: disk.clone(),
        settings: settings.journal,
        alarm: alarm.clone(),
        waker: waker.clone(),
        headers: headers.clone(),
    };
    let journal = Journal::open(journal_setup, |_, record| match record {
        Record::Message { packet_id, exactly_once, message } => {
            repeats.see(*packet_id, *exactly_once, message);
        }
        Record::Released { packet_id } => _ = repeats.release(*packet_id),
        Record::Lost { .. } | Record::Restored { .. } => {}
    });
    let next = next.number();
    let journal = journal.and_then(|mut journal| journal.go_on_at(next).map(|()| journal));
    let journal = journal.map_err(|error| MqttError::Journal { name: name.clone(), error })?;
    let queue_bytes_max = usize::try_from(settings.queue.as_u64()).unwrap_or(usize::MAX);
    let (lanes, receivers) = Lanes::new(lanes, queue_bytes_max, lane_of);
    lanes.set_waker(&waker);
    stop.set_waker(waker);
    let mut outage = Outage::new(&name, settings, client_id);
    outage.is_reported = journal.is_lost();
    let source = Source {
        name: name.clone(),
        client: connection.client,
        qos: settings.qos,
        headers,
        session: Session {
            since: journal.next(),
            url: settings.url.clone(),
            client_id: client_id.to_owned(),
            filters,
        },
        known: session,
        is_kept,
        line,
        next: if next == 0 { journal.first() } else { next },
        journal,
        repeats,
        unacknowledged: VecDeque::new(),
        records: Vec::new(),
        lanes,
        woken,
        stop: stop.clone(),
        payload_bytes_max: usize::try_from(settings.max_payload.as_u64()).unwrap_or(usize::MAX),
        keep_alive: settings.keep_alive,
        clock,
        folder,
        disk,
        alarm,
        stats: stats.clone(),
        outage,
        newest_us: None,
        largest_bytes: 0,
        trouble: Reminder::default(),
    };
    let (event_loop, runtime) = (connection.event_loop, connection.runtime);
    let worker = Worker::spawn(&format!("source-{name}"), move || {
        runtime.block_on(source.run(event_loop));
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
    });
    let worker = worker.map_err(|error| MqttError::Thread { name: name.clone(), error })?;
    Ok(SourceHandle::new(&name, receivers, stats, stop, worker))
}

struct Source {
    name: String,
    client: Client,
    qos: u8,
    /// The user properties that are wanted.
    headers: Vec<String>,
    /// The session as this run wants it, and as an earlier one may have left it.
    session: Session,
    known: Option<Session>,
    /// The broker keeps the session.
    is_kept: bool,
    line: Line,
    journal: Journal,
    repeats: Repeats,
    /// What of this connection is still to be acknowledged, in the order in which it came.
    unacknowledged: VecDeque<Unacknowledged>,
    /// What one read has brought.
    records: Vec<Record>,
    lanes: Lanes,
    /// Notified when a lane has room again or is gone, when the journal was synced, and when something
    /// is asked.
    woken: Arc<Notify>,
    stop: Arc<StopSignal>,
    payload_bytes_max: usize,
    keep_alive: Duration,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    alarm: Arc<Alarm>,
    stats: Arc<SourceStats>,
    outage: Outage,
    /// The first position that was not handed to the lanes.
    next: u64,
    newest_us: Option<i64>,
    /// The largest payload of the last read.
    largest_bytes: usize,
    /// Files of the journal that cannot be removed.
    trouble: Reminder,
}

/// Why the source does not go on.
enum Ended {
    /// It was told to stop.
    Stopped,
    /// The engine has taken its ends of the lanes away.
    Abandoned,
    /// Something could not be kept; the alarm is raised.
    Failed,
}

impl From<Closed> for Ended {
    fn from(_: Closed) -> Self {
        Self::Abandoned
    }
}

impl From<JournalError> for Ended {
    /// The journal raises the alarm itself where it fails.
    fn from(_: JournalError) -> Self {
        Self::Failed
    }
}

impl Source {
    async fn run(mut self, mut event_loop: EventLoop) {
        self.show_journal();
        let ended = match self.replay().await {
            Ok(()) => self.work(&mut event_loop).await,
            Err(ended) => ended,
        };
        match ended {
            Ended::Stopped | Ended::Abandoned => self.finish(&mut event_loop),
            // Whoever hears the alarm ends the run. An end of the lanes before would look like the end
            // of the input.
            Ended::Failed => {
                while !self.stop.is_asked() {
                    self.woken.notified().await;
                }
            }
        }
        // Best effort, so that the broker does not take the end for a failure.
        if self.client.disconnect() {
            let goodbye = async {
                self.line.flush().await;
                while event_loop.poll().await.is_ok() {}
            };
            _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        }
        self.stats.set_connected(false);
    }

    /// Hands over and acknowledges everything that was taken.
    fn finish(&mut self, event_loop: &mut EventLoop) {
        let outcome = self.take_all(event_loop, self.clock.wall_us()).and_then(|()| {
            self.journal.wait_synced()?;
            self.acknowledge()
        });
        if !matches!(outcome, Err(Ended::Failed)) {
            self.lanes.push_all(&Intake::End { newest_us: self.newest_us, next: Place::at(self.next) });
        }
        // An error says that nobody reads the lanes any more, which is an end as good.
        _ = self.lanes.flush_over_bound();
    }

    /// Hands over what an earlier run has left in the journal.
    async fn replay(&mut self) -> Result<(), Ended> {
        let begin = self.next;
        let mut records = self.journal.read_from(begin);
        loop {
            self.attend()?;
            if self.lanes.are_blocked() {
                self.woken.notified().await;
                continue;
            }
            let mut bytes = 0;
            while bytes < REPLAY_BYTES {
                let (position, record) = match records.next() {
                    Some(Ok(record)) => record,
                    None => {
                        self.lanes.flush()?;
                        let records = self.next - begin;
                        if records > 0 {
                            info!(source = %self.name, records, "journal replayed");
                        }
                        return Ok(());
                    }
                    Some(Err(error)) => {
                        self.alarm.raise(format!("journal of {}: {error}", self.name));
                        return Err(Ended::Failed);
                    }
                };
                if let Record::Message { message, .. } = &record {
                    bytes += message.topic.len() + message.payload.len();
                    self.stats.replayed.fetch_add(1, Ordering::Relaxed);
                }
                self.put_down(record);
                self.next = position + 1;
            }
            self.lanes.flush()?;
        }
    }

    async fn work(&mut self, event_loop: &mut EventLoop) -> Ended {
        loop {
            if let Err(ended) = self.step(event_loop).await {
                return ended;
            }
        }
    }

    async fn step(&mut self, event_loop: &mut EventLoop) -> Result<(), Ended> {
        self.wait_for_room().await?;
        let outcome = self.poll(event_loop).await?;
        let arrived_at_us = self.clock.wall_us();
        self.largest_bytes = 0;
        let error = match outcome {
            Ok(event) => {
                self.take(event, arrived_at_us)?;
                None
            }
            Err(error) => Some(error),
        };
        // What one read brought waits in the event loop, also when the connection broke after it.
        self.take_all(event_loop, arrived_at_us)?;
        self.lanes.flush()?;
        event_loop.set_read_batch(self.read_batch());
        match error {
            Some(error) => self.lost(error).await,
            None => Ok(()),
        }
    }

    /// Drives the connection to its next event, and does meanwhile what else is to be done.
    async fn poll(&mut self, event_loop: &mut EventLoop) -> Result<Result<Event, Trouble>, Ended> {
        let line = self.line.clone();
        let mut poll = pin!(event_loop.poll());
        loop {
            self.attend()?;
            tokio::select! {
                biased;
                outcome = &mut poll => return Ok(outcome),
                () = self.woken.notified() => {}
                () = line.flush(), if line.is_behind() => {}
            }
        }
    }

    /// What others want of the source, and what the journal allows; done whenever the thread wakes.
    fn attend(&mut self) -> Result<(), Ended> {
        if self.journal.has_failed() {
            return Err(Ended::Failed);
        }
        if self.stop.is_asked() {
            return Err(Ended::Stopped);
        }
        self.acknowledge()?;
        self.publish_requests();
        if let Some(told) = self.stop.take_committed() {
            self.truncate(told.released.number());
        }
        if let Some(number) = self.stop.take_boundary() {
            // A checkpoint must not have what a loss of power could take away: it would come again.
            self.journal.wait_synced()?;
            self.lanes.push_all(&Intake::Boundary { number, next: Place::at(self.next) });
        }
        Ok(self.lanes.flush()?)
    }

    fn show_journal(&self) {
        self.stats.journal_bytes.store(self.journal.bytes(), Ordering::Relaxed);
        self.stats.journal_syncs.store(self.journal.syncs(), Ordering::Relaxed);
    }

    async fn lost(&mut self, trouble: Trouble) -> Result<(), Ended> {
        self.stats.set_connected(false);
        // Another connection has packet ids of its own; the broker sends again what it must.
        self.unacknowledged.clear();
        let failure = self.outage.failed(trouble);
        if failure.is_taken_over {
            self.stats.takeovers.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(reason) = failure.reason {
            self.stats.set_trouble(&reason);
            let at_us = self.clock.wall_us();
            self.tell(Record::Lost { at_us, reason }, at_us)?;
        }
        let mut pause = pin!(tokio::time::sleep(self.outage.pause()));
        loop {
            self.attend()?;
            tokio::select! {
                biased;
                () = &mut pause => return Ok(()),
                () = self.woken.notified() => {}
            }
        }
    }

    /// Waits until every lane has taken what waits for it and the journal has room. The broker hears a
    /// ping now and then, and a connection that turns out to be broken ends the wait.
    async fn wait_for_room(&mut self) -> Result<(), Ended> {
        if !self.is_held_back() {
            return Ok(());
        }
        let line = self.line.clone();
        let mut sign_of_life = pin!(tokio::time::sleep(self.keep_alive / 3));
        while self.is_held_back() {
            tokio::select! {
                biased;
                () = self.woken.notified() => {}
                () = &mut sign_of_life => {
                    if !self.line.ping() {
                        break;
                    }
                    sign_of_life.as_mut().reset(tokio::time::Instant::now() + self.keep_alive / 3);
                }
                () = line.flush(), if line.is_behind() => {}
            }
            self.attend()?;
        }
        Ok(())
    }

    fn is_held_back(&self) -> bool {
        let is_full = self.journal.is_full();
        if is_full != self.stats.journal_full.swap(is_full, Ordering::Relaxed) {
            info!(source = %self.name, is_full, bytes = self.journal.bytes(), "journal's bound");
        }
        is_full || self.lanes.are_blocked()
    }

    fn read_batch(&self) -> usize {
        (READ_BYTES_TARGET / self.largest_bytes.max(1)).clamp(1, PACKET_BATCH_MAX)
    }
}

fn check_filters(filters: &[String]) -> Result<(), String> {
    if filters.is_empty() {
        return Err("there is no topic to subscribe to; name at least one, for example plant/+/state".into());
    }
    match filters.iter().find(|filter| !is_filter(filter)) {
        Some(filter) => Err(format!(
            "`{filter}` is no topic filter; + stands for one whole level, # for all levels at the end"
        )),
        None => Ok(()),
    }
}

/// Whether a broker takes it, alone or shared by a group.
fn is_filter(filter: &str) -> bool {
    match filter.strip_prefix(SHARED).map(|shared| shared.split_once('/')) {
        Some(Some((group, filter))) => {
            !group.is_empty() && !group.contains(['+', '#']) && rumqttc::valid_filter(filter)
        }
        Some(None) => false,
        None => rumqttc::valid_filter(filter),
    }
}

#[cfg(test)]
mod tests;

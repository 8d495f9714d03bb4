//! Takes the records of topics. Offsets belong to the checkpoints (rule 7.3): what is committed to the group is
//! for tools that show lag.
//!
//! ```text
//!   brokers ─► librdkafka (threads of its own) ─► one queue ─► this thread ─► lane of the partition
//!                                                                  ▲
//!   discovery (thread): partitions of this share, gaps ────────────┘
//! ```
//! Partitions are dealt out to the workers of all processes, each to one lane for good, so the records of a
//! partition keep their order, and with them those of a twin. No thread is one partition's. While a lane is
//! full nothing is taken, the library's queue fills to its bound, and it asks the brokers for no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::block::Block;
use super::consumer::{self, Context};
use super::damage::{self, Damage};
use super::discovery::{self, Discovery, News, Port, Question};
use super::partitions::{Deal, Partition, known};
use super::{KafkaError, KafkaSettings, OnGap};
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::lanes::Lanes;
use crate::message::{Intake, OVERSIZE_KEPT_BYTES, RawMessage};
use crate::place::Place;
use crate::queue::{Closed, Waker};
use crate::reminder::Reminder;
use crate::source::{SourceHandle, SourceSetup, SourceStats};
use crate::thread::{StopSignal, Worker, unpark_current};

/// Records that are taken before the lanes get them.
const BATCH: usize = 256;
/// How long the thread sleeps when nothing wakes it.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// Starts a source. A cluster that is away is no error: it is tried for ever, and told of on lane 0. Offsets are
/// committed to the group of the settings, or else to `group`.
pub fn start(setup: SourceSetup, settings: &KafkaSettings, group: &str) -> Result<SourceHandle, KafkaError> {
    let name = setup.name.clone();
    settings.check().map_err(|reason| KafkaError::Settings { name: name.clone(), reason })?;
    let (stats, stop) = (Arc::new(SourceStats::default()), Arc::new(StopSignal::default()));
    let queue_bytes_max = usize::try_from(settings.queue.as_u64()).unwrap_or(usize::MAX);
    let (lanes, receivers) = Lanes::new(setup.lanes, queue_bytes_max, setup.lane_of.clone());
    let mut consumer = consumer::create(&name, settings, group, stats.clone())?;
    let (settings, shown, stopped) = (settings.clone(), stats.clone(), stop.clone());
    let worker = Worker::spawn(&format!("source-{name}"), move || {
        let waker = unpark_current();
        let wake = waker.clone();
        consumer.set_nonempty_callback(move || wake());
        Source::new(setup, &settings, consumer, lanes, stats, stop, &waker).run(&settings, waker);
    });
    let worker = worker.map_err(|error| KafkaError::Thread { name: name.clone(), error })?;
    Ok(SourceHandle::new(&name, receivers, shown, stopped, worker))
}

struct Source {
    name: String,
    consumer: Arc<BaseConsumer<Context>>,
    filters: Vec<String>,
    deal: Deal,
    lanes: Lanes,
    /// Partitions of this process's share, in the order in which they were learnt of.
    partitions: Vec<Read>,
    by_partition: HashMap<Partition, usize>,
    /// The partition that the last record was of: many come from one.
    last: usize,
    headers: Vec<String>,
    payload_bytes_max: usize,
    on_gap: OnGap,
    /// The cluster does not answer, and the lanes know.
    is_lost: bool,
    /// A checksum was wrong; nothing is taken until it is known where.
    is_damaged: bool,
    block: Block,
    clock: Arc<dyn Clock>,
    alarm: Arc<Alarm>,
    stats: Arc<SourceStats>,
    stop: Arc<StopSignal>,
    trouble: Reminder,
    newest_us: Option<i64>,
}

/// A partition, and how far it is read.
struct Read {
    partition: Partition,
    /// Its name in a place.
    key: String,
    topic: Bytes,
    lane: usize,
    /// The offset of the record that is taken next.
    next: u64,
    is_assigned: bool,
}

/// Why a source ends.
enum Ended {
    /// It was told to stop.
    Stopped,
    /// The engine has taken its ends of the lanes away.
    Closed,
    /// It cannot go on, and has raised the alarm.
    Failed,
}

impl From<Closed> for Ended {
    fn from(_: Closed) -> Self {
        Ended::Closed
    }
}

impl Source {
    fn new(
        setup: SourceSetup,
        settings: &KafkaSettings,
        consumer: BaseConsumer<Context>,
        lanes: Lanes,
        stats: Arc<SourceStats>,
        stop: Arc<StopSignal>,
        waker: &Waker,
    ) -> Self {
        let SourceSetup { name, filters, lanes: count, clock, headers, share, next, alarm, .. } = setup;
        lanes.set_waker(waker);
        stop.set_waker(waker.clone());
        let mut source = Self {
            name,
            consumer: Arc::new(consumer),
            deal: Deal { share, lanes: count.max(1) },
            lanes,
            partitions: Vec::new(),
            by_partition: HashMap::new(),
            last: 0,
            headers,
            payload_bytes_max: usize::try_from(settings.max_payload.as_u64()).unwrap_or(usize::MAX),
            on_gap: settings.on_gap,
            is_lost: false,
            is_damaged: false,
            block: Block::default(),
            clock,
            alarm,
            stats,
            stop,
            trouble: Reminder::default(),
            newest_us: None,
            filters,
        };
        // Known before they are found, so that a checkpoint made meanwhile does not forget them.
        for (partition, offset) in known(&next, &source.filters) {
            source.learn(partition, offset);
        }
        source
    }

    /// Notes a partition, where it is of this share; its index.
    fn learn(&mut self, partition: Partition, next: u64) -> Option<usize> {
        let lane = self.deal.lane(&partition)?;
        if let Some(index) = self.by_partition.get(&partition) {
            return Some(*index);
        }
        let index = self.partitions.len();
        self.by_partition.insert(partition.clone(), index);
        self.partitions.push(Read {
            key: partition.key(),
            topic: Bytes::copy_from_slice(partition.topic.as_bytes()),
            partition,
            lane,
            next,
            is_assigned: false,
        });
        Some(index)
    }

    fn run(mut self, settings: &KafkaSettings, waker: Waker) {
        let discovery = discovery::start(Discovery {
            name: self.name.clone(),
            consumer: self.consumer.clone(),
            filters: self.filters.clone(),
            settings: settings.clone(),
            known: self.partitions.iter().map(|read| (read.partition.clone(), read.next)).collect(),
            deal: self.deal,
            waker,
        });
        let ended = match discovery {
            Ok(port) => self.read(&port),
            Err(error) => {
                self.alarm.raise(format!("{}: no thread to look for partitions: {error}", self.name));
                Ended::Failed
            }
        };
        if !matches!(ended, Ended::Failed) {
            let newest_us = self.newest_us;
            self.push_cut(|next| Intake::End { newest_us, next });
            // An error says that nobody reads the lanes any more, which is an end as good.
            _ = self.lanes.flush_over_bound();
        }
        self.stats.set_connected(false);
    }

    /// Reads until it is told to stop.
    fn read(&mut self, port: &Port) -> Ended {
        loop {
            let is_busy = match self.go_on(port) {
                Ok(is_busy) => is_busy,
                Err(ended) => return ended,
            };
            if !is_busy {
                std::thread::park_timeout(SLEEP_MAX);
            }
        }
    }

    /// Does what there is to do; whether there may be more.
    fn go_on(&mut self, port: &Port) -> Result<bool, Ended> {
        if self.stop.is_asked() {
            return Err(Ended::Stopped);
        }
        for news in port.news.try_iter() {
            self.hear(news)?;
        }
        if let Some(told) = self.stop.take_committed() {
            self.commit(&told.next);
        }
        if let Some(number) = self.stop.take_boundary() {
            self.push_cut(|next| Intake::Boundary { number, next });
        }
        self.lanes.flush()?;
        if self.lanes.are_blocked() || self.is_damaged {
            return Ok(false);
        }
        let taken = self.take_batch(port);
        self.lanes.flush()?;
        Ok(taken == BATCH)
    }

    /// Takes records that the library has; how many.
    fn take_batch(&mut self, port: &Port) -> usize {
        let consumer = self.consumer.clone();
        let now_us = self.clock.wall_us();
        for taken in 0..BATCH {
            match consumer.poll(Duration::ZERO) {
                None => return taken,
                Some(Ok(message)) => self.take(&message, now_us),
                Some(Err(error)) => self.take_error(&error, port),
            }
            if self.is_damaged {
                return taken;
            }
        }
        BATCH
    }

    fn take(&mut self, message: &BorrowedMessage<'_>, now_us: i64) {
        let is_last = |read: &Read| {
            read.partition.number == message.partition() && read.partition.topic == message.topic()
        };
        if !self.partitions.get(self.last).is_some_and(is_last) {
            let partition = Partition::new(message.topic(), message.partition());
            // What is not assigned does not come, but for what was under way when it was taken away.
            let Some(index) = self.by_partition.get(&partition) else { return };
            self.last = *index;
        }
        let read = &mut self.partitions[self.last];
        let offset = u64::try_from(message.offset()).unwrap_or(0);
        if !read.is_assigned || offset < read.next {
            return;
        }
        read.next = offset + 1;
        let payload = message.payload().unwrap_or_default();
        let (kept, oversize) = match payload.len() <= self.payload_bytes_max {
            true => (payload, None),
            false => (&payload[..payload.len().min(OVERSIZE_KEPT_BYTES)], Some(payload.len() as u64)),
        };
        let block = &mut self.block;
        let raw = RawMessage {
            position: read.partition.position(offset),
            arrived_at_us: now_us,
            topic: read.topic.clone(),
            key: message.key().map(|key| block.copy(key)),
            headers: block.headers(&self.headers, message),
            payload: block.copy(kept),
            oversize,
            ..RawMessage::default()
        };
        self.stats.add(1, payload.len() as u64);
        self.newest_us = Some(now_us);
        self.lanes.push_to(read.lane, Intake::Message(raw));
    }

    fn take_error(&mut self, error: &ClientError, port: &Port) {
        let assigned = || {
            let reads = self.partitions.iter().filter(|read| read.is_assigned);
            reads.map(|read| (read.partition.clone(), read.next)).collect()
        };
        // Which partition it is, the library does not say.
        let question = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Question::Gaps(assigned())
            }
            _ if damage::is_damage(error) => {
                let question = Question::Damage(assigned());
                self.is_damaged = true;
                question
            }
            // Discovery says whether the cluster is away.
            _ => {
                if let Some(times) = self.trouble.due() {
                    let reason = self.consumer.context().complaint.explain(error);
                    warn!(source = %self.name, reason, times, "trouble with the cluster; going on");
                }
                Question::Look
            }
        };
        // Discovery ends with this thread.
        let _ = port.questions.send(question);
    }

    fn hear(&mut self, news: News) -> Result<(), Ended> {
        match news {
            News::Found(partition, offset) => {
                if let Some(index) = self.learn(partition, offset) {
                    self.assign(index);
                }
            }
            News::Removed(partition) => {
                if let Some(index) = self.by_partition.get(&partition).copied() {
                    warn!(source = %self.name, partition = %partition.key(), "topic was deleted; its partition is not read any more");
                    self.unassign(index);
                }
            }
            News::Gap { partition, next, begin, end } => return self.pass_gap(&partition, next, begin, end),
            News::Damage(damages) => self.pass_damage(damages),
            News::Lost(reason) => self.lost(reason),
            News::Reached => self.reached(),
        }
        Ok(())
    }

    /// Records that were to come are gone. The run ends with that, or goes on behind them.
    fn pass_gap(&mut self, partition: &Partition, next: u64, begin: u64, end: u64) -> Result<(), Ended> {
        let Some(index) = self.by_partition.get(partition).copied() else { return Ok(()) };
        if self.partitions[index].next != next {
            return Ok(());
        }
        let key = partition.key();
        let what = match begin.checked_sub(next) {
            Some(gone) if next < begin => format!(
                "{gone} records of {key} are gone: the topic keeps none before {begin}, and {next} was to come"
            ),
            _ => format!("{key} ends before {end}, and {next} was to come: the topic was made anew"),
        };
        if self.on_gap == OnGap::Stop {
            self.alarm.raise(format!(
                "{}: {what}; start with `on_gap: skip` to go on with the records that are there",
                self.name
            ));
            return Err(Ended::Failed);
        }
        self.stats.gone.fetch_add(begin.saturating_sub(next), Ordering::Relaxed);
        warn!(source = %self.name, what, "going on at {begin}, as on_gap says");
        self.unassign(index);
        self.partitions[index].next = begin;
        self.assign(index);
        Ok(())
    }

    /// Tells of records that cannot be read, and goes on behind them.
    fn pass_damage(&mut self, damages: Vec<Damage>) {
        self.is_damaged = false;
        let arrived_at_us = self.clock.wall_us();
        for Damage { partition, next, behind } in damages {
            let Some(index) = self.by_partition.get(&partition).copied() else { continue };
            let read = &mut self.partitions[index];
            if read.next != next {
                continue;
            }
            read.next = behind;
            let (key, position, lane) = (&read.key, read.partition.position(next), read.lane);
            let reason = format!(
                "the records of {key} from {next} to {} cannot be read: their checksum is wrong",
                behind - 1
            );
            warn!(source = %self.name, reason, "damaged records are passed over");
            let payload = Bytes::new();
            self.lanes.push_to(lane, Intake::Unreadable { position, arrived_at_us, reason, payload });
        }
        // The library may have passed good records over with the damaged ones, so all begin where they were.
        for index in 0..self.partitions.len() {
            if self.partitions[index].is_assigned {
                self.unassign(index);
                self.assign(index);
            }
        }
    }

    fn lost(&mut self, reason: String) {
        self.stats.set_connected(false);
        if let Some(times) = self.trouble.due() {
            warn!(source = %self.name, reason, times, "cluster not reached; retrying");
        }
        if !std::mem::replace(&mut self.is_lost, true) && self.deal.share.process == 0 {
            let at_us = self.clock.wall_us();
            self.lanes.push_first(Intake::Lost { at_us, reason });
        }
    }

    fn reached(&mut self) {
        if !self.stats.connected.swap(true, Ordering::Relaxed) {
            info!(source = %self.name, partitions = self.partitions.len(), "cluster reached");
        }
        self.trouble.reset();
        if std::mem::take(&mut self.is_lost) {
            self.stats.reconnects.fetch_add(1, Ordering::Relaxed);
            if self.deal.share.process == 0 {
                let at_us = self.clock.wall_us();
                self.lanes.push_first(Intake::Restored { at_us });
            }
        }
    }

    fn assign(&mut self, index: usize) {
        let read = &mut self.partitions[index];
        if read.is_assigned {
            return;
        }
        let list = list(&read.partition, i64::try_from(read.next).unwrap_or(i64::MAX));
        match list.and_then(|list| self.consumer.incremental_assign(&list)) {
            Ok(()) => read.is_assigned = true,
            Err(error) => warn!(source = %self.name, partition = %read.key, %error, "partition not assigned"),
        }
    }

    fn unassign(&mut self, index: usize) {
        let read = &mut self.partitions[index];
        if !std::mem::take(&mut read.is_assigned) {
            return;
        }
        let list = list(&read.partition, 0);
        if let Err(error) = list.and_then(|list| self.consumer.incremental_unassign(&list)) {
            warn!(source = %self.name, partition = %read.key, %error, "partition not given up");
        }
    }

    /// Puts news into every lane that say how far each of its partitions is read.
    fn push_cut(&mut self, news: impl Fn(Place) -> Intake) {
        for lane in 0..self.deal.lanes {
            let mine = self.partitions.iter().filter(|read| read.lane == lane);
            let place = mine.map(|read| (read.key.clone(), read.next)).collect();
            self.lanes.push_to(lane, news(place));
        }
    }

    /// Shows the group how far checkpoints are.
    fn commit(&mut self, place: &Place) {
        let mut list = TopicPartitionList::new();
        for (partition, next) in known(place, &self.filters) {
            let offset = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
            if self.deal.lane(&partition).is_some() {
                // It fails for offsets that are no offsets only.
                let _ = list.add_partition_offset(&partition.topic, partition.number, offset);
            }
        }
        if list.count() > 0 {
            // Nothing but the lag that tools show depends on it.
            let _ = self.consumer.commit(&list, CommitMode::Async);
        }
    }
}

fn list(partition: &Partition, offset: i64) -> Result<TopicPartitionList, ClientError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset))?;
    Ok(list)
}

//! Publishes to topics exactly once (rule 7.3): the outbox of a checkpoint goes out in one transaction once the
//! checkpoint holds, and the transaction says which one it was.
//!
//! ```text
//!   prepared, committed ─► begin ─► messages ─► marker ─► commit        all of one transaction
//!   restart: marker of the group read ─► that outbox is sent, or not: then it is sent now
//! ```
//! The marker is an offset committed to a group of the sink in the same transaction, on partition 0 of the
//! topic that the outbox begins with; its metadata is the number of the checkpoint. So no topic has to be made
//! for it, and nobody has to read one. Kafka forgets offsets of a group a week after the last of them
//! (`offsets.retention.minutes`): a run that is started later sends its last outbox again.
//!
//! One producer for each process. Its transactional id fences those of an earlier run, and of a second engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use super::client::{self, Complaint};
use super::sink::{self, Stamp};
use super::{KafkaError, KafkaSettings};
use crate::failpoint::{self, Failpoint};
use crate::message::Outgoing;
use crate::outbox::{self, Order, OutboxHandle, OutboxId, SenderWork, Unsent};
use crate::parts::PartInfo;
use crate::reminder::Reminder;
use crate::sink::SinkSetup;

/// How long one step of a transaction may take before it is looked whether to stop.
const STEP_MAX: Duration = Duration::from_secs(10);
/// How soon a transaction that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is looked whether to stop.
const LOOK: Duration = Duration::from_millis(200);
/// How long the cluster holds a transaction open that nobody goes on with; its own bound is 15 minutes.
const TRANSACTION_MAX_MS: &str = "900000";

/// Starts a sender. A cluster that is away is no error: it is tried for ever.
pub fn start(setup: SinkSetup, settings: &KafkaSettings) -> Result<OutboxHandle, KafkaError> {
    let name = setup.name.clone();
    settings.check().map_err(|reason| KafkaError::Settings { name: name.clone(), reason })?;
    let bytes_max = usize::try_from(settings.outbox.as_u64()).unwrap_or(usize::MAX);
    let (settings, process) = (settings.clone(), setup.process);
    // Made here, so that what is wrong with its options is said at the start.
    let client = Client::new(&setup, &settings, process as u32);
    let client = client.map_err(|error| client::not_started(&name, &error))?;
    let handle = OutboxHandle::start(&name, process, bytes_max, move |work| {
        let mut sender = Sender { client, setup, settings, work, trouble: Reminder::default() };
        match sender.run() {
            Ok(()) | Err(Ended::Stopped) => {}
            Err(Ended::Failed(reason)) => {
                let name = &sender.setup.name;
                sender.setup.alarm.raise(format!("{name}: {reason}"));
            }
        }
        sender.work.stats.set_connected(false);
    });
    handle.map_err(|error| KafkaError::Thread { name, error })
}

type TransactionalProducer = ThreadedProducer<Context>;

/// What sends the outbox of one process.
struct Client {
    /// Number of that process.
    partition: u32,
    producer: TransactionalProducer,
    /// Of the group that has the markers; it joins nothing.
    group: BaseConsumer,
}

impl Client {
    fn new(setup: &SinkSetup, settings: &KafkaSettings, partition: u32) -> Result<Self, ClientError> {
        let id = id_of(setup, partition);
        let mut config = sink::config(settings);
        // A transaction has a bound, and its messages with it.
        config.remove("message.timeout.ms");
        config.set("transactional.id", &id);
        for (option, value) in [
            ("transaction.timeout.ms", TRANSACTION_MAX_MS),
            // What is delivered is told by the commit.
            ("delivery.report.only.error", "true"),
        ] {
            if !settings.options.contains_key(option) {
                config.set(option, value);
            }
        }
        if !settings.options.contains_key("linger.ms") {
            // A commit waits for nobody's linger, and all of an outbox is there at once.
            config.set("linger.ms", "100");
        }
        let (complaint, failed) = (Complaint::default(), AtomicU64::new(0));
        let context = Context { name: setup.name.clone(), complaint, failed };
        let producer = ThreadedProducer::from_config_and_context(&config, context)?;
        let mut config = client::config(settings);
        let group = config.set("group.id", &id).set("isolation.level", "read_committed").create()?;
        Ok(Self { partition, producer, group })
    }
}

/// The transactional id of a process's outbox, and the group of its markers.
fn id_of(setup: &SinkSetup, partition: u32) -> String {
    format!("twinloom-{}-{}-{partition}", setup.job, setup.name)
}

/// Hears what becomes of messages: a transaction in which one failed is not committed.
struct Context {
    name: String,
    complaint: Complaint,
    failed: AtomicU64,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.complaint.hear(&self.name, level, facility, line);
    }

    fn error(&self, error: ClientError, reason: &str) {
        debug!(sink = %self.name, %error, reason, "librdkafka");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            self.failed.fetch_add(1, Ordering::SeqCst);
            debug!(sink = %self.name, topic = message.topic(), %error, "message not delivered");
        }
    }
}

/// Why a sender ends before its orders do.
#[derive(Debug)]
enum Ended {
    /// It was told to stop; the next run sends what it did not.
    Stopped,
    /// It cannot go on.
    Failed(String),
}

/// Why a transaction did not come to its end.
enum Trouble {
    /// It may the next time.
    Passing(String),
    /// It never will.
    Lasting(String),
}

impl From<crate::parts::PartError> for Trouble {
    fn from(error: crate::parts::PartError) -> Self {
        Trouble::Lasting(format!("the outbox cannot be read: {error}"))
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Trouble::Lasting(error.to_string())
    }
}

struct Sender {
    setup: SinkSetup,
    settings: KafkaSettings,
    work: SenderWork,
    client: Client,
    trouble: Reminder,
}

impl Sender {
    fn run(&mut self) -> Result<(), Ended> {
        self.settle()?;
        self.work.progress.sent(0);
        let mut prepared: BTreeMap<u64, Vec<PartInfo>> = BTreeMap::new();
        loop {
            match self.work.orders.recv_timeout(LOOK) {
                Ok(Order::Prepared(number, part)) => prepared.entry(number).or_default().push(part),
                Ok(Order::Committed(number)) => {
                    // A checkpoint that did not hold has no outbox: its messages were never to be seen.
                    prepared = prepared.split_off(&number);
                    let parts = prepared.remove(&number).unwrap_or_default();
                    let id = OutboxId { generation: self.setup.generation, number };
                    let (messages, bytes) =
                        self.send(&Unsent { partition: self.client.partition, id, parts })?;
                    self.work.stats.add_published(messages, bytes);
                    self.work.stats.batch_done(bytes as usize);
                    self.work.progress.sent(number);
                }
                Err(RecvTimeoutError::Timeout) if self.work.stop.is_asked() => return Err(Ended::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Sends what earlier runs did not, each outbox under its own id, and takes over this process's own.
    fn settle(&mut self) -> Result<(), Ended> {
        let own = self.client.partition;
        let mut by_partition: BTreeMap<u32, Vec<Unsent>> = BTreeMap::from([(own, Vec::new())]);
        for unsent in std::mem::take(&mut self.setup.unsent) {
            by_partition.entry(unsent.partition).or_default().push(unsent);
        }
        for (partition, outboxes) in by_partition {
            let mut mine = None;
            if partition != own {
                // A process that is not there any more left it; we are that process for a while.
                let other = Client::new(&self.setup, &self.settings, partition);
                let other = other.map_err(|error| Ended::Failed(client::reason(&error)))?;
                mine = Some(std::mem::replace(&mut self.client, other));
            }
            self.persist(|sender| sender.init())?;
            for unsent in outboxes {
                self.send_missing(&unsent)?;
            }
            if let Some(mine) = mine {
                self.client = mine;
            }
        }
        Ok(())
    }

    /// Takes over the transactional id: what others have open under it is taken back, and they are fenced.
    fn init(&self) -> Result<(), Trouble> {
        let producer = &self.client.producer;
        match producer.init_transactions(STEP_MAX) {
            Ok(()) => Ok(()),
            Err(ClientError::Transaction(error)) if error.is_retriable() => {
                let is_reached = producer.client().fetch_metadata(None, STEP_MAX).is_ok();
                Err(Trouble::Passing(match is_reached {
                    true => "the cluster answers and begins no transactions: its brokers are older than 0.11, or \
                             fewer than transaction.state.log.replication.factor; publish without exactly_once"
                        .into(),
                    false => self.client.producer.context().complaint.explain(&ClientError::Transaction(error)),
                }))
            }
            Err(error) => Err(self.trouble(&error)),
        }
    }

    fn send_missing(&mut self, unsent: &Unsent) -> Result<(), Ended> {
        let Some(topic) = self.first_topic(unsent)? else { return Ok(()) };
        let last = self.persist(|sender| sender.marker(&topic))?;
        let id = unsent.id;
        if last.is_some_and(|last| last >= id) {
            debug!(sink = %self.setup.name, ?id, "outbox was sent before the crash");
            return Ok(());
        }
        let (messages, _) = self.send(unsent)?;
        info!(sink = %self.setup.name, messages, ?id, "outbox of an earlier run sent");
        Ok(())
    }

    /// Sends an outbox in one transaction, however often it takes; messages and their bytes.
    fn send(&mut self, unsent: &Unsent) -> Result<(u64, u64), Ended> {
        if unsent.parts.is_empty() {
            return Ok((0, 0));
        }
        self.persist(|sender| {
            let outcome = sender.transact(unsent);
            if let Err(Trouble::Passing(_)) = &outcome {
                // What was begun is taken back, so that it can be begun anew; it may not have been begun.
                match sender.client.producer.abort_transaction(STEP_MAX) {
                    Err(error) if error.rdkafka_error_code() != Some(RDKafkaErrorCode::State) => {
                        return Err(sender.trouble(&error));
                    }
                    _ => {}
                }
            }
            outcome
        })
    }

    fn transact(&mut self, unsent: &Unsent) -> Result<(u64, u64), Trouble> {
        failpoint::hit(Failpoint::TransactionBegin)?;
        self.client.producer.context().failed.store(0, Ordering::SeqCst);
        self.step(|producer| producer.begin_transaction())?;
        let (stamp, mut topic, mut messages, mut bytes) = (Stamp::new(unsent.id.generation), None, 0, 0);
        for part in &unsent.parts {
            outbox::read(&*self.setup.store, part, |message| {
                failpoint::hit(Failpoint::TransactionSend)?;
                topic.get_or_insert_with(|| message.topic.to_owned());
                messages += 1;
                bytes += (message.topic.len() + message.key.len() + message.payload.len()) as u64;
                self.put(&message, &stamp)
            })?;
        }
        failpoint::hit(Failpoint::TransactionMarker)?;
        if let Some(topic) = topic {
            self.mark(&topic, unsent)?;
        }
        failpoint::hit(Failpoint::TransactionCommit)?;
        self.commit()?;
        failpoint::hit(Failpoint::TransactionCommitted)?;
        Ok((messages, bytes))
    }

    fn put(&self, message: &Outgoing<'_>, stamp: &Stamp) -> Result<(), Trouble> {
        loop {
            let record = BaseRecord::to(message.topic)
                .key(message.key)
                .payload(message.payload)
                .headers(stamp.of(message.revision));
            match self.client.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    if self.work.stop.is_asked() || self.has_failed() {
                        return Err(Trouble::Passing("the cluster takes no messages".into()));
                    }
                    self.client.producer.poll(LOOK);
                }
                Err((error, _)) => return Err(self.trouble(&error)),
            }
        }
    }

    fn has_failed(&self) -> bool {
        self.client.producer.context().failed.load(Ordering::SeqCst) > 0
    }

    fn mark(&self, topic: &str, unsent: &Unsent) -> Result<(), Trouble> {
        let Some(metadata) = self.client.group.group_metadata() else {
            return Err(Trouble::Lasting("the client knows no group for the marker".into()));
        };
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, 0);
        element.set_metadata(text_of(unsent.id));
        let placed = element.set_offset(Offset::Offset(i64::try_from(unsent.id.number).unwrap_or(i64::MAX)));
        placed.map_err(|error| self.trouble(&error))?;
        self.step(|producer| producer.send_offsets_to_transaction(&list, &metadata, STEP_MAX))
    }

    /// The outbox that was sent last, as far as this topic has a marker.
    fn marker(&self, topic: &str) -> Result<Option<OutboxId>, Trouble> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, 0);
        let found =
            self.client.group.committed_offsets(list, STEP_MAX).map_err(|error| self.trouble(&error))?;
        Ok(found.find_partition(topic, 0).and_then(|element| id_of_text(element.metadata())))
    }

    fn first_topic(&self, unsent: &Unsent) -> Result<Option<String>, Ended> {
        let mut first = None;
        for part in &unsent.parts {
            let read = outbox::read(&*self.setup.store, part, |message| {
                first = Some(message.topic.to_owned());
                Err(Trouble::Passing(String::new()))
            });
            match read {
                Ok(()) => {}
                Err(Trouble::Passing(_)) => break,
                Err(Trouble::Lasting(reason)) => return Err(Ended::Failed(reason)),
            }
        }
        Ok(first)
    }

    /// Commits. A commit of which the answer was lost is asked for again: it is the same one.
    fn commit(&self) -> Result<(), Trouble> {
        loop {
            match self.client.producer.commit_transaction(STEP_MAX) {
                Ok(()) => return Ok(()),
                Err(ClientError::Transaction(error))
                    if error.is_retriable() && !self.work.stop.is_asked() => {}
                Err(error) => return Err(self.trouble(&error)),
            }
        }
    }

    /// One step of a transaction; one that may be asked for again is.
    fn step(&self, ask: impl Fn(&TransactionalProducer) -> Result<(), ClientError>) -> Result<(), Trouble> {
        loop {
            match ask(&self.client.producer) {
                Ok(()) => return Ok(()),
                Err(ClientError::Transaction(error))
                    if error.is_retriable() && !self.work.stop.is_asked() =>
                {
                    debug!(sink = %self.setup.name, %error, "step of a transaction is tried again");
                    self.work.stats.set_connected(false);
                }
                Err(error) => return Err(self.trouble(&error)),
            }
        }
    }

    fn trouble(&self, error: &ClientError) -> Trouble {
        let reason = self.client.producer.context().complaint.explain(error);
        let code = error.rdkafka_error_code();
        let is_fatal = match error {
            ClientError::Transaction(error) => error.is_fatal(),
            _ => false,
        };
        let never = matches!(
            code,
            Some(
                RDKafkaErrorCode::UnsupportedFeature
                    | RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
                    | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                    | RDKafkaErrorCode::InvalidTransactionTimeout
            )
        );
        match is_fatal || never {
            true => Trouble::Lasting(reason),
            false => Trouble::Passing(reason),
        }
    }

    /// Tries until it is done, it never will be, or the sender is to stop.
    fn persist<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T, Trouble>) -> Result<T, Ended> {
        loop {
            match work(self) {
                Ok(value) => {
                    self.work.stats.set_connected(true);
                    self.trouble.reset();
                    return Ok(value);
                }
                Err(Trouble::Lasting(reason)) => return Err(Ended::Failed(reason)),
                Err(Trouble::Passing(reason)) => {
                    self.work.stats.set_connected(false);
                    if let Some(times) = self.trouble.due() {
                        warn!(sink = %self.setup.name, reason, times, "outbox not sent yet; trying again");
                    }
                }
            }
            if self.work.stop.is_asked() {
                return Err(Ended::Stopped);
            }
            std::thread::sleep(RETRY);
        }
    }
}

/// The marker's metadata.
fn text_of(id: OutboxId) -> String {
    format!("{}-{}", id.generation, id.number)
}

fn id_of_text(text: &str) -> Option<OutboxId> {
    let (generation, number) = text.split_once('-')?;
    Some(OutboxId { generation: generation.parse().ok()?, number: number.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_names_its_outbox() {
        let id = OutboxId { generation: 3, number: 17 };
        assert_eq!(text_of(id), "3-17");
        assert_eq!(id_of_text("3-17"), Some(id));
        for text in ["", "3", "x-1", "3-"] {
            assert_eq!(id_of_text(text), None, "{text}");
        }
    }
}

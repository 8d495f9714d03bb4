//! Publishes to topics at least once, in the order offered: the key is the twin's id, so the events of a twin
//! stay in one partition and keep their order there. The producer is idempotent: it sends again by itself.
//!
//! ```text
//!   queue of batches ─► this thread ─► librdkafka: bounded queue ─► brokers
//!                            ▲                                        │
//!                            └── what was refused for now ◄── thread that polls: delivered, or why not
//! ```
//! A batch is done with when its last message was delivered. While the cluster is away the library's queue
//! fills, then ours, and `offer` refuses.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tracing::{debug, info, warn};

use super::client::{self, Complaint};
use super::{KafkaError, KafkaSettings};
use crate::message::{MessageBatch, Outgoing, Receipt};
use crate::queue::{Waker, Weigh};
use crate::reminder::Reminder;
use crate::sink::{SinkHandle, SinkSetup, SinkStats, SinkWork};
use crate::thread::unpark_current;

/// How long the thread sleeps when nothing wakes it.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// How soon a cluster that was not reached, or a topic that is not there, is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How long the cluster may take to say whether a topic is there.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long the end waits for what is on its way, before it looks whether it is to stop.
const FLUSH: Duration = Duration::from_millis(100);

/// Starts a sink. A cluster that is away is no error: it is tried for ever.
pub fn start(setup: &SinkSetup, settings: &KafkaSettings) -> Result<SinkHandle, KafkaError> {
    let name = setup.name.clone();
    settings.check().map_err(|reason| KafkaError::Settings { name: name.clone(), reason })?;
    let queue_bytes_max = usize::try_from(settings.queue.as_u64()).unwrap_or(usize::MAX);
    let config = config(settings);
    let generation = setup.generation;
    // Made here, so that what is wrong with its options is said at the start.
    let feedback = Arc::new(Feedback::default());
    let context = Context { name: name.clone(), complaint: Complaint::default(), feedback: feedback.clone() };
    let producer: ThreadedProducer<Context> =
        config.create_with_context(context).map_err(|error| client::not_started(&name, &error))?;
    let handle = SinkHandle::start(&name, queue_bytes_max, move |work| {
        let waker = unpark_current();
        work.queue.set_waker(waker.clone());
        work.stop.set_waker(waker.clone());
        *feedback.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
        // It is set here only.
        let _ = feedback.stats.set(work.stats.clone());
        Sink {
            headers: Stamp::new(generation),
            producer,
            feedback,
            again: VecDeque::new(),
            topics: BTreeSet::new(),
            trouble: Reminder::default(),
            work,
        }
        .run();
    });
    handle.map_err(|error| KafkaError::Thread { name, error })
}

/// The configuration of a producer that loses nothing, keeps the order and sends nothing twice by itself.
pub(super) fn config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = client::config(settings);
    config.set("enable.idempotence", "true").set("message.timeout.ms", "0");
    let defaults = [
        ("queue.buffering.max.kbytes", (settings.queue.as_u64() >> 10).max(1).to_string()),
        ("linger.ms", "5".to_owned()),
        // Twins go to the partitions that other clients of Kafka would send them to.
        ("partitioner", "murmur2_random".to_owned()),
    ];
    for (option, value) in defaults {
        if config.get(option).is_none() {
            config.set(option, value);
        }
    }
    config
}

/// The headers of every message: generation and revision (rule 7.3), as decimal text.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    generation: String,
}

impl Stamp {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation: generation.to_string() }
    }

    pub(super) fn of(&self, revision: u64) -> OwnedHeaders {
        OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: "generation", value: Some(&self.generation) })
            .insert(Header { key: REVISION, value: Some(itoa::Buffer::new().format(revision)) })
    }
}

/// The name of the header with the revision.
const REVISION: &str = "revision";

/// The revision that a message was stamped with.
fn revision_of(message: &BorrowedMessage<'_>) -> u64 {
    let mut headers = message.headers().into_iter().flat_map(Headers::iter);
    let revision = headers.find(|header| header.key == REVISION).and_then(|header| header.value);
    revision.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(0)
}

/// What the thread that polls has for the one that sends.
#[derive(Default)]
struct Feedback {
    /// The thread that sends waits for news; it is woken only then, as there are as many as messages.
    is_awaited: AtomicBool,
    again: Mutex<Vec<Again>>,
    waker: Mutex<Option<Waker>>,
    stats: OnceLock<Arc<SinkStats>>,
}

impl Feedback {
    fn wake(&self) {
        if self.is_awaited.load(Ordering::SeqCst) && self.is_awaited.swap(false, Ordering::SeqCst) {
            let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(waker) = waker {
                waker();
            }
        }
    }

    /// Waits until there is news, or something is offered or asked.
    fn wait(&self, timeout: Duration) {
        self.is_awaited.store(true, Ordering::SeqCst);
        std::thread::park_timeout(timeout);
        self.is_awaited.store(false, Ordering::SeqCst);
    }
}

/// A message that was not delivered and may be yet.
struct Again {
    topic: String,
    key: Vec<u8>,
    payload: Vec<u8>,
    revision: u64,
    reason: RDKafkaErrorCode,
    flight: Arc<Flight>,
}

/// A batch on its way. Gone when its last message is delivered, or cannot be ever.
struct Flight {
    weight: usize,
    stats: Arc<SinkStats>,
    _receipt: Receipt,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.stats.batch_done(self.weight);
    }
}

/// Hears what becomes of messages.
struct Context {
    name: String,
    complaint: Complaint,
    feedback: Arc<Feedback>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.complaint.hear(&self.name, level, facility, line);
    }

    fn error(&self, error: ClientError, reason: &str) {
        debug!(sink = %self.name, %error, reason, "librdkafka");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown)
            && let Some(stats) = self.feedback.stats.get()
        {
            stats.set_connected(false);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Flight>;

    fn delivery(&self, result: &DeliveryResult<'_>, flight: Arc<Flight>) {
        match result {
            Ok(message) => {
                let bytes = message.payload_len() + message.key_len() + message.topic().len();
                flight.stats.add_published(1, bytes as u64);
                flight.stats.set_connected(true);
            }
            Err((error, message)) => self.failed(error, message, flight),
        }
        self.feedback.wake();
    }
}

impl Context {
    fn failed(&self, error: &ClientError, message: &BorrowedMessage<'_>, flight: Arc<Flight>) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if is_for_good(code) {
            flight.stats.add_failures(1);
            let reason = client::reason(error);
            warn!(sink = %self.name, topic = message.topic(), reason, "message not published");
            return;
        }
        let bytes = |part: Option<&[u8]>| part.unwrap_or_default().to_vec();
        self.feedback.again.lock().unwrap_or_else(PoisonError::into_inner).push(Again {
            topic: message.topic().to_owned(),
            key: bytes(message.key()),
            payload: bytes(message.payload()),
            revision: revision_of(message),
            reason: code,
            flight,
        });
    }
}

/// Whether a message cannot be published ever, as it is.
fn is_for_good(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidTopic
            | Code::InvalidRecord
            | Code::PolicyViolation
            | Code::InvalidArgument
    )
}

struct Sink {
    work: SinkWork,
    producer: ThreadedProducer<Context>,
    headers: Stamp,
    feedback: Arc<Feedback>,
    /// What was refused for now, oldest first.
    again: VecDeque<Again>,
    /// Topics that were there.
    topics: BTreeSet<String>,
    trouble: Reminder,
}

impl Sink {
    /// Ends when the queue is closed and everything is delivered, or when it is asked to stop.
    fn run(mut self) {
        while !self.work.stop.is_asked() {
            self.take_back();
            if let Some(message) = self.again.pop_front() {
                self.send_again(message);
            } else if let Some(batch) = self.work.queue.try_recv() {
                self.send_batch(batch);
            } else if !self.work.queue.is_closed() {
                self.look();
                self.feedback.wait(SLEEP_MAX);
            } else if self.producer.in_flight_count() == 0 {
                // Reports are heard after messages are counted out.
                self.take_back();
                if self.again.is_empty() {
                    break;
                }
            } else {
                // Only a part of what is on its way may be delivered in this time.
                let _ = self.producer.flush(FLUSH);
            }
        }
        self.work.stats.set_connected(false);
    }

    /// Sees whether the cluster answers, where it is not known to.
    fn look(&mut self) {
        if self.work.stats.connected.load(Ordering::Relaxed) {
            return;
        }
        match self.producer.client().fetch_metadata(None, ANSWER_MAX) {
            Ok(_) => {
                info!(sink = %self.work.name, "cluster reached");
                self.trouble.reset();
                self.work.stats.set_connected(true);
            }
            Err(error) => {
                if let Some(times) = self.trouble.due() {
                    let reason = self.producer.context().complaint.explain(&error);
                    warn!(sink = %self.work.name, reason, times, "cluster not reached; retrying");
                }
            }
        }
    }

    fn take_back(&mut self) {
        let mut new = self.feedback.again.lock().unwrap_or_else(PoisonError::into_inner);
        self.again.extend(new.drain(..));
    }

    fn send_batch(&mut self, batch: MessageBatch) {
        let (weight, stats) = (batch.weight(), self.work.stats.clone());
        let flight = Arc::new(Flight { weight, stats, _receipt: batch.receipt.clone() });
        for message in batch.iter() {
            if !self.send(&message, &flight) {
                return;
            }
        }
    }

    fn send_again(&mut self, message: Again) {
        let Again { topic, key, payload, revision, reason, flight } = message;
        if matches!(reason, RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) {
            self.topics.remove(&topic);
        }
        let outgoing = Outgoing { topic: &topic, key: &key, payload: &payload, retain: false, revision };
        self.send(&outgoing, &flight);
    }

    /// Hands a message to the library, which may take its time; false where the sink was told to stop.
    fn send(&mut self, message: &Outgoing<'_>, flight: &Arc<Flight>) -> bool {
        if !self.wait_for_topic(message.topic) {
            return false;
        }
        loop {
            let record = BaseRecord::with_opaque_to(message.topic, flight.clone())
                .key(message.key)
                .payload(message.payload)
                .headers(self.headers.of(message.revision));
            let error = match self.producer.send(record) {
                Ok(()) => return true,
                Err((error, _)) => error,
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                self.work.stats.add_failures(1);
                let reason = client::reason(&error);
                warn!(sink = %self.work.name, topic = message.topic, reason, "message not published");
                return true;
            }
            if self.work.stop.is_asked() {
                return false;
            }
            self.feedback.wait(SLEEP_MAX);
        }
    }

    /// Waits until a topic is there: what is sent before is given up by the library after a while.
    fn wait_for_topic(&mut self, topic: &str) -> bool {
        while !self.topics.contains(topic) {
            if self.work.stop.is_asked() {
                return false;
            }
            let answer = self.producer.client().fetch_metadata(Some(topic), ANSWER_MAX);
            let reason = match answer {
                Ok(metadata) => {
                    self.work.stats.set_connected(true);
                    let found = metadata.topics().iter().find(|found| found.name() == topic);
                    match found.and_then(|found| found.error()) {
                        None if found.is_some_and(|found| !found.partitions().is_empty()) => {
                            info!(sink = %self.work.name, topic, "topic is there");
                            self.trouble.reset();
                            self.topics.insert(topic.to_owned());
                            return true;
                        }
                        Some(code) => format!("{}", RDKafkaErrorCode::from(code)),
                        None => "it is not there".to_owned(),
                    }
                }
                Err(error) => {
                    self.work.stats.set_connected(false);
                    self.producer.context().complaint.explain(&error)
                }
            };
            if let Some(times) = self.trouble.due() {
                warn!(sink = %self.work.name, topic, reason, times, "topic cannot be published to; waiting for it");
            }
            std::thread::park_timeout(RETRY);
        }
        true
    }
}

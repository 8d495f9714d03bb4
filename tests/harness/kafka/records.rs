//! Records to a broker, and back: a producer that knows what was acknowledged, and kcat as a reader
//! that shares no code with the engine's source.

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::Value;

use super::{Kafka, until};

/// How long records may be on their way; a broker that was killed is back within it.
const DELIVERY: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// Where to; chosen by the key where there is none.
    pub partition: Option<i32>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its headers, in their order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Its payload; without one it is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// When it was made; now where it is not said.
    pub timestamp_ms: Option<i64>,
}

impl<'a> Message<'a> {
    /// A message with a key, without headers.
    pub fn new(key: &'a str, payload: &'a str) -> Self {
        Self { key: Some(key.as_bytes()), payload: Some(payload.as_bytes()), ..Self::default() }
    }
}

/// A record as kcat shows it; what is not UTF-8 has been replaced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Where it stands.
    pub partition: i32,
    /// Where in its partition.
    pub offset: i64,
    /// Its key.
    pub key: Option<String>,
    /// Its headers; one without a value has an empty one.
    pub headers: Vec<(String, String)>,
    /// Its payload; none of a tombstone.
    pub payload: Option<String>,
}

/// Where a message came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The number that `send` gave it.
    pub number: usize,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// Sends in batches, idempotently, and keeps what was acknowledged.
pub struct Producer {
    inner: ThreadedProducer<Deliveries>,
    next: Mutex<usize>,
}

/// What the client's thread hears of each message.
#[derive(Default)]
struct Deliveries {
    acknowledged: Mutex<Vec<Acknowledged>>,
    failed: Mutex<Vec<(usize, KafkaError)>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                let place = Acknowledged { number, partition, offset };
                self.acknowledged.lock().expect(UNPOISONED).push(place);
            }
            Err((error, _)) => self.failed.lock().expect(UNPOISONED).push((number, error.clone())),
        }
    }
}

const UNPOISONED: &str = "nothing panics under this lock";

impl Producer {
    /// Takes a message, and gives it a number, from 0 on; it is on its way when this returns.
    pub fn send(&self, topic: &str, message: &Message<'_>) -> usize {
        let mut next = self.next.lock().expect(UNPOISONED);
        let number = *next;
        until("room in the producer", || {
            let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, number);
            (record.key, record.payload) = (message.key, message.payload);
            (record.partition, record.timestamp) = (message.partition, message.timestamp_ms);
            let headers = OwnedHeaders::new_with_capacity(message.headers.len());
            let headers = message
                .headers
                .iter()
                .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
            // Without any, the record has none, which is not the same as an empty list.
            record.headers = (!message.headers.is_empty()).then_some(headers);
            match self.inner.send(record) {
                Ok(()) => Some(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => None,
                Err((error, _)) => panic!("a message is not sent to {topic}: {error}"),
            }
        });
        *next += 1;
        number
    }

    /// Waits until all is acknowledged.
    pub fn flush(&self) {
        self.inner.flush(DELIVERY).expect("all messages are delivered in time");
        let failed = self.inner.context().failed.lock().expect(UNPOISONED);
        assert!(failed.is_empty(), "messages were not delivered: {failed:?}");
    }

    /// What was acknowledged so far, in the order of the acknowledgements.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.inner.context().acknowledged.lock().expect(UNPOISONED).clone()
    }

    /// Begins a transaction.
    pub fn begin(&self) {
        self.inner.begin_transaction().expect("a transactional producer begins");
    }

    /// Commits what was sent since the beginning; one that another producer has fenced fails.
    pub fn commit(&self) -> Result<(), KafkaError> {
        self.inner.commit_transaction(DELIVERY)
    }

    /// Takes back what was sent since the beginning.
    pub fn abort(&self) {
        self.inner.abort_transaction(DELIVERY).expect("a transaction can be aborted");
    }
}

impl Kafka {
    /// A producer that is told of a message when it is safe, and repeats none.
    pub fn producer(&self) -> Producer {
        self.producer_with(&[])
    }

    /// A producer with settings of librdkafka besides or instead of ours.
    pub fn producer_with(&self, settings: &[(&str, &str)]) -> Producer {
        let mut config = self.config();
        config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "2");
        config.set("message.timeout.ms", DELIVERY.as_millis().to_string());
        settings.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        let inner = config.create_with_context(Deliveries::default()).expect("the settings are good");
        Producer { inner, next: Mutex::new(0) }
    }

    /// A producer of transactions; it fences an older one of the same id.
    pub fn transactional(&self, id: &str) -> Producer {
        let producer = self.producer_with(&[("transactional.id", id)]);
        producer.inner.init_transactions(DELIVERY).expect("the broker knows transactions");
        producer
    }

    /// Sends these messages, and waits until all are acknowledged.
    pub fn produce<'a>(&self, topic: &str, messages: impl IntoIterator<Item = Message<'a>>) {
        let producer = self.producer();
        for message in messages {
            producer.send(topic, &message);
        }
        producer.flush();
    }

    /// All committed records of a topic, by partition and offset, as kcat reads them.
    pub fn kcat(&self, topic: &str) -> Vec<Record> {
        self.read(topic, "read_committed")
    }

    /// All records of a topic, also those of transactions that are open or were aborted.
    pub fn kcat_uncommitted(&self, topic: &str) -> Vec<Record> {
        self.read(topic, "read_uncommitted")
    }

    fn read(&self, topic: &str, isolation: &str) -> Vec<Record> {
        // kcat looks for a broker that is away for ever.
        let mut command = Command::new("timeout");
        command.args([
            "--kill-after=1",
            "60",
            "kcat",
            "-C",
            "-t",
            topic,
            "-o",
            "beginning",
            "-e",
            "-q",
            "-J",
        ]);
        // An end is only seen in an answer that has waited for more.
        command.args(["-X", &format!("isolation.level={isolation}"), "-X", "fetch.wait.max.ms=20"]);
        for (name, value) in self.client() {
            command.args(["-X", &format!("{name}={value}")]);
        }
        let ended = command.output().expect("there is a program `timeout`");
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "kcat ({}; make test installs it): {errors}", ended.status);
        let text = String::from_utf8_lossy(&ended.stdout);
        let mut records: Vec<Record> = text.lines().map(record).collect();
        records.sort_unstable();
        records
    }
}

/// A record from a line of kcat's JSON, in which headers stand as one list of names and values.
fn record(line: &str) -> Record {
    let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let headers = json["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let headers = headers.chunks(2).map(|pair| {
        let [name, value] = pair else { panic!("a header without a value: {line}") };
        (text(name).expect("a header's name is text"), text(value).unwrap_or_default())
    });
    Record {
        partition: json["partition"].as_i64().and_then(|number| number.try_into().ok()).expect("a partition"),
        offset: json["offset"].as_i64().expect("an offset"),
        key: text(&json["key"]),
        headers: headers.collect(),
        payload: text(&json["payload"]),
    }
}

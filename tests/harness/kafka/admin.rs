//! Topics of a broker, through librdkafka: Kafka's own tools start a Java for each call.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::{Kafka, until};

/// How long one question to the broker may take; who waits longer asks again.
const ANSWER: Duration = Duration::from_secs(10);

impl Kafka {
    /// Makes a topic, and waits until it is there.
    pub fn topic(&self, name: &str, partitions: usize) {
        self.topic_with(name, partitions, &[]);
    }

    /// Makes a topic with settings, such as `cleanup.policy`.
    pub fn topic_with(&self, name: &str, partitions: usize, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions as i32, TopicReplication::Fixed(1));
        let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let made = block_on(self.admin().create_topics([&topic], &options()));
        for result in made.expect("the broker answers") {
            result.unwrap_or_else(|(name, code)| panic!("topic {name} is not made: {code}"));
        }
        self.until_partitions(name, Some(partitions));
    }

    /// Adds partitions, until there are this many.
    pub fn add_partitions(&self, topic: &str, partitions: usize) {
        let more = NewPartitions::new(topic, partitions);
        let made = block_on(self.admin().create_partitions([&more], &options()));
        for result in made.expect("the broker answers") {
            result.unwrap_or_else(|(name, code)| panic!("topic {name} does not grow: {code}"));
        }
        self.until_partitions(topic, Some(partitions));
    }

    /// Deletes a topic, and waits until it is gone.
    pub fn delete_topic(&self, name: &str) {
        let deleted = block_on(self.admin().delete_topics(&[name], &options()));
        for result in deleted.expect("the broker answers") {
            result.unwrap_or_else(|(name, code)| panic!("topic {name} is not deleted: {code}"));
        }
        self.until_partitions(name, None);
    }

    /// Deletes all records of a partition before this offset, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, before_offset: i64) {
        let mut places = TopicPartitionList::new();
        let added = places.add_partition_offset(topic, partition, Offset::Offset(before_offset));
        added.expect("an offset is a number from 0 on");
        let deleted = block_on(self.admin().delete_records(&places, &options()));
        for place in deleted.expect("the broker answers").elements() {
            place.error().unwrap_or_else(|error| panic!("records of {topic} are not deleted: {error}"));
        }
        until("records to be deleted", || {
            (self.watermarks(topic, partition).0 >= before_offset).then_some(())
        });
    }

    /// Changes a byte of a record on the broker's disk: the first of this text, which stands there once.
    pub fn damage(&self, topic: &str, partition: i32, text: &str) {
        let segment = self.path(&format!("data/{topic}-{partition}/00000000000000000000.log"));
        let mut bytes = std::fs::read(&segment).expect("a partition has a first segment");
        let places: Vec<usize> =
            (0..bytes.len()).filter(|place| bytes[*place..].starts_with(text.as_bytes())).collect();
        let [place] = places[..] else { panic!("`{text}` stands {} times in {topic}", places.len()) };
        bytes[place] ^= 1;
        // Written in place, as the broker has the file open.
        let file = std::fs::OpenOptions::new().write(true).open(&segment).expect("the folder is ours");
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[place..=place], place as u64)
            .expect("the file takes a byte");
    }

    /// The first offset of a partition, and the one after its last.
    pub fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        let consumer: BaseConsumer = self.config().create().expect("the settings are good");
        until("the broker to say what a partition has", || {
            consumer.fetch_watermarks(topic, partition, ANSWER).ok()
        })
    }

    /// How many partitions a topic has; none where there is no such topic, or not yet.
    pub fn partitions(&self, topic: &str) -> Option<usize> {
        partitions(&self.admin(), topic)
    }

    pub(super) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("the settings are good")
    }

    fn until_partitions(&self, topic: &str, expected: Option<usize>) {
        let admin = self.admin();
        until("a topic to be as it was ordered", || (partitions(&admin, topic) == expected).then_some(()));
    }
}

/// Only partitions that have a leader count.
fn partitions(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Option<usize> {
    let metadata = until("the broker to answer", || admin.inner().fetch_metadata(Some(topic), ANSWER).ok());
    let topic = metadata.topics().first().filter(|topic| topic.error().is_none())?;
    Some(topic.partitions().iter().filter(|partition| partition.leader() >= 0).count())
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER))
}

/// The client's answers come from a thread of its own, so any runtime will do.
fn block_on<T>(answer: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without any driver").block_on(answer)
}

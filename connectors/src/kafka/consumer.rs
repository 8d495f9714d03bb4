//! The library's consumer as a source uses it: configured so that nothing is passed over, and heard for what it
//! tells beside records.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, KafkaResult};
use rdkafka::statistics::Statistics;
use tracing::debug;

use super::client::{self, Complaint};
use super::partitions::Partition;
use super::{KafkaError, KafkaSettings};
use crate::source::SourceStats;

/// How often the library counts.
const STATISTICS_MS: &str = "5000";

/// A consumer that reads what it is assigned.
pub(super) fn create(
    name: &str,
    settings: &KafkaSettings,
    group: &str,
    stats: Arc<SourceStats>,
) -> Result<BaseConsumer<Context>, KafkaError> {
    let mut config = client::config(settings);
    config
        .set("group.id", settings.group.as_deref().unwrap_or(group))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false")
        // A gap is told of, never passed over.
        .set("auto.offset.reset", "error");
    let defaults = [
        ("queued.max.messages.kbytes", (settings.queue.as_u64() >> 10).max(1).to_string()),
        ("statistics.interval.ms", STATISTICS_MS.to_owned()),
        ("check.crcs", "true".to_owned()),
        // Records wait while lanes are full, however long.
        ("max.poll.interval.ms", "86400000".to_owned()),
        ("allow.auto.create.topics", "false".to_owned()),
    ];
    for (option, value) in defaults {
        if config.get(option).is_none() {
            config.set(option, value);
        }
    }
    let context = Context { name: name.to_owned(), complaint: Complaint::default(), stats };
    config.create_with_context(context).map_err(|error| client::not_started(name, &error))
}

/// Hears what the library tells beside records.
pub(super) struct Context {
    name: String,
    pub(super) complaint: Complaint,
    stats: Arc<SourceStats>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.complaint.hear(&self.name, level, facility, line);
    }

    fn stats(&self, statistics: Statistics) {
        let mut lags = BTreeMap::new();
        for (topic, statistics) in &statistics.topics {
            for (number, partition) in &statistics.partitions {
                // -1 where it is not known, or the partition is not read here.
                if let Ok(lag) = u64::try_from(partition.consumer_lag) {
                    lags.insert(Partition::new(topic, *number).key(), lag);
                }
            }
        }
        self.stats.set_lags(lags);
    }

    fn error(&self, error: ClientError, reason: &str) {
        debug!(source = %self.name, %error, reason, "librdkafka");
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            debug!(source = %self.name, %error, "offsets not committed to the group");
        }
    }
}

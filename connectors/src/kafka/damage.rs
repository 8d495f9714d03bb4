//! Finds where a partition is damaged. The library says that a checksum is wrong, but neither in which partition
//! nor of which records; it asks for a damaged batch for ever, and cannot read what follows one in an answer of
//! the broker. A broker answers with the whole batch that an offset is in, so a consumer of its own asks for one
//! offset after the other until a good record comes: what is in between is what cannot be read, no more.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tracing::warn;

use super::consumer::{self, Context};
use super::partitions::Partition;
use super::{KafkaError, KafkaSettings};
use crate::source::SourceStats;

/// How long a partition may take to bring its first record.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Offsets after which a long search says how far it is.
const TOLD_EVERY: u64 = 1_000;

/// Records that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub partition: Partition,
    /// The first offset that cannot be read.
    pub next: u64,
    /// The first behind it that can, or that is not written yet.
    pub behind: u64,
}

/// Reads partitions to see which of them are damaged.
pub(super) struct Probe {
    consumer: BaseConsumer<Context>,
}

impl Probe {
    pub(super) fn new(name: &str, settings: &KafkaSettings) -> Result<Self, KafkaError> {
        // It commits nothing, so the group does not matter.
        let consumer = consumer::create(name, settings, "twinloom", Arc::new(SourceStats::default()))?;
        Ok(Self { consumer })
    }

    /// Whether a partition, whose records before `end` are written, is damaged where it goes on.
    pub(super) fn look(
        &self,
        partition: &Partition,
        next: u64,
        end: u64,
    ) -> Result<Option<Damage>, ClientError> {
        let mut behind = next;
        while behind < end && self.is_damaged_at(partition, behind)? {
            behind += 1;
            if (behind - next).is_multiple_of(TOLD_EVERY) {
                warn!(partition = %partition.key(), from = next, to = behind, "damaged records; looking for their end");
            }
        }
        Ok((behind > next).then(|| Damage { partition: partition.clone(), next, behind }))
    }

    fn is_damaged_at(&self, partition: &Partition, offset: u64) -> Result<bool, ClientError> {
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        list.add_partition_offset(&partition.topic, partition.number, offset)?;
        self.consumer.assign(&list)?;
        match self.consumer.poll(ANSWER_MAX) {
            Some(Err(error)) if is_damage(&error) => Ok(true),
            Some(Err(error)) => Err(error),
            // Without any record there is nothing but what transactions left.
            Some(Ok(_)) | None => Ok(false),
        }
    }
}

/// Whether an error says that records cannot be read: a checksum is wrong, or the format is one that there is
/// not, which is also what the library makes of the bytes behind a wrong checksum.
pub(super) fn is_damage(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::NotImplemented
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_checksum_is_told_apart_from_other_errors() {
        for (code, expected) in [
            (RDKafkaErrorCode::BadMessage, true),
            (RDKafkaErrorCode::InvalidMessage, true),
            (RDKafkaErrorCode::NotImplemented, true),
            (RDKafkaErrorCode::AutoOffsetReset, false),
            (RDKafkaErrorCode::AllBrokersDown, false),
        ] {
            assert_eq!(is_damage(&ClientError::MessageConsumption(code)), expected, "{code}");
        }
    }
}

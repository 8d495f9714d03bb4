//! What travels between connectors and the engine: raw messages and news of the source on the way
//! in, packed batches of messages on the way out.

use crate::queue::Weigh;
use bytes::Bytes;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A message as the source handed it over, unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// Its place in its source: counts from 1, and goes on over restarts where the source is kept in
    /// a journal or can be read again.
    pub position: u64,
    /// When it was taken from the source, microseconds since 1970 UTC.
    pub arrived_at_us: i64,
    /// The topic as sent, UTF-8 where the sender kept to its protocol.
    pub topic: Bytes,
    /// The payload, byte for byte.
    pub payload: Bytes,
    /// Kept by the broker from before the subscription; not an observation (rule 3.6).
    pub retained: bool,
    /// The broker says that it may have sent this message before.
    pub duplicate: bool,
    /// The true length where the payload was over the limit; `payload` then holds only its first
    /// 1,024 bytes.
    pub oversize: Option<u64>,
}

/// How much of a payload that is over the limit is kept, to be shown in the dead letter.
pub const OVERSIZE_KEPT_BYTES: usize = 1_024;

/// What comes out of a source's lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    /// A message.
    Message(RawMessage),
    /// Nothing later will arrive at or before this time on this lane (recorded sources).
    Advance {
        /// Microseconds since 1970 UTC.
        to_us: i64,
    },
    /// The source cannot be reached any more, or could not be at the start. On lane 0 only.
    Lost {
        /// When that was noticed, microseconds since 1970 UTC.
        at_us: i64,
        /// Why, in words for a person.
        reason: String,
    },
    /// The source is back. On lane 0 only.
    Restored {
        /// When that was noticed, microseconds since 1970 UTC.
        at_us: i64,
    },
    /// A line or frame of the source itself that could not be read (not JSON etc.): a dead letter.
    Unreadable {
        /// Its place in the source, in the same count as `RawMessage::position`.
        position: u64,
        /// The last arrival before it, microseconds since 1970 UTC.
        arrived_at_us: i64,
        /// What is wrong with it, in words for a person.
        reason: String,
        /// Its first bytes.
        payload: Bytes,
    },
    /// A checkpoint cuts the source here: what came before belongs to it, what comes after does not.
    /// On every lane, as an answer to [`SourceHandle::boundary`](crate::source::SourceHandle).
    Boundary {
        /// Number of the checkpoint.
        number: u64,
        /// What to start from, to have everything after the cut again and nothing from before it.
        next: u64,
    },
    /// The source has no more, or was stopped. On every lane.
    End {
        /// The newest arrival of the whole input; `None` when it was empty.
        newest_us: Option<i64>,
        /// What to start from, to have everything that was not handed over.
        next: u64,
    },
}

impl Weigh for Intake {
    fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Message(message) => message.topic.len() + message.payload.len(),
                Self::Lost { reason, .. } => reason.len(),
                Self::Unreadable { reason, payload, .. } => reason.len() + payload.len(),
                Self::Advance { .. } | Self::Restored { .. } | Self::Boundary { .. } | Self::End { .. } => 0,
            }
    }
}

/// Messages for a listener, packed: one allocation for many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageBatch {
    /// Topic, payload, topic, payload, and so on.
    pub bytes: Vec<u8>,
    /// Where each message's topic and payload end in `bytes`.
    pub entries: Vec<Entry>,
    /// Kept by the sink until all of the batch is published, or cannot be ever.
    pub receipt: Receipt,
}

/// Dropped when what it came with is done with: who made it learns so from its value's `Drop`.
#[derive(Clone, Default)]
pub struct Receipt(Option<Arc<dyn Any + Send + Sync>>);

impl Receipt {
    /// A receipt that keeps `held` until it is dropped.
    pub fn new(held: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Some(held))
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "receipt" } else { "none" })
    }
}

/// A receipt says nothing of what it came with.
impl PartialEq for Receipt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Receipt {}

/// One message of a batch: its topic begins where the payload before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// End of the topic, and begin of the payload.
    pub topic_end: u32,
    /// End of the payload.
    pub payload_end: u32,
    /// Whether the broker keeps it for late listeners.
    pub retain: bool,
}

impl MessageBatch {
    /// Adds a message; `false`, and nothing added, when the batch would pass 4 GiB.
    #[must_use]
    pub fn push(&mut self, topic: &str, payload: &[u8], retain: bool) -> bool {
        let topic_end = self.bytes.len() + topic.len();
        let ends = (u32::try_from(topic_end), u32::try_from(topic_end + payload.len()));
        let (Ok(topic_end), Ok(payload_end)) = ends else {
            return false;
        };
        self.bytes.extend_from_slice(topic.as_bytes());
        self.bytes.extend_from_slice(payload);
        self.entries.push(Entry { topic_end, payload_end, retain });
        true
    }

    /// Topic, payload and `retain` of each message, in order. A topic that is not UTF-8 shows as
    /// an empty one, which no sink accepts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8], bool)> {
        let begins = std::iter::once(0).chain(self.entries.iter().map(|entry| entry.payload_end));
        begins.zip(&self.entries).map(|(begin, entry)| {
            let part = |from: u32, to: u32| self.bytes.get(from as usize..to as usize).unwrap_or_default();
            let topic = std::str::from_utf8(part(begin, entry.topic_end)).unwrap_or_default();
            (topic, part(entry.topic_end, entry.payload_end), entry.retain)
        })
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the messages and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

impl Weigh for MessageBatch {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + size_of_val(self.entries.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_packed() {
        let messages: [(&str, &[u8], bool); 4] =
            [("twins/a", b"1", true), ("t", b"", false), ("\u{e4}/b", &[0, 255], false), ("x", b"{}", true)];
        let mut batch = MessageBatch::default();
        for (topic, payload, retain) in messages {
            assert!(batch.push(topic, payload, retain));
        }
        assert_eq!(batch.iter().collect::<Vec<_>>(), messages);
        assert_eq!((batch.len(), batch.is_empty()), (4, false));
        batch.clear();
        assert_eq!((batch.iter().count(), batch.len(), batch.is_empty()), (0, 0, true));
    }

    #[test]
    fn ends_that_lie_are_empty_parts_and_no_panic() {
        let entries = vec![
            Entry { topic_end: 9, payload_end: 2, retain: false },
            Entry { topic_end: 3, payload_end: 4, retain: true },
        ];
        let batch = MessageBatch { bytes: b"ab\xffd".to_vec(), entries, ..MessageBatch::default() };
        assert_eq!(batch.iter().collect::<Vec<_>>(), [("", &b""[..], false), ("", &b"d"[..], true)]);
    }
}

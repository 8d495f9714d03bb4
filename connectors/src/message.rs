//! What travels between connectors and the engine: raw messages and news of the source on the way
//! in, packed batches of messages on the way out.

use crate::place::Place;
use crate::queue::Weigh;
use bytes::Bytes;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A message as the source handed it over, unread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawMessage {
    /// Its place in its source: counts from 1, and goes on over restarts where the source is kept in
    /// a journal or can be read again.
    pub position: u64,
    /// When it was taken from the source, microseconds since 1970 UTC.
    pub arrived_at_us: i64,
    /// The topic as sent, UTF-8 where the sender kept to its protocol.
    pub topic: Bytes,
    /// The key of the record, where its bus has keys and it has one.
    pub key: Option<Bytes>,
    /// The headers that were asked for, in the order of [`SourceSetup::headers`](crate::source::SourceSetup);
    /// empty where none were.
    pub headers: Vec<Option<Bytes>>,
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
        next: Place,
    },
    /// The source has no more, or was stopped. On every lane.
    End {
        /// The newest arrival of the whole input; `None` when it was empty.
        newest_us: Option<i64>,
        /// What to start from, to have everything that was not handed over.
        next: Place,
    },
}

impl Weigh for Intake {
    fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Message(message) => {
                    let key = message.key.as_ref().map_or(0, Bytes::len);
                    message.topic.len() + key + message.payload.len()
                }
                Self::Lost { reason, .. } => reason.len(),
                Self::Unreadable { reason, payload, .. } => reason.len() + payload.len(),
                Self::Advance { .. } | Self::Restored { .. } | Self::Boundary { .. } | Self::End { .. } => 0,
            }
    }
}

/// Messages for a listener, packed: one allocation for many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageBatch {
    /// Topic, key, payload, topic, key, payload, and so on.
    pub bytes: Vec<u8>,
    /// Where the parts of each message end in `bytes`.
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
    /// End of the topic, and begin of the key.
    pub topic_end: u32,
    /// End of the key, and begin of the payload.
    pub key_end: u32,
    /// End of the payload.
    pub payload_end: u32,
    /// Whether the broker keeps it for late listeners.
    pub retain: bool,
    /// The revision of the twin that it speaks of.
    pub revision: u64,
}

/// One message of a batch, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Where it goes; empty where it is not UTF-8, which no sink accepts.
    pub topic: &'a str,
    /// What it is sorted by, on a bus that has keys; empty on others.
    pub key: &'a [u8],
    /// What it says.
    pub payload: &'a [u8],
    /// Whether the broker keeps it for late listeners.
    pub retain: bool,
    /// The revision of the twin that it speaks of.
    pub revision: u64,
}

impl MessageBatch {
    /// Adds a message without a key; `false`, and nothing added, when the batch would pass 4 GiB.
    #[must_use]
    pub fn push(&mut self, topic: &str, payload: &[u8], retain: bool) -> bool {
        self.push_keyed(Outgoing { topic, key: &[], payload, retain, revision: 0 })
    }

    /// Adds a message; `false`, and nothing added, when the batch would pass 4 GiB.
    #[must_use]
    pub fn push_keyed(&mut self, message: Outgoing<'_>) -> bool {
        let Outgoing { topic, key, payload, retain, revision } = message;
        if u32::try_from(self.bytes.len() + topic.len() + key.len() + payload.len()).is_err() {
            return false;
        }
        self.bytes.extend_from_slice(topic.as_bytes());
        let topic_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(payload);
        let payload_end = self.bytes.len() as u32;
        self.entries.push(Entry { topic_end, key_end, payload_end, retain, revision });
        true
    }

    /// The messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = Outgoing<'_>> {
        let begins = std::iter::once(0).chain(self.entries.iter().map(|entry| entry.payload_end));
        begins.zip(&self.entries).map(|(begin, entry)| {
            let part = |from: u32, to: u32| self.bytes.get(from as usize..to as usize).unwrap_or_default();
            Outgoing {
                topic: std::str::from_utf8(part(begin, entry.topic_end)).unwrap_or_default(),
                key: part(entry.topic_end, entry.key_end),
                payload: part(entry.key_end, entry.payload_end),
                retain: entry.retain,
                revision: entry.revision,
            }
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
        let message =
            |topic, key, payload, retain, revision| Outgoing { topic, key, payload, retain, revision };
        let messages = [
            message("twins/a", b"a", b"1", true, 7),
            message("t", b"", b"", false, 0),
            message("\u{e4}/b", &[255], &[0, 255], false, u64::MAX),
            message("x", b"", b"{}", true, 1),
        ];
        let mut batch = MessageBatch::default();
        for message in messages {
            assert!(batch.push_keyed(message));
        }
        assert_eq!(batch.iter().collect::<Vec<_>>(), messages);
        assert_eq!((batch.len(), batch.is_empty()), (4, false));
        batch.clear();
        assert_eq!((batch.iter().count(), batch.len(), batch.is_empty()), (0, 0, true));
    }

    #[test]
    fn ends_that_lie_are_empty_parts_and_no_panic() {
        let entries = vec![
            Entry { topic_end: 9, key_end: 9, payload_end: 2, retain: false, revision: 0 },
            Entry { topic_end: 3, key_end: 3, payload_end: 4, retain: true, revision: 0 },
        ];
        let batch = MessageBatch { bytes: b"ab\xffd".to_vec(), entries, ..MessageBatch::default() };
        let shown: Vec<_> = batch.iter().map(|one| (one.topic, one.payload, one.retain)).collect();
        assert_eq!(shown, [("", &b""[..], false), ("", &b"d"[..], true)]);
    }
}

//! Which messages have come before (rule 7.2): after a connection broke the broker sends again, marked
//! as perhaps a duplicate, what it has no acknowledgement for, and of some of it only the
//! acknowledgement was lost.
//!
//! Of a message at QoS 2 the broker says itself when it will never send it again: it releases its packet id. Until then
//! the message is held, and the journal keeps it (`held_from`); after that the packet id is one like any other, and a
//! message that is the same to the byte is another message.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::message::RawMessage;

/// How many of the last records are looked among. It is half of all packet ids: a broker that counts
/// them up uses none for a second message within it.
const TAIL_RECORDS: u64 = 32_768;

/// What was last taken under each packet id.
pub(super) struct Repeats {
    /// One for each packet id, once there is a message.
    seen: Vec<Seen>,
    /// Where the messages stand that are held.
    held: BTreeSet<u64>,
    /// Nothing before this position counts: it came in another session.
    since: u64,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    position: u64,
    digest: u64,
}

impl Repeats {
    /// Counts messages of the session that began with the position `since`.
    pub(super) fn new(since: u64) -> Self {
        Self { seen: Vec::new(), held: BTreeSet::new(), since }
    }

    /// A message was taken, and is held where it came at QoS 2.
    pub(super) fn see(&mut self, packet_id: u16, is_held: bool, message: &RawMessage) {
        if packet_id == 0 || message.position < self.since {
            return;
        }
        // A broker that gives a packet id to another message has released the one before.
        self.release(packet_id);
        if is_held {
            self.held.insert(message.position);
        }
        if self.seen.is_empty() {
            self.seen = vec![Seen::default(); usize::from(u16::MAX) + 1];
        }
        self.seen[usize::from(packet_id)] = Seen { position: message.position, digest: digest(message) };
    }

    /// Where a message stands that may be a duplicate, if it is one; `message.position` is the one that
    /// it would have.
    pub(super) fn find(&self, packet_id: u16, message: &RawMessage) -> Option<u64> {
        let seen = self.seen.get(usize::from(packet_id)).filter(|seen| seen.position >= self.since.max(1))?;
        let is_near = message.position - seen.position <= TAIL_RECORDS;
        (message.duplicate && is_near && seen.digest == digest(message)).then_some(seen.position)
    }

    /// The broker will not send the message with this packet id again; gives whether it was held.
    pub(super) fn release(&mut self, packet_id: u16) -> bool {
        let seen = self.seen.get_mut(usize::from(packet_id));
        let is_held = seen.as_ref().is_some_and(|seen| self.held.remove(&seen.position));
        if let (Some(seen), true) = (seen, is_held) {
            *seen = Seen::default();
        }
        is_held
    }

    /// The first message that is held, where `next` comes next. A broker that has sent so many since will not come
    /// back to an older one.
    pub(super) fn held_from(&mut self, next: u64) -> Option<u64> {
        while let Some(first) = self.held.first().copied() {
            if next - first <= TAIL_RECORDS {
                return Some(first);
            }
            self.held.remove(&first);
        }
        None
    }

    /// A new session: its packet ids have nothing to do with those before.
    pub(super) fn forget(&mut self, since: u64) {
        self.since = since;
        self.held.clear();
    }
}

/// Of what the journal keeps, so that it is the same after a restart.
fn digest(message: &RawMessage) -> u64 {
    let topic = xxh3_64(&message.topic) ^ message.oversize.unwrap_or(0);
    xxh3_64_with_seed(&message.payload, topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(position: u64, topic: &'static str, payload: &'static str, duplicate: bool) -> RawMessage {
        RawMessage {
            position,
            arrived_at_us: 0,
            topic: topic.into(),
            payload: payload.into(),
            duplicate,
            ..RawMessage::default()
        }
    }

    #[test]
    fn a_duplicate_is_known_by_id_and_digest_in_the_tail_of_its_session() {
        let mut repeats = Repeats::new(0);
        repeats.see(0, false, &message(4, "t", "none", false));
        repeats.see(7, false, &message(5, "t", "a", false));
        let check = |repeats: &Repeats, packet_id, message: RawMessage, expected| {
            assert_eq!(repeats.find(packet_id, &message), expected, "{packet_id} {message:?}");
        };
        check(&repeats, 7, message(6, "t", "a", true), Some(5));
        check(&repeats, 7, message(6, "t", "a", false), None);
        check(&repeats, 8, message(6, "t", "a", true), None);
        check(&repeats, 7, message(6, "t", "b", true), None);
        check(&repeats, 7, message(6, "u", "a", true), None);
        check(&repeats, 7, RawMessage { oversize: Some(9), ..message(6, "t", "a", true) }, None);
        check(&repeats, 0, message(6, "t", "none", true), None);
        check(&repeats, 7, message(5 + 32_768, "t", "a", true), Some(5));
        check(&repeats, 7, message(6 + 32_768, "t", "a", true), None);
        repeats.forget(6);
        check(&repeats, 7, message(6, "t", "a", true), None);
        repeats.see(7, false, &message(6, "t", "a", false));
        check(&repeats, 7, message(7, "t", "a", true), Some(6));
    }

    #[test]
    fn what_is_released_is_no_repeat_any_more() {
        let mut repeats = Repeats::new(0);
        for (position, packet_id) in [(5, 7), (6, 8), (7, 9)] {
            repeats.see(packet_id, true, &message(position, "t", "a", false));
        }
        assert_eq!((repeats.held_from(8), repeats.find(7, &message(8, "t", "a", true))), (Some(5), Some(5)));
        assert_eq!([repeats.release(8), repeats.release(8), repeats.release(1)], [true, false, false]);
        assert_eq!(repeats.held_from(8), Some(5));
        assert!(repeats.release(7));
        assert_eq!((repeats.held_from(8), repeats.find(7, &message(8, "t", "a", true))), (Some(7), None));
        // The packet id is given to another message, which is at QoS 1.
        repeats.see(9, false, &message(8, "t", "a", false));
        assert_eq!(repeats.held_from(9), None);
        assert_eq!((repeats.find(9, &message(9, "t", "a", true)), repeats.release(9)), (Some(8), false));
        repeats.see(9, true, &message(9, "t", "a", false));
        assert_eq!(repeats.held_from(9 + 32_768), Some(9));
        assert_eq!(repeats.held_from(10 + 32_768), None);
        repeats.see(9, true, &message(50_000, "t", "a", false));
        repeats.forget(50_001);
        assert_eq!((repeats.held_from(50_001), repeats.release(9)), (None, false));
    }
}

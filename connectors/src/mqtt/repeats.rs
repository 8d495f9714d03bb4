//! Which messages have come before (rule 7.2): after a connection broke the broker sends again, marked
//! as perhaps a duplicate, what it has no acknowledgement for, and of some of it only the
//! acknowledgement was lost.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::message::RawMessage;

/// How many of the last records are looked among. It is half of all packet ids: a broker that counts
/// them up uses none for a second message within it.
const TAIL_RECORDS: u64 = 32_768;

/// What was last taken under each packet id.
pub(super) struct Repeats {
    /// One for each packet id, once there is a message.
    seen: Vec<Seen>,
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
        Self { seen: Vec::new(), since }
    }

    /// A message was taken.
    pub(super) fn see(&mut self, packet_id: u16, message: &RawMessage) {
        if packet_id == 0 || message.position < self.since {
            return;
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

    /// A new session: its packet ids have nothing to do with those before.
    pub(super) fn forget(&mut self, since: u64) {
        self.since = since;
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
        repeats.see(0, &message(4, "t", "none", false));
        repeats.see(7, &message(5, "t", "a", false));
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
        repeats.see(7, &message(6, "t", "a", false));
        check(&repeats, 7, message(7, "t", "a", true), Some(6));
    }
}

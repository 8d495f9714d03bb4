//! What the broker is answered, and when: nothing before it is durable. And what the journal may let go of.

use std::sync::atomic::Ordering;

use tracing::warn;

use super::{Ended, Source};
use crate::failpoint::{self, Failpoint};

/// A message that the broker waits for an answer to.
pub(super) struct Unacknowledged {
    /// What must be durable before.
    pub(super) position: u64,
    pub(super) packet_id: u16,
    /// The answer is PUBREC.
    pub(super) exactly_once: bool,
}

impl Source {
    /// Acknowledges, in order, what has become durable.
    pub(super) fn acknowledge(&mut self) -> Result<(), Ended> {
        let synced = self.journal.synced();
        let count = self.unacknowledged.partition_point(|one| one.position <= synced);
        if count == 0 {
            return Ok(());
        }
        if let Err(error) = failpoint::hit(Failpoint::JournalAcknowledge) {
            self.alarm.raise(format!("{}: cannot acknowledge: {error}; start again", self.name));
            return Err(Ended::Failed);
        }
        if self.unacknowledged.iter().take(count).any(|one| one.exactly_once) {
            self.acknowledge_each(count);
        } else {
            self.line.acknowledge(self.unacknowledged.drain(..count).map(|one| one.packet_id));
        }
        self.stats.journal_syncs.store(self.journal.syncs(), Ordering::Relaxed);
        Ok(())
    }

    /// Of what came at QoS 2 the library must know, which may have no room for that now: then the rest waits for what
    /// it does next.
    fn acknowledge_each(&mut self, count: usize) {
        for _ in 0..count {
            let Some(one) = self.unacknowledged.front() else { return };
            match one.exactly_once {
                true if !self.client.received(one.packet_id) => return,
                true => {}
                false => self.line.acknowledge(std::iter::once(one.packet_id)),
            }
            self.unacknowledged.pop_front();
        }
    }

    /// Lets go of what every checkpoint has, but not of what the broker may send again; of that as well where it fills
    /// the journal: nothing is read then, so that nothing would be released either.
    pub(super) fn truncate(&mut self, committed: u64) {
        let committed = committed.min(self.next);
        let held_from = self.repeats.held_from(self.journal.next()).unwrap_or(u64::MAX);
        let mut truncated = self.journal.truncate_before(committed.min(held_from));
        if held_from < committed && self.journal.is_full() {
            truncated = truncated.and_then(|()| self.journal.truncate_before(committed));
        }
        if let Err(error) = truncated
            && let Some(times) = self.trouble.due()
        {
            warn!(source = %self.name, %error, times, "journal keeps what a checkpoint has");
        }
        self.show_journal();
    }
}

//! Keeps a trouble that goes on from flooding the log: the first time is said, then one reminder a
//! minute with the number of times it happened since.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(60);

/// Decides whether a repeated trouble is worth a line.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    said_at: Option<Instant>,
    unsaid: u64,
}

impl Reminder {
    /// Counts one more; gives how many there were since the last line when it is time for one.
    pub(crate) fn due(&mut self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    /// The trouble is over: the next one is said at once.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn due_at(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        let is_due = self.said_at.is_none_or(|said_at| now.saturating_duration_since(said_at) >= INTERVAL);
        is_due.then(|| {
            self.said_at = Some(now);
            std::mem::take(&mut self.unsaid)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_then_one_a_minute() {
        let start = Instant::now();
        let mut reminder = Reminder::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        let said: Vec<_> = [0, 1, 59, 60, 61, 200].map(|seconds| reminder.due_at(at(seconds))).into();
        assert_eq!(said, [Some(1), None, None, Some(3), None, Some(2)]);
        reminder.reset();
        assert_eq!(reminder.due_at(at(201)), Some(1));
    }
}

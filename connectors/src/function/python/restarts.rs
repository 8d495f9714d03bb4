//! How often the processes of a function may die: some times at once, then no more than one every two seconds.
//! In between nothing is started, and calls are failed, so that a function that cannot work costs next to
//! nothing. It is one account of all processes, so a function of which every second call dies is held back too.

use std::time::{Duration, Instant};

/// Deaths that may come at once.
const BURST: u32 = 8;
/// After how long one more may come.
const EVERY: Duration = Duration::from_secs(2);

/// The account of deaths.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// Time that deaths have used up and that has not passed yet.
    debt: Duration,
    at: Option<Instant>,
    open_until: Option<Instant>,
}

impl Restarts {
    /// A process has died. Gives how long none may be started, where that is so.
    pub(super) fn died(&mut self, now: Instant) -> Option<Duration> {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.debt = self.debt.saturating_sub(passed) + EVERY;
        self.at = Some(now);
        let pause = self.debt.saturating_sub(EVERY * BURST);
        if pause.is_zero() {
            return None;
        }
        self.open_until = Some(now + pause);
        Some(pause)
    }

    /// Whether none may be started.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_deaths_are_free_and_then_one_every_two_seconds() {
        let (mut restarts, began) = (Restarts::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(restarts.died(began), None);
        }
        let (mut now, mut starts) = (began, 0);
        while now < began + Duration::from_secs(60) {
            if !restarts.is_open(now) {
                starts += 1;
                restarts.died(now);
            }
            now += Duration::from_millis(100);
        }
        assert_eq!(starts, 30);
        // After a while without deaths there are free ones again.
        assert_eq!(restarts.died(now + EVERY * BURST), None);
        assert!(!restarts.is_open(now + EVERY * BURST));
    }
}

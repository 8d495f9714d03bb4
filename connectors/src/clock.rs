//! The port to the wall clock. It only stamps: durations are measured with the monotonic
//! `std::time::Instant` (rule 2.1), so a clock that is set back never shortens a wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells what time it is; given to whatever stamps data, so that tests choose the time.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since 1970 UTC.
    fn wall_us(&self) -> i64;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_us(&self) -> i64 {
        let micros_since =
            |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => micros_since(since),
            // A machine whose clock stands before 1970 still gets a time that moves on.
            Err(before) => -micros_since(before.duration()),
        }
    }
}

/// A clock that stands still until it is moved; clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now_us: Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock that shows `start_us`.
    pub fn new(start_us: i64) -> Self {
        Self { now_us: Arc::new(AtomicI64::new(start_us)) }
    }

    /// Shows `now_us` from now on, earlier or later.
    pub fn set(&self, now_us: i64) {
        self.now_us.store(now_us, Ordering::SeqCst);
    }

    /// Moves on by `by_us` (back, where it is negative).
    pub fn advance(&self, by_us: i64) {
        self.now_us.fetch_add(by_us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_us(&self) -> i64 {
        self.now_us.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_show_the_same_time() {
        let clock = ManualClock::new(10);
        let seen_by_others: Box<dyn Clock> = Box::new(clock.clone());
        assert_eq!(seen_by_others.wall_us(), 10);
        clock.advance(5);
        assert_eq!(seen_by_others.wall_us(), 15);
        clock.set(-3);
        assert_eq!(seen_by_others.wall_us(), -3);
    }

    #[test]
    fn the_system_clock_counts_microseconds() {
        // 2020-01-01 and 2200-01-01: wrong units would be far outside.
        let now_us = SystemClock.wall_us();
        assert!((1_577_836_800_000_000..7_258_118_400_000_000).contains(&now_us), "{now_us}");
    }
}

//! A circuit breaker: an endpoint that fails again and again is left in peace for a while, then one call is let
//! through to see whether it is back.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::BreakerSettings;

pub(super) struct Breaker {
    settings: BreakerSettings,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures since the last success.
    failures: u32,
    /// It is open until then; after that, the first call tries.
    open_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: Mutex::default() }
    }

    /// Whether a call may go out now. Where it is to be seen whether the endpoint is back, only one may.
    pub(super) fn lets_through(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + self.settings.pause);
                true
            }
        }
    }

    pub(super) fn succeeded(&self) {
        *self.state() = State::default();
    }

    /// An attempt failed; whether the breaker has opened by it, and had been closed.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures < self.settings.failures {
            return false;
        }
        state.open_until.replace(now + self.settings.pause).is_none()
    }

    /// Whether calls fail at once.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.state().open_until.is_some_and(|until| now < until)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_try() {
        let second = Duration::from_secs(1);
        let breaker = Breaker::new(BreakerSettings { failures: 3, pause: second });
        let start = Instant::now();
        breaker.failed(start);
        breaker.failed(start);
        breaker.succeeded();
        (0..2).for_each(|_| assert!(!breaker.failed(start)));
        assert!(breaker.lets_through(start) && !breaker.is_open(start));
        assert!(breaker.failed(start) && !breaker.failed(start));
        assert!(!breaker.lets_through(start + second / 2) && breaker.is_open(start + second / 2));
        // One tries; while it does, others do not.
        assert!(breaker.lets_through(start + second) && !breaker.lets_through(start + second));
        breaker.failed(start + second);
        assert!(!breaker.lets_through(start + second));
        assert!(breaker.lets_through(start + 3 * second));
        breaker.succeeded();
        assert!(breaker.lets_through(start + 3 * second) && breaker.lets_through(start + 3 * second));
    }
}

//! How often the operators of a job look at the time: often while something is under way, hardly ever at rest, as
//! jobs may be many.
//!
//! ```text
//!   something is under way on a worker ──► the job beats on all of them: time goes on everywhere
//!   nothing was, for a while ──► each rests until what it knows to come; what comes unforeseen wakes all
//! ```
//! All workers beat together, as how far the job has come is the least of how far each has: one that slept would
//! hold back what the others have under way. Workers learn nothing of each other here but that it is worth looking
//! at the time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use timely::scheduling::{Activator, SyncActivator};

/// How often an operator looks at the time while something of its job is under way.
pub const BEAT: Duration = Duration::from_millis(100);
/// How long it looks away at rest. What comes wakes it, so this is for what nobody thought of.
pub const REST: Duration = Duration::from_secs(300);
/// How long after the last thing that was under way a job goes to rest.
const BUSY_FOR: Duration = Duration::from_secs(2);
/// A beat that is asked for so little earlier than one that is to come is not worth another one.
const SLACK: Duration = Duration::from_millis(10);

/// Whether a job is at rest, as the workers of a process see it together.
pub struct Pulse {
    start: Instant,
    /// A job that other processes have a part of never rests, as they are not woken.
    may_rest: bool,
    /// Milliseconds since the start.
    busy_until: AtomicU64,
    /// Some worker may be at rest, and is to be woken.
    is_resting: AtomicBool,
    sleepers: Mutex<Vec<SyncActivator>>,
}

impl Pulse {
    /// That of a job which is not at rest yet.
    pub fn new(may_rest: bool) -> Self {
        let busy_until = AtomicU64::new(BUSY_FOR.as_millis() as u64);
        Self {
            start: Instant::now(),
            may_rest,
            busy_until,
            is_resting: AtomicBool::new(false),
            sleepers: Mutex::default(),
        }
    }

    /// Has this one woken where the job is at rest no more.
    pub fn wakes(&self, sleeper: SyncActivator) {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(sleeper);
    }

    /// Something is under way.
    pub fn is_busy(&self) {
        self.busy_until.fetch_max(self.millis() + BUSY_FOR.as_millis() as u64, Ordering::SeqCst);
        // After that, so that a worker which goes to rest now is seen here, or sees it.
        if self.is_resting.load(Ordering::SeqCst) && self.is_resting.swap(false, Ordering::SeqCst) {
            for sleeper in &*self.sleepers.lock().unwrap_or_else(PoisonError::into_inner) {
                // A worker that has ended needs no waking.
                let _ = sleeper.activate();
            }
        }
    }

    /// Whether nothing is under way: whoever is told so is woken when that changes.
    pub fn rests(&self) -> bool {
        let is_busy = || self.busy_until.load(Ordering::SeqCst) >= self.millis();
        if !self.may_rest || is_busy() {
            return false;
        }
        self.is_resting.store(true, Ordering::SeqCst);
        !is_busy()
    }

    fn millis(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// Has an operator activated again, however often it is activated in between.
#[derive(Default)]
pub struct Heartbeat {
    next: Option<Instant>,
}

impl Heartbeat {
    /// Asks for the next beat after this time, but not more often than [`BEAT`].
    pub fn again(&mut self, activator: &Activator, after: Duration) {
        if let Some(after) = self.beat(Instant::now(), after) {
            activator.activate_after(after);
        }
    }

    /// When a beat is to be asked for; none where one that is as soon was.
    fn beat(&mut self, now: Instant, after: Duration) -> Option<Duration> {
        let after = after.clamp(BEAT, REST);
        let is_new = self.next.is_none_or(|next| next <= now || next > now + after + SLACK);
        is_new.then(|| {
            self.next = Some(now + after);
            after
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_asked_for_once() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.beat(start, 9 * second), Some(9 * second));
        assert_eq!(heartbeat.beat(start + second, 8 * second), None, "it is the same one");
        assert_eq!(heartbeat.beat(start + second, 9 * second), None, "one comes before");
        assert_eq!(heartbeat.beat(start + second, Duration::ZERO), Some(BEAT), "and none is that soon");
        assert_eq!(heartbeat.beat(start + second, BEAT), None);
        assert_eq!(heartbeat.beat(start + 2 * second, 999 * second), Some(REST), "the last one is over");
    }

    #[test]
    fn a_job_rests_once_nothing_was_under_way_for_a_while() {
        let ago = |seconds| {
            let start = Instant::now().checked_sub(Duration::from_secs(seconds));
            Pulse { start: start.expect("the machine runs longer than that"), ..Pulse::new(true) }
        };
        let young = ago(0);
        assert!(!young.rests() && !young.is_resting.load(Ordering::SeqCst));
        let old = ago(60);
        assert!(old.rests() && old.is_resting.load(Ordering::SeqCst));
        old.is_busy();
        assert!(!old.rests() && !old.is_resting.load(Ordering::SeqCst), "those at rest were woken");
        let of_several = Pulse { may_rest: false, ..ago(60) };
        assert!(!of_several.rests());
    }
}

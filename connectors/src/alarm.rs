//! The way a connector says that the run cannot go on: a disk that does not keep what it was given.
//! Who hears it ends the process without a checkpoint; the next start goes on from the last one.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::error;

use crate::queue::Waker;

/// Raised once, by the first failure; never lowered.
#[derive(Default)]
pub struct Alarm {
    reason: OnceLock<String>,
    waker: Mutex<Option<Waker>>,
}

impl Alarm {
    /// Ends the run. The reason says what failed, and what to do.
    pub fn raise(&self, reason: impl Into<String>) {
        let reason = reason.into();
        error!(%reason, "the run cannot go on");
        // A later failure is most likely a consequence of the first.
        _ = self.reason.set(reason);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waker.into_iter().for_each(|wake| wake());
    }

    /// Why the run must end, if it must.
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Sets what wakes those who must hear of it; at once where it is raised already.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        if self.reason().is_some() {
            waker();
        }
    }
}

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarm").field("reason", &self.reason).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn whoever_must_hear_of_it_is_woken_whenever_it_was_raised() {
        let (before, after, heard) = (Alarm::default(), Alarm::default(), Arc::new(AtomicU32::new(0)));
        let waker = || -> Waker {
            let heard = heard.clone();
            Arc::new(move || _ = heard.fetch_add(1, Ordering::SeqCst))
        };
        before.raise("the disk is full");
        before.set_waker(waker());
        assert_eq!(heard.load(Ordering::SeqCst), 1);
        after.set_waker(waker());
        assert_eq!(heard.load(Ordering::SeqCst), 1);
        after.raise("the disk is full");
        after.raise("and something else is");
        assert_eq!((heard.load(Ordering::SeqCst), after.reason()), (3, Some("the disk is full")));
    }
}

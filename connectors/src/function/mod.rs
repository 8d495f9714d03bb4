//! Functions outside of the engine: a call goes out, its answer comes back some time (SEMANTICS 6.2).
//!
//! ```text
//!   worker ── Call ──► Function (http, python: threads of its own, bounded) ──┐
//!     ▲                                                                      │
//!     └── wakes, takes what is there ◄── Inbox of the worker ◄── Answer ◄────┘
//! ```
//! A call never waits: one for which there is no room is refused at once. Every call that was taken is
//! answered exactly once, be it by a [`Failure`]. What the bytes mean is the business of who calls: a call
//! carries one JSON object, and so does an answer.

mod allowance;
pub mod http;
pub mod python;
pub mod wasm;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::queue::Waker;

pub use allowance::{Allowance, Meter};

/// Most bytes of an answer unless the settings say something else.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// One call of a function.
#[derive(Clone, Debug)]
pub struct Call {
    /// Told again with the answer; nothing to the function.
    pub ticket: u64,
    /// What makes the call the same one when it is made again after a crash: job, twin, update, function and
    /// version (rule 6.2).
    pub key: Arc<CallKey>,
    /// A JSON object.
    pub body: Vec<u8>,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
    /// Where the answer goes.
    pub inbox: Arc<Inbox>,
}

/// What a call is about. Calls are made at least once; who answers them knows a repeat by this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallKey {
    /// The job.
    pub job: Arc<str>,
    /// Id of the twin.
    pub twin: String,
    /// The type of the twin.
    pub twin_type: Arc<str>,
    /// Number of the update.
    pub update: u64,
    /// The function, by its name in the job.
    pub function: Arc<str>,
    /// Which of its versions.
    pub version: u32,
}

/// What became of a call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// That of the call.
    pub ticket: u64,
    /// A JSON object, or why there is none.
    pub result: Result<Vec<u8>, Failure>,
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Failure {
    /// What kind of failure, for counting.
    pub kind: FailureKind,
    /// What happened, for people; short.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The function was not called at all.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Unavailable, message)
    }
}

/// Kinds of failure, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The function says so, or what it answered is no answer.
    Error,
    /// It took too long.
    Timeout,
    /// It ended in the middle: a trap, a process that died.
    Trap,
    /// Its answer is over the limit.
    TooLarge,
    /// It was not called at all: its circuit breaker is open, or no room was left.
    Unavailable,
}

impl FailureKind {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [Self::Error, Self::Timeout, Self::Trap, Self::TooLarge, Self::Unavailable];

    /// The word in metrics and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Trap => "trap",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
        }
    }
}

impl std::fmt::Display for FailureKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// A function that is called outside of the engine's threads. Dropping the last handle ends what it runs.
pub trait FunctionRunner: Send + Sync {
    /// Takes a call, or gives it back where there is no room. Never waits.
    fn call(&self, call: Call) -> Result<(), Call>;

    /// How it is, now.
    fn status(&self) -> Status;

    /// What its time is measured with, and bounded; none where it uses only time of this process.
    fn meter(&self) -> Option<&Meter> {
        None
    }
}

/// How a function is, for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Calls that were taken and not answered yet.
    pub in_flight: u64,
    /// The circuit breaker: calls are failed at once until it is tried again.
    pub is_open: bool,
    /// Processes, connections or instances that it holds now; 0 when it costs nothing.
    pub instances: u64,
}

/// Where the answers for one worker wait until it takes them.
#[derive(Default)]
pub struct Inbox {
    answers: Mutex<Vec<Answer>>,
    waker: Mutex<Option<Waker>>,
}

impl Inbox {
    /// Sets what wakes the worker.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// Puts answers in, and wakes the worker where there were none before.
    pub fn put(&self, answers: impl IntoIterator<Item = Answer>) {
        let mut waiting = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let were_none = waiting.is_empty();
        waiting.extend(answers);
        let is_first = were_none && !waiting.is_empty();
        drop(waiting);
        if is_first && let Some(wake) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            wake();
        }
    }

    /// Takes what is there.
    pub fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inbox")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_worker_is_woken_once_for_what_waits() {
        let (inbox, woken) = (Inbox::default(), Arc::new(AtomicUsize::new(0)));
        let count = woken.clone();
        inbox.set_waker(Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        let answer = |ticket| Answer { ticket, result: Ok(Vec::new()) };
        inbox.put([]);
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        inbox.put([answer(1), answer(2)]);
        inbox.put([answer(3)]);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(inbox.take().iter().map(|one| one.ticket).collect::<Vec<_>>(), [1, 2, 3]);
        inbox.put([answer(4)]);
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }
}

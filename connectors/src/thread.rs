//! The thread of a connector: it can be asked to stop, and waiting for its end has a bound.

use crate::place::Place;
use crate::queue::Waker;
use crate::source::Request;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tracing::error;

/// Requests to devices that may wait until the source's thread takes them.
const REQUESTS_MAX: usize = 1_024;

/// How far a source is in checkpoints.
#[derive(Clone, Default)]
pub(crate) struct Committed {
    /// What came before is in the newest one.
    pub(crate) next: Place,
    /// What came before is in every one that is kept.
    pub(crate) released: Place,
}

/// Asks a thread to stop, or a source for something else, and wakes it from whatever it waits for.
#[derive(Default)]
pub(crate) struct StopSignal {
    asked: AtomicBool,
    /// Number of the checkpoint that cuts the source next; 0 where none does.
    boundary: AtomicU64,
    committed: Mutex<Committed>,
    has_committed: AtomicBool,
    requests: Mutex<VecDeque<Request>>,
    has_requests: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl StopSignal {
    /// Asks. The order of the two steps matters: who is woken sees that it was asked.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Asks a source for a boundary.
    pub(crate) fn ask_boundary(&self, number: u64) {
        self.boundary.store(number, Ordering::SeqCst);
        self.wake();
    }

    /// Takes the boundary that was asked for.
    pub(crate) fn take_boundary(&self) -> Option<u64> {
        // Looked at first, as this is done in the loops of sources.
        if self.boundary.load(Ordering::SeqCst) == 0 {
            return None;
        }
        Some(self.boundary.swap(0, Ordering::SeqCst)).filter(|number| *number != 0)
    }

    /// Tells a source of a checkpoint that holds.
    pub(crate) fn tell_committed(&self, next: &Place, released: &Place) {
        let committed = Committed { next: next.clone(), released: released.clone() };
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = committed;
        self.has_committed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// What a source was told last, where that is new.
    pub(crate) fn take_committed(&self) -> Option<Committed> {
        // Looked at first, as this is done in the loops of sources.
        if !self.has_committed.load(Ordering::SeqCst) || !self.has_committed.swap(false, Ordering::SeqCst) {
            return None;
        }
        Some(self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Hands a source a request to its devices; `false` where too many wait already.
    pub(crate) fn put_request(&self, request: Request) -> bool {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= REQUESTS_MAX {
            return false;
        }
        requests.push_back(request);
        drop(requests);
        self.has_requests.store(true, Ordering::SeqCst);
        self.wake();
        true
    }

    /// Takes the requests that wait, oldest first.
    pub(crate) fn take_requests(&self) -> VecDeque<Request> {
        // Looked at first, as this is done in the loops of sources.
        if !self.has_requests.load(Ordering::SeqCst) || !self.has_requests.swap(false, Ordering::SeqCst) {
            return VecDeque::new();
        }
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker();
        }
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// To be set before the first wait; a stop that was asked earlier is seen through `is_asked`.
    pub(crate) fn set_waker(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }
}

/// A running thread of a connector.
pub(crate) struct Worker {
    name: String,
    /// Disconnects when the thread ends, also by a panic.
    ended: Mutex<mpsc::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (running, ended) = mpsc::channel::<()>();
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            let _running = running;
            body();
        })?;
        Ok(Self { name: name.to_owned(), ended: Mutex::new(ended), thread: Some(thread) })
    }

    /// Waits for the end; `false` when the thread still runs after `timeout`.
    pub(crate) fn join_within(&mut self, timeout: Duration) -> bool {
        let Some(thread) = self.thread.take() else {
            return true;
        };
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if matches!(ended.recv_timeout(timeout), Err(RecvTimeoutError::Timeout)) {
            self.thread = Some(thread);
            return false;
        }
        if thread.join().is_err() {
            error!(thread = %self.name, "connector ended by a panic; what it had queued is not written");
        }
        true
    }
}

/// A waker for a thread that waits in `std::thread::park`.
pub(crate) fn unpark_current() -> Waker {
    let thread = std::thread::current();
    Arc::new(move || thread.unpark())
}

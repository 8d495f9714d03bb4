//! Work that comes now and then, on a thread that is there only while there is some: of a thousand jobs most have
//! nothing to do, and a thread that waits costs hundreds of kilobytes.
//!
//! ```text
//!   call ──► resting ──(a thread is started)──► at work ──(over)──► over
//!               ▲                                │    ▲
//!               '──(nobody called for a while)───'    '── a call is heard before it rests
//! ```
//! Where the system gives no thread, the work is done by whoever calls: later, and not left undone.

use crate::queue::{Receiver, Waker, Weigh};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// How long a thread waits for the next call, so that what comes every second needs no thread each time.
const LINGER: Duration = Duration::from_secs(5);

/// Does all there is to do, without waiting for more; breaks once no more can come.
type Duty = Box<dyn FnMut() -> ControlFlow<()> + Send>;

/// Work that is done when it is called for. Clones are the same one.
#[derive(Clone)]
pub struct OnCall {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    linger: Duration,
    state: Mutex<State>,
    called: Condvar,
    is_over: Condvar,
}

struct State {
    /// With its thread while that is at work.
    duty: Option<Duty>,
    phase: Phase,
    /// Somebody called since the work was begun last.
    is_called: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Resting,
    AtWork,
    Over,
    Panicked,
}

/// How work has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Well,
    /// By a panic.
    Panicked,
}

impl OnCall {
    /// Work that rests until the first call. `name` is that of its threads.
    pub fn new(name: &str, duty: impl FnMut() -> ControlFlow<()> + Send + 'static) -> Self {
        Self::lingering(name, LINGER, Box::new(duty))
    }

    fn lingering(name: &str, linger: Duration, duty: Duty) -> Self {
        let state = State { duty: Some(duty), phase: Phase::Resting, is_called: false };
        let shared = Shared {
            name: name.to_owned(),
            linger,
            state: Mutex::new(state),
            called: Condvar::new(),
            is_over: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Work on what comes out of a queue: it is over when `take` says so, or the queue is closed and empty.
    pub fn of_queue<T: Weigh + Send + 'static>(
        name: &str,
        receiver: Receiver<T>,
        take: impl FnMut(T) -> ControlFlow<()> + Send + 'static,
    ) -> Self {
        Self::of_queue_lingering(name, LINGER, receiver, take)
    }

    fn of_queue_lingering<T: Weigh + Send + 'static>(
        name: &str,
        linger: Duration,
        receiver: Receiver<T>,
        mut take: impl FnMut(T) -> ControlFlow<()> + Send + 'static,
    ) -> Self {
        let receiver = Arc::new(receiver);
        let heard = receiver.clone();
        let duty = move || {
            while let Some(item) = heard.try_recv() {
                take(item)?;
            }
            if heard.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let this = Self::lingering(name, linger, Box::new(duty));
        receiver.set_waker(this.waker());
        // For what was put in, or closed, before there was somebody to call.
        if receiver.bytes() > 0 || receiver.is_closed() {
            this.call();
        }
        this
    }

    /// Says that there is something to do. What was said before this call is seen by the work that it begins, or
    /// by a round of the work that is under way.
    pub fn call(&self) {
        let mut state = self.shared.lock();
        match state.phase {
            Phase::Over | Phase::Panicked => {}
            Phase::AtWork => {
                if !std::mem::replace(&mut state.is_called, true) {
                    drop(state);
                    self.shared.called.notify_one();
                }
            }
            Phase::Resting => {
                state.phase = Phase::AtWork;
                drop(state);
                let shared = self.shared.clone();
                let spawned = Builder::new().name(self.shared.name.clone()).spawn(move || shared.work());
                if let Err(error) = spawned {
                    warn!(work = %self.shared.name, %error, "no thread is to be had; the work is done by whoever calls");
                    self.shared.work();
                }
            }
        }
    }

    /// What calls, for a queue or a connector.
    pub fn waker(&self) -> Waker {
        let this = self.clone();
        Arc::new(move || this.call())
    }

    /// Waits until the work is over, which somebody has to see to; none where it is not after `timeout`.
    pub fn wait_over(&self, timeout: Duration) -> Option<Ended> {
        // A timeout too long to be added to the clock is one that never comes.
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.shared.lock();
        loop {
            match state.phase {
                Phase::Over => return Some(Ended::Well),
                Phase::Panicked => return Some(Ended::Panicked),
                Phase::Resting | Phase::AtWork => {}
            }
            let left = deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            let waited = self.shared.is_over.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until nobody has called for a while.
    fn work(&self) {
        // Before the duty, so that it is dropped after it: who waits for the end finds all let go of.
        let mut end = End { shared: self, phase: Some(Phase::Panicked) };
        let duty = self.lock().duty.take();
        let mut duty = duty.expect("work that rests has its duty, and one caller begins it");
        while duty().is_continue() {
            let state = self.lock();
            let waited = self.called.wait_timeout_while(state, self.linger, |state| !state.is_called);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !std::mem::take(&mut state.is_called) {
                (state.duty, state.phase) = (Some(duty), Phase::Resting);
                end.phase = None;
                return;
            }
        }
        end.phase = Some(Phase::Over);
    }
}

/// Tells that the work is over, also where it is by a panic.
struct End<'a> {
    shared: &'a Shared,
    phase: Option<Phase>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let Some(phase) = self.phase else { return };
        if phase == Phase::Panicked {
            error!(work = %self.shared.name, "ended by a panic; what it had to do is not done");
        }
        self.shared.lock().phase = phase;
        self.shared.is_over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_secs(60);

    struct Number(u64);

    impl Weigh for Number {
        fn weight(&self) -> usize {
            8
        }
    }

    fn phase(work: &OnCall) -> Phase {
        work.shared.lock().phase
    }

    #[test]
    fn nothing_is_missed_however_often_it_rests() {
        let sum = Arc::new(AtomicU64::new(0));
        let summed = sum.clone();
        let (sender, receiver) = queue::bounded(1 << 20);
        // Its threads rest at once, so that calls meet every step of that.
        let work = OnCall::of_queue_lingering("sum", Duration::ZERO, receiver, move |Number(number)| {
            summed.fetch_add(number, Ordering::SeqCst);
            ControlFlow::Continue(())
        });
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    (1..=2_000).try_for_each(|number| {
                        std::thread::yield_now();
                        sender.send(Number(number))
                    })
                })
            })
            .collect();
        for sender in senders {
            sender.join().expect("it does not panic").expect("somebody receives");
        }
        drop(sender);
        assert_eq!(work.wait_over(SOON), Some(Ended::Well));
        assert_eq!(sum.load(Ordering::SeqCst), 4 * 2_000 * 2_001 / 2);
    }

    #[test]
    fn it_rests_and_is_called_again() {
        let (done, heard) = mpsc::channel();
        let (sender, receiver) = queue::bounded(1 << 20);
        let work = OnCall::of_queue("echo", receiver, move |Number(number)| {
            let has_heard = done.send(number).is_ok();
            if has_heard && number != 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert_eq!(phase(&work), Phase::Resting, "there is nothing to do yet");
        sender.send(Number(1)).expect("somebody receives");
        assert_eq!(heard.recv_timeout(SOON), Ok(1));
        sender.send(Number(2)).expect("somebody receives");
        assert_eq!(heard.recv_timeout(SOON), Ok(2));
        assert_eq!(work.wait_over(Duration::ZERO), None);
        sender.send(Number(3)).expect("somebody receives");
        assert_eq!(work.wait_over(SOON), Some(Ended::Well));
        assert!(sender.send(Number(4)).is_err(), "what it worked with is gone");
        work.call();
        assert_eq!(phase(&work), Phase::Over);
    }

    #[test]
    fn a_closed_queue_and_a_panic_end_it() {
        let (sender, receiver) = queue::bounded::<Number>(8);
        drop(sender);
        let closed = OnCall::of_queue("closed", receiver, |_| ControlFlow::Continue(()));
        assert_eq!(closed.wait_over(SOON), Some(Ended::Well));
        let panics = OnCall::new("panics", || panic!("on purpose"));
        panics.call();
        assert_eq!(panics.wait_over(SOON), Some(Ended::Panicked));
    }

    #[test]
    fn a_thread_that_nobody_calls_goes() {
        let (done, heard) = mpsc::channel();
        let duty = move || {
            let _ = done.send(());
            ControlFlow::Continue(())
        };
        let work = OnCall::lingering("once", Duration::ZERO, Box::new(duty));
        for _ in 0..2 {
            work.call();
            heard.recv_timeout(SOON).expect("it was called");
            while phase(&work) != Phase::Resting {
                std::thread::yield_now();
            }
        }
    }
}

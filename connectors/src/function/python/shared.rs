//! What the handle of a function and the threads of its processes share: calls that wait, who waits for them,
//! and whether calls are taken at all.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use tracing::warn;

use super::PythonSettings;
use super::restarts::Restarts;
use super::slot::Slot;
use crate::function::allowance::{Spending, USED_UP};
use crate::function::{Answer, Call, Failure, FailureKind, Inbox, Meter, Status};
use crate::reminder::Reminder;

/// Bytes of bodies after which a batch is closed.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// A call's answer, and where it goes.
pub(super) type Done = (Arc<Inbox>, Answer);

/// What is shared.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) settings: PythonSettings,
    pub(super) meter: Arc<Meter>,
    in_flight: AtomicU64,
    state: Mutex<State>,
    /// Calls wait, or slots are to look whether they should end.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Call>,
    waiting_bytes: usize,
    /// Threads that there are, of these those that wait for calls or for the time to make them, and of those whom was
    /// called.
    slots: usize,
    idle: usize,
    called: usize,
    /// Of each process that lives.
    channels: Vec<Arc<UnixStream>>,
    restarts: Restarts,
    /// What a process died of last.
    cause: String,
    reminder: Reminder,
    is_stopping: bool,
    /// The time is taken for no earlier than this.
    no_earlier: Option<Instant>,
}

/// The failure of a call.
pub(super) fn failed(call: Call, kind: FailureKind, message: &str) -> Done {
    let failure = Failure { kind, message: message.to_owned() };
    (call.inbox, Answer { ticket: call.ticket, result: Err(failure) })
}

impl Shared {
    pub(super) fn new(name: &str, source: &str, settings: &PythonSettings) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let this = this.clone();
            let wake = move || {
                if let Some(this) = this.upgrade() {
                    // Locked once, so that who is about to wait hears it.
                    drop(this.lock());
                    this.changed.notify_all();
                }
            };
            Self {
                name: name.to_owned(),
                source: source.to_owned(),
                settings: settings.clone(),
                meter: Arc::new(Meter::new(Arc::new(wake))),
                in_flight: AtomicU64::new(0),
                state: Mutex::default(),
                changed: Condvar::new(),
            }
        })
    }

    /// Takes a call, or gives it back.
    pub(super) fn call(self: &Arc<Self>, call: Call, now: Instant) -> Result<(), Call> {
        let mut state = self.lock();
        if state.restarts.is_open(now) {
            let message = state.open_message();
            drop(state);
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            self.answer(&mut vec![failed(call, FailureKind::Unavailable, &message)]);
            return Ok(());
        }
        let weight = weight(&call);
        if !state.waiting.is_empty() && state.waiting_bytes + weight > self.settings.queue.as_u64() as usize {
            return Err(call);
        }
        state.waiting_bytes += weight;
        state.waiting.push_back(call);
        if state.idle > state.called {
            state.called += 1;
            self.changed.notify_one();
        } else if state.slots < usize::from(self.settings.processes) && !self.add_slot(&mut state) {
            return state.waiting.pop_back().map_or(Ok(()), |call| {
                state.waiting_bytes -= weight;
                Err(call)
            });
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether somebody takes what waits.
    fn add_slot(self: &Arc<Self>, state: &mut State) -> bool {
        let slot = Slot::new(self.clone());
        match Builder::new().name(format!("python-{}", self.name)).spawn(move || slot.run()) {
            Ok(_) => state.slots += 1,
            Err(error) => {
                if let Some(times) = state.reminder.due() {
                    warn!(function = %self.name, %error, times, "no thread for a process; raise ulimit -u");
                }
            }
        }
        state.slots > 0
    }

    /// Waits for calls and for the time to make them, a batch of them at most; none where the slot is to end, which
    /// it then must.
    pub(super) fn next(&self) -> Option<(Vec<Call>, Spending)> {
        let since = Instant::now();
        let mut is_held = false;
        let mut state = self.lock();
        loop {
            if let Some(first) = state.waiting.front().map(|call| call.deadline)
                && !state.is_stopping
            {
                let wait = match self.meter.begin() {
                    Ok(spending) => return Some((state.take_share(&self.settings), spending)),
                    Err(wait) => wait,
                };
                if !std::mem::replace(&mut is_held, true) {
                    self.meter.hold();
                }
                let left = first.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    drop(state);
                    self.expire(Instant::now(), USED_UP);
                    state = self.lock();
                } else {
                    state = self.wait(state, wait.min(left));
                }
                continue;
            }
            is_held = false;
            let now = state.no_earlier.unwrap_or(since).max(Instant::now());
            let left = self.settings.idle.saturating_sub(now.saturating_duration_since(since));
            if state.is_stopping || left.is_zero() {
                state.slots -= 1;
                return None;
            }
            state = self.wait(state, left);
        }
    }

    /// Waits to be called, or for as long as it is patient.
    fn wait<'s>(&self, mut state: MutexGuard<'s, State>, patience: Duration) -> MutexGuard<'s, State> {
        state.idle += 1;
        let mut state = self.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        state.idle -= 1;
        state.called = state.called.saturating_sub(1);
        state
    }

    /// Fails the calls whose time was over before somebody took them, and why that was.
    pub(super) fn expire(&self, now: Instant, why: &str) {
        let mut done = Vec::new();
        let mut state = self.lock();
        // They come in about the order of their deadlines.
        while state.waiting.front().is_some_and(|call| call.deadline <= now) {
            let call = state.pop().expect("it was looked at");
            done.push(failed(call, FailureKind::Timeout, why));
        }
        drop(state);
        self.answer(&mut done);
    }

    /// Puts answers where they go.
    pub(super) fn answer(&self, done: &mut Vec<Done>) {
        self.in_flight.fetch_sub(done.len() as u64, Ordering::Relaxed);
        let mut done = done.drain(..).peekable();
        while let Some((inbox, answer)) = done.next() {
            let of_same = |next: &Done| Arc::ptr_eq(&next.0, &inbox);
            let others = std::iter::from_fn(|| done.next_if(of_same).map(|(_, answer)| answer));
            inbox.put(std::iter::once(answer).chain(others).collect::<Vec<_>>());
        }
    }

    /// A process lives. Whether it may: not where the function is stopping.
    pub(super) fn lives(&self, channel: &Arc<UnixStream>) -> bool {
        let mut state = self.lock();
        state.channels.push(channel.clone());
        !state.is_stopping
    }

    /// A process is gone.
    pub(super) fn is_gone(&self, channel: &Arc<UnixStream>) {
        self.lock().channels.retain(|other| !Arc::ptr_eq(other, channel));
    }

    /// A process died, or could not be started; gives why calls are failed now, where they are.
    pub(super) fn died(&self, cause: &str, now: Instant) -> Option<String> {
        let mut state = self.lock();
        if state.is_stopping {
            return None;
        }
        if let Some(times) = state.reminder.due() {
            warn!(function = %self.name, cause, times, "a process of the function has ended");
        }
        state.cause = cause.to_owned();
        let pause = state.restarts.died(now)?;
        let message = state.open_message();
        warn!(function = %self.name, ?pause, "its processes end too often; its calls are failed meanwhile");
        let mut done = Vec::new();
        while let Some(call) = state.pop() {
            done.push(failed(call, FailureKind::Unavailable, &message));
        }
        drop(state);
        self.answer(&mut done);
        Some(message)
    }

    /// Ends all processes, and fails the calls that wait.
    pub(super) fn stop(&self) {
        let mut done = Vec::new();
        let mut state = self.lock();
        state.is_stopping = true;
        for channel in &state.channels {
            // One that has ended is as good as one that is ended.
            let _ = channel.shutdown(Shutdown::Both);
        }
        while let Some(call) = state.pop() {
            done.push(failed(call, FailureKind::Unavailable, STOPPED));
        }
        drop(state);
        self.changed.notify_all();
        self.answer(&mut done);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    /// Lets slots that wait think that it is this late.
    pub(super) fn no_earlier_than(&self, now: Instant) {
        self.lock().no_earlier = Some(now);
        self.changed.notify_all();
    }

    pub(super) fn status(&self, now: Instant) -> Status {
        let state = self.lock();
        Status {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            is_open: state.restarts.is_open(now),
            instances: state.channels.len() as u64,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What calls are told that a function leaves unanswered when it ends.
pub(super) const STOPPED: &str = "the function was stopped";
/// What calls are told that no process took in time.
pub(super) const NOT_FREE: &str = "its time was over before a process was free";

impl State {
    fn pop(&mut self) -> Option<Call> {
        let call = self.waiting.pop_front()?;
        self.waiting_bytes -= weight(&call);
        Some(call)
    }

    /// A batch: no more than what is left for each process, so that slow calls are shared.
    fn take_share(&mut self, settings: &PythonSettings) -> Vec<Call> {
        let share = self.waiting.len().div_ceil(usize::from(settings.processes));
        let calls_max = share.min(settings.batch as usize);
        let mut calls = Vec::with_capacity(calls_max);
        let mut bytes = 0;
        while calls.len() < calls_max && bytes < BATCH_BYTES_MAX {
            let Some(call) = self.pop() else { break };
            bytes += call.body.len();
            calls.push(call);
        }
        calls
    }

    fn open_message(&self) -> String {
        format!("its processes ended too often and rest for some seconds; the last one: {}", self.cause)
    }
}

/// About what a call takes in memory.
fn weight(call: &Call) -> usize {
    size_of::<Call>() + call.body.len()
}

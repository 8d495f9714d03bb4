//! The one queue between a connector's thread and the engine: first in, first out, bounded by
//! bytes, not by items, because one message may weigh a thousand times another.
//!
//! ```text
//!   Sender (clones) --- send waits / try_send refuses when full ---> [ items, bytes <= bound ] ---> Receiver
//!        ^------------ waker: room after a refusal ------------------'      '---- waker: data on an empty queue
//! ```
//! Either side may sleep in `send`/`recv`, or never wait and be woken through its waker: a timely
//! worker or an async task gives a waker, a plain thread sleeps. Wakers are called outside the lock.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much of a queue's bound an item takes.
pub trait Weigh {
    /// Bytes, about as many as the item keeps in memory.
    fn weight(&self) -> usize;
}

/// Called to tell the other side that it is worth looking at the queue again. May be called
/// without need; must be quick and must not panic.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The other side of the queue is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the queue has ended")]
pub struct Closed;

/// Why an item was not taken; gives it back.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// No room now: the sender's waker is called when there is.
    Full(T),
    /// The receiver is gone: there will be no room ever again.
    Closed(T),
}

/// What `Receiver::recv_timeout` came back with.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// The next item.
    Item(T),
    /// Nothing came in time.
    Timeout,
    /// Empty, and every sender is gone.
    Closed,
}

/// Makes a queue that holds up to `bytes_max`; an item heavier than that is taken when the queue
/// is empty, so that nothing is too heavy to pass.
pub fn bounded<T: Weigh>(bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        bytes_max,
        state: Mutex::new(State {
            items: VecDeque::new(),
            bytes: 0,
            senders: 1,
            receiver_gone: false,
            refused: false,
            senders_asleep: 0,
            receiver_asleep: false,
            sender_waker: None,
            receiver_waker: None,
        }),
        room: Condvar::new(),
        data: Condvar::new(),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// The side that puts in. Dropping the last one closes the queue.
pub struct Sender<T: Weigh> {
    shared: Arc<Shared<T>>,
}

/// The side that takes out.
pub struct Receiver<T: Weigh> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    bytes_max: usize,
    state: Mutex<State<T>>,
    room: Condvar,
    data: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    senders: usize,
    receiver_gone: bool,
    /// A `try_send` found no room since the last time the sender's waker was called.
    refused: bool,
    senders_asleep: usize,
    receiver_asleep: bool,
    sender_waker: Option<Waker>,
    receiver_waker: Option<Waker>,
}

impl<T: Weigh> Sender<T> {
    /// Waits until there is room, then puts `item` in.
    pub fn send(&self, item: T) -> Result<(), Closed> {
        self.send_all(&mut vec![item])
    }

    /// Waits until there is room for each of `items`, with as few locks as the room allows; what
    /// could not be sent because the receiver is gone stays in `items`.
    pub fn send_all(&self, items: &mut Vec<T>) -> Result<(), Closed> {
        let mut state = self.shared.lock();
        loop {
            let woken = self.push_what_fits(&mut state, items)?;
            if items.is_empty() {
                drop(state);
                self.wake(woken);
                return Ok(());
            }
            if woken.is_some() {
                drop(state);
                self.wake(woken);
                state = self.shared.lock();
                continue;
            }
            state.senders_asleep += 1;
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.senders_asleep -= 1;
        }
    }

    /// Puts `item` in when there is room now.
    pub fn try_send(&self, item: T) -> Result<(), Refused<T>> {
        let mut state = self.shared.lock();
        if state.receiver_gone {
            return Err(Refused::Closed(item));
        }
        if !state.has_room(item.weight(), self.shared.bytes_max) {
            state.refused = true;
            return Err(Refused::Full(item));
        }
        let woken = push(&mut state, item);
        drop(state);
        self.wake(woken);
        Ok(())
    }

    /// Puts in as many of `items` as there is room for now, in their order and with one lock; the
    /// others stay, and the waker is called when there is room again.
    pub fn try_send_all(&self, items: &mut Vec<T>) -> Result<(), Closed> {
        if items.is_empty() {
            return Ok(());
        }
        let mut state = self.shared.lock();
        let woken = self.push_what_fits(&mut state, items)?;
        state.refused |= !items.is_empty();
        drop(state);
        self.wake(woken);
        Ok(())
    }

    /// Puts `item` in whatever the bound says: for the few small items that tell of the source
    /// itself (its loss, its end), which must not wait behind a full queue.
    pub fn send_over_bound(&self, item: T) -> Result<(), Closed> {
        let mut state = self.shared.lock();
        if state.receiver_gone {
            return Err(Closed);
        }
        let woken = push(&mut state, item);
        drop(state);
        self.wake(woken);
        Ok(())
    }

    /// Called when room appears after a refusal, or when the receiver goes away. Clones of a
    /// sender share one waker: the last one set.
    pub fn set_waker(&self, waker: Waker) {
        self.shared.lock().sender_waker = Some(waker);
    }

    /// The weight of what waits in the queue.
    pub fn bytes(&self) -> usize {
        self.shared.lock().bytes
    }

    fn push_what_fits(&self, state: &mut State<T>, items: &mut Vec<T>) -> Result<Woken, Closed> {
        if state.receiver_gone {
            return Err(Closed);
        }
        let mut bytes = state.bytes;
        let mut empty = state.items.is_empty();
        let fitting = items
            .iter()
            .take_while(|item| {
                let weight = item.weight();
                let fits = empty || bytes + weight <= self.shared.bytes_max;
                bytes += weight;
                empty = false;
                fits
            })
            .count();
        let mut woken = Woken::default();
        for item in items.drain(..fitting) {
            let Woken { is_asleep, waker } = push(state, item);
            woken.is_asleep |= is_asleep;
            woken.waker = waker.or(woken.waker);
        }
        Ok(woken)
    }

    /// Not under the lock: who wakes needs it at once, and would have to sleep for it again.
    fn wake(&self, woken: Woken) {
        if woken.is_asleep {
            self.shared.data.notify_one();
        }
        wake(woken.waker);
    }
}

/// What of the receiver is to be woken once the lock is released.
#[derive(Default)]
struct Woken {
    is_asleep: bool,
    waker: Option<Waker>,
}

impl Woken {
    fn is_some(&self) -> bool {
        self.is_asleep || self.waker.is_some()
    }
}

fn push<T: Weigh>(state: &mut State<T>, item: T) -> Woken {
    let was_empty = state.items.is_empty();
    state.bytes += item.weight();
    state.items.push_back(item);
    // Taken, so that a receiver that was called once is not called for each item until it runs.
    let is_asleep = std::mem::take(&mut state.receiver_asleep);
    Woken { is_asleep, waker: if was_empty { state.receiver_waker.clone() } else { None } }
}

impl<T: Weigh> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self { shared: self.shared.clone() }
    }
}

impl<T: Weigh> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        if state.senders == 0 {
            let woken = state.receiver_waker.clone();
            drop(state);
            self.shared.data.notify_all();
            wake(woken);
        }
    }
}

impl<T: Weigh> Receiver<T> {
    /// The next item, where there is one now.
    pub fn try_recv(&self) -> Option<T> {
        let mut state = self.shared.lock();
        let item = state.pop()?;
        let woken = self.shared.room_made(&mut state);
        drop(state);
        wake(woken);
        Some(item)
    }

    /// Waits for the next item; `None` once the queue is empty and every sender gone.
    pub fn recv(&self) -> Option<T> {
        match self.recv_until(None) {
            Received::Item(item) => Some(item),
            Received::Timeout | Received::Closed => None,
        }
    }

    /// Waits for the next item, no longer than `timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Received<T> {
        // A timeout too long to be added to the clock is one that never comes.
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// Moves items to `into` until they weigh `bytes_max` (at least one, where there is one), with
    /// one lock; gives their weight.
    pub fn drain(&self, bytes_max: usize, into: &mut Vec<T>) -> usize {
        let mut state = self.shared.lock();
        let mut taken_bytes = 0;
        while taken_bytes < bytes_max.max(1) {
            let bytes_before = state.bytes;
            let Some(item) = state.pop() else { break };
            taken_bytes += bytes_before - state.bytes;
            into.push(item);
        }
        let woken = self.shared.room_made(&mut state);
        drop(state);
        wake(woken);
        taken_bytes
    }

    /// Called when data appears on an empty queue, or when the last sender goes away.
    pub fn set_waker(&self, waker: Waker) {
        self.shared.lock().receiver_waker = Some(waker);
    }

    /// Whether nothing is left and nothing can come.
    pub fn is_closed(&self) -> bool {
        let state = self.shared.lock();
        state.items.is_empty() && state.senders == 0
    }

    /// The weight of what waits in the queue.
    pub fn bytes(&self) -> usize {
        self.shared.lock().bytes
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Received<T> {
        let mut state = self.shared.lock();
        loop {
            if let Some(item) = state.pop() {
                let woken = self.shared.room_made(&mut state);
                drop(state);
                wake(woken);
                return Received::Item(item);
            }
            if state.senders == 0 {
                return Received::Closed;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Received::Timeout;
            }
            state.receiver_asleep = true;
            state = match left {
                Some(left) => {
                    self.shared.data.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.data.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.receiver_asleep = false;
        }
    }
}

impl<T: Weigh> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.receiver_gone = true;
        state.bytes = 0;
        let left = std::mem::take(&mut state.items);
        let woken = state.sender_waker.clone();
        drop(state);
        drop(left);
        self.shared.room.notify_all();
        wake(woken);
    }
}

impl<T: Weigh> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock half-way through a change, so a poisoned
        // state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes senders that sleep; gives the waker of those that were refused.
    fn room_made(&self, state: &mut State<T>) -> Option<Waker> {
        if !state.items.is_empty() && state.bytes >= self.bytes_max {
            return None;
        }
        if state.senders_asleep > 0 {
            self.room.notify_all();
        }
        if std::mem::take(&mut state.refused) { state.sender_waker.clone() } else { None }
    }
}

impl<T: Weigh> State<T> {
    fn has_room(&self, weight: usize, bytes_max: usize) -> bool {
        self.items.is_empty() || self.bytes + weight <= bytes_max
    }

    fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        // Saturating, so that an item whose weight changed on the way cannot wrap the count.
        self.bytes = self.bytes.saturating_sub(item.weight());
        Some(item)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker();
    }
}

#[cfg(test)]
mod tests;

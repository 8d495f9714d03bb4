//! How much of functions' time a job, and the jobs of a tenant together, may use: so many seconds a second.
//!
//! ```text
//!   request ── begin ──► allowances of the job and of its tenant ── all have some left ──► it is made ── end
//!                 ▲                       │ used up: it waits
//!                 └── woken by an end ◄───'
//! ```
//! Time is spent while a request is under way, so two seconds a second are two requests at a time, however long they
//! take; half a second is one, half of the time. What is not used is kept, up to a second's worth.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::queue::Waker;

/// Why a call was not made in time.
pub(super) const USED_UP: &str = "the functions' time that its job or tenant may use was used up";
/// When to look again where only the end of a request helps, which wakes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Functions' time, shared by all that draw on it.
#[derive(Debug)]
pub struct Allowance {
    /// Seconds a second.
    rate: f64,
    state: Mutex<State>,
}

struct State {
    /// When the level was true.
    at: Option<Instant>,
    /// Seconds that are left.
    level: f64,
    /// Requests under way.
    running: u32,
    /// Who was refused since the last one ended.
    refused: Vec<Waker>,
}

impl Allowance {
    /// So many seconds a second.
    pub fn new(rate: f64) -> Self {
        let state = State { at: None, level: rate, running: 0, refused: Vec::new() };
        Self { rate, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait before a request may begin; none where one may now.
    fn wait(&self, state: &mut State, now: Instant) -> Option<Duration> {
        state.settle(self.rate, now);
        let free = self.rate - f64::from(state.running);
        match () {
            // A part of a second a second is had by one request more, for a part of the time.
            () if free <= 0.0 => Some(LOOK_AGAIN),
            () if state.level > 0.0 => None,
            // A moment more than it takes to have some.
            () => Some(Duration::from_secs_f64((1e-3 - state.level) / free).min(LOOK_AGAIN)),
        }
    }

    /// A request has ended.
    fn end(&self, now: Instant) {
        let mut state = self.lock();
        state.settle(self.rate, now);
        state.running -= 1;
        let refused = std::mem::take(&mut state.refused);
        drop(state);
        refused.iter().for_each(|wake| wake());
    }
}

impl State {
    /// Brings the level to this instant.
    fn settle(&mut self, rate: f64, now: Instant) {
        let passed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        self.level = (self.level + (rate - f64::from(self.running)) * passed).min(rate);
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("level", &self.level).field("running", &self.running).finish()
    }
}

/// Has a request begin where all of these have time left; else how long to wait, or until `wake` is called.
fn begin(allowances: &[Arc<Allowance>], now: Instant, wake: &Waker) -> Result<(), Duration> {
    // A job's own comes before its tenant's, so nobody waits for a lock while another waits for theirs.
    let mut states: Vec<_> = allowances.iter().map(|allowance| allowance.lock()).collect();
    let mut longest = None;
    for (allowance, state) in allowances.iter().zip(&mut states) {
        if let Some(wait) = allowance.wait(state, now) {
            longest = longest.max(Some(wait));
            if !state.refused.iter().any(|known| Arc::ptr_eq(known, wake)) {
                state.refused.push(wake.clone());
            }
        }
    }
    match longest {
        Some(wait) => Err(wait),
        None => {
            states.iter_mut().for_each(|state| state.running += 1);
            Ok(())
        }
    }
}

/// What one function draws on, and has spent.
pub struct Meter {
    allowances: Mutex<Arc<[Arc<Allowance>]>>,
    wake: Waker,
    spent_us: AtomicU64,
    held: AtomicU64,
}

impl Meter {
    /// Without a bound. `wake` is called when it may be worth while to ask again; it may come at any time.
    pub(super) fn new(wake: Waker) -> Self {
        let (spent_us, held) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { allowances: Mutex::new(Arc::new([])), wake, spent_us, held }
    }

    /// From now on it draws on all of these: the job's own first, then its tenant's.
    pub fn draw_on(&self, allowances: &[Arc<Allowance>]) {
        *self.allowances() = allowances.into();
    }

    /// Time that its requests have taken.
    pub fn spent(&self) -> Duration {
        Duration::from_micros(self.spent_us.load(Ordering::Relaxed))
    }

    /// How often calls had to wait as the time was used up.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a request, where there is time for it; else how long to wait.
    pub(super) fn begin(self: &Arc<Self>) -> Result<Spending, Duration> {
        let (allowances, began) = (self.allowances().clone(), Instant::now());
        begin(&allowances, began, &self.wake)?;
        Ok(Spending { meter: self.clone(), allowances, began })
    }

    fn allowances(&self) -> MutexGuard<'_, Arc<[Arc<Allowance>]>> {
        self.allowances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way, until this is dropped.
pub(super) struct Spending {
    meter: Arc<Meter>,
    allowances: Arc<[Arc<Allowance>]>,
    began: Instant,
}

impl Drop for Spending {
    fn drop(&mut self) {
        let now = Instant::now();
        let spent_us = u64::try_from((now - self.began).as_micros()).unwrap_or(u64::MAX);
        self.meter.spent_us.fetch_add(spent_us, Ordering::Relaxed);
        self.allowances.iter().for_each(|allowance| allowance.end(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waker() -> (Waker, Arc<AtomicU64>) {
        let woken = Arc::new(AtomicU64::new(0));
        let count = woken.clone();
        (Arc::new(move || _ = count.fetch_add(1, Ordering::SeqCst)), woken)
    }

    /// Seconds of functions' time that are used in 100 s where requests of this length are always waiting.
    fn used(allowances: &[Arc<Allowance>], request: Duration) -> f64 {
        let (wake, _) = waker();
        let start = Instant::now();
        let (mut now, mut used, mut ends) = (start, 0.0, std::collections::BTreeSet::new());
        while now < start + Duration::from_secs(100) {
            let wait = loop {
                match begin(allowances, now, &wake) {
                    Ok(()) => {
                        used += request.as_secs_f64();
                        // Requests that began at one instant end a nanosecond apart.
                        ends.insert(now + request + Duration::from_nanos(ends.len() as u64));
                    }
                    Err(wait) => break wait,
                }
            };
            now = ends.first().map_or(now + wait, |end| (*end).min(now + wait));
            while let Some(end) = ends.first().filter(|end| **end <= now).copied() {
                allowances.iter().for_each(|allowance| allowance.end(end));
                ends.remove(&end);
            }
        }
        used
    }

    #[test]
    fn so_many_seconds_a_second_are_used_and_no_more() {
        for (rates, request_ms, expected) in [
            (&[2.0][..], 5, 200.0),
            (&[2.0], 10_000, 200.0),
            (&[0.5], 5, 50.0),
            (&[0.5], 3_000, 50.0),
            (&[2.5], 40, 250.0),
            (&[0.01], 20, 1.0),
            // The tighter one of a job and its tenant.
            (&[3.0, 1.0], 100, 100.0),
            (&[1.0, 3.0], 100, 100.0),
        ] {
            let allowances: Vec<_> = rates.iter().map(|rate| Arc::new(Allowance::new(*rate))).collect();
            let request = Duration::from_millis(request_ms);
            let used = used(&allowances, request);
            // What is kept at first, and the requests that are under way at the end, come on top.
            let most = expected + rates[0] + rates[0].ceil() * request.as_secs_f64();
            assert!((expected * 0.98..=most * 1.02).contains(&used), "{rates:?} {request_ms} ms: {used}");
        }
    }

    #[test]
    fn who_was_refused_is_woken_once_by_the_next_end() {
        let allowances = [Arc::new(Allowance::new(1.0)), Arc::new(Allowance::new(2.0))];
        let (now, (wake, woken)) = (Instant::now(), waker());
        assert_eq!(begin(&allowances, now, &wake), Ok(()));
        for _ in 0..3 {
            assert_eq!(begin(&allowances, now, &wake), Err(LOOK_AGAIN));
        }
        // Nothing is taken of the tenant's for what was refused by the job's own.
        assert_eq!(begin(&allowances[1..], now, &wake), Ok(()));
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        allowances.iter().for_each(|allowance| allowance.end(now));
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(begin(&allowances, now, &wake), Ok(()));
    }
}

//! Drives a simulated fleet in real time, on a thread of its own, through an MQTT sink.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use connectors::clock::Clock;
use connectors::message::MessageBatch;
use connectors::queue::Refused;
use connectors::sink::{SinkHandle, SinkStats};

use crate::fleet::{Fleet, FleetSettings};

/// How long the end waits for the broker to take what was sent.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// The longest the thread sleeps before it looks again.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A fleet that runs.
pub struct Simulation {
    signal: Arc<Signal>,
    counts: Arc<Counts>,
    stats: Arc<SinkStats>,
    thread: Option<JoinHandle<SinkHandle>>,
    start: Instant,
}

/// What a fleet has done.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Simulated {
    /// Messages that devices measured.
    pub measured: u64,
    /// Those lost on the way, as asked.
    pub lost: u64,
    /// Those that the broker took.
    pub published: u64,
    /// Those that it did not take in time.
    pub unpublished: u64,
    /// How long it ran.
    pub seconds: f64,
}

#[derive(Default)]
struct Counts {
    measured: AtomicU64,
    lost: AtomicU64,
}

/// Wakes the thread: there is room in the sink, or the end is asked for.
#[derive(Default)]
struct Signal {
    stop: AtomicBool,
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Signal {
    fn notify(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    fn wait(&self, timeout: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.wake.wait_timeout_while(woken, timeout, |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Simulation {
    /// Starts a fleet that publishes through `sink`.
    pub fn start(settings: FleetSettings, sink: SinkHandle, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let (signal, counts) = (Arc::new(Signal::default()), Arc::new(Counts::default()));
        let stats = sink.stats.clone();
        let waker = signal.clone();
        sink.set_waker(Arc::new(move || waker.notify()));
        let driver = Driver {
            fleet: Fleet::new(settings),
            sink,
            clock,
            signal: signal.clone(),
            counts: counts.clone(),
        };
        let start = Instant::now();
        let thread =
            std::thread::Builder::new().name("simulated-fleet".into()).spawn(move || driver.run(start))?;
        Ok(Self { signal, counts, stats, thread: Some(thread), start })
    }

    /// Whether the broker can be reached now.
    pub fn is_connected(&self) -> bool {
        self.stats.connected.load(Ordering::Relaxed)
    }

    /// How many messages the broker has taken.
    pub fn published(&self) -> u64 {
        self.stats.published.load(Ordering::Relaxed)
    }

    /// Ends the fleet, publishes what was sent, and says what it did.
    pub fn stop(mut self) -> Simulated {
        let seconds = self.start.elapsed().as_secs_f64();
        let closed = self.end().map(|sink| sink.close(CLOSE_WAIT));
        Simulated {
            measured: self.counts.measured.load(Ordering::Relaxed),
            lost: self.counts.lost.load(Ordering::Relaxed),
            published: closed.map_or(0, |closed| closed.published),
            unpublished: closed.map_or(0, |closed| closed.unpublished),
            seconds,
        }
    }

    fn end(&mut self) -> Option<SinkHandle> {
        self.signal.stop.store(true, Ordering::Release);
        self.signal.notify();
        self.thread.take()?.join().ok()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread works with.
struct Driver {
    fleet: Fleet,
    sink: SinkHandle,
    clock: Arc<dyn Clock>,
    signal: Arc<Signal>,
    counts: Arc<Counts>,
}

impl Driver {
    fn run(mut self, start: Instant) -> SinkHandle {
        let elapsed_us = || i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX);
        while !self.signal.stop.load(Ordering::Acquire) {
            let mut batch = MessageBatch::default();
            self.fleet.advance(elapsed_us(), self.clock.wall_us(), &mut batch);
            self.counts.measured.store(self.fleet.measured(), Ordering::Relaxed);
            self.counts.lost.store(self.fleet.lost(), Ordering::Relaxed);
            if !batch.is_empty() && !self.offer(batch) {
                break;
            }
            let wait_us = match self.fleet.next_due_us() {
                Some(due_us) => u64::try_from(due_us - elapsed_us()).unwrap_or(0),
                None => u64::MAX,
            };
            if wait_us > 0 {
                self.signal.wait(Duration::from_micros(wait_us).min(WAIT_MAX));
            }
        }
        self.sink
    }

    /// Waits for room where the broker is slower than the fleet; `false` when there will be none.
    fn offer(&self, batch: MessageBatch) -> bool {
        let mut refused = self.sink.offer(batch);
        loop {
            match refused {
                Ok(()) => return true,
                Err(Refused::Closed(_)) => return false,
                Err(Refused::Full(_)) if self.signal.stop.load(Ordering::Acquire) => return false,
                Err(Refused::Full(batch)) => {
                    self.signal.wait(WAIT_MAX);
                    refused = self.sink.offer(batch);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use connectors::clock::SystemClock;
    use connectors::file::{self, FileSettings};

    use super::*;

    #[test]
    fn what_is_measured_is_published() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("out.jsonl");
        let sink = file::sink::start("out", &FileSettings::new(&path)).expect("the sink starts");
        let settings =
            FleetSettings { twins: 50, period: Duration::from_millis(1), ..FleetSettings::default() };
        let simulation = Simulation::start(settings, sink, Arc::new(SystemClock)).expect("the thread starts");
        while simulation.published() < 100 {
            std::thread::yield_now();
        }
        let simulated = simulation.stop();
        let lines = std::fs::read_to_string(&path).expect("the file is there").lines().count() as u64;
        assert_eq!((simulated.unpublished, simulated.lost), (0, 0));
        assert_eq!((simulated.measured, simulated.published), (lines, lines));
    }
}

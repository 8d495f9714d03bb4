//! Messages at an even pace that carry a number, and how long each took until it was seen again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use connectors::message::MessageBatch;

/// Numbered messages on their way. Shared by who sends and who sees.
#[derive(Clone)]
pub struct Paced {
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    per_second: u64,
    /// When each was sent, nanoseconds since the start; 0 where it was not.
    sent_ns: Box<[AtomicU64]>,
    delays_us: Mutex<Vec<f64>>,
}

/// What the messages took, in microseconds.
pub struct Delays {
    /// How many were sent and are judged.
    pub sent: u64,
    sorted_us: Vec<f64>,
}

impl Paced {
    /// `seconds` of this many messages a second, and one second before that is not judged.
    pub fn new(per_second: u64, seconds: u64) -> Self {
        let sent_ns = (0..per_second * (seconds + 1)).map(|_| AtomicU64::new(0)).collect();
        let delays_us = Mutex::new(Vec::with_capacity((per_second * seconds) as usize));
        Self { shared: Arc::new(Shared { start: Instant::now(), per_second, sent_ns, delays_us }) }
    }

    /// How many messages there are.
    pub fn count(&self) -> u64 {
        self.shared.sent_ns.len() as u64
    }

    /// Waits until the message with this number is due, counted from `first`.
    pub fn wait(&self, first: Instant, number: u64) {
        let due = first + Duration::from_nanos(number * 1_000_000_000 / self.shared.per_second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }

    /// The paper's payload; the number is its energy, and comes back in the digital event.
    pub fn payload(&self, number: u64, wall_us: i64) -> String {
        let at_ms = wall_us.div_euclid(1_000);
        format!(
            r#"{{"timestamp":{at_ms},"type":"iot.sensor.state.aggregated","data":{{"iot.sensor.temperature":24.28,"iot.sensor.energy":{number}}}}}"#
        )
    }

    /// The message with this number leaves now.
    pub fn sent(&self, number: u64) {
        self.shared.sent_ns[number as usize].store(self.now_ns(), Ordering::Release);
    }

    /// A batch is seen now; its messages of other kinds do not count.
    pub fn see_batch(&self, batch: &MessageBatch) {
        let now_ns = self.now_ns();
        for message in batch.iter() {
            if message.topic.ends_with("/state") {
                self.see(message.payload, now_ns);
            }
        }
    }

    /// A payload is seen now, that of a device or a digital event.
    pub fn see_payload(&self, payload: &[u8]) {
        self.see(payload, self.now_ns());
    }

    /// What was seen.
    pub fn delays(&self) -> Delays {
        let mut sorted_us = self.shared.delays_us.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sorted_us.sort_by(f64::total_cmp);
        Delays { sent: self.count() - self.shared.per_second, sorted_us }
    }

    fn see(&self, payload: &[u8], now_ns: u64) {
        let Some(number) = number_of(payload).filter(|number| *number >= self.shared.per_second) else {
            return;
        };
        let sent_ns = self.shared.sent_ns.get(number as usize).map_or(0, |at| at.load(Ordering::Acquire));
        if sent_ns > 0 {
            let delay_us = now_ns.saturating_sub(sent_ns) as f64 / 1e3;
            self.shared.delays_us.lock().unwrap_or_else(PoisonError::into_inner).push(delay_us);
        }
    }

    fn now_ns(&self) -> u64 {
        self.shared.start.elapsed().as_nanos() as u64
    }
}

impl Delays {
    /// How many were seen.
    pub fn seen(&self) -> usize {
        self.sorted_us.len()
    }

    /// What this share of the messages took at most.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let place = (self.sorted_us.len() as f64 * share) as usize;
        self.sorted_us.get(place.min(self.sorted_us.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// The number after the key of the energy, in the device's payload or the digital event.
fn number_of(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, rest) = text.split_once(r#"energy":"#)?;
    let end = rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

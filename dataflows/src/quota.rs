//! How much of its input a job may have worked off, alone and together with the other jobs of its tenant; and what
//! becomes of input that is more. (Functions' time is an allowance of the functions that use it.)
//!
//! A quota is a bucket that fills at its rate and holds a second's worth. What is taken in one activation may
//! overdraw it, and nothing more is taken until it has filled again: so it is asked once an activation, and what
//! goes through is right on average.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use connectors::function::Allowance;

/// Most of each a second; without a bound where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Messages.
    pub messages: Option<f64>,
    /// Bytes of topics and payloads.
    pub bytes: Option<f64>,
    /// Seconds of the time of functions outside.
    pub functions: Option<f64>,
}

/// What becomes of input that is more than a job may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overload {
    /// It waits where it comes from (back-pressure).
    #[default]
    Wait,
    /// Of each twin the newest message is kept, and older ones that wait are dropped.
    NewestPerTwin,
    /// It is dropped.
    Shed,
}

/// A bucket, shared by all lanes that draw on it.
#[derive(Debug)]
pub struct Quota {
    rates: Rates,
    levels: Mutex<Levels>,
    functions: Option<Arc<Allowance>>,
}

#[derive(Debug)]
struct Levels {
    at: Option<Instant>,
    messages: f64,
    bytes: f64,
}

impl Quota {
    /// A full bucket.
    pub fn new(rates: Rates) -> Self {
        let full = |rate: Option<f64>| rate.unwrap_or(0.0);
        let levels = Levels { at: None, messages: full(rates.messages), bytes: full(rates.bytes) };
        let functions = rates.functions.map(|rate| Arc::new(Allowance::new(rate)));
        Self { rates, levels: Mutex::new(levels), functions }
    }

    /// What functions outside draw on, where that is bounded.
    pub fn functions(&self) -> Option<&Arc<Allowance>> {
        self.functions.as_ref()
    }

    /// How long to wait until something may be taken; zero where it may be now.
    fn wait(&self, now: Instant) -> Duration {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = levels.at.replace(now).map_or(0.0, |at| (now - at).as_secs_f64());
        let Levels { messages, bytes, .. } = &mut *levels;
        let mut wait: f64 = 0.0;
        for (rate, level) in [(self.rates.messages, messages), (self.rates.bytes, bytes)] {
            let Some(rate) = rate else { continue };
            *level = (*level + rate * passed).min(rate);
            if *level <= 0.0 {
                // A moment more than it takes to be empty no longer.
                wait = wait.max((-*level + rate * 1e-3) / rate);
            }
        }
        Duration::from_secs_f64(wait)
    }

    /// How many messages may be taken, as far as they are counted.
    fn messages(&self) -> usize {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        self.rates.messages.map_or(usize::MAX, |_| levels.messages.ceil().max(0.0) as usize)
    }

    fn take(&self, messages: usize, bytes: usize) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.messages -= messages as f64;
        levels.bytes -= bytes as f64;
    }
}

/// The quotas that a lane draws on: the job's own, and its tenant's.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    quotas: Vec<Arc<Quota>>,
    /// What becomes of input that is more.
    pub overload: Overload,
}

impl Quotas {
    /// These, and what becomes of input that is more.
    pub fn new(quotas: Vec<Arc<Quota>>, overload: Overload) -> Self {
        Self { quotas, overload }
    }

    /// Whether there is no bound.
    pub fn are_none(&self) -> bool {
        self.quotas.is_empty()
    }

    /// What functions outside draw on.
    pub fn functions(&self) -> Vec<Arc<Allowance>> {
        self.quotas.iter().filter_map(|quota| quota.functions().cloned()).collect()
    }

    /// How long to wait until something may be taken; zero where it may be now.
    pub fn wait(&self, now: Instant) -> Duration {
        self.quotas.iter().map(|quota| quota.wait(now)).max().unwrap_or_default()
    }

    /// How many messages may be taken now, as far as they are counted.
    pub fn messages(&self) -> usize {
        self.quotas.iter().map(|quota| quota.messages()).min().unwrap_or(usize::MAX)
    }

    /// Notes what was taken.
    pub fn take(&self, messages: usize, bytes: usize) {
        self.quotas.iter().for_each(|quota| quota.take(messages, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_right_on_average() {
        let start = Instant::now();
        for (messages, bytes, each, expected) in [
            (Some(100.0), None, (10, 1_000), 100.0),
            (None, Some(1_000.0), (10, 100), 100.0),
            (Some(100.0), Some(500.0), (10, 100), 50.0),
            // One activation takes more than a second's worth.
            (Some(100.0), None, (1_000, 1_000), 100.0),
        ] {
            let quotas = Quotas::new(
                vec![Arc::new(Quota::new(Rates { messages, bytes, ..Rates::default() }))],
                Overload::Wait,
            );
            let (mut now, mut taken) = (start, 0);
            let until = start + Duration::from_secs(100);
            while now < until {
                match quotas.wait(now) {
                    Duration::ZERO => {
                        quotas.take(each.0, each.1);
                        taken += each.0;
                    }
                    wait => now += wait,
                }
            }
            let rate = taken as f64 / 100.0;
            // What the bucket holds at first, or the last overdraft, comes on top.
            assert!((expected..=expected * 1.11).contains(&rate), "{messages:?} {bytes:?}: {rate} a second");
        }
    }

    #[test]
    fn the_tightest_of_several_counts() {
        let of = |messages: f64| Arc::new(Quota::new(Rates { messages: Some(messages), ..Rates::default() }));
        let quotas = Quotas::new(vec![of(100.0), of(10.0)], Overload::Wait);
        let now = Instant::now();
        assert_eq!(quotas.wait(now), Duration::ZERO);
        quotas.take(20, 0);
        assert!(quotas.wait(now) > Duration::from_millis(900));
        assert_eq!((quotas.messages(), Quotas::default().messages()), (0, usize::MAX));
        assert!(Quotas::default().are_none() && Quotas::default().wait(now) == Duration::ZERO);
    }
}

//! Resident bytes a twin: a million twins with ids of 16 bytes, three properties, one window of
//! updates at 0.2/s, no stateful function.
//!
//! The clock is virtual: it runs through two windows as fast as the engine follows, so that every
//! window is full and has slid.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;

use std::sync::{Arc, OnceLock};

use common::{BATCH, Job, Messages, argument, resident_bytes};
use connectors::clock::{Clock, ManualClock};
use connectors::memory;
use connectors::message::RawMessage;
use dataflows::{Metrics, RunOptions};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seconds between two updates of a twin.
const PERIOD_US: i64 = 5_000_000;

fn main() {
    let twins: usize = argument("--twins").map_or(1_000_000, |text| text.parse().expect("a number"));
    let rounds: u64 = argument("--rounds").map_or(24, |text| text.parse().expect("a number"));
    let messages = Arc::new(Messages::new(twins, 10_000));
    let job = Job {
        entanglement: r#"{"window": "60s", "desired_timeliness": "1s", "clock": {"behind_max": "3650d"}}"#
            .into(),
        rate: "0.2/s".into(),
        augmentation: r#"{"temperature_f": {"linear": {"of": "temperature", "factor": 1.8, "offset": 32}}}"#
            .into(),
        ..Job::default()
    };
    let before = resident_bytes();
    let start_us = connectors::clock::SystemClock.wall_us();
    let clock = ManualClock::new(start_us);
    let (hand, count) = (clock.clone(), twins as u64 * rounds);
    let handled: Arc<OnceLock<Arc<Metrics>>> = Arc::default();
    let follows = handled.clone();
    let measured = Arc::new(AtomicBool::new(false));
    let until = measured.clone();
    let plan = job.plan(
        move |port| {
            let behind = move |number| {
                let handled = follows.get().map_or(0, |metrics| metrics.events.load(Ordering::Relaxed));
                handled + 16_384 < number
            };
            let batches = (0..count.div_ceil(BATCH)).map(move |batch| {
                // What waits in queues is no twin's memory: the engine is never far behind.
                while behind(batch * BATCH) {
                    std::thread::sleep(Duration::from_micros(100));
                }
                let now_us = start_us + (batch * BATCH) as i64 * PERIOD_US / twins as i64;
                hand.set(now_us);
                let numbers = batch * BATCH..count.min((batch + 1) * BATCH);
                numbers.map(|number| messages.message(number, now_us)).collect()
            });
            memory::source("memory", port.lanes, port.lane_of, batches.chain(wait_for(until)))
        },
        || memory::sink("memory", |_| {}),
        None,
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = RunOptions { clock: Arc::new(clock), ..RunOptions::new(1, folder.path().join("data")) };
    let run = dataflows::start(plan, options).expect("the run starts");
    // Set once, here.
    let _ = handled.set(run.metrics());
    while run.metrics().events.load(Ordering::Relaxed) < count {
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = resident_bytes();
    let survey = run.survey(Duration::from_secs(60)).expect("the workers answer");
    println!(
        "{twins} twins, {rounds} updates each: {:.0} MB resident, {:.0} bytes a twin (promised 450; {:.0} with the process itself); phases {:?}",
        after as f64 / 1e6,
        (after - before) as f64 / twins as f64,
        after as f64 / twins as f64,
        survey.phases,
    );
    measured.store(true, Ordering::Release);
    run.wait().expect("the run ends well");
}

/// Yields nothing, and ends when all is measured: the twins stay as they are until then.
fn wait_for(measured: Arc<AtomicBool>) -> impl Iterator<Item = Vec<RawMessage>> {
    std::iter::from_fn(move || {
        while !measured.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    })
}

//! Resident bytes a twin: a million twins with ids of 16 bytes, three properties, one window of
//! updates at 0.2/s, no stateful function.
//!
//! The clock is virtual: it runs through two windows as fast as the engine follows, so that every
//! window is full and has slid.

mod common;

use std::sync::{Arc, OnceLock};

use common::{Job, Messages, argument, resident_bytes};
use connectors::clock::{Clock, ManualClock};
use connectors::memory;
use dataflows::{Metrics, RunOptions};
use std::sync::atomic::Ordering;
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
        entanglement: r#"{"window": "60s", "desired_timeliness": "1s", "clock": {"behind_max": "3650d"}}"#.into(),
        rate: "0.2/s".into(),
        augmentation: r#"{"temperature_f": {"linear": {"of": "temperature", "factor": 1.8, "offset": 32}}}"#.into(),
    };
    let before = resident_bytes();
    let start_us = connectors::clock::SystemClock.wall_us();
    let clock = ManualClock::new(start_us);
    let (hand, count) = (clock.clone(), twins as u64 * rounds);
    let handled: Arc<OnceLock<Arc<Metrics>>> = Arc::default();
    let follows = handled.clone();
    let plan = job.plan(
        move |port| {
            let stream = (0..count).map(move |number| {
                // What waits in queues is no twin's memory: the engine is never far behind.
                while number % 1_024 == 0 && follows.get().is_some_and(|metrics| metrics.events.load(Ordering::Relaxed) + 16_384 < number) {
                    std::thread::yield_now();
                }
                let now_us = start_us + (number as i64) * PERIOD_US / twins as i64;
                hand.set(now_us);
                messages.message(number, now_us)
            });
            memory::source("memory", port.lanes, port.lane_of, stream.chain(wait()))
        },
        || memory::sink("memory", |_| {}),
        None,
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = RunOptions {
        workers: 1,
        data: folder.path().join("data"),
        cluster: None,
        clock: Arc::new(clock),
    };
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
    run.stopper().stop();
    run.wait().expect("the run ends well");
}

/// Yields nothing until the process ends: the twins stay as they are while they are measured.
fn wait() -> impl Iterator<Item = connectors::message::RawMessage> {
    std::iter::from_fn(|| {
        std::thread::sleep(Duration::from_secs(3));
        None
    })
}

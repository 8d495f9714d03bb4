//! How long an event takes, and what silence costs.
//!
//! ```text
//!  in process:  hand-over ─► queue ─► worker, five steps ─► queue ─► thread of the sink
//!  by MQTT:     device ─► mosquitto ─► source ─► worker, five steps ─► sink ─► mosquitto ─► subscriber
//!  beside checkpoints: as in process, of a fleet of which 5 % change between two checkpoints
//!  silence:     a million twins that were heard once and are Unbound; CPU time of the process
//! ```
//!
//! Beside the first two stands the same way without the engine: queues and threads alone, broker and
//! clients alone. What a noisy machine adds, it adds to both. Device and subscriber are this
//! project's own clients, and their threads are part of what is measured.

#[path = "common/broker.rs"]
mod broker;
#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;
#[path = "common/paced.rs"]
mod paced;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use broker::{Broker, until};
use bytes::Bytes;
use common::{BATCH, Job, Messages, argument, cpu_seconds};
use connectors::clock::{Clock, SystemClock};
use connectors::memory;
use connectors::message::{Intake, MessageBatch, RawMessage};
use connectors::mqtt;
use connectors::queue;
use connectors::sink::SinkHandle;
use connectors::source::{SourceHandle, SourceSetup};
use dataflows::plan::Plan;
use dataflows::{Percentiles, Run, RunOptions};
use paced::{Delays, Paced};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events a second, of as many twins.
const PER_SECOND: u64 = 1_000;

fn main() {
    let seconds: u64 = argument("--seconds").map_or(20, |text| text.parse().expect("a number"));
    let runs: usize = argument("--runs").map_or(3, |text| text.parse().expect("a number"));
    let twins: usize = argument("--twins").map_or(1_000_000, |text| text.parse().expect("a number"));
    let only = argument("--only");
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    println!("{PER_SECOND} events/s of {PER_SECOND} twins, {runs} runs of {seconds} s; microseconds");
    for _ in 0..runs {
        if wanted("memory") {
            show("in process, queues and threads alone", &queues_alone(seconds.div_ceil(4)), "");
            show("in process", &in_process(seconds), "p50 < 50, p99 < 1000");
        }
        if wanted("mqtt") {
            let broker = Broker::start();
            show("by MQTT, broker and clients alone", &broker_alone(&broker, seconds.div_ceil(4)), "");
            show("by MQTT, device to subscriber", &by_mqtt(&broker, seconds), "p50 < 2000");
        }
    }
    if wanted("checkpoint") {
        let messages = Arc::new(Messages::new(twins, 1));
        for _ in 0..runs {
            for interval in [None, Some(Duration::from_secs(10))] {
                let name = if interval.is_some() { "with" } else { "without" };
                let delays = beside_checkpoints(&messages, twins as u64, interval, seconds.max(35));
                show(&format!("{twins} twins, {name} checkpoints"), &delays, "");
            }
        }
    }
    if wanted("silence") {
        silence(twins, Duration::from_secs(10));
    }
}

/// The paper's job, of which every twin speaks once a second: 60 s of silence unbind it.
fn job() -> Job {
    Job { rate: "1/s".into(), ..Job::default() }
}

fn show(name: &str, delays: &Delays, promised: &str) {
    let promised = if promised.is_empty() { String::new() } else { format!("  promised {promised}") };
    println!(
        "{name:<38} p50 {:>7.0}  p90 {:>7.0}  p99 {:>7.0}  most {:>8.0}  {} of {} seen{promised}",
        delays.quantile_us(0.5),
        delays.quantile_us(0.9),
        delays.quantile_us(0.99),
        delays.quantile_us(1.0),
        delays.seen(),
        delays.sent,
    );
}

/// From a memory source to a memory sink.
fn in_process(seconds: u64) -> Delays {
    let paced = Paced::new(PER_SECOND, seconds);
    let (sent, seen) = (paced.clone(), paced.clone());
    let plan = job().plan(
        move |port| {
            let first = Instant::now();
            let batches = (0..sent.count()).map(move |number| {
                sent.wait(first, number);
                let batch = vec![message(&sent, number, PER_SECOND)];
                sent.sent(number);
                batch
            });
            memory::source("memory", port.lanes, port.lane_of, batches)
        },
        move || memory::sink("memory", move |batch| seen.see_batch(batch)),
        None,
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let summary = start(plan, &folder, Arc::new(SystemClock)).wait().expect("the run ends well");
    if let Some(survey) = summary.survey {
        let Percentiles { p50, p99 } = survey.compute_ms;
        println!("in process, as far as the twin           p50 {:>7.0}  p99 {:>7.0}", p50 * 1e3, p99 * 1e3);
    }
    paced.delays()
}

/// 5 % of a fleet speak once in 10 s each, so many are dirty at each checkpoint; the first one is full.
fn beside_checkpoints(
    messages: &Arc<Messages>,
    twins: u64,
    interval: Option<Duration>,
    seconds: u64,
) -> Delays {
    let busy = twins / 20;
    let paced = Paced::new(busy / 10, seconds);
    let (sent, seen, all) = (paced.clone(), paced.clone(), messages.clone());
    let plan = Job { rate: "0.1/s".into(), interval, ..Job::default() }.plan(
        move |port| {
            let warm = (0..twins.div_ceil(BATCH)).map(move |batch| {
                let numbers = batch * BATCH..twins.min((batch + 1) * BATCH);
                numbers.map(|number| all.message(number, SystemClock.wall_us())).collect()
            });
            let mut first = None;
            let batches = (0..sent.count()).map(move |number| {
                sent.wait(*first.get_or_insert_with(Instant::now), number);
                let batch = vec![message(&sent, number, busy)];
                sent.sent(number);
                batch
            });
            memory::source("memory", port.lanes, port.lane_of, warm.chain(batches))
        },
        move || memory::sink("memory", move |batch| seen.see_batch(batch)),
        None,
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    start(plan, &folder, Arc::new(SystemClock)).wait().expect("the run ends well");
    paced.delays()
}

/// The same threads and queues, and nothing in the middle: what the machine takes to wake two
/// threads one after the other.
fn queues_alone(seconds: u64) -> Delays {
    let paced = Paced::new(PER_SECOND, seconds);
    let (sender, middle) = queue::bounded::<Intake>(1 << 20);
    let seen = paced.clone();
    let sink = memory::sink("memory", move |batch| seen.see_batch(batch)).expect("the thread starts");
    let worker = std::thread::spawn(move || {
        while let Some(Intake::Message(message)) = middle.recv() {
            let mut batch = MessageBatch::default();
            assert!(batch.push("t/state", &message.payload, false), "one message fits");
            sink.offer(batch).expect("there is room");
        }
        sink.close(Duration::from_secs(10));
    });
    let first = Instant::now();
    for number in 0..paced.count() {
        paced.wait(first, number);
        let message = Intake::Message(message(&paced, number, PER_SECOND));
        paced.sent(number);
        sender.send(message).expect("the worker lives");
    }
    drop(sender);
    worker.join().expect("the worker ends well");
    paced.delays()
}

fn message(paced: &Paced, number: u64, twins: u64) -> RawMessage {
    let arrived_at_us = SystemClock.wall_us();
    RawMessage {
        position: number + 1,
        arrived_at_us,
        topic: Bytes::from(topic(number, twins)),
        payload: Bytes::from(paced.payload(number, arrived_at_us)),
        ..RawMessage::default()
    }
}

fn topic(number: u64, twins: u64) -> String {
    format!("device/plant-7-p{:07}/telemetry/device_state", number % twins)
}

/// From a device through mosquitto, the engine and mosquitto to a subscriber, at QoS 0.
fn by_mqtt(broker: &Broker, seconds: u64) -> Delays {
    let (from, to) = (broker.settings(0), broker.settings(0));
    let plan = job().plan(
        move |setup| mqtt::source::start(setup, &from, "bench-source").map_err(std::io::Error::other),
        move || mqtt::sink::start("memory", &to, "bench-sink").map_err(std::io::Error::other),
        None,
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = start(plan, &folder, Arc::new(SystemClock));
    let metrics = run.metrics();
    let is_connected = || {
        metrics.sources().iter().all(|(_, stats)| stats.connected.load(Ordering::Relaxed))
            && metrics.sinks().iter().all(|(_, stats)| stats.connected.load(Ordering::Relaxed))
    };
    until("the engine to connect", is_connected);
    let delays = publish(broker, seconds, "twins/bench/+/state");
    run.stopper().stop();
    run.wait().expect("the run ends well");
    delays
}

/// From a device through mosquitto to a subscriber, once and not twice.
fn broker_alone(broker: &Broker, seconds: u64) -> Delays {
    publish(broker, seconds, "device/+/telemetry/device_state")
}

/// Publishes as the devices do, and sees what comes to a subscriber of `filter`.
fn publish(broker: &Broker, seconds: u64, filter: &str) -> Delays {
    let paced = Paced::new(PER_SECOND, seconds);
    let settings = broker.settings(0);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let setup = SourceSetup::new("subscriber", &[filter], folder.path());
    let mut subscriber: SourceHandle =
        mqtt::source::start(setup, &settings, "bench-subscriber").expect("the subscriber starts");
    let device: SinkHandle =
        mqtt::sink::start("device", &settings, "bench-device").expect("the device starts");
    let lane = subscriber.lanes.remove(0);
    let seen = paced.clone();
    let listener = std::thread::spawn(move || {
        while let Some(item) = lane.recv() {
            if let Intake::Message(message) = item {
                seen.see_payload(&message.payload);
            }
        }
    });
    until("device and subscriber to connect", || {
        [&subscriber.stats.connected, &device.stats.connected].iter().all(|it| it.load(Ordering::Relaxed))
    });
    let first = Instant::now();
    for number in 0..paced.count() {
        paced.wait(first, number);
        let payload = paced.payload(number, SystemClock.wall_us());
        let mut batch = MessageBatch::default();
        assert!(batch.push(&topic(number, PER_SECOND), payload.as_bytes(), false), "one message fits");
        paced.sent(number);
        device.offer(batch).expect("there is room");
    }
    device.close(Duration::from_secs(10));
    // What is on its way arrives, or never does.
    std::thread::sleep(Duration::from_millis(500));
    drop(subscriber);
    listener.join().expect("the subscriber ends well");
    paced.delays()
}

/// CPU time of a million twins of which nothing is heard, one window after their last update.
fn silence(twins: usize, measured: Duration) {
    let messages = Arc::new(Messages::new(twins, 10_000));
    let clock = Arc::new(AheadClock::default());
    let (end, ended) = mpsc::channel::<()>();
    let now = clock.clone();
    let plan = job().plan(
        move |port| {
            let count = twins as u64;
            let batches = (0..count.div_ceil(BATCH)).map(move |batch| {
                let now_us = now.wall_us();
                let numbers = batch * BATCH..count.min((batch + 1) * BATCH);
                numbers.map(|number| messages.message(number, now_us)).collect()
            });
            // The source stays, and is asleep until all is measured.
            let silent = std::iter::from_fn(move || ended.recv().ok().map(|()| Vec::new()));
            memory::source("memory", port.lanes, port.lane_of, batches.chain(silent))
        },
        || memory::sink("memory", |_| {}),
        None,
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = start(plan, &folder, clock.clone());
    let metrics = run.metrics();
    until("all twins to be heard", || metrics.events.load(Ordering::Relaxed) == twins as u64);
    // The window is 60 s, and so is the silence that unbinds.
    clock.ahead_us.store(61_000_000, Ordering::SeqCst);
    until("all twins to be unbound", || metrics.phases[0].load(Ordering::Relaxed) == twins as i64);
    // What was begun is ended before it is measured.
    std::thread::sleep(Duration::from_secs(1));
    let (before, start) = (cpu_seconds(), Instant::now());
    std::thread::sleep(measured);
    let share = (cpu_seconds() - before) / start.elapsed().as_secs_f64();
    let phases = run.survey(Duration::from_secs(60)).map(|survey| survey.phases);
    println!("{twins} silent twins: {:.3} % of a core  promised < 1 %  phases {phases:?}", share * 100.0);
    drop(end);
    run.wait().expect("the run ends well");
}

/// The machine's clock, moved ahead.
#[derive(Default)]
struct AheadClock {
    ahead_us: AtomicI64,
}

impl Clock for AheadClock {
    fn wall_us(&self) -> i64 {
        SystemClock.wall_us() + self.ahead_us.load(Ordering::SeqCst)
    }
}

fn start(plan: Plan, folder: &tempfile::TempDir, clock: Arc<dyn Clock>) -> Run {
    let options = RunOptions { clock, ..RunOptions::new(1, folder.path().join("data")) };
    dataflows::start(plan, options).expect("the run starts")
}

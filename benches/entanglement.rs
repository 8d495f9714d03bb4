//! The paper's experiment: how entangled one device at 10 messages a second is, by how fresh it is
//! wanted (T_d), on the real way.
//!
//! ```text
//!  device, simulated ─► (delay, jitter) ─► mosquitto ─┬─► engine, T_d = 1 ms   ─► samples of ODTE
//!                                                     ├─► engine, T_d = 2.5 ms ─► ...
//!                                                     └─► ...
//! ```
//!
//! A twin has one T_d, so each has an engine of its own and all see the same messages. Devices write
//! whole milliseconds, cut off, so an update looks up to 1 ms older than it is, by about the same in
//! all of a run, as its period is whole milliseconds too: 1 and 2.5 ms are shown and not judged.

#[path = "common/broker.rs"]
mod broker;
#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::{Broker, until};
use common::{Job, argument};
use connectors::clock::SystemClock;
use connectors::memory;
use connectors::message::MessageBatch;
use connectors::mqtt;
use dataflows::{Percentiles, Run, RunOptions};
use jobs::fleet::FleetSettings;
use jobs::simulation::Simulation;
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One T_d, and what is said of it.
struct Case {
    desired_us: u64,
    /// What the project promises, or why it does not.
    promised: &'static str,
    /// What the paper's middleware (MDT) reaches.
    paper: &'static str,
}

const PLAIN: [Case; 6] = [
    Case { desired_us: 1_000, promised: "not judged", paper: "" },
    Case { desired_us: 2_500, promised: "not judged", paper: "" },
    Case { desired_us: 5_000, promised: ">= 0.99", paper: "" },
    Case { desired_us: 10_000, promised: "", paper: "entangled from about here" },
    Case { desired_us: 25_000, promised: "", paper: "entangled" },
    Case { desired_us: 50_000, promised: "", paper: "entangled" },
];

const DELAYED: [Case; 3] = [
    Case { desired_us: 25_000, promised: "disentangled", paper: "" },
    Case { desired_us: 100_000, promised: "", paper: "" },
    Case { desired_us: 200_000, promised: "entangled", paper: "" },
];

fn main() {
    let seconds: u64 = argument("--seconds").map_or(120, |text| text.parse().expect("a number"));
    let window: u64 = argument("--window").map_or(30, |text| text.parse().expect("a number"));
    let window = window.min(seconds / 2).max(1);
    println!(
        "one device at 10/s for {seconds} s through mosquitto, QoS 1; window {window} s, a sample a second"
    );
    let device = FleetSettings { twins: 1, period: Duration::from_millis(100), ..FleetSettings::default() };
    println!("\nno injected delay");
    measure(&PLAIN, device.clone(), window, seconds);
    println!("\ndelay 50 ms, jitter 50 ms, correlation 0.25");
    let ms = Duration::from_millis;
    let delayed = FleetSettings { delay: ms(50), jitter: ms(50), correlation: 0.25, ..device };
    measure(&DELAYED, delayed, window, seconds);
}

fn measure(cases: &[Case], device: FleetSettings, window: u64, seconds: u64) {
    let broker = Broker::start();
    let engines: Vec<Engine> = cases.iter().map(|case| Engine::start(&broker, case, window)).collect();
    until("the engines to connect", || engines.iter().all(Engine::is_connected));
    let sink = mqtt::sink::start("device", &broker.settings(1), "bench-device").expect("the device starts");
    until("the device to connect", || sink.stats.connected.load(Ordering::Relaxed));
    let simulation = Simulation::start(device, sink, Arc::new(SystemClock)).expect("the thread starts");
    std::thread::sleep(Duration::from_secs(seconds));
    simulation.stop();
    let heard: Vec<(Vec<Sample>, Percentiles)> = engines.into_iter().map(Engine::stop).collect();
    println!(
        "{:>7}  {:<15} {:<12} {:>6} {:>6} {:>8} {:>8} {:>8}  {:<12}  paper's MDT",
        "T_d, ms", "ODTE", "promised", "T", "R", "late p50", "p99, ms", "samples", "life cycle"
    );
    for (case, (samples, lateness)) in cases.iter().zip(heard) {
        // What was sampled before the window was full is no judgement of it.
        show(case, samples.get(window as usize + 1..).unwrap_or_default(), lateness);
    }
}

fn show(case: &Case, samples: &[Sample], lateness: Percentiles) {
    let mean = |part: fn(&Sample) -> f64| samples.iter().map(part).sum::<f64>() / samples.len() as f64;
    let odte = mean(|sample| sample.odte);
    let squares: f64 = samples.iter().map(|sample| (sample.odte - odte).powi(2)).sum();
    let deviation = (squares / (samples.len() as f64 - 1.0).max(1.0)).sqrt();
    println!(
        "{:>7}  {:<15} {:<12} {:>6.3} {:>6.3} {:>8.2} {:>8.2} {:>8}  {:<12}  {}",
        case.desired_us as f64 / 1e3,
        format!("{odte:.4} ± {deviation:.4}"),
        case.promised,
        mean(|sample| sample.timeliness),
        mean(|sample| sample.reliability),
        lateness.p50,
        lateness.p99,
        samples.len(),
        samples.last().map_or("", |sample| sample.lifecycle.as_str()),
        case.paper,
    );
}

/// An engine with one T_d.
struct Engine {
    run: Run,
    samples: Arc<Mutex<Vec<Sample>>>,
    _folder: TempDir,
}

/// One sample of the twin's entanglement.
struct Sample {
    odte: f64,
    timeliness: f64,
    reliability: f64,
    lifecycle: String,
}

impl Engine {
    fn start(broker: &Broker, case: &Case, window: u64) -> Self {
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let (settings, written) = (broker.settings(1), samples.clone());
        let desired_us = case.desired_us;
        let job = Job {
            entanglement: format!(
                r#"{{"window": "{window}s", "desired_timeliness": "{desired_us}us", "sample": "1s"}}"#
            ),
            rate: "10/s".into(),
            ..Job::default()
        };
        let plan = job.plan(
            move |setup| {
                let client_id = format!("bench-{desired_us}");
                mqtt::source::start(setup, &settings, &client_id).map_err(std::io::Error::other)
            },
            move || {
                memory::sink("memory", move |batch| {
                    written.lock().unwrap_or_else(PoisonError::into_inner).extend(samples_of(batch));
                })
            },
            None,
        );
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let options = RunOptions::new(1, data);
        let run = dataflows::start(plan, options).expect("the run starts");
        Self { run, samples, _folder: folder }
    }

    fn is_connected(&self) -> bool {
        let sources = self.run.metrics().sources();
        sources.iter().all(|(_, stats)| stats.connected.load(Ordering::Relaxed))
    }

    /// Its samples, and the lateness of all updates.
    fn stop(self) -> (Vec<Sample>, Percentiles) {
        self.run.stopper().stop();
        let summary = self.run.wait().expect("the run ends well");
        let samples = std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        (samples, summary.survey.map_or(Percentiles::default(), |survey| survey.lateness_ms))
    }
}

/// The samples among digital events: those are at whole seconds, while changes of the life cycle,
/// which announce ODTE too, come when they come.
fn samples_of(batch: &MessageBatch) -> Vec<Sample> {
    let events = batch.iter().filter(|message| message.topic.ends_with("/entanglement"));
    let events = events.map(|message| -> serde_json::Value {
        serde_json::from_slice(message.payload).expect("digital events are JSON")
    });
    let samples = events.filter(|event| event["at"].as_str().is_some_and(|at| at.ends_with(".000Z")));
    let number = |event: &serde_json::Value, key: &str| event[key].as_f64().unwrap_or(f64::NAN);
    let sample = |event: serde_json::Value| Sample {
        odte: number(&event, "odte"),
        timeliness: number(&event, "timeliness"),
        reliability: number(&event, "reliability"),
        lifecycle: event["lifecycle"].as_str().unwrap_or_default().to_owned(),
    };
    samples.map(sample).collect()
}

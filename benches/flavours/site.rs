//! A job that runs on a broker, and the devices that it hears.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use connectors::clock::{Clock, SystemClock};
use connectors::memory;
use connectors::message::MessageBatch;
use connectors::mqtt;
use connectors::sink::SinkHandle;
use dataflows::plan::Plan;
use dataflows::{Run, RunOptions, Survey};
use jobs::job::Job;
use tempfile::TempDir;

use crate::broker::{Broker, until};

/// What threads of the devices are called, so that their CPU can be told from the engine's.
pub const DEVICES: [&str; 2] = ["devices", "sink-devices"];
/// Messages of a device a second.
pub const PER_SECOND: u64 = 10;
/// How long workers may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A job file as the engine runs it.
pub fn plan(text: &str) -> Plan {
    Job::parse("flavours.yaml", text, None).unwrap_or_else(|findings| panic!("{findings:?}\n{text}")).plan()
}

/// A job that runs.
pub struct Site {
    pub run: Run,
    _folder: TempDir,
}

impl Site {
    /// Starts a job on its broker, and waits until it hears.
    pub fn start(plan: Plan, workers: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = RunOptions::new(workers, folder.path().join("data"));
        let run = dataflows::start(plan, options).expect("the run starts");
        let metrics = run.metrics();
        until("the engine to connect", || {
            metrics.sources().iter().all(|(_, stats)| stats.connected.load(Ordering::Relaxed))
                && metrics.sinks().iter().all(|(_, stats)| stats.connected.load(Ordering::Relaxed))
        });
        Self { run, _folder: folder }
    }

    /// How the fleet is.
    pub fn survey(&self) -> Survey {
        self.run.survey(ANSWER_MAX).expect("the workers answer")
    }

    /// Updates so far.
    pub fn events(&self) -> u64 {
        self.run.metrics().events.load(Ordering::Relaxed)
    }

    /// Calls that failed, which would make everything else a figure of something else.
    pub fn failures(&self) -> u64 {
        let functions = self.run.metrics().functions();
        functions.iter().map(|function| function.stats.failures.load(Ordering::Relaxed)).sum()
    }

    /// Ends it.
    pub fn end(self) {
        self.run.stopper().stop();
        self.run.wait().expect("the run ends well");
    }
}

/// Has a plan give its digital events to `each`, and not to its broker.
pub fn to_memory(plan: &mut Plan, each: impl FnMut(&MessageBatch) + Send + 'static) {
    plan.sinks[0].open = Box::new(move |_| Ok(memory::sink("memory", each)?.into()));
}

/// A client that publishes for devices.
pub fn publisher(broker: &Broker) -> SinkHandle {
    let sink = mqtt::sink::start("devices", &broker.settings(1), "bench-devices").expect("it starts");
    until("the devices to connect", || sink.stats.connected.load(Ordering::Relaxed));
    sink
}

/// Publishes a measurement of a device, made now.
pub fn publish(sink: &SinkHandle, device: &str, t: f64) {
    let topic = format!("device/{device}/telemetry/device_state");
    let at_us = SystemClock.wall_us();
    let payload = format!(
        r#"{{"timestamp":{at_us},"type":"iot.sensor.state.aggregated","data":{{"iot.sensor.temperature":{t:.2}}}}}"#
    );
    let mut batch = MessageBatch::default();
    assert!(batch.push(&topic, payload.as_bytes(), false), "one message fits");
    sink.offer(batch).expect("there is room");
}

/// Devices that speak evenly, until they are dropped.
pub struct Devices {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Devices {
    /// So many of them, [`PER_SECOND`] messages a second each.
    pub fn start(broker: &Broker, count: u64) -> Self {
        let (sink, is_over) = (publisher(broker), Arc::new(AtomicBool::new(false)));
        let over = is_over.clone();
        let body = move || {
            let first = Instant::now();
            for number in 0.. {
                let due = first + Duration::from_nanos(number * 1_000_000_000 / (PER_SECOND * count));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let t = 20.0 + (number * 37 % 1_000) as f64 / 100.0;
                publish(&sink, &format!("p-{}", number % count), t);
            }
            sink.close(Duration::from_secs(5));
        };
        let thread = std::thread::Builder::new().name(DEVICES[0].into()).spawn(body);
        Self { is_over, thread: Some(thread.expect("the system gives a thread")) }
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the devices end well");
        }
    }
}

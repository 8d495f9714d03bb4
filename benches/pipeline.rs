//! Messages of the paper's device from memory through all five steps, digital events encoded.
//!
//! Prints events per CPU second of the whole process, source and sink threads included. Median of
//! `--runs` (5), each with its own engine; what is compared runs in turn, so that a machine that
//! changes its pace changes both.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Gate, Job, Messages, argument, cpu_seconds, flood};
use connectors::archive::ArchiveSettings;
use connectors::memory;
use dataflows::RunOptions;
use dataflows::plan::ArchivePlan;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is measured.
struct Case {
    name: &'static str,
    twins: usize,
    workers: usize,
    archive: bool,
    /// Whether every twin was heard once before the clock starts.
    warm: bool,
    /// Between checkpoints; none is made meanwhile where there is none.
    interval: Option<Duration>,
    /// Events per CPU second that the project promises.
    promised: Option<f64>,
}

/// A case on one worker without an archive, of twins that were all heard before.
const BASE: Case = Case {
    name: "10,000 twins, 1 worker",
    twins: 10_000,
    workers: 1,
    archive: false,
    warm: true,
    interval: None,
    promised: Some(800e3),
};

const CASES: [Case; 6] = [
    BASE,
    Case { name: "10,000 twins, 2 workers", workers: 2, promised: None, ..BASE },
    Case { name: "1,000,000 twins, 1 worker", twins: 1_000_000, promised: Some(500e3), ..BASE },
    Case {
        name: "1,000,000 twins, each new at first",
        twins: 1_000_000,
        warm: false,
        promised: None,
        ..BASE
    },
    Case { name: "10,000 twins, 1 worker, archive", archive: true, promised: Some(400e3), ..BASE },
    Case {
        name: "10,000 twins, a checkpoint a second",
        interval: Some(Duration::from_secs(1)),
        promised: None,
        ..BASE
    },
];

struct Measured {
    per_cpu_second: f64,
    per_second: f64,
    bytes: u64,
}

fn measure(case: &Case, messages: &Arc<Messages>, count: u64) -> Measured {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let archive = case.archive.then(|| ArchivePlan {
        settings: ArchiveSettings {
            path: folder.path().join("archive"),
            roll: Default::default(),
            compression: Default::default(),
            retain: None,
        },
        physical: true,
    });
    let bytes = Arc::new(AtomicU64::new(0));
    let seen = bytes.clone();
    let sink = move || {
        memory::sink("memory", move |batch| {
            seen.fetch_add(batch.bytes.len() as u64, Ordering::Relaxed);
        })
    };
    let gate = Gate::default();
    let warm = if case.warm { case.twins as u64 } else { 0 };
    let job = Job { interval: case.interval, ..Job::default() };
    let plan = job.plan(flood(messages.clone(), warm, count, gate.clone()), sink, archive);
    let options = RunOptions::new(case.workers, folder.path().join("data"));
    let run = dataflows::start(plan, options).expect("the run starts");
    while run.metrics().events.load(Ordering::Relaxed) < warm {
        std::thread::sleep(Duration::from_millis(5));
    }
    let bytes_before = bytes.load(Ordering::Relaxed);
    let (before, start) = (cpu_seconds(), Instant::now());
    gate.open();
    while run.metrics().events.load(Ordering::Relaxed) < warm + count {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (cpu, seconds) = (cpu_seconds() - before, start.elapsed().as_secs_f64());
    let summary = run.wait().expect("the run ends well");
    assert_eq!(summary.events, warm + count, "every message is an event");
    Measured {
        per_cpu_second: count as f64 / cpu,
        per_second: count as f64 / seconds,
        bytes: (bytes.load(Ordering::Relaxed) - bytes_before) / count,
    }
}

/// The paper's message as plain structs.
#[derive(serde::Deserialize)]
struct Plain {
    timestamp: u64,
    data: PlainData,
}

#[derive(serde::Deserialize)]
struct PlainData {
    #[serde(rename = "iot.sensor.temperature")]
    temperature: f64,
    #[serde(rename = "iot.sensor.energy")]
    energy: f64,
}

/// CPU nanoseconds to parse a message and do nothing else: what this machine is worth right now.
fn parse_alone(messages: &Messages) -> f64 {
    const COUNT: u64 = 1_000_000;
    let before = cpu_seconds();
    let mut sum = 0.0;
    for number in 0..COUNT {
        let message = messages.message(number, 0);
        let plain: Plain = serde_json::from_slice(&message.payload).expect("it is well formed");
        sum += plain.timestamp as f64 + plain.data.temperature + plain.data.energy;
    }
    std::hint::black_box(sum);
    (cpu_seconds() - before) * 1e9 / COUNT as f64
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn main() {
    let count: u64 = argument("--messages").map_or(2_000_000, |text| text.parse().expect("a number"));
    let runs: usize = argument("--runs").map_or(5, |text| text.parse().expect("a number"));
    let only = argument("--only");
    let cases: Vec<&Case> =
        CASES.iter().filter(|case| only.as_ref().is_none_or(|only| case.name == only)).collect();
    let messages: Vec<Arc<Messages>> =
        cases.iter().map(|case| Arc::new(Messages::new(case.twins, 10_000))).collect();
    let mut measured: Vec<Vec<Measured>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..runs {
        for (index, case) in cases.iter().enumerate() {
            measured[index].push(measure(case, &messages[index], count));
        }
    }
    println!("{count} messages, median of {runs} runs (least to most)");
    let parses = (0..runs).map(|_| parse_alone(&messages[0])).collect();
    println!(
        "control: serde_json parses such a message into a struct in {:.0} ns of CPU time",
        median(parses)
    );
    for (case, mut runs) in cases.iter().zip(measured) {
        runs.sort_by(|a, b| a.per_cpu_second.total_cmp(&b.per_cpu_second));
        let middle = &runs[runs.len() / 2];
        let promised = case.promised.map_or(String::new(), |least| format!("  promised {:>9.0}", least));
        println!(
            "{:<34} {:>9.0} events/CPU s ({:.0} to {:.0}){promised}  {:>9.0} events/s  {:>4} JSON bytes an event",
            case.name,
            middle.per_cpu_second,
            runs[0].per_cpu_second,
            runs[runs.len() - 1].per_cpu_second,
            middle.per_second,
            middle.bytes,
        );
    }
}

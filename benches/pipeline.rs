//! Messages of the paper's device from memory through all five steps, digital events encoded.
//!
//! Prints events per CPU second of the whole process, source and sink threads included. Median of
//! `--runs` (5), each with its own engine; what is compared runs in turn, so that a machine that
//! changes its pace changes both.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Job, Messages, argument, cpu_seconds, flood};
use connectors::archive::ArchiveSettings;
use connectors::clock::SystemClock;
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
    /// Events per CPU second that the project promises.
    promised: Option<f64>,
}

const CASES: [Case; 4] = [
    Case { name: "10,000 twins, 1 worker", twins: 10_000, workers: 1, archive: false, promised: Some(800e3) },
    Case { name: "10,000 twins, 2 workers", twins: 10_000, workers: 2, archive: false, promised: None },
    Case {
        name: "1,000,000 twins, 1 worker",
        twins: 1_000_000,
        workers: 1,
        archive: false,
        promised: Some(500e3),
    },
    Case {
        name: "10,000 twins, 1 worker, archive",
        twins: 10_000,
        workers: 1,
        archive: true,
        promised: Some(400e3),
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
    let plan = Job::default().plan(flood(messages.clone(), count), sink, archive);
    let options = RunOptions {
        workers: case.workers,
        data: folder.path().join("data"),
        cluster: None,
        clock: Arc::new(SystemClock),
    };
    let before = cpu_seconds();
    let run = dataflows::start(plan, options).expect("the run starts");
    let summary = run.wait().expect("the run ends well");
    let cpu = cpu_seconds() - before;
    assert_eq!(summary.events, count, "every message is an event");
    Measured {
        per_cpu_second: count as f64 / cpu,
        per_second: count as f64 / summary.seconds,
        bytes: bytes.load(Ordering::Relaxed),
    }
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
            middle.bytes / count,
        );
    }
}

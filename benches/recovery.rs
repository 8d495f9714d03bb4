//! What checkpoints cost a large fleet, and how fast it is back.
//!
//! A million twins, each heard before; then 5 % of them are updated, with checkpoints (every `--interval`
//! seconds) and without, in turn. What the run has kept at its end is restored by the next one.
//!
//! Prints CPU and elapsed seconds of the whole process for the same messages, as ratios, and the time from the
//! start of a run to its first worker's first step, with the resident memory before, at the peak and after.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{
    Gate, Job, Messages, argument, cpu_seconds, flood_some, peak_bytes, reset_peak, resident_bytes,
};
use connectors::memory;
use dataflows::RunOptions;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What one run came to.
struct Measured {
    cpu_seconds: f64,
    seconds: f64,
    checkpoints: u64,
    longest_us: u64,
    folder: tempfile::TempDir,
}

fn measure(interval: Option<Duration>, messages: &Arc<Messages>, warm: u64, count: u64) -> Measured {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gate = Gate::default();
    let job = Job { interval, ..Job::default() };
    let sink = || memory::sink("memory", |_| {});
    let plan = job.plan(flood_some(messages.clone(), warm, count, warm / 20, gate.clone()), sink, None);
    let run = dataflows::start(plan, RunOptions::new(1, folder.path().join("data"))).expect("the run starts");
    let metrics = run.metrics();
    let until = |events: u64| {
        while metrics.events.load(Ordering::Relaxed) < events {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    until(warm);
    let stats = metrics.checkpoints().expect("process 0 makes them");
    let (before, completed) = (cpu_seconds(), stats.completed.load(Ordering::Relaxed));
    let start = Instant::now();
    gate.open();
    until(warm + count);
    let (cpu_seconds, seconds) = (cpu_seconds() - before, start.elapsed().as_secs_f64());
    let checkpoints = stats.completed.load(Ordering::Relaxed) - completed;
    let longest_us = stats.duration_us.load(Ordering::Relaxed);
    run.wait().expect("the run ends well");
    Measured { cpu_seconds, seconds, checkpoints, longest_us, folder }
}

fn main() {
    let twins: usize = argument("--twins").map_or(1_000_000, |text| text.parse().expect("a number"));
    let count: u64 = argument("--messages").map_or(20_000_000, |text| text.parse().expect("a number"));
    let interval: f64 = argument("--interval").map_or(10.0, |text| text.parse().expect("seconds"));
    let runs: usize = argument("--runs").map_or(3, |text| text.parse().expect("a number"));
    let messages = Arc::new(Messages::new(twins, 10_000));
    let (mut ratios, mut elapsed, mut folder) = (Vec::new(), Vec::new(), None);
    for _ in 0..runs {
        let without = measure(None, &messages, twins as u64, count);
        let with = measure(Some(Duration::from_secs_f64(interval)), &messages, twins as u64, count);
        println!(
            "{count} updates of 5 % of {twins} twins: {:.2} CPU s in {:.2} s without checkpoints, {:.2} in {:.2} with {} (the last took {} ms)",
            without.cpu_seconds,
            without.seconds,
            with.cpu_seconds,
            with.seconds,
            with.checkpoints,
            with.longest_us / 1_000
        );
        ratios.push(with.cpu_seconds / without.cpu_seconds);
        elapsed.push(with.seconds / without.seconds);
        folder = Some(with.folder);
    }
    for (what, mut ratios) in [("CPU", ratios), ("elapsed", elapsed)] {
        ratios.sort_by(f64::total_cmp);
        println!(
            "median ratio, {what}: {:.3} ({:.3} to {:.3})",
            ratios[runs / 2],
            ratios[0],
            ratios[runs - 1]
        );
    }
    let Some(folder) = folder else { return };
    for _ in 0..runs {
        let resident = reset_peak();
        let (start, before) = (Instant::now(), cpu_seconds());
        let gate = Gate::default();
        let waiting = gate.clone();
        let source = move |setup: connectors::source::SourceSetup| {
            let gate = waiting.clone();
            let wait = std::iter::once_with(move || gate.pass()).map(|()| Vec::new());
            memory::source("memory", setup.lanes, setup.lane_of, wait)
        };
        let plan = Job::default().plan(source, || memory::sink("memory", |_| {}), None);
        let run =
            dataflows::start(plan, RunOptions::new(1, folder.path().join("data"))).expect("it restores");
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - before);
        let (after, peak) = (resident_bytes(), peak_bytes());
        println!(
            "restored {} twins in {seconds:.2} s ({cpu:.2} CPU s); resident {} MB before, {} MB at the peak, {} MB after",
            run.survey(Duration::from_secs(60)).map_or(0, |survey| survey.twins),
            resident >> 20,
            peak >> 20,
            after >> 20
        );
        gate.open();
        run.wait().expect("the run ends well");
    }
}

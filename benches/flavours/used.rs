//! CPU seconds, by who took them: the engine, its processes of Python, and what only a bench has.

use std::fs;
use std::path::Path;

use crate::common::cpu_seconds;
use crate::endpoint;
use crate::site::DEVICES;

/// Seconds so far, or between two looks.
#[derive(Clone, Copy)]
pub struct Used {
    /// Of this process, but for the bench's own threads.
    pub engine: f64,
    /// Of the processes of Python that it started and that live.
    pub python: f64,
    /// Of the endpoint's thread.
    pub endpoint: f64,
    /// Of whoever has nothing to do with it: how quiet the machine was.
    pub others: f64,
}

impl Used {
    /// Now.
    pub fn now() -> Self {
        let of_threads = |name: &str| threads(Path::new("/proc/self/task"), Some(name));
        let endpoint = of_threads(endpoint::THREAD);
        let devices: f64 = DEVICES.iter().map(|name| of_threads(name)).sum();
        let (all, python) = (cpu_seconds(), of_children("python"));
        let others = of_machine() - all - python - of_children("mosquitto");
        Self { engine: all - endpoint - devices, python, endpoint, others }
    }

    /// From then to now.
    pub fn since(before: Self) -> Self {
        let now = Self::now();
        Self {
            engine: now.engine - before.engine,
            python: now.python - before.python,
            endpoint: now.endpoint - before.endpoint,
            // Both are counted in ticks of a hundredth.
            others: (now.others - before.others).max(0.0),
        }
    }
}

/// CPU seconds of the threads of a process that live, of all or of those with this name.
fn threads(tasks: &Path, name: Option<&str>) -> f64 {
    let of_task = |task: std::io::Result<fs::DirEntry>| {
        let task = task.ok()?.path();
        let comm = fs::read_to_string(task.join("comm")).ok()?;
        let is_one = name.is_none_or(|name| comm.trim() == name);
        // The first number is the time on a processor, in nanoseconds.
        let times = fs::read_to_string(task.join("schedstat")).ok().filter(|_| is_one)?;
        times.split(' ').next()?.parse::<u64>().ok()
    };
    let tasks = fs::read_dir(tasks).into_iter().flatten();
    tasks.filter_map(of_task).sum::<u64>() as f64 / 1e9
}

/// CPU seconds of the processes with such a name that are children of this one.
fn of_children(program: &str) -> f64 {
    let this = std::process::id();
    let processes = fs::read_dir("/proc").expect("Linux shows the processes");
    let children = processes.filter_map(|process| {
        let path = process.ok()?.path();
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        let (_, name) = stat.split_once('(')?;
        let (name, rest) = name.rsplit_once(')')?;
        let parent: u32 = rest.split_whitespace().nth(1)?.parse().ok()?;
        (parent == this && name.starts_with(program)).then_some(path)
    });
    children.map(|path| threads(&path.join("task"), None)).sum()
}

/// CPU seconds of the whole machine.
fn of_machine() -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("Linux shows its own");
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; a tick is a hundredth of a second.
    let idle = [3, 4].iter().filter_map(|place| ticks.get(*place)).sum::<u64>();
    (ticks.iter().take(8).sum::<u64>() - idle) as f64 / 100.0
}

//! A job on one process or several, of some workers each: the layouts that must not matter.

use std::path::Path;

use super::free_port;
use super::program::{Ended, start, twinloom};

/// How wide a job runs.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Processes.
    pub processes: usize,
    /// Workers of each.
    pub workers: usize,
}

/// The layouts on which the same input must give the same output (rule 2.3).
pub const LAYOUTS: [Layout; 4] = [
    Layout { processes: 1, workers: 1 },
    Layout { processes: 1, workers: 2 },
    Layout { processes: 1, workers: 4 },
    Layout { processes: 2, workers: 2 },
];

/// Runs `job.yaml` in `folder` to its end; what process 0 has to say.
pub fn run_job(folder: &Path, layout: Layout) -> Ended {
    run_job_with(folder, layout, &[])
}

/// The same with more arguments, such as where it is to stop.
pub fn run_job_with(folder: &Path, layout: Layout, more: &[&str]) -> Ended {
    let workers = layout.workers.to_string();
    let common = ["run", "job.yaml", "--json", "--data", "data", "--workers", &workers];
    let common = [&common[..], more].concat();
    if layout.processes == 1 {
        return start(&mut twinloom(folder, &common)).wait().succeeded();
    }
    let hosts: Vec<_> = (0..layout.processes).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    std::fs::write(folder.join("hosts"), hosts.join("\n") + "\n").expect("the folder is ours");
    let running: Vec<_> = (0..layout.processes)
        .map(|process| {
            let mut command = twinloom(folder, &common);
            command.args(["--hosts", "hosts", "--process", &process.to_string()]);
            start(&mut command)
        })
        .collect();
    let mut ended = running.into_iter().map(|one| one.wait().succeeded());
    let first = ended.next().expect("there is a process 0");
    ended.for_each(drop);
    first
}

//! A server that runs for long: what is let go of leaves nothing behind.

use super::Site;
use crate::harness::until;

/// Jobs that come and go.
const JOBS: usize = 100;
/// Those before it is looked at what the process has: it has warmed up by then.
const WARM: usize = 20;
/// Memory that an allocator may keep for later.
const SLACK_KB: u64 = 16 << 10;

/// Threads, open files and resident kilobytes of a process.
fn has(process: u32) -> (usize, usize, u64) {
    let count = |folder: &str| {
        let entries = std::fs::read_dir(format!("/proc/{process}/{folder}"));
        entries.expect("Linux shows its processes").count()
    };
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    (count("task"), count("fd"), resident.expect("a number of kB"))
}

#[test]
fn jobs_that_come_and_go_leave_nothing_in_the_process() {
    let mut site = Site::new();
    let process = site.server.as_ref().expect("it runs").id();
    let mut warm = None;
    for number in 0..JOBS {
        assert_eq!(site.apply(&[]).status, 201, "job {number}");
        site.bind("a");
        assert_eq!(site.ask("POST", "/v1/jobs/line/cancel", "").status, 200, "job {number}");
        assert_eq!(site.ask("DELETE", "/v1/jobs/line", "").status, 204, "job {number}");
        if number == WARM {
            warm = Some(has(process));
        }
    }
    let (threads, files, resident) = warm.expect("it has warmed up");
    // Threads and sockets of the last one may end a moment later.
    let after = until("threads and files to be as few as before", || {
        Some(has(process)).filter(|after| after.0 <= threads && after.1 <= files)
    });
    assert!(after.2 <= resident + SLACK_KB, "{} kB after {JOBS} jobs, {resident} after {WARM}", after.2);
}

//! What MQTT costs: messages a second and CPU time a message, from a sink through a broker to a
//! source, and how long one message takes alone.
//! Run with `cargo run --release -p twinloom-connectors --example mqtt_cost -- [qos] [journal] [url]`;
//! `journal` is `on`, or `off` for a disk that keeps nothing. Without a url the embedded broker is used,
//! whose CPU time is not shown. It measures and judges nothing.

use connectors::disk::{Disk, DiskFile, SystemDisk};
use connectors::message::{Intake, MessageBatch};
use connectors::mqtt::{MqttSettings, embedded, sink, source};
use connectors::queue::{Received, Refused};
use connectors::source::SourceSetup;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const MESSAGES: usize = 300_000;
const BATCH: usize = 100;
const ALONE: usize = 2_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let qos = arguments.next().map_or(1, |text| text.parse().expect("0 or 1"));
    let disk: Arc<dyn Disk> = match arguments.next().as_deref() {
        None | Some("on") => Arc::new(SystemDisk),
        Some("off") => Arc::new(NullDisk),
        Some(other) => panic!("`{other}` is neither on nor off"),
    };
    let url = arguments.next().unwrap_or_else(|| embedded::start().expect("a broker").url());
    let settings = MqttSettings { qos, ..MqttSettings::new(url) };
    let folder = tempfile::tempdir().expect("a folder");
    let setup = SourceSetup { disk, ..SourceSetup::new("in", &["cost/#"], folder.path()) };
    let source = source::start(setup, &settings, "cost-in").expect("started");
    let sink = sink::start("out", &settings, "cost-out").expect("started");
    let caller = std::thread::current();
    sink.set_waker(Arc::new(move || caller.unpark()));
    let lane = &source.lanes[0];
    while !matches!(lane.recv_timeout(Duration::from_millis(100)), Received::Item(Intake::Message(_))) {
        sink.offer(batch(1)).expect("room");
    }
    while matches!(lane.recv_timeout(Duration::from_millis(300)), Received::Item(_)) {}

    let mut alone_us: Vec<u128> = (0..ALONE)
        .map(|_| {
            let began = Instant::now();
            sink.offer(batch(1)).expect("room");
            lane.recv().expect("the source lives");
            let taken = began.elapsed().as_micros();
            std::thread::sleep(Duration::from_millis(1));
            taken
        })
        .collect();
    alone_us.sort_unstable();

    let (wall, cpu) = (Instant::now(), THREADS.map(cpu_ns));
    let syncs = source.stats.journal_syncs.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut received, mut into) = (0, Vec::new());
            while received < MESSAGES {
                match lane.recv_timeout(Duration::from_secs(20)) {
                    Received::Item(_) => received += 1,
                    other => panic!("{other:?} after {received} messages"),
                }
                lane.drain(1 << 20, &mut into);
                received += into.len();
                into.clear();
            }
        });
        for _ in 0..MESSAGES / BATCH {
            let mut batch = batch(BATCH);
            while let Err(Refused::Full(refused)) = sink.offer(batch) {
                batch = refused;
                std::thread::park();
            }
        }
    });
    let wall = wall.elapsed();
    let syncs = (source.stats.journal_syncs.load(Ordering::Relaxed) - syncs).max(1);
    let cpu_now = THREADS.map(cpu_ns);
    let [sink_ns, source_ns, journal_ns] =
        [0, 1, 2].map(|index: usize| (cpu_now[index] - cpu[index]) / MESSAGES as u64);
    println!(
        "qos {qos}: {:.0} messages a second, CPU of the sink {sink_ns} ns, of the source {source_ns} ns and of its journal's thread {journal_ns} ns a message, {:.0} messages a sync; one alone: p50 {} us, p99 {} us",
        MESSAGES as f64 / wall.as_secs_f64(),
        MESSAGES as f64 / syncs as f64,
        alone_us[ALONE / 2],
        alone_us[ALONE * 99 / 100]
    );
    println!("{:?}", sink.close(Duration::from_secs(10)));
}

/// The kernel cuts names at 15 bytes.
const THREADS: [&str; 3] = ["sink-out", "source-in", "journal-in"];

fn batch(count: usize) -> MessageBatch {
    let mut batch = MessageBatch::default();
    for _ in 0..count {
        assert!(batch.push("cost/line-1/press-0417/state", &[b'7'; 100], false));
    }
    batch
}

/// CPU time of the thread of that name so far.
fn cpu_ns(name: &str) -> u64 {
    let tasks =
        std::fs::read_dir("/proc/self/task").expect("Linux").map(|task| task.expect("a thread").path());
    let is_named = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let task = tasks.into_iter().find(is_named).expect("the thread runs");
    let numbers = std::fs::read_to_string(task.join("schedstat")).expect("the kernel's numbers");
    numbers.split(' ').next().and_then(|text| text.parse().ok()).expect("nanoseconds")
}

/// Takes everything and keeps nothing.
struct NullDisk;

impl Disk for NullDisk {
    fn is_folder(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn remove_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(NullFile))
    }

    fn append(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(NullFile))
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(ErrorKind::NotFound.into())
    }

    fn read_range(&self, _: &Path, _: Range<u64>) -> io::Result<Vec<u8>> {
        Err(ErrorKind::NotFound.into())
    }

    fn len(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn make_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: &Path, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

struct NullFile;

impl Write for NullFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for NullFile {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! What looking costs: reads and streams beside a fleet that speaks, jobs that come and jobs that are idle.
//!
//! ```text
//!  reads:    50,000 events/s of 10,000 twins from memory; 1,000 reads/s over HTTP; how long each takes
//!  streams:  20,000 events/s without, with 10 and with 1,000 clients that follow ten twins each; CPU of the workers,
//!            and of the whole process, clients included
//!  tenants:  how long events of one tenant take, alone and beside one that sends as much as it may, and ten times that
//!  apply:    a job that was not there, until its first twin answers (its broker is mosquitto)
//!  idle:     jobs whose broker is not there; CPU and memory of each
//! ```

#[path = "common/broker.rs"]
mod broker;
#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;
#[allow(dead_code, reason = "each bench uses a part of it")]
#[path = "common/paced.rs"]
mod paced;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use broker::{Broker, until};
use common::{Job, Messages, argument, cpu_seconds, resident_bytes};
use connectors::clock::{Clock, SystemClock};
use connectors::memory;
use connectors::message::RawMessage;
use connectors::mqtt;
use dataflows::plan::Plan;
use dataflows::quota::{Overload, Rates};
use dataflows::{Engine, Run, RunOptions};
use jobs::definition::Definition;
use jobs::live::{Board, LiveJob, LiveParts, Running, Status};
use jobs::server::Server;
use jobs::service::{Service, Tenants};
use paced::{Delays, Paced};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TWINS: usize = 10_000;
/// Messages of one step of the fleet.
const STEP: u64 = 50;

fn main() {
    let only = argument("--only");
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let seconds: u64 = argument("--seconds").map_or(10, |text| text.parse().expect("a number"));
    for _ in 0..argument("--runs").map_or(3, |text| text.parse().expect("a number")) {
        if wanted("reads") {
            reads(seconds);
        }
        if wanted("streams") {
            let alone = streams(seconds, 0);
            let few = streams(seconds, 10);
            let followed = streams(seconds, 1_000);
            println!(
                "streams: workers take {:.2} of their CPU without  promised < 1.10; {:.2} where few twins are followed",
                followed / alone,
                few / alone
            );
        }
        if wanted("tenants") {
            tenants(seconds);
        }
        if wanted("apply") {
            apply();
        }
    }
    if wanted("idle") {
        idle(argument("--jobs").map_or(1_000, |text| text.parse().expect("a number")), seconds);
    }
}

/// A fleet that speaks at a rate, and the server beside it.
struct Site {
    run: Run,
    server: Server,
    is_over: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

impl Site {
    fn new(per_second: u64) -> Self {
        let messages = Arc::new(Messages::new(TWINS, 1_000));
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let mut plan = Job::default().plan(
            move |port| {
                let pause = Duration::from_secs(1) * STEP as u32 / per_second as u32;
                let mut next = Instant::now();
                let mut number = 0;
                let batches = std::iter::from_fn(move || {
                    if over.load(Ordering::Relaxed) {
                        return None;
                    }
                    next += pause;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    let now_us = SystemClock.wall_us();
                    number += STEP;
                    Some((number - STEP..number).map(|number| messages.message(number, now_us)).collect())
                });
                memory::source("memory", port.lanes, port.lane_of, batches)
            },
            || memory::sink("memory", |_| {}),
            None,
        );
        plan.listeners.clear();
        let mut definition = Definition::default();
        definition.job = "bench".into();
        let parts =
            |running| LiveParts { status: Status::Running, reason: None, version: 1, running, history: None };
        let live = LiveJob::new(&definition, parts(None), None);
        live.tap(&mut plan);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = dataflows::start(plan, RunOptions::new(1, folder.path().join("data"))).expect("it starts");
        let board = Arc::new(Board::default());
        board.put(Arc::new(LiveJob::new(&definition, parts(Some(Running::from(&run))), Some(&live))));
        let address = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(address, board, None).expect("a free port");
        let metrics = run.metrics();
        until("all twins to be there", || metrics.twins.load(Ordering::Relaxed) == TWINS as i64);
        Self { run, server, is_over, _folder: folder }
    }

    fn events(&self) -> u64 {
        self.run.metrics().events.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.run.stopper().stop();
        self.run.wait().expect("the run ends well");
    }
}

fn twin(number: u64) -> String {
    format!("plant-7-p{:07}", number * 1_000_003 % TWINS as u64)
}

/// A connection that asks again and again.
struct Client(TcpStream);

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("it is a socket");
        Self(stream)
    }

    /// Asks, and reads the whole answer.
    fn get(&mut self, path: &str) {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
        let mut answer = Vec::new();
        let mut buffer = [0; 4_096];
        loop {
            let read = self.0.read(&mut buffer).expect("the server answers");
            assert!(read > 0, "the server goes on");
            answer.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("it has a length").parse().expect("a number");
            assert!(head.contains(" 200 "), "{text}");
            if body.len() >= length {
                return;
            }
        }
    }
}

/// How long reads take, from request to the whole answer.
fn reads(seconds: u64) {
    let site = Site::new(50_000);
    let mut client = Client::new(site.server.address());
    let pause = Duration::from_millis(1);
    let mut taken = Vec::new();
    let (start, events) = (Instant::now(), site.events());
    let mut next = start;
    while start.elapsed() < Duration::from_secs(seconds) {
        next += pause;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        // From when it was to be sent: what waits for the one before has waited.
        client.get(&format!("/v1/jobs/bench/twins/{}", twin(taken.len() as u64)));
        taken.push(next.elapsed().as_micros() as u64);
    }
    let per_second = |count: u64| count as f64 / start.elapsed().as_secs_f64();
    let events = per_second(site.events() - events);
    println!(
        "reads: {:.0}/s beside {events:.0} events/s: p50 {} us, p99 {} us  promised < 2000",
        per_second(taken.len() as u64),
        quantile(&mut taken, 0.5),
        quantile(&mut taken, 0.99)
    );
    site.end();
}

fn quantile(all: &mut [u64], share: f64) -> u64 {
    all.sort_unstable();
    all[((all.len() - 1) as f64 * share) as usize]
}

/// CPU seconds that the threads with such a name have taken.
fn thread_seconds(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux shows the threads");
    let ticks = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        let comm = std::fs::read_to_string(task.join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
        comm.starts_with(name).then_some(ticks)
    });
    // A tick is a hundredth of a second wherever Linux is built as usual.
    ticks.sum::<u64>() as f64 / 100.0
}

/// CPU seconds of the workers a second, at 20,000 events/s, with so many clients that follow a thousandth of the
/// twins each.
fn streams(seconds: u64, clients: u64) -> f64 {
    let site = Site::new(20_000);
    let delivered = Arc::new(AtomicU64::new(0));
    let streams: Vec<TcpStream> = (0..clients)
        .map(|client| {
            let mut stream = TcpStream::connect(site.server.address()).expect("the server listens");
            // A thousandth of the twins each, by how their ids begin.
            let prefix = format!("plant-7-p{:06}", client);
            let path = format!("/v1/jobs/bench/stream?kinds=state&prefix={prefix}");
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
            stream.set_nonblocking(true).expect("it is a socket");
            stream
        })
        .collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let reader = {
        let (delivered, is_over) = (delivered.clone(), is_over.clone());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while !is_over.load(Ordering::Relaxed) {
                for mut stream in &streams {
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        let text = &buffer[..read];
                        let events = text.windows(6).filter(|bytes| *bytes == b"\ndata:").count();
                        delivered.fetch_add(events as u64, Ordering::Relaxed);
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    std::thread::sleep(Duration::from_secs(1));
    let (cpu, workers, start) = (cpu_seconds(), thread_seconds("timely"), Instant::now());
    let (events, before) = (site.events(), delivered.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs(seconds));
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = (cpu_seconds() - cpu) / elapsed;
    let workers = (thread_seconds("timely") - workers) / elapsed;
    let events = (site.events() - events) as f64 / elapsed;
    let deliveries = (delivered.load(Ordering::Relaxed) - before) as f64 / elapsed;
    println!(
        "streams: {clients} clients, {events:.0} events/s, {deliveries:.0} deliveries/s, workers {workers:.3} CPU s/s, all {cpu:.3}"
    );
    is_over.store(true, Ordering::Relaxed);
    reader.join().expect("the reader ends well");
    site.end();
    workers
}

/// What a tenant may have worked off a second.
const LIMIT: u64 = 10_000;

/// How long events of a tenant take beside another's.
fn tenants(seconds: u64) {
    let show = |beside: &str, delays: &Delays| {
        let [p50, p99] = [0.5, 0.99].map(|share| delays.quantile_us(share));
        println!(
            "tenants: {beside:<38} p50 {p50:>6.0} us, p99 {p99:>6.0} us, {} of {} seen",
            delays.seen(),
            delays.sent
        );
        p99
    };
    let alone = show("alone", &beside(seconds, None));
    show("beside one at its limit", &beside(seconds, Some((LIMIT, Overload::Wait))));
    for overload in [Overload::Wait, Overload::NewestPerTwin, Overload::Shed] {
        let name = format!("beside one at 10 times it, {overload:?}");
        let p99 = show(&name, &beside(seconds, Some((10 * LIMIT, overload))));
        println!("tenants: p99 is {:.2} of that alone  promised < 2", p99 / alone);
    }
}

/// Delays of 1,000 events/s, on two workers that may have another tenant's job, which is sent so much.
fn beside(seconds: u64, other: Option<(u64, Overload)>) -> Delays {
    let engine = Engine::start(2).expect("it starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |mut plan: Plan, name: &str| {
        plan.job = name.into();
        engine.run(plan, RunOptions::new(1, folder.path().join(name))).expect("it starts")
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let other = other.map(|(per_second, overload)| {
        let (messages, over) = (Messages::new(TWINS, 1_000), is_over.clone());
        let source = move |port: connectors::source::SourceSetup| {
            let (first, mut number) = (Instant::now(), 0);
            let batches = std::iter::from_fn(move || {
                let due = first + Duration::from_nanos(number * 1_000_000_000 / per_second);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                number += STEP;
                let now_us = SystemClock.wall_us();
                let step = || (number - STEP..number).map(|number| messages.message(number, now_us));
                (!over.load(Ordering::Relaxed)).then(|| step().collect())
            });
            memory::source("memory", port.lanes, port.lane_of, batches)
        };
        let mut plan = Job::default().plan(source, || memory::sink("memory", |_| {}), None);
        plan.limits.rates = Rates { messages: Some(LIMIT as f64), ..Rates::default() };
        plan.limits.overload = overload;
        run(plan, "greedy")
    });
    let paced = Paced::new(1_000, seconds);
    let (sent, seen) = (paced.clone(), paced.clone());
    let source = move |port: connectors::source::SourceSetup| {
        let first = Instant::now();
        let batches = (0..sent.count()).map(move |number| {
            sent.wait(first, number);
            let now_us = SystemClock.wall_us();
            let message = RawMessage {
                position: number + 1,
                arrived_at_us: now_us,
                topic: format!("device/p-{:04}/telemetry/device_state", number % 1_000).into(),
                payload: sent.payload(number, now_us).into(),
                ..RawMessage::default()
            };
            sent.sent(number);
            vec![message]
        });
        memory::source("memory", port.lanes, port.lane_of, batches)
    };
    let sink = move || memory::sink("memory", move |batch| seen.see_batch(batch));
    let modest = run(Job::default().plan(source, sink, None), "modest");
    modest.wait().expect("it ends by its source");
    is_over.store(true, Ordering::Relaxed);
    if let Some(other) = other {
        other.stopper().stop();
        other.wait().expect("it ends well");
    }
    paced.delays()
}

/// A job file whose broker is at this url.
fn job(name: &str, url: &str) -> String {
    include_str!("../examples/first.yaml")
        .replace("job: first-twins", &format!("job: {name}"))
        .replace("mqtt://localhost:1883", url)
        .replace("device/{twin}/telemetry/device_state", &format!("{name}/{{twin}}"))
        .replace("archive: {path: ./archive}", "")
}

/// From a job that is submitted to a twin of it that answers.
fn apply() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let board = Arc::new(Board::default());
    let service = Service::start(folder.path(), 2, Tenants::default(), board.clone()).expect("it starts");
    let device = mqtt::sink::start("device", &broker.settings(1), "device").expect("it starts");
    let payload =
        r#"{"timestamp":1646847376104,"data":{"iot.sensor.temperature":24.28,"iot.sensor.energy":4.67}}"#;
    let mut taken = Vec::new();
    for number in 0..20 {
        let name = format!("job-{number}");
        let text = job(&name, &broker.settings(1).url);
        let start = Instant::now();
        service.apply(&name, &text).expect("it is applied");
        let metrics = board.find(&name).and_then(|job| Some(job.running.as_ref()?.metrics.clone()));
        let metrics = metrics.expect("it runs");
        // A device that speaks every 5 ms; the first that is heard makes the twin.
        while metrics.twins.load(Ordering::Relaxed) == 0 {
            let mut batch = connectors::message::MessageBatch::default();
            assert!(batch.push(&format!("{name}/p-1"), payload.as_bytes(), false), "it is short");
            device.offer(batch).expect("there is room");
            std::thread::sleep(Duration::from_millis(5));
        }
        taken.push(start.elapsed().as_micros() as u64);
    }
    println!(
        "apply: to the first twin p50 {} us, worst of {} {} us  promised < 200000",
        quantile(&mut taken, 0.5),
        taken.len(),
        quantile(&mut taken, 1.0)
    );
    device.close(Duration::from_secs(1));
    service.end();
}

/// Jobs whose broker is there and silent.
fn idle(count: usize, seconds: u64) {
    let broker = Broker::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let board = Arc::new(Board::default());
    let service = Service::start(folder.path(), 2, Tenants::default(), board).expect("it starts");
    let before = resident_bytes();
    let start = Instant::now();
    for number in 0..count {
        let name = format!("job-{number}");
        service.apply(&name, &job(&name, &broker.settings(1).url)).expect("it is applied");
    }
    let applied = start.elapsed().as_secs_f64() / count as f64;
    // Until their first checkpoints are over, and the threads that made them.
    std::thread::sleep(Duration::from_secs(20));
    let bytes = (resident_bytes() - before) / count as u64;
    let (cpu, start) = (cpu_seconds(), Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let share = (cpu_seconds() - cpu) / start.elapsed().as_secs_f64() * 100.0;
    println!(
        "idle: {count} jobs: {share:.2} % of a core  promised < 2; {bytes} bytes each  promised < 250000; applied in {:.1} ms each",
        applied * 1e3
    );
    service.end();
}

//! `twinloom demo`: a fleet and its twins in one process, with nothing to install.
//!
//! ```text
//!  simulated fleet ─ TCP ─► embedded broker ─ TCP ─► engine (the job of examples/first.yaml) ─► archive
//!                                  ▲─────── digital events ──┘  └─► screen, summary
//! ```
//! With `--bus kafka://..` it is a cluster that is there, and the job of examples/first-kafka.yaml; with
//! `--bus mqtt://..` a broker that is there.

use std::fs;
use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use connectors::clock::SystemClock;
use connectors::mqtt::{MqttSettings, embedded};
use dataflows::{Run, RunOptions, Survey};

use super::Failure;
use super::init::{FIRST_JOB, FIRST_KAFKA_JOB};
use super::values::{self, FleetArguments};

use crate::document;
use crate::findings::Findings;
use crate::fleet::{TOPIC, Template};
use crate::fleet_bus::FleetBus;
use crate::job::{Job, JobError};
use crate::screen::{Screen, View};
use crate::session::{SURVEY_WAIT, until_end};
use crate::signals::Signals;
use crate::simulation::Simulation;
use crate::summary::Report;

/// How long a demo lasts where nobody can press Ctrl-C.
const DURATION_DEFAULT: Duration = Duration::from_secs(30);
/// How often the screen is redrawn.
const SCREEN_INTERVAL: Duration = Duration::from_millis(500);
/// How long engine and fleet may take to reach the broker, and the last messages to arrive.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
const DRAIN_WAIT: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// How many devices
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    twins: u32,
    #[command(flatten)]
    fleet: FleetArguments,
    /// End after this time [default: at Ctrl-C on a terminal, else 30s]
    #[arg(long, value_parser = values::duration)]
    duration: Option<Duration>,
    /// Where archive and data are written
    #[arg(long, value_name = "DIR", default_value = "twinloom-demo")]
    data: PathBuf,
    /// A bus that is there, mqtt://host:port or kafka://host:port [default: a broker of its own]
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
    /// Workers [default: all cores, at most 8]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Print exactly one JSON object, to standard output
    #[arg(long)]
    json: bool,
}

impl DemoArguments {
    /// Whether the live screen is drawn.
    pub(super) fn has_screen(&self) -> bool {
        !self.json && std::io::stdout().is_terminal()
    }

    fn duration(&self) -> Option<Duration> {
        self.duration.or((!self.has_screen()).then_some(DURATION_DEFAULT))
    }
}

pub(super) fn execute(arguments: &DemoArguments) -> Result<(), Failure> {
    let signals = Signals::listen().map_err(Failure::of)?;
    // It lives as long as the demo.
    let (_broker, url) = match &arguments.bus {
        Some(url) => (None, url.clone()),
        None => {
            let broker = embedded::start().map_err(Failure::of)?;
            let url = broker.url();
            (Some(broker), url)
        }
    };
    let bus = FleetBus::parse(&url, MqttSettings::new(&url)).map_err(Failure::Usage)?;
    let archive = fresh_archive(&arguments.data)?;
    let job = job(&bus, &url, &archive, &arguments.fleet.rate.text)
        .map_err(|findings| Failure::of_job(JobError::Invalid(findings), arguments.json))?;
    let name = job.definition.job.clone();
    let workers = arguments.workers.map_or_else(values::workers_default, usize::from);
    // Each demo begins anew, with its broker.
    let run_name = archive.file_name().unwrap_or_default();
    let options = RunOptions::new(workers, arguments.data.join("data").join(run_name));
    bus.prepare(&[&format!("twins.{name}")]).map_err(Failure::of)?;
    let run = dataflows::start(job.plan(), options).map_err(Failure::of)?;
    let generation = run.generation();
    let simulation = start_fleet(arguments, &bus, &run, &signals)?;
    let start = Instant::now();
    let mut live = arguments.has_screen().then(Screen::open).flatten().map(|screen| Live {
        job: name.clone(),
        screen,
        last: (start, 0),
        start,
    });
    let duration = arguments.duration();
    if live.is_none() && !arguments.json {
        let seconds = duration.unwrap_or_default().as_secs();
        eprintln!("{} devices speak for {seconds} s; archive in {}", arguments.twins, archive.display());
    }
    until_end(&run, &signals, duration, SCREEN_INTERVAL, |run| {
        if let Some(live) = &mut live {
            live.draw(run, run.survey(SURVEY_WAIT).as_ref());
        }
    });
    // Before anything is taken down: the fleet still speaks.
    let survey = run.survey(SURVEY_WAIT);
    let seconds = start.elapsed().as_secs_f64();
    let simulated = simulation.stop();
    drain(&run, simulated.published, &signals);
    run.stopper().stop();
    let summary = run.wait().map_err(Failure::of)?;
    let survey = survey.as_ref().or(summary.survey.as_ref());
    let report = Report::new(&name, generation, &summary, survey, seconds, Some(&archive));
    if arguments.json {
        println!("{}", report.to_json());
    } else {
        print!("\n{}", report.text());
        if let Some(line) = report.duckdb() {
            println!("\nopen the archive:\n  {line}");
        }
    }
    Ok(())
}

/// The first job for this bus, with another broker and archive, and the fleet's rate.
fn job(bus: &FleetBus, url: &str, archive: &Path, rate: &str) -> Result<Job, Findings> {
    let (name, text) = match bus {
        FleetBus::Mqtt(_) => ("examples/first.yaml", FIRST_JOB),
        FleetBus::Kafka(_) => ("examples/first-kafka.yaml", FIRST_KAFKA_JOB),
    };
    let mut document = document::parse(name, text).map_err(|findings| Findings::new(name, text, findings))?;
    // A folder may be called like a secret is written.
    let archive = archive.display().to_string().replace("${", "$${");
    let of_bus: &[(&[&str], &str)] = match bus {
        FleetBus::Mqtt(_) => &[(&["connections", "plant", "mqtt", "url"], url)],
        // What earlier demos have left in the topic is theirs.
        FleetBus::Kafka(kafka) => &[
            (&["connections", "bus", "kafka", "brokers", "0"], &kafka.brokers[0]),
            (&["connections", "bus", "kafka", "start"], "latest"),
        ],
    };
    let of_all: [(&[&str], &str); 2] = [
        (&["archive", "path"], &archive),
        (&["types", "device", "physical", "telemetry", "expected_rate"], rate),
    ];
    for (path, text) in of_bus.iter().chain(&of_all) {
        let is_set = document.set(path, text);
        debug_assert!(is_set, "the example has {path:?}");
    }
    let no_secrets = |_: crate::definition::secrets::Reference<'_>| Err("the demo has none".into());
    Job::from_document(document, Some(&no_secrets))
}

/// A folder that no other demo wrote to, so that its rows are the events of this one.
fn fresh_archive(data: &Path) -> Result<PathBuf, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        let path = path.display();
        Failure::Failed(format!("cannot make {path}: {error}; name another folder with --data"))
    };
    let root = data.join("archive");
    fs::create_dir_all(&root).map_err(|error| failed(&root, error))?;
    let root = root.canonicalize().map_err(|error| failed(&root, error))?;
    let mut number = 1;
    loop {
        let path = root.join(format!("run-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(failed(&path, error)),
        }
    }
}

/// Starts the fleet, once engine and fleet have reached the broker: nothing is said to nobody.
fn start_fleet(
    arguments: &DemoArguments,
    bus: &FleetBus,
    run: &Run,
    signals: &Signals,
) -> Result<Simulation, Failure> {
    let sink = bus.sink("twinloom-demo-fleet").map_err(Failure::of)?;
    let metrics = run.metrics();
    let start = Instant::now();
    let is_connected = || {
        let sources = metrics.sources();
        let is_read = sources.iter().all(|(_, stats)| stats.connected.load(Ordering::Relaxed));
        is_read && !sources.is_empty() && sink.stats.connected.load(Ordering::Relaxed)
    };
    while !is_connected() {
        if start.elapsed() > CONNECT_WAIT || signals.wait(LOOK_INTERVAL) {
            let text = match &arguments.bus {
                Some(url) => format!("{url} was not reached; check that a broker listens there"),
                None => "the embedded broker was not reached; check that TCP on 127.0.0.1 is allowed".into(),
            };
            return Err(Failure::Failed(text));
        }
    }
    let fleet = arguments.fleet.settings(arguments.twins, "device", bus.addresses(&Template::new(TOPIC)));
    Simulation::start(fleet, sink, Arc::new(SystemClock)).map_err(Failure::of)
}

/// Waits until the engine has taken what was published, within reason.
fn drain(run: &Run, published: u64, signals: &Signals) {
    let metrics = run.metrics();
    let taken = || {
        let sources = metrics.sources();
        sources.iter().map(|(_, stats)| stats.messages.load(Ordering::Relaxed)).sum::<u64>()
    };
    let start = Instant::now();
    while taken() < published && start.elapsed() < DRAIN_WAIT && !signals.wait(LOOK_INTERVAL) {}
}

/// The screen, and what it needs to know of the last time.
struct Live {
    job: String,
    screen: Screen,
    start: Instant,
    /// When it was drawn last, and the events then.
    last: (Instant, u64),
}

impl Live {
    fn draw(&mut self, run: &Run, survey: Option<&Survey>) {
        let metrics = run.metrics();
        let (now, events) = (Instant::now(), metrics.events.load(Ordering::Relaxed));
        let (before, events_before) = self.last;
        let seconds = (now - before).as_secs_f64().max(1e-3);
        self.last = (now, events);
        let view = View {
            job: &self.job,
            elapsed: self.start.elapsed(),
            events,
            events_per_second: events.saturating_sub(events_before) as f64 / seconds,
            dead_letters: metrics.dead_letters.load(Ordering::Relaxed),
            survey,
        };
        // A terminal that is gone ends the demo by a signal; nothing is to be done here.
        _ = self.screen.draw(&view);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_runs_the_example() {
        let url = "mqtt://127.0.0.1:4711";
        let bus = FleetBus::parse(url, MqttSettings::new(url)).expect("a url");
        let job = job(&bus, url, Path::new("/tmp/${x}"), "0.5/s").expect("valid");
        let history = job.definition.archive.as_ref().expect("the example has an archive");
        assert_eq!(history.path, Path::new("/tmp/${x}"));
        let stream = &job.definition.types["device"].physical["telemetry"];
        assert_eq!(stream.expected_rate.to_string(), "0.5/s");
        let shown = format!("{:?}", job.definition.connections["plant"]);
        assert!(shown.contains("mqtt://127.0.0.1:4711"), "{shown}");
        assert!(shown.contains("qos: 1"), "{shown}");
    }

    #[test]
    fn each_demo_has_an_archive_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let first = fresh_archive(folder.path()).expect("a new folder");
        let second = fresh_archive(folder.path()).expect("another one");
        assert!(first.is_absolute() && first.ends_with("archive/run-1"));
        assert!(second.ends_with("archive/run-2"));
    }
}

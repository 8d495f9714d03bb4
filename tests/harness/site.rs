//! A live job in a folder of its own, on a broker: how it is written, started, bound and ended.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::archive::{self, Archive};
use super::broker::Broker;
use super::client::{Client, Message};
use super::program::{Running, start, twinloom};
use super::{http, until};

/// The job of the live tests; `URL` becomes that of the broker.
const JOB: &str = r#"
job: line
connections:
  plant: {mqtt: {url: "URL", qos: 0}}
types:
  device:
    properties: {t: {type: double}}
    physical:
      telemetry:
        from: plant
        topics: ["device/{twin}/t"]
        at: arrival
        properties: {t: /t}
        expected_rate: none
    entanglement: {window: 60s, settle: 0s}
digital: [{to: plant}]
archive: {path: archive}
"#;

/// A job and its folder.
pub struct Site {
    folder: TempDir,
}

impl Site {
    /// The job as it is, for a broker.
    pub fn new(broker: &Broker) -> Self {
        Self::with(broker, &[])
    }

    /// The job with some pieces changed, each by a text that it has once.
    pub fn with(broker: &Broker, changes: &[(&str, &str)]) -> Self {
        let mut job = JOB.to_owned();
        for (from, to) in changes {
            assert_eq!(job.matches(from).count(), 1, "`{from}` must name one piece of the job");
            job = job.replace(from, to);
        }
        Self::of(&job, broker)
    }

    /// Another job than the one above; `URL` in it becomes that of the broker.
    pub fn of(job: &str, broker: &Broker) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("job.yaml"), job.replace("URL", &broker.url()))
            .expect("the folder is ours");
        Self { folder }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the job on two workers.
    pub fn run(&self, more: &[&str]) -> Running {
        let arguments = ["run", "job.yaml", "--json", "--data", "data", "--workers", "2"];
        start(&mut twinloom(self.path(), &[&arguments[..], more].concat()))
    }

    /// Its archive, as far as it is complete.
    pub fn archive(&self) -> Archive {
        archive::read(&self.path().join("archive"))
    }

    /// Files of the archive that are not complete.
    pub fn unfinished(&self) -> usize {
        let files = archive::files(&self.path().join("archive"));
        files.iter().filter(|file| file.to_string_lossy().contains("inprogress")).count()
    }

    /// Ends the job cleanly, and looks at what every clean end promises: its counts are those of
    /// the archive, all is published, and no file is left half written.
    pub fn end(&self, job: Running, signal: &str) -> (Value, Archive) {
        job.signal(signal);
        let ended = job.wait().succeeded();
        let (summary, archive) = (ended.json(), self.archive());
        assert_eq!(summary["events"], rows(&archive, "physical"), "{summary}");
        assert_eq!(summary["dead_letters"], rows(&archive, "dead_letters"), "{summary}");
        assert_eq!(summary["unpublished"], 0, "{summary}\n{}", ended.stderr);
        assert_eq!(self.unfinished(), 0);
        (summary, archive)
    }
}

/// How many rows a table has.
pub fn rows(archive: &Archive, table: &str) -> usize {
    archive.get(table).map_or(0, |table| table.rows.len())
}

/// Whether a message is a twin's new state.
pub fn is_state(message: &Message) -> bool {
    message.topic.ends_with("/state")
}

/// A client that hears all listeners' topics.
pub fn listener(broker: &Broker) -> Client {
    let mut client = broker.client("listener");
    client.subscribe("twins/#");
    client
}

/// Publishes until a state comes out: from then on the job is bound to the broker.
pub fn bind(publisher: &mut Client, listener: &Client, topic: &str, payload: &str) {
    let before = listener.messages().len();
    until("the job to take messages", || {
        publisher.publish(topic, payload);
        listener.messages()[before..].iter().any(is_state).then_some(())
    });
}

/// The value of a line of `/metrics`; none where it is not served.
pub fn metric(port: u16, line: &str) -> Option<f64> {
    let (_, body) = http::get(port, "/metrics")?;
    let value = body.lines().find_map(|one| one.strip_prefix(line))?;
    value.trim().parse().ok()
}

/// How many twins are in a phase of their life, as `/metrics` has it.
pub fn twins_in(port: u16, phase: &str) -> usize {
    metric(port, &format!("twinloom_twins_phase{{phase=\"{phase}\"}}")).unwrap_or_default() as usize
}

/// Waits until this many twins are in a phase.
pub fn until_twins(port: u16, number: usize, phase: &str) {
    until(&format!("{number} twins to be {phase}"), || (twins_in(port, phase) == number).then_some(()));
}

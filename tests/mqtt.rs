//! Jobs against a real mosquitto: what a broker does to a run, and what a run does through it.
//!
//! ```text
//!   test client ──► mosquitto ──► twinloom run ──► mosquitto ──► test client
//!                                      └──► archive
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tempfile::TempDir;

use crate::harness::archive::{self, Archive};
use crate::harness::broker::Broker;
use crate::harness::client::{Client, Message};
use crate::harness::program::{Ended, Running, start, twinloom};
use crate::harness::{free_port, http, until};

/// A job's folder, and how the job is written.
struct Site {
    folder: TempDir,
    /// More of the connection's settings, such as `, qos: 1`.
    connection: String,
    /// Topics of the stream.
    topics: String,
    /// More of the stream's settings, a line each.
    stream: String,
    /// How much the job expects.
    rate: String,
}

impl Site {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            connection: String::new(),
            topics: "device/{twin}/t".into(),
            stream: String::new(),
            rate: "none".into(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the job on a broker.
    fn run(&self, broker: &Broker, more: &[&str]) -> Running {
        self.write_job(broker);
        let arguments = ["run", "job.yaml", "--json", "--data", "data", "--workers", "2"];
        start(&mut twinloom(self.path(), &[&arguments[..], more].concat()))
    }

    fn write_job(&self, broker: &Broker) {
        let Self { connection, topics, stream, rate, .. } = self;
        let url = broker.url();
        let job = format!(
            r#"
job: line
connections:
  plant: {{mqtt: {{url: "{url}"{connection}}}}}
types:
  device:
    properties: {{t: {{type: double}}}}
    physical:
      telemetry:
        from: plant
        topics: ["{topics}"]
        at: arrival
        properties: {{t: /t}}
        expected_rate: {rate}
{stream}
    entanglement: {{window: 60s, settle: 0s}}
digital: [{{to: plant}}]
archive: {{path: archive}}
"#
        );
        std::fs::write(self.path().join("job.yaml"), job).expect("the folder is ours");
    }

    fn archive(&self) -> Archive {
        archive::read(&self.path().join("archive"))
    }

    /// Ends the job cleanly, and looks at what every clean end promises: its count of events is
    /// that of the archive, all is published, and no file is left half written.
    fn end(&self, job: Running, signal: &str) -> (serde_json::Value, Archive) {
        job.signal(signal);
        let ended = job.wait().succeeded();
        let summary = ended.json();
        let archive = self.archive();
        assert_eq!(summary["events"], rows(&archive, "physical"), "{summary}");
        assert_eq!(summary["dead_letters"], rows(&archive, "dead_letters"), "{summary}");
        assert_eq!(summary["unpublished"], 0, "{summary}\n{}", ended.stderr);
        let files = archive::files(&self.path().join("archive"));
        let unfinished = files.iter().filter(|file| file.to_string_lossy().contains("inprogress"));
        assert_eq!(unfinished.count(), 0, "{files:?}");
        (summary, archive)
    }
}

fn rows(archive: &Archive, table: &str) -> usize {
    archive.get(table).map_or(0, |table| table.rows.len())
}

fn is_state(message: &Message) -> bool {
    message.topic.ends_with("/state")
}

/// A client that hears all listeners' topics.
fn listener(broker: &Broker) -> Client {
    let mut client = broker.client("listener");
    client.subscribe("twins/#");
    client
}

/// Publishes for a twin until its state comes out: from then on the job is bound to the broker.
fn bind(publisher: &mut Client, listener: &Client, topic: &str) {
    let before = listener.messages().len();
    until("the job to take messages", || {
        publisher.publish(topic, r#"{"t":0}"#);
        listener.messages()[before..].iter().any(is_state).then_some(())
    });
}

#[test]
fn what_is_published_is_in_the_twins_at_both_qualities() {
    for qos in [0, 1] {
        let broker = Broker::started();
        let mut site = Site::new();
        site.connection = format!(", qos: {qos}");
        site.topics = "site/+/{twin}/#".into();
        let listener = listener(&broker);
        let job = site.run(&broker, &[]);
        let mut publisher = broker.client("publisher");
        bind(&mut publisher, &listener, "site/x/probe/t");
        for number in 0..500 {
            let topic = format!("site/{}/twin-{}/a/b", number % 3, number % 5);
            match qos {
                0 => publisher.publish_once(&topic, format!(r#"{{"t":{number}}}"#)),
                _ => publisher.publish(&topic, format!(r#"{{"t":{number}}}"#)),
            }
        }
        let is_one = |message: &Message| is_state(message) && !message.topic.contains("probe");
        listener.until_heard_times(500, "500 states", is_one);
        publisher.publish("elsewhere/x/twin-1/a", r#"{"t":1}"#);
        let (summary, archive) = site.end(job, "TERM");
        assert_eq!(summary["twins"], 6, "{summary}");
        let heard = listener.messages();
        assert_eq!(heard.iter().filter(|message| is_one(message)).count(), 500);
        assert_eq!(archive["physical"].rows.len(), archive["state"].rows.len());
        // Of each twin the values come in their order, and revisions grow by one.
        let mut last: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for message in heard.iter().filter(|message| is_one(message)) {
            let json = message.json();
            let (revision, t) = (json["revision"].as_i64(), json["properties"]["t"].as_i64());
            let now = revision.zip(t).expect("a state has both");
            let before = last.insert(message.topic.clone(), now);
            assert!(before.is_none_or(|before| now == (before.0 + 1, before.1 + 5)), "{before:?} {now:?}");
        }
        assert_eq!(last.len(), 5);
    }
}

#[test]
fn a_login_is_used_and_never_shown() {
    let broker = Broker::with_login("line", "s3cret-word");
    let mut site = Site::new();
    site.connection = ", user: line, password: \"${TWINLOOM_TEST_PASSWORD}\"".into();
    let with_password = |password: &str| {
        site.write_job(&broker);
        let arguments = ["run", "job.yaml", "--json", "--data", "data", "--log", "debug"];
        start(twinloom(site.path(), &arguments).env("TWINLOOM_TEST_PASSWORD", password))
    };

    let mut refused = with_password("wrong-word");
    refused.until_logged("check `user`");
    refused.signal("TERM");
    let refused = refused.wait().succeeded();
    assert!(!refused.stderr.contains("wrong-word"), "{}", refused.stderr);

    let job = with_password("s3cret-word");
    let listener = listener(&broker);
    bind(&mut broker.client("publisher"), &listener, "device/a/t");
    job.signal("TERM");
    let ended = job.wait().succeeded();
    assert!(!ended.stderr.contains("s3cret-word"), "{}", ended.stderr);

    let unset = ["run", "job.yaml", "--json", "--data", "data"];
    let unset = start(twinloom(site.path(), &unset).env_remove("TWINLOOM_TEST_PASSWORD")).wait();
    assert_eq!(unset.code, Some(78), "{unset:?}");
    let said = unset.stdout + &unset.stderr;
    assert!(said.contains("TWINLOOM_TEST_PASSWORD is not set"), "{said}");
}

/// Rules 3.6 and 5.1: what the broker kept initialises a twin, and binds nothing.
#[test]
fn retained_messages_initialise() {
    let broker = Broker::started();
    let site = Site::new();
    let mut publisher = broker.client("publisher");
    publisher.publish_retained("device/kept/t", r#"{"t":1}"#);
    let listener = listener(&broker);
    let job = site.run(&broker, &[]);
    let state = listener.until_heard("the kept twin", is_state);
    assert!(state.says("twin", "kept") && state.says("lifecycle", "unbound"), "{:?}", state.json());
    publisher.publish("device/kept/t", r#"{"t":2}"#);
    listener.until_heard("the twin to be bound", |message| message.says("to", "bound"));
    let (_, archive) = site.end(job, "TERM");
    let observed: Vec<_> = archive["physical"].cells("observed").into_iter().map(|cell| cell.as_bool()).collect();
    assert_eq!(observed, [Some(false), Some(true)]);
}

/// Payloads that cannot be taken are dead letters, and the run goes on; ids are encoded in topics.
#[test]
fn bad_payloads_are_dead_letters() {
    let broker = Broker::started();
    let mut site = Site::new();
    site.stream = "        twin: /id".into();
    site.topics = "in/+".into();
    let listener = listener(&broker);
    let job = site.run(&broker, &[]);
    let mut publisher = broker.client("publisher");
    until("the job to take messages", || {
        publisher.publish("in/x", r#"{"id":"probe","t":0}"#);
        listener.messages().iter().any(is_state).then_some(())
    });
    let large = format!(r#"{{"id":"large","t":1,"fill":"{}"}}"#, "x".repeat(5 << 20));
    for payload in [large.as_bytes(), b"", b"{", b"\xff\xfe\x00", br#"{"id":"nan","t":NaN}"#, br#"{"t":1}"#] {
        publisher.publish("in/x", payload);
    }
    publisher.publish("in/x", r#"{"id":"a/b +#%ü","t":1}"#);
    let last = listener.until_heard("the good one after the bad", |message| is_state(message) && message.topic.contains("a%2F"));
    assert_eq!(last.topic, "twins/line/a%2Fb %2B%23%25ü/state");
    assert!(last.says("twin", "a/b +#%ü"));
    let (summary, archive) = site.end(job, "TERM");
    assert_eq!((&summary["dead_letters"], &summary["twins"]), (&6.into(), &2.into()), "{summary}");
    let letters = &archive["dead_letters"];
    let reasons: Vec<_> = letters.cells("reason").into_iter().filter_map(|cell| cell.as_str()).collect();
    for (reason, wanted) in reasons.iter().zip(["5242", "empty", "malformed", "malformed", "malformed", "id is empty"]) {
        assert!(reason.contains(wanted), "{reason:?} has no {wanted:?}");
    }
    let payloads = letters.cells("payload");
    assert!(payloads.iter().all(|payload| payload.as_str().is_some_and(|text| text.len() <= 4_096)));
}

#[test]
fn a_broker_that_comes_later_is_found() {
    let mut broker = Broker::new();
    let site = Site::new();
    let mut job = site.run(&broker, &[]);
    job.until_logged("broker not reached; retrying");
    broker.start();
    let listener = listener(&broker);
    bind(&mut broker.client("publisher"), &listener, "device/a/t");
    let (_, archive) = site.end(job, "INT");
    // It never was bound, so nothing was lost.
    assert_eq!(archive["lifecycle"].count(&[("reason", "source_lost")]), 0);
}

/// Rules 5.4 and 5.5: a broker that is killed is one incident, and every twin goes Unbound with it;
/// when it comes back, empty, the job subscribes again and the twins are bound by what they send.
#[test]
fn a_killed_broker_is_one_incident() {
    const TWINS: usize = 40;
    let mut broker = Broker::started();
    let site = Site::new();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let mut job = site.run(&broker, &["--listen", &listen]);
    let phase = |phase: &str| metric(port, &format!("twinloom_twins_phase{{phase=\"{phase}\"}}"));
    let speak = |broker: &Broker| {
        let listener = listener(broker);
        let mut publisher = broker.client("publisher");
        bind(&mut publisher, &listener, "device/0/t");
        for twin in 1..TWINS {
            publisher.publish(&format!("device/{twin}/t"), r#"{"t":1}"#);
        }
        until("all twins to be entangled", || (phase("entangled") == Some(TWINS as f64)).then_some(()));
    };
    speak(&broker);
    broker.kill();
    job.until_logged("source lost");
    until("all twins to be unbound", || (phase("unbound") == Some(TWINS as f64)).then_some(()));
    assert_eq!(metric(port, "twinloom_incidents_total"), Some(1.0));
    broker.start();
    speak(&broker);

    let log = job.log();
    let (summary, archive) = site.end(job, "TERM");
    assert_eq!(summary["lifecycle"]["entangled"], TWINS, "{summary}");
    let lost = log.lines().filter(|line| line.contains("WARN") && line.contains("source lost"));
    assert_eq!(lost.count(), 1, "{log}");
    let lifecycle = &archive["lifecycle"];
    assert_eq!(lifecycle.count(&[("to", "unbound")]), TWINS);
    assert_eq!(lifecycle.count(&[("to", "unbound"), ("reason", "source_lost")]), TWINS);
    let column = |name: &str| lifecycle.cells(name);
    let incidents: BTreeSet<_> = column("incident").into_iter().zip(column("to")).filter(|(_, to)| **to == "unbound").map(|(incident, _)| incident.as_i64()).collect();
    assert_eq!(incidents, BTreeSet::from([Some(1)]));
    let twins: BTreeSet<_> = column("twin").into_iter().zip(column("to")).filter(|(_, to)| **to == "unbound").map(|(twin, _)| twin.as_str()).collect();
    assert_eq!(twins.len(), TWINS);
    assert_eq!(lifecycle.count(&[("from", "unbound"), ("to", "bound")]), 2 * TWINS);
}

/// Rule 9: who listens late hears the truth about a silent twin; what happened once is not kept.
#[test]
fn a_late_listener_hears_the_last_state() {
    let broker = Broker::started();
    let site = Site::new();
    let job = site.run(&broker, &[]);
    let early = listener(&broker);
    bind(&mut broker.client("publisher"), &early, "device/silent/t");
    early.until_heard("the twin to be entangled", |message| message.says("to", "entangled"));
    let late = {
        let mut client = broker.client("late");
        client.subscribe("twins/line/silent/+");
        client
    };
    for kind in ["state", "lifecycle", "entanglement"] {
        let message = late.until_heard(kind, |message| message.says("kind", kind));
        assert!(message.retained, "{kind}");
    }
    site.end(job, "TERM");
}

/// A stop in the middle of the load: what was accepted is archived and published, all of it.
#[test]
fn a_stop_loses_nothing_that_was_accepted() {
    for (signal, qos) in [("TERM", 0), ("INT", 1)] {
        let broker = Broker::started();
        let mut site = Site::new();
        site.connection = format!(", qos: {qos}");
        let listener = listener(&broker);
        let job = site.run(&broker, &[]);
        let mut publisher = broker.client("publisher");
        bind(&mut publisher, &listener, "device/0/t");
        for number in 0..20_000 {
            publisher.publish_once(&format!("device/{}/t", number % 100), format!(r#"{{"t":{number}}}"#));
            if number == 10_000 {
                job.signal(signal);
            }
        }
        let ended = job.wait().succeeded();
        let (summary, archive) = (ended.json(), site.archive());
        let events = rows(&archive, "physical");
        assert_eq!((&summary["events"], &summary["unpublished"]), (&events.into(), &0.into()), "{summary}");
        assert!(events > 0, "{summary}");
        listener.until_heard_times(events, "a state for every event", is_state);
        assert_eq!(listener.messages().iter().filter(|message| is_state(message)).count(), events);
        assert_eq!(rows(&archive, "state"), events);
    }
}

/// Rules 7.7 and 7.9: sources belong to process 0, twins live on all workers, each process has a
/// client of its own for its listeners, and a stop asked of any process ends the run on all.
#[test]
fn two_processes_are_one_run() {
    let broker = Broker::started();
    let site = Site::new();
    site.write_job(&broker);
    let hosts = format!("127.0.0.1:{}\n127.0.0.1:{}\n", free_port(), free_port());
    std::fs::write(site.path().join("hosts"), hosts).expect("the folder is ours");
    let run = |process: &str| {
        let arguments = ["run", "job.yaml", "--json", "--data", "data", "--workers", "2", "--hosts", "hosts", "--process", process];
        start(&mut twinloom(site.path(), &arguments))
    };
    let (first, second) = (run("0"), run("1"));
    let listener = listener(&broker);
    let mut publisher = broker.client("publisher");
    bind(&mut publisher, &listener, "device/0/t");
    for number in 0..200 {
        publisher.publish(&format!("device/{}/t", number % 20), r#"{"t":1}"#);
    }
    let twins = |message: &Message| is_state(message).then(|| message.topic.clone());
    until("states of all twins", || {
        let twins: BTreeSet<_> = listener.messages().iter().filter_map(twins).collect();
        (twins.len() == 20).then_some(())
    });
    second.signal("TERM");
    let (first, second): (Ended, Ended) = (first.wait().succeeded(), second.wait().succeeded());
    let archive = site.archive();
    let summary = first.json();
    assert_eq!(summary["events"], rows(&archive, "physical"), "{summary}");
    assert_eq!((&summary["unpublished"], &second.json()["unpublished"]), (&0.into(), &0.into()));
    let events = rows(&archive, "physical");
    listener.until_heard_times(events, "a state for every event", is_state);
    // Both processes wrote files of their own.
    let files = archive::files(&site.path().join("archive"));
    let worker = |file: &Path| {
        let name = file.file_name()?.to_str()?.strip_suffix(".parquet")?;
        name.split('-').nth(1)?.parse::<usize>().ok()
    };
    let workers: BTreeSet<_> = files.iter().filter_map(|file| worker(file)).collect();
    assert!(workers.iter().any(|worker| *worker < 2) && workers.iter().any(|worker| *worker >= 2), "{workers:?}");
}

/// The value of a line of `/metrics`.
fn metric(port: u16, line: &str) -> Option<f64> {
    let (_, body) = http::get(port, "/metrics")?;
    let value = body.lines().find_map(|one| one.strip_prefix(line))?;
    value.trim().parse().ok()
}

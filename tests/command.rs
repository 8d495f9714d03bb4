//! The command line as users and programs meet it: exit codes, data folders, what a run shows of
//! itself, and the summaries of `demo` and `simulate`. Job files that are wrong are in `definition`.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::archive;
use crate::harness::broker::Broker;
use crate::harness::program::{run, start, twinloom};
use crate::harness::{free_port, http, until};

/// A job that is good, of which each case spoils a piece. `plant` is not there, and is not asked.
pub const GOOD: &str = r#"job: line
connections:
  plant: {mqtt: {url: mqtt://localhost:1883, password: "${UNSET}", user: me}}
  log: {file: {path: log.jsonl}}
types:
  press:
    properties:
      t: {type: double, unit: Cel, range: [-40, 200]}
      f: {type: double}
      mode: {type: enum, values: [idle, run]}
    events: {hot: {type: double}}
    physical:
      telemetry:
        from: plant
        topics: ["press/{twin}/state"]
        at: {pointer: /at, format: unix_ms}
        properties: {t: /t, mode: /mode}
        expected_rate: 1/s
    augmentation:
      f: {linear: {of: t, factor: 1.8, offset: 32}}
      hot: {threshold: {of: t, above: 80}}
    entanglement: {window: 60s, desired_timeliness: 1s, threshold: 0.9}
digital:
  - {to: log, kinds: [state]}
archive: {path: archive, roll: 128MB/10m}
"#;

/// A folder for one test.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Writes a file of a test's folder.
pub fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the folder is ours");
}

#[test]
fn usage_that_cannot_work() {
    let folder = folder();
    write(folder.path(), "job.yaml", &recorded(1));
    write(folder.path(), "hosts", "127.0.0.1:1\n");
    for arguments in [
        &["fly"][..],
        &[],
        &["run"],
        &["run", "job.yaml", "--workers", "none"],
        &["run", "job.yaml", "--duration", "5"],
        &["run", "job.yaml", "--listen", "0.0.0.0:9464"],
        &["run", "job.yaml", "--listen", "192.0.2.1:9464"],
        &["run", "job.yaml", "--hosts", "hosts"],
        &["run", "job.yaml", "--hosts", "hosts", "--process", "1"],
        &["run", "job.yaml", "--hosts", "nowhere", "--process", "0"],
        &["simulate", "--broker", "localhost"],
        &["simulate", "--broker", "mqtt://localhost", "--rate", "1"],
        &["simulate", "--broker", "mqtt://localhost", "--topic", "device/state"],
        &["init", "--user", "me"],
        &["init", "--ca", "ca.pem", "new.yaml"],
    ] {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
    let outside = run(folder.path(), &["run", "job.yaml", "--listen", "0.0.0.0:9464"]);
    assert!(outside.stderr.contains("127.0.0.1:9464"), "{outside:?}");
    let help = run(folder.path(), &["--help"]).succeeded();
    for command in ["demo", "init", "validate", "run", "simulate"] {
        assert!(help.stdout.contains(command), "{}", help.stdout);
    }
}

/// `twinloom .. | head`: no panic, and no message.
#[test]
fn output_that_nobody_reads_ends_a_command_quietly() {
    let folder = folder();
    write(folder.path(), "job.yaml", &recorded(1));
    write(folder.path(), "input.jsonl", "{\"topic\":\"press/a\",\"arrived_at\":1,\"payload\":1}\n");
    run(folder.path(), &["run", "job.yaml"]).succeeded();
    for arguments in [
        &["validate", "job.yaml"][..],
        &["checkpoint", "list", "job.yaml"],
        &["checkpoint", "export", "job.yaml"],
        &["run", "job.yaml", "--json"],
    ] {
        let (reader, writer) = std::io::pipe().expect("the system has pipes");
        drop(reader);
        let mut command = twinloom(folder.path(), arguments);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = stderr.lines().find(|line| line.contains("panicked") || line.starts_with("error"));
        // As a shell says it of what SIGPIPE ended.
        assert_eq!((output.status.code(), said), (Some(141), None), "{arguments:?}: {stderr}");
    }
}

/// A job that reads a recorded file to its end.
fn recorded(twins_max: u64) -> String {
    format!(
        r#"
job: recorded
connections: {{plant: {{file: {{path: input.jsonl, clock: recorded}}}}}}
types:
  press:
    properties: {{t: {{type: double}}}}
    physical:
      telemetry: {{from: plant, topics: ["press/{{twin}}"], at: arrival, properties: {{t: ""}}, expected_rate: none}}
limits: {{twins: {twins_max}}}
archive: {{path: archive}}
"#
    )
}

/// Rule 1.3: the generation grows at every start; input that a run has taken is not taken again.
#[test]
fn every_start_is_a_generation() {
    let folder = folder();
    write(folder.path(), "job.yaml", &recorded(10));
    write(folder.path(), "input.jsonl", "{\"topic\":\"press/a\",\"arrived_at\":1,\"payload\":1}\n");
    let run_again = |more: &[&str]| {
        run(folder.path(), &[&["run", "job.yaml", "--json"], more].concat()).succeeded().json()
    };
    for (generation, events) in [(1, 1), (2, 0), (3, 0)] {
        let summary = run_again(&[]);
        assert_eq!((&summary["generation"], &summary["events"]), (&generation.into(), &events.into()));
        assert_eq!(summary["twins"], 1);
    }
    // With empty twins it is the same input still.
    let summary = run_again(&["--fresh"]);
    assert_eq!((&summary["events"], &summary["twins"]), (&0.into(), &0.into()));
    let tables = archive::read(&folder.path().join("archive"));
    assert_eq!(tables["physical"].rows.len(), 1);
    // Another job has no business in this folder.
    write(folder.path(), "other.yaml", &recorded(10).replace("job: recorded", "job: other"));
    let other = run(folder.path(), &["run", "other.yaml", "--data", ".twinloom/recorded"]);
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stderr.contains("belongs to the job `recorded`"), "{other:?}");
}

/// Rule 7.7: a process of another job, or started otherwise, is turned away at the door.
#[test]
fn processes_that_do_not_belong_together_are_refused() {
    let folder = folder();
    write(folder.path(), "job.yaml", &recorded(10));
    write(folder.path(), "other.yaml", &recorded(10).replace("t: {type: double}", "t: {type: integer}"));
    write(folder.path(), "input.jsonl", "");
    write(folder.path(), "hosts", &format!("127.0.0.1:{}\n127.0.0.1:{}\n", free_port(), free_port()));
    let process = |job, number, workers| {
        let arguments =
            ["run", job, "--hosts", "hosts", "--process", number, "--workers", workers, "--data", "data"];
        start(&mut twinloom(folder.path(), &arguments))
    };
    let first = process("job.yaml", "0", "1");
    for (job, workers, reason) in
        [("job.yaml", "2", "another number of workers"), ("other.yaml", "1", "another job")]
    {
        let refused = process(job, "1", workers).wait();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(reason), "{refused:?}");
    }
    // Those that were refused did no harm: the right one is still awaited.
    process("job.yaml", "1", "1").wait().succeeded();
    first.wait().succeeded();
}

/// Rule 8.2: the limit of twins; what is over it is a dead letter, and the run goes on.
#[test]
fn a_job_keeps_to_its_limit_of_twins() {
    let folder = folder();
    write(folder.path(), "job.yaml", &recorded(2));
    let lines =
        (0..5).map(|twin| format!("{{\"topic\":\"press/{twin}\",\"arrived_at\":{twin},\"payload\":1}}\n"));
    write(folder.path(), "input.jsonl", &lines.collect::<String>());
    let summary = run(folder.path(), &["run", "job.yaml", "--json", "--workers", "1"]).succeeded().json();
    assert_eq!((&summary["twins"], &summary["dead_letters"]), (&2.into(), &3.into()), "{summary}");
}

#[test]
fn an_archive_that_cannot_be_written_is_refused_at_start() {
    let folder = folder();
    write(folder.path(), "input.jsonl", "");
    // A file stands where the folder should be: that stops root as well.
    write(folder.path(), "archive", "in the way");
    write(folder.path(), "job.yaml", &recorded(10));
    let ended = run(folder.path(), &["run", "job.yaml"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("archive: cannot"), "{ended:?}");
    let missing =
        GOOD.replace("log.jsonl", "no/folder/log.jsonl").replace(", password: \"${UNSET}\", user: me", "");
    write(folder.path(), "job.yaml", &missing.replace("path: archive", "path: other"));
    let ended = run(folder.path(), &["run", "job.yaml"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("cannot write no/folder/log.jsonl"), "{ended:?}");
}

/// Two runs on one data folder would both be the owner; and what a live run shows of itself.
#[test]
fn a_live_run_owns_its_folder_and_shows_itself() {
    let broker = Broker::started();
    let folder = folder();
    let job = GOOD
        .replace("mqtt://localhost:1883", &broker.url())
        .replace(", password: \"${UNSET}\", user: me", "");
    write(folder.path(), "job.yaml", &job);
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let first = start(&mut twinloom(folder.path(), &["run", "job.yaml", "--json", "--listen", &listen]));
    until("the run to be ready", || http::get(port, "/health/ready").filter(|(status, _)| *status == 200));
    assert_eq!(http::get(port, "/health/live").map(|(status, _)| status), Some(200));
    assert_eq!(http::get(port, "/nowhere").map(|(status, _)| status), Some(404));

    let mut publisher = broker.client("publisher");
    let count = |name: &str| {
        let (_, body) = http::get(port, "/metrics")?;
        body.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
    };
    until("an event in the metrics", || {
        publisher.publish("press/p-1/state", r#"{"at":1,"t":1}"#);
        count("twinloom_events_total").filter(|events| *events > 0.0)
    });
    let (_, body) = http::get(port, "/metrics").expect("it is served");
    let names: Vec<_> = body.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(names.len() > 20 && names.iter().all(|line| line.starts_with("twinloom_")), "{body}");

    let second = run(folder.path(), &["run", "job.yaml"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&format!("in use by process {}", first.id())), "{second:?}");
    first.signal("TERM");
    first.wait().succeeded();
}

#[test]
fn a_duration_ends_a_live_run() {
    let broker = Broker::started();
    let folder = folder();
    let job = GOOD
        .replace("mqtt://localhost:1883", &broker.url())
        .replace(", password: \"${UNSET}\", user: me", "");
    write(folder.path(), "job.yaml", &job);
    let summary =
        run(folder.path(), &["run", "job.yaml", "--json", "--duration", "200ms"]).succeeded().json();
    assert_eq!((&summary["twins"], &summary["events"]), (&0.into(), &0.into()), "{summary}");
}

#[test]
fn what_init_writes_validate_accepts() {
    let folder = folder();
    run(folder.path(), &["init"]).succeeded();
    let valid = run(folder.path(), &["validate", "first.yaml"]).succeeded();
    assert_eq!(valid.stderr, "", "a newcomer's file has no warnings");
    let written = std::fs::read_to_string(folder.path().join("first.yaml")).expect("it was written");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/first.yaml");
    assert_eq!(written, std::fs::read_to_string(example).expect("the example is there"));
    let again = run(folder.path(), &["init"]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("exists"), "{again:?}");
}

#[test]
fn the_demo_is_a_whole_fleet() {
    let folder = folder();
    let ended = run(
        folder.path(),
        &["demo", "--json", "--duration", "5s", "--twins", "50", "--rate", "5/s", "--data", "here"],
    );
    let ended = ended.succeeded();
    assert_eq!(ended.stdout.lines().count(), 1, "one object: {}", ended.stdout);
    let summary = ended.json();
    for (key, inner) in [
        ("latency_ms", &["p50", "p99"][..]),
        ("compute_ms", &["p50", "p99"]),
        ("odte", &["mean", "p05"]),
        ("lifecycle", &["unbound", "bound", "entangled", "disentangled", "done"]),
    ] {
        for inner in inner {
            assert!(summary[key][inner].is_number(), "{key}.{inner}: {summary}");
        }
    }
    let number = |value: &Value| value.as_f64().expect("a number");
    assert_eq!(summary["twins"], 50, "{summary}");
    assert_eq!(summary["dead_letters"], 0, "{summary}");
    assert!(number(&summary["events_per_second"]) > 0.0, "{summary}");
    let phases = &summary["lifecycle"];
    let bound = number(&phases["bound"]) + number(&phases["entangled"]) + number(&phases["disentangled"]);
    assert_eq!(bound, 50.0, "all twins are alive at the last instant of load: {summary}");
    let root = Path::new(summary["archive"].as_str().expect("a path"));
    assert!(
        root.is_absolute() && root.starts_with(folder.path().canonicalize().expect("it is there")),
        "{summary}"
    );
    let tables = archive::read(root);
    assert_eq!(summary["events"], tables["physical"].rows.len(), "{summary}");
    assert_eq!(tables["state"].rows.len(), tables["physical"].rows.len());
}

#[test]
fn a_simulated_fleet_says_what_it_sent() {
    let broker = Broker::started();
    let mut client = broker.client("listener");
    client.subscribe("device/+/telemetry/device_state");
    let url = broker.url();
    let arguments = [
        "simulate",
        "--broker",
        &url,
        "--twins",
        "5",
        "--rate",
        "20/s",
        "--duration",
        "1s",
        "--prefix",
        "press",
        "--qos",
        "1",
        "--json",
    ];
    let summary = run(folder().path(), &arguments).succeeded().json();
    let published = summary["published"].as_u64().expect("a count");
    assert!(published > 0, "{summary}");
    client.until_heard_times(published as usize, "all that was published", |_| true);
    let message = &client.messages()[0];
    let json = message.json();
    assert!(message.topic.starts_with("device/press"), "{}", message.topic);
    assert_eq!(json["type"], "iot.sensor.state.aggregated", "{json}");
    assert!(json["timestamp"].is_u64(), "{json}");
    for property in ["iot.sensor.temperature", "iot.sensor.energy"] {
        assert!(json["data"][property].is_number(), "{json}");
    }
    let nobody = format!("mqtt://127.0.0.1:{}", free_port());
    let alone = run(folder().path(), &["simulate", "--broker", &nobody, "--duration", "300ms"]);
    assert_eq!(alone.code, Some(1), "{alone:?}");
}

/// Each step of one message as the engine would do it, on the job as it stands.
#[test]
fn a_message_is_tried_step_by_step() {
    let folder = folder();
    let job = GOOD.replace(
        "      hot: {threshold",
        "      call: {http: {url: \"http://127.0.0.1:9/call\"}, of: [t]}\n      hot: {threshold",
    );
    write(
        folder.path(),
        "job.yaml",
        &job.replace("      f: {type: double}\n", "      f: {type: double}\n      call: {type: double}\n"),
    );
    write(folder.path(), "first.json", r#"{"at": 1700000000000, "t": 90.5, "mode": "run"}"#);
    let tried = |more: &[&str]| run(folder.path(), &[&["try", "job.yaml"], more].concat());
    let shown = tried(&["--topic", "press/p-1/state", "--payload", "first.json"]).succeeded().stdout;
    for expected in [
        "from plant\n  1 telemetry: press `p-1` at 2023-11-14T22:13:20.000Z\n      t = 90.5, mode = run\n",
        "  2 update 1 takes t, mode; the device's time is not believed, and the update is late\n",
        "  3 functions write f = 194.9\n      call (http) would be called with {\"twin\":\"p-1\",\"type\":\"press\"",
        "  4 bound, revision 1, ODTE 0.000\n",
        "  5 log twins/line/p-1/state\n      {\"job\":\"line\",\"twin\":\"p-1\"",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    let shown = tried(&["--topic", "press/p-1/state", "--text", r#"{"at": "x"}"#]).succeeded().stdout;
    assert!(shown.contains("  1 dead letter: "), "{shown}");
    let shown = tried(&["--topic", "valve/p-1", "--text", "{}"]).succeeded().stdout;
    assert_eq!(shown, "no stream takes the topic valve/p-1; there are: plant (press/+/state)\n");
    assert_eq!(tried(&["--topic", "a"]).code, Some(2));
}

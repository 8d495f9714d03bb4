//! A newcomer's tools: cases beside a job, and a job drafted from what devices say.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::program::{run, start, twinloom};
use crate::harness::site::listener;
use crate::harness::until;

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A folder with the first job and its cases, some pieces of which are changed.
fn first_with(changes: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut cases = example("first.test.yaml");
    for (from, to) in changes {
        assert!(cases.contains(from), "{from}");
        cases = cases.replacen(from, to, 1);
    }
    fs::write(folder.path().join("first.yaml"), example("first.yaml")).expect("it is ours");
    fs::write(folder.path().join("first.test.yaml"), cases).expect("it is ours");
    folder
}

#[test]
fn the_cases_of_the_first_job_pass_and_leave_nothing_behind() {
    let folder = first_with(&[]);
    let ended = run(folder.path(), &["test", "first.yaml"]).succeeded();
    assert!(ended.stdout.ends_with("4 passed\n"), "{ended:?}");
    assert_eq!(ended.stdout.matches("ok    ").count(), 4, "{ended:?}");
    assert_eq!(fs::read_dir(folder.path()).expect("it is ours").count(), 2, "neither archive nor data");
    let one = run(folder.path(), &["test", "first.yaml", "--filter", "steady", "--json"]).succeeded().json();
    assert_eq!((one[0]["messages"].as_u64(), &one[0]["differences"]), (Some(60), &Value::Array(vec![])));
}

#[test]
fn what_differs_is_shown_with_its_line_and_ends_with_1() {
    let changes = [("temperature_f: 75.704", "temperature_f: 75.9"), ("p-1: none, ", "p-1: {}, ")];
    let folder = first_with(&changes);
    let ended = run(folder.path(), &["test", "first.yaml"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("2 of 4 cases failed"), "{ended:?}");
    let text = fs::read_to_string(folder.path().join("first.test.yaml")).expect("it is ours");
    let line = |piece: &str| 1 + text.lines().position(|line| line.contains(piece)).expect("it stands there");
    for piece in [
        format!("first.test.yaml:{}: twins.p-1.properties.temperature_f\n    expected 75.9", line("75.9")),
        format!("first.test.yaml:{}: twins.p-1\n    expected a twin", line("p-1: {}")),
        "found    75.704".to_owned(),
    ] {
        assert!(ended.stdout.contains(&piece), "{piece} in {}", ended.stdout);
    }
    // What is wrong with the file itself is told as of a job file.
    let folder = first_with(&[("until: 5m", "untl: 5m")]);
    let ended = run(folder.path(), &["test", "first.yaml"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("unknown key `untl`"), "{ended:?}");
}

const JOB: &str = r#"
job: line
connections: {bus: {kafka: {brokers: ["nowhere.invalid:9092"]}}}
types:
  press:
    properties: {t: {type: double}, cost: {type: double}, warm: {type: boolean}}
    events: {hot: {type: double}}
    physical:
      telemetry: {from: bus, topics: [press.t], at: arrival, properties: {t: /t}, expected_rate: none}
    augmentation:
      cost: {http: {url: "http://nowhere.invalid/cost"}, of: [t]}
      warm: {python: {code: "def f(state): return {'warm': state['t'] > 20}"}}
      hot: {threshold: {of: t, above: 80}}
digital: [{to: bus, exactly_once: true}]
"#;

const CASES: &str = r#"
begin: 2026-11-26T12:00:00Z
cases:
  functions:
    given:
      - {at: 1s, topic: press.t, key: p-1, payload: {t: 19}}
      - {at: 2s, topic: press.t, key: p-1, payload: {t: 90}}
      - {at: 2s, topic: press.x, key: p-1, payload: {t: 90}}
    answers: {cost: [{cost: 1}, {cost: 2.5}]}
    expect:
      twins: {p-1: {update: 2, properties: {t: 90, cost: 2.5, warm: true}}}
      events:
        - {twin: p-1, kind: state, properties: {t: 19, cost: 1, warm: false}, digital_at: "2026-11-26T12:00:01.000Z"}
        - {twin: p-1, kind: event, name: hot, value: 90}
"#;

/// Neither the cluster nor the endpoint is there: a case touches neither, and functions in Python run.
#[test]
fn a_case_touches_nothing_outside_and_functions_answer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("job.yaml"), JOB).expect("it is ours");
    fs::write(folder.path().join("cases.yaml"), CASES).expect("it is ours");
    let ended = run(folder.path(), &["test", "job.yaml", "--cases", "cases.yaml", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let verdicts: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let differences = verdicts[0]["differences"].as_array().expect("a list");
    // The one topic that no stream takes, and nothing else.
    assert_eq!(differences.len(), 1, "{verdicts}");
    assert_eq!(differences[0]["line"], 8, "{verdicts}");
    assert!(differences[0]["found"].as_str().is_some_and(|found| found.contains("press.t")), "{verdicts}");
    let good = CASES.replace("      - {at: 2s, topic: press.x, key: p-1, payload: {t: 90}}\n", "");
    fs::write(folder.path().join("cases.yaml"), good).expect("it is ours");
    run(folder.path(), &["test", "job.yaml", "--cases", "cases.yaml"]).succeeded();
}

/// Two kinds of device speak; what is drafted from them is valid, and runs.
#[test]
fn a_job_is_drafted_from_what_devices_say_and_runs() {
    let broker = Broker::started();
    let mut meters = broker.client("meters");
    for meter in ["m-1", "m-2"] {
        meters.publish_retained(&format!("meter/{meter}/power"), r#"{"power_kw":1.5}"#);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = broker.url();
    let simulate = ["simulate", "--broker", &url, "--twins", "5", "--rate", "10/s"];
    let devices = start(&mut twinloom(folder.path(), &simulate));
    let mut heard = broker.client("heard-first");
    heard.subscribe("device/#");
    until("the devices to speak", || (!heard.messages().is_empty()).then_some(()));
    let init = ["init", "--from", &url, "--topic", "#", "--for", "3s", "-o", "job.yaml"];
    run(folder.path(), &init).succeeded();
    let draft = fs::read_to_string(folder.path().join("job.yaml")).expect("it is there");
    for piece in [
        "topics: [\"device/{twin}/telemetry/device_state\"]",
        "at: {pointer: /timestamp, format: unix_ms}",
        "temperature: /data/iot.sensor.temperature",
        "expected_rate: 10/s",
        "topics: [\"meter/{twin}/power\"]",
        "power_kw: {type: double, unit: kW}",
    ] {
        assert!(draft.contains(piece), "{piece} in\n{draft}");
    }
    let again = run(folder.path(), &init);
    assert!(again.code == Some(1) && again.stderr.contains("exists"), "{again:?}");
    run(folder.path(), &["validate", "job.yaml"]).succeeded();

    let twins = listener(&broker);
    let job = start(&mut twinloom(folder.path(), &["run", "job.yaml", "--workers", "1"]));
    for of in ["twins/drafted/device-", "twins/drafted/m-"] {
        twins.until_heard(of, |message| message.topic.starts_with(of) && message.topic.ends_with("/state"));
    }
    twins.until_heard("an entangled device", |message| {
        message.topic.starts_with("twins/drafted/device-") && message.says("to", "entangled")
    });
    job.signal("TERM");
    job.wait().succeeded();
    devices.signal("TERM");
    devices.wait();
}

#[test]
fn a_broker_that_is_away_or_silent_drafts_nothing() {
    let broker = Broker::started();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let silent = run(folder.path(), &["init", "--from", &broker.url(), "--for", "200ms"]).failed();
    assert!(silent.contains("nothing was heard on #"), "{silent}");
    let wrong = run(folder.path(), &["init", "--from", "http://h", "--for", "200ms"]).failed();
    assert!(wrong.contains("mqtt://"), "{wrong}");
    assert_eq!(fs::read_dir(folder.path()).expect("it is ours").count(), 0);
}

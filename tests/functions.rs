//! Functions that are called outside of the engine: behind a real socket, and in real Python processes.
//!
//! ```text
//!   test client ─► mosquitto ─► twinloom run ─► listener, archive
//!                                  │   ▲
//!                                  └─ call ─► endpoint of the test, which may hold it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::cases::check_layouts;
use crate::harness::broker::Broker;
use crate::harness::client::Message;
use crate::harness::endpoint::Endpoint;
use crate::harness::http;
use crate::harness::program::{python_tool, start};
use crate::harness::site::{Site, is_state, listener, metric, rows};
use crate::harness::{free_port, until};

/// A function that doubles.
fn doubling() -> Endpoint {
    Endpoint::start(|body| {
        let t = body["properties"]["t"].as_f64().expect("a number");
        (200, json!({"q": t * 2.0}).to_string())
    })
}

/// Rules 2.3, 6.2: recorded input waits for every answer, and is the same on every layout.
#[test]
fn recorded_input_waits_for_every_answer() {
    let endpoint = doubling();
    let job = format!(
        r#"
job: recorded
connections: {{plant: {{file: {{path: input.jsonl, clock: recorded}}}}, out: {{file: {{path: out.jsonl}}}}}}
types:
  press:
    properties: {{t: {{type: double}}, n: {{type: integer}}, q: {{type: double}}, half: {{type: double}}, word: {{type: string}}, count: {{type: integer}}}}
    events: {{high: {{type: object}}}}
    physical:
      s: {{from: plant, topics: ["press/{{twin}}"], at: {{pointer: /at, format: unix_ms}}, properties: {{t: /t, n: /n}}, expected_rate: 1/s}}
    augmentation:
      q: {{http: {{url: "{}", concurrency: 8}}, of: [t], on_late: skip, timeout: 1ms}}
      other: {{python: {{file: other.py}}, of: [t], yields: [half, word, high]}}
      count: {{python: {{file: count.py, processes: 3}}, of: [t], keeps: 40B}}
    entanglement: {{window: 20s, desired_timeliness: 1s}}
digital: [{{to: out}}]
archive: {{path: archive}}
"#,
        endpoint.url
    );
    let other = "def f(state):\n    t = state['t']\n    high = {'t': t} if t > 90 else None\n    \
                 return {'half': t / 2, 'word': 'x' * int(t % 5), 'high': high}\n";
    // One that keeps something of each twin, whichever of its processes is asked.
    let count = "def f(state):\n    count = (state.kept or {'count': 0})['count'] + 1\n    \
                 return {'count': count, 'kept': {'count': count}}\n";
    let (mut input, mut counts, mut expected_counts) = (String::new(), BTreeMap::new(), BTreeMap::new());
    for number in 0..600 {
        let (at, twin) = (1_000_000 + number * 97, number * 7 % 11);
        let value =
            if number % 5 == 4 { format!("\"n\":{number}") } else { format!("\"t\":{}", number % 100) };
        let line =
            format!(r#"{{"topic":"press/p{twin}","arrived_at":{at},"payload":{{"at":{at},{value}}}}}"#);
        writeln!(input, "{line}").expect("text takes all");
        let (update, count) = counts.entry(twin).or_insert((0, None));
        *update += 1;
        *count = if number % 5 == 4 { *count } else { Some(count.unwrap_or(0) + 1) };
        expected_counts.insert((format!("p{twin}"), *update), *count);
    }
    let prepare = |work: &Path| {
        let files =
            [("job.yaml", job.as_str()), ("input.jsonl", &input), ("other.py", other), ("count.py", count)];
        for (name, text) in files {
            std::fs::write(work.join(name), text).expect("the folder is ours");
        }
    };
    let outcome = check_layouts(prepare);
    let state = &outcome.archive["state"];
    assert_eq!(state.rows.len(), 600);
    let cells =
        |name: &str| -> Vec<Option<f64>> { state.cells(name).iter().map(|one| one.as_f64()).collect() };
    for ((t, q), half) in cells("t").into_iter().zip(cells("q")).zip(cells("half")) {
        assert_eq!((q, half), (t.map(|t| t * 2.0), t.map(|t| t / 2.0)));
    }
    let cells = |name: &str| state.cells(name).into_iter();
    let found = cells("twin").zip(cells("update")).zip(cells("count")).map(|((twin, update), count)| {
        let twin = twin.as_str().expect("an id").to_owned();
        ((twin, update.as_u64().expect("a number")), count.as_u64())
    });
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected_counts);
    let (high, expected) =
        (rows(&outcome.archive, "events"), (0..600).filter(|n| n % 5 != 4 && n % 100 > 90));
    assert_eq!(high, expected.count());
    crate::resumed::check(prepare);
}

/// Steps 2 and 3 as functions (the paper's serverless chain): what a message maps goes to one, what that answers is the
/// twin's, and goes to another. The same on every layout, and stopped half-way.
#[test]
fn a_chain_of_functions_is_the_logic_of_a_twin() {
    let endpoint = doubling();
    let job = format!(
        r#"
job: chain
connections: {{plant: {{file: {{path: input.jsonl, clock: recorded}}}}, out: {{file: {{path: out.jsonl}}}}}}
types:
  press:
    properties: {{t: {{type: double, range: [0, 100]}}, n: {{type: integer}}, q: {{type: double}}}}
    physical:
      s: {{from: plant, topics: ["press/{{twin}}"], at: {{pointer: /at, format: unix_ms}}, properties: {{t: /t, n: /n}}, expected_rate: 1/s}}
    shadow: {{python: {{file: shadow.py, processes: 2}}, on_error: dead_letter}}
    augmentation: {{q: {{http: {{url: "{}", concurrency: 8}}, of: [t]}}}}
    entanglement: {{window: 20s, desired_timeliness: 1s}}
digital: [{{to: out}}]
archive: {{path: archive}}
"#,
        endpoint.url
    );
    let shadow = "def f(state):\n    if state['t'] % 50 == 7:\n        raise ValueError('it is odd')\n    \
                  return {'t': state['t'] * 0.5, 'n': state.update}\n";
    let mut input = String::new();
    for number in 0..400 {
        let (at, twin) = (1_000_000 + number * 97, number * 7 % 11);
        let line = format!(
            r#"{{"topic":"press/p{twin}","arrived_at":{at},"payload":{{"at":{at},"t":{}}}}}"#,
            number % 100
        );
        writeln!(input, "{line}").expect("text takes all");
    }
    let prepare = |work: &Path| {
        for (name, text) in [("job.yaml", job.as_str()), ("input.jsonl", &input), ("shadow.py", shadow)] {
            std::fs::write(work.join(name), text).expect("the folder is ours");
        }
    };
    let outcome = check_layouts(prepare);
    let state = &outcome.archive["state"];
    let odd = (0..400).filter(|number| number % 50 == 7).count();
    assert_eq!((state.rows.len(), rows(&outcome.archive, "dead_letters")), (400 - odd, odd));
    for ((t, q), (n, update)) in state
        .cells("t")
        .into_iter()
        .zip(state.cells("q"))
        .zip(state.cells("n").into_iter().zip(state.cells("update")))
    {
        assert_eq!(q.as_f64(), t.as_f64().map(|t| t * 2.0));
        assert_eq!(n, update);
    }
    let sum = |name: &str| -> f64 { state.cells(name).iter().filter_map(|cell| cell.as_f64()).sum() };
    let told = (0..400).map(|number| f64::from(number % 100)).filter(|t| t % 50.0 != 7.0);
    assert_eq!(sum("q"), told.sum::<f64>());
    crate::resumed::check(prepare);
}

/// The chain of the examples, behind their own server with a cold start: what the twin takes and what is computed come
/// from there, and the first update is late by the start of both functions.
#[test]
fn the_function_server_of_the_examples_serves_a_chain() {
    let (broker, port) = (Broker::started(), free_port());
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/functions");
    let mut server = std::process::Command::new(python_tool("python"));
    server.current_dir(&examples).args(["server.py", "shadow.py", "quality.py", "--cold-start", "200ms"]);
    let server = start(server.args(["--port", &port.to_string()]));
    until("the server to answer", || http::get(port, "/"));
    let job = std::fs::read_to_string(examples.join("chain.yaml")).expect("it is there");
    let job =
        job.replace("127.0.0.1:8000", &format!("127.0.0.1:{port}")).replace("mqtt://localhost:1883", "URL");
    let site = Site::of(&job, &broker);
    let (listener, mut publisher) = (listener(&broker), broker.client("publisher"));
    let job = site.run(&[]);
    let message = |temperature: f64, at: u64| {
        let data = json!({"iot.sensor.temperature": temperature, "iot.sensor.energy": 4.5});
        json!({"timestamp": at, "data": data}).to_string()
    };
    let topic = "device/d/telemetry/device_state";
    until("a first state", || {
        publisher.publish(topic, message(21.5, 1_700_000_000_000));
        listener.messages().iter().any(is_state).then_some(())
    });
    publisher.publish(topic, message(70.0, 1_700_000_001_000));
    publisher.publish(topic, message(18.5, 1_700_000_002_000));
    let states = until("the last state", || {
        let states: Vec<Value> =
            listener.messages().iter().filter(|one| is_state(one)).map(Message::json).collect();
        let is_last = states.last()?["properties"]["temperature"] == 18.0;
        is_last.then_some(states)
    });
    let first = &states[0];
    assert_eq!(first["properties"]["temperature"], 21.0);
    assert_eq!(first["properties"]["quality"], 1.0);
    let at = |name: &str| first[name].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
    let late = at("digital_at").as_millisecond() - at("arrived_at").as_millisecond();
    assert!(late >= 400, "two functions were started, which takes 200 ms each: {late} ms");
    // What is not believed is not taken, and all that came is an update.
    let hot =
        states.iter().find(|one| one["physical_at"] == "2023-11-14T22:13:21.000Z").expect("its energy is");
    assert_eq!((&hot["properties"]["temperature"], &hot["changed"]), (&json!(21), &json!([])));
    let revisions = states.iter().map(|one| one["revision"].as_u64().expect("a number"));
    assert!(revisions.eq(1..=states.len() as u64));
    job.signal("TERM");
    job.wait().succeeded();
    server.signal("KILL");
    server.wait();
}

/// The job of the live tests with a function outside.
fn site(broker: &Broker, endpoint: &Endpoint, more: &str) -> Site {
    let properties = "properties: {t: {type: double}, q: {type: double}}";
    let function = format!(
        "    augmentation: {{q: {{http: {{url: \"{}\", pause: 10ms, attempt: 1h}}{more}}}}}\n",
        endpoint.url
    );
    let entanglement = "    entanglement: {window: 60s, settle: 0s}\n";
    let checkpoint = "archive: {path: archive}\ncheckpoint: {interval: 100ms}";
    Site::with(
        broker,
        &[
            ("qos: 0", "qos: 1"),
            ("properties: {t: {type: double}}", properties),
            (entanglement, &(function + entanglement)),
            ("archive: {path: archive}", checkpoint),
        ],
    )
}

/// Revision, update, `t` and `q` of a state.
fn parts(message: &Message) -> (u64, u64, Option<f64>, Option<f64>) {
    let json = message.json();
    let number = |value: &Value| value.as_u64().expect("a number");
    let property = |name: &str| json["properties"][name].as_f64();
    (number(&json["revision"]), number(&json["update"]), property("t"), property("q"))
}

/// Rule 6.2: a call in flight is state. It survives a kill, is made again with the same key, and checkpoints do not
/// wait for it.
#[test]
fn calls_in_flight_survive_a_kill() {
    let (broker, endpoint) = (Broker::started(), doubling());
    let site = site(&broker, &endpoint, ", timeout: 1h");
    let (listener, port) = (listener(&broker), free_port());
    let listen = format!("127.0.0.1:{port}");
    let mut publisher = broker.client("publisher");
    let job = site.run(&["--listen", &listen]);
    until("the job to be bound", || {
        publisher.publish("device/probe/t", r#"{"t":0}"#);
        listener.messages().iter().any(is_state).then_some(())
    });
    endpoint.hold();
    for number in 1..=20 {
        publisher.publish(&format!("device/d{}/t", number % 4), format!(r#"{{"t":{number}}}"#));
    }
    endpoint.until_called("d", 20);
    // Checkpoints go on while something happens, and have what waits.
    let completed = || metric(port, "twinloom_checkpoints_total").unwrap_or_default();
    let seen = completed();
    until("two checkpoints more", || {
        publisher.publish("device/probe/t", "no JSON");
        (completed() >= seen + 2.0).then_some(())
    });
    job.signal("KILL");
    job.wait();

    let held: BTreeSet<String> = endpoint.keys_of("d").into_iter().collect();
    assert_eq!(held.len(), 20);
    let job = site.run(&["--listen", &listen]);
    endpoint.until_called("d", 40);
    let again: BTreeSet<String> = endpoint.keys_of("d").into_iter().skip(20).collect();
    assert_eq!(again, held);
    endpoint.release();
    let is_one = |message: &Message| is_state(message) && !message.topic.contains("probe");
    listener.until_heard_times(20, "20 states", is_one);
    job.signal("TERM");
    job.wait().succeeded();
    let archive = site.archive();
    assert_eq!(archive["physical"].rows.len(), archive["state"].rows.len());
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for message in listener.messages().iter().filter(|message| is_one(message)) {
        let (revision, update, t, q) = parts(message);
        assert_eq!(q, t.map(|t| t * 2.0));
        let revision_before = last.insert(message.topic.clone(), revision).unwrap_or_default();
        assert_eq!((revision, update), (revision_before + 1, revision_before + 1));
    }
    assert_eq!(last.values().sum::<u64>(), 20);
}

/// A function that fails stops neither its twin nor others, and what fails is kept where the job says so.
#[test]
fn a_function_that_fails_stops_nobody() {
    let broker = Broker::started();
    let endpoint = Endpoint::start(|body| match body["twin"].as_str() {
        Some("refused") => (400, "no".into()),
        Some("broken") => (500, String::new()),
        Some("odd") => (200, json!({"q": "many"}).to_string()),
        Some("page") => (200, "<html>".into()),
        _ => (200, json!({"q": 1}).to_string()),
    });
    let site = site(&broker, &endpoint, ", on_error: dead_letter");
    let listener = listener(&broker);
    let mut publisher = broker.client("publisher");
    let job = site.run(&[]);
    until("the job to be bound", || {
        publisher.publish("device/probe/t", r#"{"t":0}"#);
        listener.messages().iter().any(is_state).then_some(())
    });
    for twin in ["refused", "broken", "odd", "page", "good"] {
        (1..=2).for_each(|t| publisher.publish(&format!("device/{twin}/t"), format!(r#"{{"t":{t}}}"#)));
    }
    let is_one = |message: &Message| is_state(message) && !message.topic.contains("probe");
    listener.until_heard_times(10, "10 states", is_one);
    job.signal("TERM");
    job.wait().succeeded();
    for message in listener.messages().iter().filter(|message| is_one(message)) {
        let (_, _, _, q) = parts(message);
        assert_eq!(q, message.topic.contains("good").then_some(1.0), "{}", message.topic);
    }
    let archive = site.archive();
    let letters = &archive["dead_letters"];
    for (twin, reason) in [
        ("refused", "the function `q` failed: error: the endpoint answers 400"),
        ("broken", "the function `q` failed: error: the endpoint answers 500"),
        ("odd", "the function `q` failed: `q`: \"many\" is no double"),
        ("page", "the function `q` failed: the answer is no JSON object"),
    ] {
        let reasons = letters.cells("reason").into_iter().zip(letters.cells("payload"));
        let of_twin = reasons.filter(|(_, payload)| payload.as_str() == Some(twin));
        let found: Vec<_> = of_twin.map(|(text, _)| text.as_str().unwrap_or_default()).collect();
        assert!(found.len() == 2 && found.iter().all(|text| text.starts_with(reason)), "{twin}: {found:?}");
    }
}

/// `on_late: previous`: an update goes on at once, and its answer makes a state of its own.
#[test]
fn an_update_that_does_not_wait_has_a_state_more() {
    let (broker, endpoint) = (Broker::started(), doubling());
    let site = site(&broker, &endpoint, ", on_late: previous");
    let listener = listener(&broker);
    let mut publisher = broker.client("publisher");
    let job = site.run(&[]);
    until("the job to be bound", || {
        publisher.publish("device/probe/t", r#"{"t":0}"#);
        listener.messages().iter().any(is_state).then_some(())
    });
    endpoint.hold();
    publisher.publish("device/d/t", r#"{"t":1}"#);
    publisher.publish("device/d/t", r#"{"t":2}"#);
    let is_one = |message: &Message| is_state(message) && message.topic.contains("/d/");
    listener.until_heard_times(2, "2 states", is_one);
    endpoint.release();
    listener
        .until_heard("the answer of the second", |message| is_one(message) && parts(message).3 == Some(4.0));
    job.signal("TERM");
    job.wait().succeeded();
    let all: Vec<_> = listener.messages().iter().filter(|message| is_one(message)).map(parts).collect();
    assert_eq!(&all[..2], [(1, 1, Some(1.0), None), (2, 2, Some(2.0), None)]);
    let last = all.last().expect("there are some");
    assert_eq!((last.0, last.2, last.3), (all.len() as u64, Some(2.0), Some(4.0)));
}

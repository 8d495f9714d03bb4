//! The job server as its users have it: jobs that are applied and changed while devices speak, twins that are
//! read and followed.
//!
//! ```text
//!   test client ──► mosquitto ──► twinloom serve ◄── HTTP, and the commands that speak it
//! ```

mod examples;
mod functions;
mod growth;
mod history;
mod operations;
mod plants;
mod watching;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::http::{self, Answer, Stream};
use crate::harness::program::{Running, python_tool, run, start, twinloom};
use crate::harness::{free_port, until};

const JOB: &str = r#"
job: line
checkpoint: {interval: 100ms}
connections:
  plant: {mqtt: {url: "URL", qos: 1}}
types:
  device:
    properties: {t: {type: double, unit: Cel}, mode: {type: string}, f: {type: double}}
    physical:
      telemetry:
        from: plant
        topics: ["device/{twin}/t"]
        at: arrival
        properties: {t: /t, mode: /mode}
        expected_rate: none
    augmentation:
      f: {linear: {of: t, factor: 2, offset: 0}}
    entanglement: {window: 60s, settle: 0s, desired_timeliness: 10s}
archive: {path: ARCHIVE, roll: 64KB/300ms}
"#;

/// A server with its broker, in a folder of its own.
struct Site {
    folder: TempDir,
    broker: Broker,
    publisher: Client,
    port: u16,
    server: Option<Running>,
}

impl Site {
    fn new() -> Self {
        let broker = Broker::started();
        let publisher = broker.client("publisher");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut site = Self { folder, broker, publisher, port: free_port(), server: None };
        site.start();
        site
    }

    /// A server with the job as it is.
    fn with_job() -> Self {
        let mut site = Self::new();
        assert_eq!(site.apply(&[]).status, 201);
        site.bind("a");
        site
    }

    fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, more: &[&str]) {
        let listen = format!("127.0.0.1:{}", self.port);
        let arguments = ["serve", "--data", "server", "--listen", &listen, "--workers", "2"];
        let arguments = [&arguments[..], more].concat();
        self.server = Some(start(&mut twinloom(self.folder.path(), &arguments)));
        until("the server to answer", || http::get(self.port, "/health/live"));
    }

    fn kill(&mut self) {
        let server = self.server.take().expect("it runs");
        server.signal("KILL");
        server.wait();
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The job with some pieces changed.
    fn job(&self, changes: &[(&str, &str)]) -> String {
        let mut job = JOB.to_owned();
        for (from, to) in changes {
            assert_eq!(job.matches(from).count(), 1, "`{from}` must name one piece of the job");
            job = job.replace(from, to);
        }
        let archive = self.path().join("archive");
        job.replace("URL", &self.broker.url()).replace("ARCHIVE", &archive.display().to_string())
    }

    fn apply(&self, changes: &[(&str, &str)]) -> Answer {
        self.ask("PUT", "/v1/jobs/line", &self.job(changes))
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        http::ask(self.port, method, path, &[], body).expect("the server answers")
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// A command that speaks to the server, and what it printed.
    fn command(&self, arguments: &[&str]) -> String {
        let server = format!("127.0.0.1:{}", self.port);
        run(self.path(), &[arguments, &["--server", &server]].concat()).succeeded().stdout
    }

    fn publish(&mut self, twin: &str, t: i64) {
        self.publisher.publish(&format!("device/{twin}/t"), json!({"t": t, "mode": "auto"}).to_string());
    }

    /// Publishes until the twin is there: from then on the job hears.
    fn bind(&mut self, twin: &str) {
        until("the job to take messages", || {
            self.publish(twin, 0);
            (self.get(&format!("/v1/jobs/line/twins/{twin}")).status == 200).then_some(())
        });
    }

    fn twin(&self, twin: &str) -> Value {
        self.get(&format!("/v1/jobs/line/twins/{twin}")).json()
    }

    /// The revision of a twin once all that was published is in it.
    fn settled(&self, twin: &str, t: i64) -> i64 {
        until(&format!("{twin} to have {t}"), || {
            let found = self.twin(twin);
            (found["properties"]["t"].as_f64() == Some(t as f64))
                .then(|| found["revision"].as_i64().expect("a number"))
        })
    }
}

#[test]
fn twins_are_read() {
    let mut site = Site::with_job();
    for (twin, t) in [("b", 3), ("p-1", 4), ("p-2", 5)] {
        site.publish(twin, t);
        site.settled(twin, t);
    }
    let twin = site.twin("b");
    assert_eq!(twin["properties"], json!({"t": 3.0, "mode": "auto", "f": 6.0}));
    assert_eq!((&twin["lifecycle"], &twin["revision"]), (&json!("entangled"), &json!(1)));
    let path = "/v1/jobs/line/twins/b";
    // Rule 1.2: the revision says what is known.
    let etag = site.get(path).header("etag").expect("it has one").to_owned();
    let known = http::ask(site.port, "GET", path, &[("If-None-Match", &etag)], "").expect("an answer");
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    assert_eq!(site.get(&format!("{path}?fields=twin,odte")).json(), json!({"twin": "b", "odte": 1.0}));
    assert_eq!(site.get("/v1/twins/p-1").json()["job"], "line");
    let property = site.get(&format!("{path}/properties/t")).json();
    assert_eq!((&property["value"], &property["unit"]), (&json!(3.0), &json!("Cel")));
    let ids = |path: &str| {
        let page = site.get(path).json();
        let twins = page["twins"].as_array().expect("a list").iter();
        let ids: Vec<String> = twins.map(|twin| twin["twin"].as_str().expect("an id").to_owned()).collect();
        (ids.join(" "), page["next"].clone())
    };
    let list = "/v1/jobs/line/twins";
    assert_eq!(ids(&format!("{list}?limit=3")), ("a b p-1".into(), json!("p-1")));
    assert_eq!(ids(&format!("{list}?limit=3&cursor=p-1")), ("p-2".into(), json!(null)));
    assert_eq!(ids(&format!("{list}?prefix=p-&lifecycle=entangled,bound")), ("p-1 p-2".into(), json!(null)));
    assert_eq!(ids(&format!("{list}?lifecycle=done")).0, "");
    let waited = site.get(&format!("{path}?at_least=1"));
    assert_eq!(waited.status, 200);
    let rows = until("history", || {
        let rows = site.get(&format!("{path}/history")).json()["rows"].as_array().cloned();
        rows.filter(|rows| !rows.is_empty())
    });
    assert_eq!((&rows[0]["revision"], &rows[0]["t"]), (&json!(1), &json!(3.0)));
    let none = site.get(&format!("{path}/history?to=2020-01-01T00:00:00Z")).json();
    assert_eq!(none, json!({"rows": []}));
}

#[test]
fn what_is_asked_wrong_is_told_in_one_way() {
    let site = Site::with_job();
    let second = site.job(&[("job: line", "job: second")]);
    for (method, path, body, status, kind) in [
        ("GET", "/v1/jobs/none", "", 404, "unknown-job"),
        ("GET", "/v1/jobs/line/twins/nobody", "", 404, "unknown-twin"),
        ("GET", "/v1/twins/nobody", "", 404, "unknown-twin"),
        ("GET", "/v1/jobs/line/twins/a/properties/none", "", 404, "unknown-property"),
        ("GET", "/v1/jobs/line/twins/a?fields=none", "", 400, "bad-request"),
        ("GET", "/v1/jobs/line/twins/a?strange=1", "", 400, "bad-request"),
        ("GET", "/v1/jobs/line/twins?lifecycle=happy", "", 400, "bad-request"),
        ("GET", "/v1/jobs/line/twins?limit=100000", "", 400, "bad-request"),
        ("GET", "/v1/jobs/line/twins/a/history?from=noon", "", 400, "bad-request"),
        ("GET", "/v1/jobs/line/stream?kinds=happy", "", 400, "bad-request"),
        ("GET", "/v1/jobs/line/twins/a%FF", "", 400, "bad-request"),
        ("GET", "/v1/jobs/line/twins/a?min_odte=1.5", "", 412, "not-entangled"),
        ("PUT", "/v1/jobs/line", "job: [", 422, "invalid-definition"),
        ("PUT", "/v1/jobs/other", &site.job(&[]), 400, "bad-request"),
        ("PUT", "/v1/jobs/second", &second, 409, "refused"),
        (
            "PUT",
            "/v1/jobs/line",
            &site.job(&[("mode: {type: string}", "mode: {type: integer}")]),
            409,
            "refused",
        ),
        ("POST", "/v1/jobs/none/pause", "", 404, "unknown-job"),
        ("DELETE", "/v1/jobs/line", "", 409, "not-now"),
        ("DELETE", "/v1/jobs", "", 405, "method-not-allowed"),
        ("GET", "/v1/strange", "", 404, "no-such-path"),
    ] {
        let answer = site.ask(method, path, body);
        let problem = answer.json();
        let told = (answer.status, problem["type"].as_str().expect("a text"));
        assert_eq!(told, (status, format!("urn:twinloom:problem:{kind}").as_str()), "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
    }
    let long = "x".repeat(5 << 20);
    assert_eq!(site.ask("POST", "/v1/plan", &long).status, 413);
    // And nothing of it moved the job.
    assert_eq!(site.get("/v1/jobs/line").json()["version"], 1);
    let address = ["serve", "--data", "other", "--listen", "0.0.0.0:1"];
    let refused = run(site.path(), &address);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("can be reached from outside"), "{}", refused.stderr);
}

/// Revisions of a twin go on through every change of its job, and through the server's death.
#[test]
fn a_job_is_changed_while_its_twins_live_on() {
    let mut site = Site::with_job();
    site.publish("a", 1);
    let revision = site.settled("a", 1);
    let about = |site: &Site| {
        let job = site.get("/v1/jobs/line").json();
        (
            job["status"].as_str().expect("a word").to_owned(),
            job["version"].clone(),
            job["generation"].clone(),
        )
    };
    let is =
        |status: &str, version: i64, generation: i64| (status.to_owned(), json!(version), json!(generation));
    assert_eq!(about(&site), is("running", 1, 1));
    // Live: the threshold of timeliness, without a new start.
    let live = ("desired_timeliness: 10s", "desired_timeliness: 1us");
    let applied = site.apply(&[live]).json();
    assert_eq!(applied["changes"][0]["how"], "live");
    assert_eq!(about(&site), is("running", 2, 1));
    assert_eq!(site.apply(&[live]).json()["changes"], json!([]));
    until("the twin to be late under the new terms", || {
        site.publish("a", 2);
        (site.twin("a")["lifecycle"] == "disentangled").then_some(())
    });
    let why = site.get("/v1/jobs/line/twins/a/why").json();
    let verdict = why["verdict"].as_str().expect("a text");
    assert!(verdict.starts_with("late in "), "{verdict}");
    let groups = site.get("/v1/jobs/line/why").json();
    assert_eq!((&groups["groups"][0]["twins"], &groups["groups"][0]["named"]), (&json!(1), &json!(["a"])));
    // A function as well; at a checkpoint what sources and checkpoints go by.
    site.settled("a", 2);
    let function = ("factor: 2", "factor: 3");
    assert_eq!(site.apply(&[live, function]).json()["changes"][0]["how"], "live");
    assert_eq!(about(&site), is("running", 3, 1));
    let interval = ("interval: 100ms", "interval: 90ms");
    assert_eq!(site.apply(&[live, function, interval]).json()["changes"][0]["how"], "checkpoint");
    assert_eq!(about(&site), is("running", 4, 2));
    until("the new function", || {
        site.publish("a", 5);
        (site.twin("a")["properties"]["f"] == 15.0).then_some(())
    });
    let later = site.settled("a", 5);
    assert!(later > revision);
    // What is published while it is paused waits at the broker.
    assert_eq!(site.ask("POST", "/v1/jobs/line/pause", "").json()["status"], "paused");
    site.publish("a", 6);
    let paused = site.twin("a");
    assert_eq!((&paused["revision"], &paused["properties"]["t"]), (&json!(later), &json!(5.0)));
    assert_eq!(site.ask("POST", "/v1/jobs/line/resume", "").json()["status"], "running");
    assert_eq!(site.settled("a", 6), later + 1);
    // Killed, and found again. What was acknowledged is not lost.
    site.publish("a", 7);
    site.kill();
    site.start();
    assert_eq!(site.settled("a", 7), later + 2);
    assert_eq!(site.ask("POST", "/v1/jobs/line/cancel", "").json()["status"], "done");
    let done = site.twin("a");
    assert_eq!((&done["lifecycle"], &done["properties"]["t"]), (&json!("done"), &json!(7.0)));
    site.kill();
    site.start();
    assert_eq!(site.twin("a")["lifecycle"], "done");
    assert_eq!(site.ask("DELETE", "/v1/jobs/line", "").status, 204);
    assert_eq!(site.get("/v1/jobs/line").status, 404);
    // Its archive stays, and has each revision once.
    let archive = crate::harness::archive::read(&site.path().join("archive"));
    let states = &archive["state"];
    let [twin, revision] = ["twin", "revision"].map(|name| states.column(name).expect("rule 10 has it"));
    let rows = states.rows.iter().filter(|row| row[twin].as_str() == Some("a"));
    let mut revisions: Vec<i64> = rows.map(|row| row[revision].as_i64().expect("a number")).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=later + 2).collect::<Vec<_>>());
}

#[test]
fn changes_are_followed_and_gone_on_with() {
    let mut site = Site::with_job();
    let mut all = Stream::open(site.port, "/v1/jobs/line/stream?kinds=state,lifecycle", None);
    let mut one = Stream::open(site.port, "/v1/jobs/line/twins/b/stream?kinds=state", None);
    for t in 1..=3 {
        site.publish("b", t);
        site.publish("a", t);
    }
    let mut events = Vec::new();
    while events.iter().filter(|event: &&http::Event| event.name == "state").count() < 6 {
        events.push(all.next());
    }
    let born = events.iter().find(|event| event.name == "lifecycle").expect("b was bound");
    assert_eq!((&born.data["twin"], &born.data["from"]), (&json!("b"), &json!("unbound")));
    let of_b: Vec<_> = (0..3).map(|_| one.next()).collect();
    let values: Vec<_> = of_b.iter().map(|event| event.data["properties"]["t"].clone()).collect();
    assert_eq!(values, [json!(1), json!(2), json!(3)]);
    // Who was away for a while misses nothing.
    drop(one);
    site.publish("b", 4);
    let path = "/v1/jobs/line/twins/b/stream?kinds=state";
    let mut again = Stream::open(site.port, path, Some(&of_b[1].id));
    let values: Vec<_> = (0..2).map(|_| again.next().data["properties"]["t"].clone()).collect();
    assert_eq!(values, [json!(3), json!(4)]);
    // A stream goes on while its job is changed.
    site.apply(&[("interval: 100ms", "interval: 90ms")]);
    until("the changed job to be heard of", || {
        site.publish("b", 5);
        Some(again.next()).filter(|event| event.data["generation"] == 2)
    });
    // Of a place that is not known any more it is said that something is missing.
    site.kill();
    site.start();
    let mut lost = Stream::open(site.port, path, Some(&of_b[1].id));
    site.publish("b", 6);
    assert!(["missed", "state"].contains(&lost.next().name.as_str()));
}

/// A server that may open few files only, and more clients than that: they wait, and the jobs do not mind.
#[test]
fn clients_beyond_what_there_is_room_for_wait_and_jobs_go_on() {
    let mut site = Site::new();
    site.kill();
    let listen = format!("127.0.0.1:{}", site.port);
    let program = env!("CARGO_BIN_EXE_twinloom");
    let line = format!("ulimit -n 400 && exec {program} serve --data server --listen {listen} --workers 2");
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).current_dir(site.path());
    site.server = Some(start(&mut shell));
    until("the server to answer", || http::get(site.port, "/health/live"));
    assert_eq!(site.apply(&[]).status, 201);
    site.bind("a");
    // Half of the files are for them; beyond, a hundred wait in the system's queue.
    let clients: Vec<_> =
        (0..300).map_while(|_| std::net::TcpStream::connect(("127.0.0.1", site.port)).ok()).collect();
    assert!(clients.len() > 200, "{} clients", clients.len());
    // The job has all that it needs: a checkpoint opens files, too.
    let folder = site.path().join("server/jobs/line/data/checkpoints/parts");
    let checkpoints = || {
        let files = std::fs::read_dir(&folder).expect("the job keeps checkpoints").flatten();
        let mut names: Vec<_> = files.map(|file| file.file_name()).collect();
        names.sort();
        names
    };
    let before = checkpoints();
    for t in 1..=50 {
        site.publish("b", t);
    }
    until("a checkpoint", || (checkpoints() != before).then_some(()));
    drop(clients);
    assert_eq!(site.settled("b", 50), 50);
    assert_eq!(site.get("/v1/jobs/line").json()["status"], "running");
}

/// Rule 7.5: more than a job may have waits at its broker, or is dropped where the job says so, and counted.
#[test]
fn what_is_more_than_a_job_may_have_waits_or_is_counted() {
    for (overload, tenants) in [
        ("events: 25/s", None),
        ("events: 25/s, on_overload: shed", None),
        ("events: 25/s, on_overload: newest_per_twin", None),
        ("on_overload: shed", Some("acme: {events: 25/s}\n")),
    ] {
        let mut site = Site::new();
        if let Some(tenants) = tenants {
            std::fs::write(site.path().join("tenants.yaml"), tenants).expect("the folder is ours");
            site.kill();
            site.start_with(&["--tenants", "tenants.yaml"]);
        }
        let head = format!("job: line\ntenant: acme\nlimits: {{{overload}}}");
        assert_eq!(site.apply(&[("job: line", &head)]).status, 201);
        site.bind("a");
        let taken = |site: &Site| {
            let job = site.get("/v1/jobs/line").json();
            ["events", "shed"].map(|key| job[key].as_i64().expect("a count"))
        };
        let before: i64 = taken(&site).iter().sum();
        let all: Vec<(String, String)> =
            (1..=100).map(|t| ("device/a/t".to_owned(), json!({"t": t}).to_string())).collect();
        site.publisher.publish_all(&all);
        let [events, shed] = until("all to be taken or dropped", || {
            Some(taken(&site)).filter(|counts| counts.iter().sum::<i64>() >= before + 100)
        });
        assert_eq!(events + shed, before + 100, "{overload}");
        // What is there at first may be taken at once, so not all is dropped, and not all is taken.
        assert_eq!(shed > 0, overload.contains("on_overload"), "{overload}: {shed} dropped");
        if !overload.contains("shed") {
            assert!(site.settled("a", 100) > 0, "{overload}: the newest is in the twin");
        }
        let metric = site.get("/metrics").body;
        let line = format!("twinloom_messages_shed_total{{job=\"line\"}} {shed}");
        assert!(metric.contains(&line), "{line}");
    }
}

#[test]
fn the_commands_speak_to_the_server() {
    let mut site = Site::new();
    std::fs::write(site.path().join("job.yaml"), site.job(&[])).expect("the folder is ours");
    assert!(site.command(&["job", "list"]).contains("no job yet"));
    assert!(site.command(&["plan", "job.yaml"]).contains("+ job line is new"));
    assert!(site.command(&["apply", "job.yaml"]).contains("job line is at version 1"));
    assert!(site.command(&["plan", "job.yaml"]).contains("no change"));
    site.bind("a");
    assert!(site.command(&["job", "show", "line"]).contains("running"));
    assert!(site.command(&["twin", "list", "line"]).starts_with("a "));
    let twin: Value =
        serde_json::from_str(&site.command(&["twin", "get", "line", "a", "--json"])).expect("JSON");
    assert_eq!(twin["twin"], "a");
    assert!(site.command(&["twin", "why", "line", "a"]).starts_with("entangled since "));
    assert!(site.command(&["twin", "why", "line"]).contains("no twin of line is in trouble"));
    let server = format!("127.0.0.1:{}", site.port);
    let tap = ["twin", "tap", "line", "a", "--kinds", "state", "--count", "1", "--server", &server];
    let tap = start(&mut twinloom(site.path(), &tap));
    until("an event in the tap", || {
        site.publish("a", 1);
        (!tap.printed().is_empty()).then_some(())
    });
    let tapped: Value = serde_json::from_str(&tap.wait().succeeded().stdout).expect("one event");
    assert_eq!(tapped["twin"], "a");
    for (state, shown) in [("pause", "paused"), ("resume", "running"), ("cancel", "done")] {
        assert!(site.command(&["job", state, "line"]).contains(shown), "{state}");
    }
    assert!(site.command(&["job", "dismiss", "line"]).contains("dismissed"));
    let refused = run(site.path(), &["job", "show", "line", "--server", &server]);
    assert!(refused.code == Some(1) && refused.stderr.contains("There is no such job"), "{}", refused.stderr);
    std::fs::write(site.path().join("bad.yaml"), "job: [").expect("the folder is ours");
    assert_eq!(run(site.path(), &["apply", "bad.yaml", "--server", &server]).code, Some(78));
    let nobody = run(site.path(), &["job", "list", "--server", &format!("127.0.0.1:{}", free_port())]);
    assert!(nobody.stderr.contains("twinloom serve --data DIR"), "{}", nobody.stderr);
}

/// No answer that the description does not have, and none that says it is our fault.
#[test]
fn the_interface_is_as_it_is_described() {
    let site = Site::with_job();
    let url = format!("http://127.0.0.1:{}/openapi.json", site.port);
    let mut command = Command::new(python_tool("st"));
    command.args(["run", &url, "--max-examples", "20", "--seed", "1", "--exclude-path-regex", "stream"]);
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    let output = command.current_dir(site.path()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!(site.get("/health/live").status, 200);
}

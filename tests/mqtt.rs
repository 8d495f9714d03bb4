//! Jobs against a real mosquitto: what a broker does to a run, and what a run does through it.
//!
//! ```text
//!   test client ──► mosquitto ──► twinloom run ──► mosquitto ──► test client
//!                                      └──► archive
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::harness::archive;
use crate::harness::broker::Broker;
use crate::harness::certificates::{Authority, Of};
use crate::harness::client::{Client, Message};
use crate::harness::program::{Ended, start, twinloom};
use crate::harness::site::{Site, bind, is_state, listener, rows};
use crate::harness::{free_port, until};

const ZERO: &str = r#"{"t":0}"#;

#[test]
fn what_is_published_is_in_the_twins_at_both_qualities() {
    for qos in [0, 1] {
        let broker = Broker::started();
        let qos_text = format!("qos: {qos}");
        let site = Site::with(&broker, &[("qos: 0", &qos_text), ("device/{twin}/t", "site/+/{twin}/#")]);
        let listener = listener(&broker);
        let job = site.run(&[]);
        let mut publisher = broker.client("publisher");
        bind(&mut publisher, &listener, "site/x/probe/t", ZERO);
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
    let login = "qos: 0, user: line, password: \"${TWINLOOM_TEST_PASSWORD}\"";
    let site = Site::with(&broker, &[("qos: 0", login)]);
    let with_password = |password: &str| {
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
    bind(&mut broker.client("publisher"), &listener, "device/a/t", ZERO);
    job.signal("TERM");
    let ended = job.wait().succeeded();
    assert!(!ended.stderr.contains("s3cret-word"), "{}", ended.stderr);

    let unset = ["run", "job.yaml", "--json", "--data", "data"];
    let unset = start(twinloom(site.path(), &unset).env_remove("TWINLOOM_TEST_PASSWORD")).wait();
    assert_eq!(unset.code, Some(78), "{unset:?}");
    let said = unset.stdout + &unset.stderr;
    assert!(said.contains("TWINLOOM_TEST_PASSWORD is not set"), "{said}");
}

/// By TLS, with a certificate on both sides: what is acknowledged is taken once, over the end of the broker as well.
#[test]
fn a_connection_by_tls_takes_and_publishes_all() {
    let authority = Authority::new("plant");
    let mut broker = Broker::with_tls(&authority, Of::Loopback, true);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    authority.write(&path("ca.pem"));
    authority.issue(Of::Client, &path("client.pem"), &path("client.key"));
    let [ca, certificate, key] =
        ["ca.pem", "client.pem", "client.key"].map(|name| path(name).display().to_string());
    let tls = format!(
        "\"{}\", ca: \"{ca}\", certificate: \"{certificate}\", key: \"{key}\", qos: 1",
        broker.tls_url()
    );
    let site = Site::with(&broker, &[("\"URL\", qos: 0", &tls)]);
    let (job, mut client) = (site.run(&[]), listener(&broker));
    let mut publisher = broker.client("publisher");
    bind(&mut publisher, &client, "device/a/t", ZERO);
    // Those of the first twin may still come, as it was spoken to until it answered.
    let is_one = |one: &&Message| is_state(one) && one.topic.contains("/d");
    let states = |client: &Client| client.messages().iter().filter(is_one).count();
    // More than a record of TLS and a window of acknowledgements.
    for number in 0..3_000 {
        publisher.publish(&format!("device/d{}/t", number % 50), format!(r#"{{"t":{number}}}"#));
    }
    until("3,000 states", || (states(&client) == 3_000).then_some(()));
    broker.kill();
    broker.start();
    client = listener(&broker);
    let mut publisher = broker.client("publisher");
    bind(&mut publisher, &client, "device/b/t", ZERO);
    let (summary, _) = site.end(job, "TERM");
    assert!(summary["events"].as_u64() > Some(3_000), "{summary}");
}

#[test]
fn what_is_wrong_with_tls_is_said_with_what_to_do() {
    let (right, wrong) = (Authority::new("plant"), Authority::new("another"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    right.write(&path("ca.pem"));
    wrong.write(&path("another.pem"));
    let keys = |broker: &Broker, ca: &str| {
        format!("\"{}\", ca: \"{}\", qos: 1", broker.tls_url(), path(ca).display())
    };
    for (of, asks_clients, ca, expected) in [
        (Of::Loopback, false, "another.pem", "name the CA of the broker's certificate under `ca`"),
        (Of::Name("broker.example"), false, "ca.pem", "the broker's certificate is for another name"),
        (Of::Expired, false, "ca.pem", "have the broker's certificate renewed"),
        (Of::Loopback, true, "ca.pem", "write `certificate` and `key`"),
    ] {
        let broker = Broker::with_tls(&right, of, asks_clients);
        let site = Site::with(&broker, &[("\"URL\", qos: 0", &keys(&broker, ca))]);
        let mut job = site.run(&[]);
        job.until_logged(expected);
        job.signal("TERM");
        job.wait().succeeded();
    }
    let broker = Broker::started();
    let plain = format!("\"mqtts://127.0.0.1:{}\", qos: 1", broker.port);
    let site = Site::with(&broker, &[("\"URL\", qos: 0", &plain)]);
    let mut job = site.run(&[]);
    job.until_logged("the broker may not speak TLS on this port");
    job.signal("TERM");
    job.wait().succeeded();
    // What cannot be read is said at the start.
    for (ca, expected) in [("nowhere.pem", "ca: cannot read"), ("text.pem", "is no PEM file of certificates")]
    {
        std::fs::write(path("text.pem"), "no certificate").expect("the folder is ours");
        let tls = format!("\"mqtts://127.0.0.1:{}\", ca: \"{}\", qos: 1", broker.port, path(ca).display());
        let said = Site::with(&broker, &[("\"URL\", qos: 0", &tls)]).run(&[]).wait().failed();
        assert!(said.contains(expected), "{said}");
    }
}

/// Rules 3.6 and 5.1: what the broker kept initialises a twin, and binds nothing.
#[test]
fn retained_messages_initialise() {
    let broker = Broker::started();
    let site = Site::new(&broker);
    let mut publisher = broker.client("publisher");
    publisher.publish_retained("device/kept/t", r#"{"t":1}"#);
    let listener = listener(&broker);
    let job = site.run(&[]);
    let state = listener.until_heard("the kept twin", is_state);
    assert!(state.says("twin", "kept") && state.says("lifecycle", "unbound"), "{:?}", state.json());
    publisher.publish("device/kept/t", r#"{"t":2}"#);
    listener.until_heard("the twin to be bound", |message| message.says("to", "bound"));
    let (_, archive) = site.end(job, "TERM");
    let observed: Vec<_> =
        archive["physical"].cells("observed").into_iter().map(|cell| cell.as_bool()).collect();
    assert_eq!(observed, [Some(false), Some(true)]);
}

/// Payloads that cannot be taken are dead letters, and the run goes on; ids are encoded in topics.
#[test]
fn bad_payloads_are_dead_letters() {
    let broker = Broker::started();
    let topics = "[\"in/+\"]\n        twin: /id";
    let site = Site::with(&broker, &[("[\"device/{twin}/t\"]", topics)]);
    let listener = listener(&broker);
    let job = site.run(&[]);
    let mut publisher = broker.client("publisher");
    bind(&mut publisher, &listener, "in/x", r#"{"id":"probe","t":0}"#);
    let large = format!(r#"{{"id":"large","t":1,"fill":"{}"}}"#, "x".repeat(5 << 20));
    for payload in [large.as_bytes(), b"", b"{", b"\xff\xfe\x00", br#"{"id":"nan","t":NaN}"#, br#"{"t":1}"#] {
        publisher.publish("in/x", payload);
    }
    publisher.publish("in/x", r#"{"id":"a/b +#%ü","t":1}"#);
    let last = listener.until_heard("the good one after the bad", |message| {
        is_state(message) && message.topic.contains("a%2F")
    });
    assert_eq!(last.topic, "twins/line/a%2Fb %2B%23%25ü/state");
    assert!(last.says("twin", "a/b +#%ü"));
    let (summary, archive) = site.end(job, "TERM");
    assert_eq!((&summary["dead_letters"], &summary["twins"]), (&6.into(), &2.into()), "{summary}");
    let letters = &archive["dead_letters"];
    let reasons: Vec<_> = letters.cells("reason").into_iter().filter_map(|cell| cell.as_str()).collect();
    for (reason, wanted) in
        reasons.iter().zip(["5242", "empty", "malformed", "malformed", "malformed", "id is empty"])
    {
        assert!(reason.contains(wanted), "{reason:?} has no {wanted:?}");
    }
    let payloads = letters.cells("payload");
    assert!(payloads.iter().all(|payload| payload.as_str().is_some_and(|text| text.len() <= 4_096)));
}

/// Rule 9: who listens late hears the truth about a silent twin; what happened once is not kept.
#[test]
fn a_late_listener_hears_the_last_state() {
    let broker = Broker::started();
    let site = Site::new(&broker);
    let job = site.run(&[]);
    let early = listener(&broker);
    bind(&mut broker.client("publisher"), &early, "device/silent/t", ZERO);
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

/// Rules 7.7 and 7.9: sources belong to process 0, twins live on all workers, each process has a
/// client of its own for its listeners, and a stop asked of any process ends the run on all.
#[test]
fn two_processes_are_one_run() {
    let broker = Broker::started();
    let site = Site::new(&broker);
    let hosts = format!("127.0.0.1:{}\n127.0.0.1:{}\n", free_port(), free_port());
    std::fs::write(site.path().join("hosts"), hosts).expect("the folder is ours");
    let run = |process: &str| {
        let arguments = [
            "run",
            "job.yaml",
            "--json",
            "--data",
            "data",
            "--workers",
            "2",
            "--hosts",
            "hosts",
            "--process",
            process,
        ];
        start(&mut twinloom(site.path(), &arguments))
    };
    let (first, second) = (run("0"), run("1"));
    let listener = listener(&broker);
    let mut publisher = broker.client("publisher");
    bind(&mut publisher, &listener, "device/0/t", ZERO);
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
    assert!(
        workers.iter().any(|worker| *worker < 2) && workers.iter().any(|worker| *worker >= 2),
        "{workers:?}"
    );
}

//! Brokers that are away, go and come back, and runs that are stopped or killed: what was accepted is
//! there, every twin says what became of it, and nothing waits for ever.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::broker::Broker;
use crate::harness::free_port;
use crate::harness::site::{Site, bind, is_state, listener, metric, rows, twins_in, until_twins};

const ZERO: &str = r#"{"t":0}"#;

#[test]
fn a_broker_that_comes_later_is_found() {
    let mut broker = Broker::new();
    let site = Site::new(&broker);
    let mut job = site.run(&[]);
    job.until_logged("broker not reached; retrying");
    broker.start();
    let listener = listener(&broker);
    bind(&mut broker.client("publisher"), &listener, "device/a/t", ZERO);
    let (_, archive) = site.end(job, "INT");
    // No twin was bound when it was away, so nothing was lost.
    assert_eq!(archive["lifecycle"].count(&[("reason", "source_lost")]), 0);
}

/// Rules 5.4 and 5.5: a broker that is killed is one incident, and every twin goes Unbound with it;
/// when it comes back, empty, the job subscribes again and the twins are bound by what they send.
#[test]
fn a_killed_broker_is_one_incident() {
    const TWINS: usize = 40;
    let mut broker = Broker::started();
    let site = Site::new(&broker);
    let port = free_port();
    let mut job = site.run(&["--listen", &format!("127.0.0.1:{port}")]);
    let speak = |broker: &Broker| {
        let listener = listener(broker);
        let mut publisher = broker.client("publisher");
        bind(&mut publisher, &listener, "device/0/t", ZERO);
        for twin in 1..TWINS {
            publisher.publish(&format!("device/{twin}/t"), ZERO);
        }
        until_twins(port, TWINS, "entangled");
    };
    speak(&broker);
    broker.kill();
    job.until_logged("source lost");
    until_twins(port, TWINS, "unbound");
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
    assert_eq!(lifecycle.count(&[("from", "unbound"), ("to", "bound")]), 2 * TWINS);
    let cells = ["to", "twin", "incident"].map(|name| lifecycle.cells(name));
    let lost = (0..lifecycle.rows.len()).filter(|row| *cells[0][*row] == "unbound");
    let (twins, incidents): (BTreeSet<_>, BTreeSet<_>) =
        lost.map(|row| (cells[1][row].as_str(), cells[2][row].as_i64())).unzip();
    assert_eq!((twins.len(), incidents), (TWINS, BTreeSet::from([Some(1)])));
}

/// Rule 5.4: a twin is unbound when all its sources are lost, not before.
#[test]
fn a_twin_lives_on_by_its_other_source() {
    let (mut first, mut second) = (Broker::started(), Broker::started());
    let site = Site::with(
        &first,
        &[
            ("connections:\n", &format!("connections:\n  other: {{mqtt: {{url: \"{}\"}}}}\n", second.url())),
            (
                "    physical:\n",
                "    physical:\n      other: {from: other, topics: [\"device/{twin}/t\"], at: arrival, properties: {t: /t}, expected_rate: none}\n",
            ),
            ("digital: [{to: plant}]", "digital: [{to: other}]"),
        ],
    );
    let port = free_port();
    let mut job = site.run(&["--listen", &format!("127.0.0.1:{port}")]);
    let heard = listener(&second);
    bind(&mut first.client("publisher"), &heard, "device/a/t", ZERO);
    bind(&mut second.client("publisher"), &heard, "device/a/t", ZERO);
    until_twins(port, 1, "entangled");
    first.kill();
    job.until_logged("source lost");
    // What comes through the second source after the loss proves that the loss was taken in.
    bind(&mut second.client("publisher"), &heard, "device/a/t", ZERO);
    assert_eq!(twins_in(port, "entangled"), 1);
    drop(heard);
    second.kill();
    until_twins(port, 1, "unbound");
    second.start();
    bind(&mut second.client("publisher"), &listener(&second), "device/a/t", ZERO);
    until_twins(port, 1, "entangled");
    let (_, archive) = site.end(job, "TERM");
    let lifecycle = &archive["lifecycle"];
    let incidents = lifecycle.cells("incident").into_iter().filter_map(|cell| cell.as_i64());
    assert_eq!(incidents.collect::<Vec<_>>(), [2]);
}

/// A stop in the middle of the load: what was accepted is archived and published, all of it.
#[test]
fn a_stop_loses_nothing_that_was_accepted() {
    for (signal, qos) in [("TERM", "qos: 0"), ("INT", "qos: 1")] {
        let broker = Broker::started();
        let site = Site::with(&broker, &[("qos: 0", qos)]);
        let listener = listener(&broker);
        let job = site.run(&[]);
        let mut publisher = broker.client("publisher");
        bind(&mut publisher, &listener, "device/0/t", ZERO);
        for number in 0..20_000 {
            publisher.publish_once(&format!("device/{}/t", number % 100), format!(r#"{{"t":{number}}}"#));
            if number == 10_000 {
                job.signal(signal);
            }
        }
        let ended = job.wait().succeeded();
        let (summary, archive) = (ended.json(), site.archive());
        let events = rows(&archive, "physical");
        assert!(events > 0, "{summary}");
        assert_eq!((&summary["events"], &summary["unpublished"]), (&events.into(), &0.into()), "{summary}");
        assert_eq!((rows(&archive, "state"), site.unfinished()), (events, 0));
        listener.until_heard_times(events, "a state for every event", is_state);
        assert_eq!(listener.messages().iter().filter(|message| is_state(message)).count(), events);
    }
}

/// A stop while the broker is away cannot publish; it says how much it could not, and ends well.
#[test]
fn a_stop_during_an_outage_ends() {
    let mut broker = Broker::started();
    // At QoS 0 what was written to a connection that is just gone counts as published.
    let site = Site::with(&broker, &[("qos: 0", "qos: 1")]);
    let mut job = site.run(&[]);
    let listener = listener(&broker);
    bind(&mut broker.client("publisher"), &listener, "device/a/t", ZERO);
    drop(listener);
    broker.kill();
    job.until_logged("source lost");
    job.signal("TERM");
    let summary = job.wait().succeeded().json();
    // The twin's way to Unbound had no one to tell: at least its lifecycle and its entanglement.
    assert!(summary["unpublished"].as_u64().is_some_and(|number| number >= 2), "{summary}");
    let archive = site.archive();
    assert_eq!(archive["lifecycle"].count(&[("reason", "source_lost")]), 1);
    assert_eq!(site.unfinished(), 0);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut broker = Broker::started();
    let site = Site::with(&broker, &[("qos: 0", "qos: 1")]);
    let mut job = site.run(&[]);
    let listener = listener(&broker);
    bind(&mut broker.client("publisher"), &listener, "device/a/t", ZERO);
    drop(listener);
    broker.kill();
    job.until_logged("source lost");
    // With the broker away a clean end takes a while, in which the second signal comes.
    job.signal("INT");
    job.until_logged("a second signal ends at once");
    job.signal("INT");
    assert_eq!(job.wait().code, Some(130));
}

/// Rule 7.4: whatever becomes of a run, a file that can be seen is complete; what a killed run left
/// half written is gone after the next start, which is a new generation and goes on without a gap.
#[test]
fn a_killed_run_leaves_complete_files_only() {
    let broker = Broker::started();
    let site = Site::with(
        &broker,
        &[("{path: archive}", "{path: archive, roll: 20KB/1s}\ncheckpoint: {interval: 200ms}")],
    );
    let job = site.run(&[]);
    let heard = listener(&broker);
    let mut publisher = broker.client("publisher");
    bind(&mut publisher, &heard, "device/0/t", ZERO);
    let mut number = 0;
    // Load until some files are complete; more of them are always under way.
    while rows(&site.archive(), "physical") == 0 {
        for _ in 0..1_000 {
            number += 1;
            publisher.publish_once(&format!("device/{}/t", number % 10), format!(r#"{{"t":{number}}}"#));
        }
        publisher.publish("device/0/t", ZERO);
    }
    job.signal("KILL");
    assert_eq!(job.wait().code, None);
    let left = rows(&site.archive(), "physical");
    assert!(left > 0);

    let job = site.run(&[]);
    bind(&mut publisher, &heard, "device/0/t", ZERO);
    job.signal("TERM");
    let summary = job.wait().succeeded().json();
    assert_eq!(summary["generation"], 2, "{summary}");
    assert_eq!(site.unfinished(), 0);
    // Every update of every twin stands there once, those that were replayed after the kill as well.
    let archive = site.archive();
    let physical = &archive["physical"];
    assert!(physical.rows.len() > left);
    let mut updates: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (twin, update) in physical.cells("twin").iter().zip(physical.cells("update")) {
        let update = update.as_u64().expect("updates are numbers");
        assert!(updates.entry(twin.to_string()).or_default().insert(update), "{twin} {update} stands twice");
    }
    for (twin, updates) in updates {
        assert_eq!(updates.last(), Some(&(updates.len() as u64)), "{twin} has a gap");
    }
}

/// The paper's point, with delay that is injected: it disentangles twins where freshness is asked
/// for, and not where it is not (rule 4.6 will hold both in one job).
#[test]
fn injected_delay_disentangles() {
    let broker = Broker::started();
    let stream = [
        ("[\"device/{twin}/t\"]", "[\"device/{twin}/telemetry/device_state\"]"),
        ("at: arrival", "at: {pointer: /timestamp, format: unix_ms}"),
        ("{t: /t}", "{t: /data/iot.sensor.temperature}"),
        ("expected_rate: none", "expected_rate: 10/s"),
    ];
    let fresh = ("settle: 0s", "desired_timeliness: 25ms, threshold: 0.9");
    let patient = ("settle: 0s", "desired_timeliness: 60s, threshold: 0.9");
    let mut running = Vec::new();
    for (name, terms) in [("job: fresh", fresh), ("job: patient", patient)] {
        let site = Site::with(&broker, &[&stream[..], &[terms, ("job: line", name)]].concat());
        let port = free_port();
        let job = site.run(&["--listen", &format!("127.0.0.1:{port}")]);
        running.push((site, port, job));
    }
    let url = broker.url();
    let arguments = "simulate --twins 10 --rate 10/s --delay 50ms --jitter 50ms --correlation 0.25 --broker";
    let arguments: Vec<_> = arguments.split(' ').chain([url.as_str()]).collect();
    let here = tempfile::tempdir().expect("a temporary folder");
    let simulate =
        crate::harness::program::start(&mut crate::harness::program::twinloom(here.path(), &arguments));
    for ((_, port, _), phase) in running.iter().zip(["disentangled", "entangled"]) {
        until_twins(*port, 10, phase);
    }
    simulate.signal("TERM");
    simulate.wait().succeeded();
    for (site, _, job) in running {
        site.end(job, "TERM");
    }
}

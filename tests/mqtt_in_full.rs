//! The rest of MQTT against a real mosquitto: version 5, QoS 2 with the run killed again and again, websockets, topics
//! that a group shares, several brokers in one job, and another client that takes the session over.

use std::collections::BTreeMap;

use crate::harness::broker::Broker;
use crate::harness::certificates::Authority;
use crate::harness::client::{Client, Message};
use crate::harness::program::{run, start, twinloom};
use crate::harness::site::{Site, bind, is_state, listener, metric, rows};
use crate::harness::{free_port, http, until};

const ZERO: &str = r#"{"t":0}"#;

/// Each of two brokers is a source and a listener: what comes from either goes to both, and the one goes on while the
/// other is away.
#[test]
fn two_brokers_are_sources_and_listeners_of_one_job() {
    let (first, mut second) = (Broker::started(), Broker::started());
    let other = format!("connections:\n  other: {{mqtt: {{url: \"{}\", qos: 1}}}}\n", second.url());
    let stream = "    physical:\n      other: {from: other, topics: [\"site/{twin}/t\"], at: arrival, \
                  properties: {t: /t}, expected_rate: none}\n";
    let changes = [
        ("connections:\n", other.as_str()),
        ("    physical:\n", stream),
        ("qos: 0", "qos: 1"),
        ("digital: [{to: plant}]", "digital: [{to: plant}, {to: other}]"),
    ];
    let site = Site::with(&first, &changes);
    let mut job = site.run(&[]);
    let heard = [listener(&first), listener(&second)];
    bind(&mut first.client("publisher"), &heard[0], "device/a/t", ZERO);
    bind(&mut second.client("publisher"), &heard[1], "site/b/t", ZERO);
    let speak = |broker: &Broker, prefix: &str, twin: &str| {
        let mut publisher = broker.client("publisher");
        (1..=100).for_each(|t| publisher.publish(&format!("{prefix}/{twin}/t"), format!(r#"{{"t":{t}}}"#)));
    };
    let last = |twin: &str| {
        let (topic, twin) = (format!("twins/line/{twin}/state"), twin.to_owned());
        move |message: &Message| {
            message.topic == topic
                && message.says("twin", &twin)
                && message.json()["properties"]["t"] == 100.0
        }
    };
    speak(&first, "device", "c");
    speak(&second, "site", "d");
    for client in &heard {
        client.until_heard("the last of c", last("c"));
        client.until_heard("the last of d", last("d"));
    }
    drop(heard);
    second.kill();
    job.until_logged("source lost");
    let still = listener(&first);
    speak(&first, "device", "e");
    still.until_heard("what comes while the other is away", last("e"));
    second.start();
    let again = listener(&second);
    bind(&mut second.client("publisher"), &again, "site/b/t", ZERO);
    again.until_heard("what was to be heard there meanwhile", last("e"));
    let (summary, _) = site.end(job, "TERM");
    assert_eq!(summary["twins"], 5, "{summary}");
}

/// A broker that does not say that another client has come with our id, as this one by either version, is told from the
/// pattern.
#[test]
fn a_session_that_is_taken_over_is_named() {
    for settings in ["qos: 1", "qos: 1, version: 5"] {
        let broker = Broker::started();
        let site = Site::with(&broker, &[("qos: 0", settings)]);
        let port = free_port();
        let job = site.run(&["--listen", &format!("127.0.0.1:{port}")]);
        let heard = listener(&broker);
        bind(&mut broker.client("publisher"), &heard, "device/a/t", ZERO);
        let takeovers =
            || metric(port, "twinloom_source_takeovers_total{source=\"plant\"}").unwrap_or_default();
        until("the takeover to be named", || {
            drop(broker.client("twinloom-line"));
            (job.log().contains("client id `twinloom-line`") && takeovers() >= 1.0).then_some(())
        });
        // Left alone it comes back, and goes on.
        bind(&mut broker.client("publisher"), &heard, "device/a/t", ZERO);
        site.end(job, "TERM");
    }
}

/// Version 5: a user property says whose a message is, also where it is read again from the journal; the session is
/// kept while the run is away; what is published says for how long it is worth something.
#[test]
fn version_5_has_user_properties_sessions_and_expiry() {
    let broker = Broker::started();
    let settings = "qos: 1, version: 5, session_expiry: 1h, receive_maximum: 10, message_expiry: 1h";
    let topics = "[\"in/+\"]\n        twin: \"{header.device}\"";
    let changes = [("qos: 0", settings), ("[\"device/{twin}/t\"]", topics)];
    let site = Site::with(&broker, &changes);
    let mut job = site.run(&[]);
    let mut heard = Client::connect_by_5(broker.port, "listener");
    heard.subscribe("twins/#");
    let mut publisher = Client::connect_by_5(broker.port, "publisher");
    until("the job to take messages", || {
        publisher.publish_with_properties("in/x", ZERO, &[("device", "probe")]);
        heard.messages().iter().any(is_state).then_some(())
    });
    let speak = |publisher: &mut Client, numbers: std::ops::Range<u32>| {
        for number in numbers {
            let device = format!("d{}", number % 7);
            let properties = [("unit", "Cel"), ("device", "not the last"), ("device", device.as_str())];
            publisher.publish_with_properties("in/x", &format!(r#"{{"t":{number}}}"#), &properties);
        }
    };
    speak(&mut publisher, 0..100);
    publisher.publish_with_properties("in/x", r#"{"t":1}"#, &[("unit", "Cel")]);
    // At once, so that a part of them is in the journal only.
    job.signal("KILL");
    job.wait();
    speak(&mut publisher, 100..200);
    job = site.run(&[]);
    let is_last = |message: &Message| is_state(message) && message.json()["properties"]["t"] == 199.0;
    let last = heard.until_heard("what came while it was away", is_last);
    assert!(last.says("twin", "d3"), "{:?}", last.json());
    assert!(last.expiry_s.is_some_and(|left| (3_000..=3_600).contains(&left)), "{:?}", last.expiry_s);
    job.signal("TERM");
    job.wait().succeeded();
    let archive = site.archive();
    let twins = archive["physical"].cells("twin");
    let numbers = archive["physical"].cells("t");
    let mut taken: Vec<(f64, &str)> = twins
        .iter()
        .zip(&numbers)
        .filter_map(|(twin, number)| Some((number.as_f64()?, twin.as_str()?)))
        .filter(|(_, twin)| *twin != "probe")
        .collect();
    taken.sort_by(|one, other| one.0.total_cmp(&other.0));
    let expected: Vec<(f64, String)> =
        (0..200_u32).map(|number| (f64::from(number), format!("d{}", number % 7))).collect();
    assert!(
        taken.iter().map(|(t, twin)| (*t, *twin)).eq(expected.iter().map(|(t, twin)| (*t, twin.as_str())))
    );
    let reason = archive["dead_letters"].cells("reason")[0].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("no header `device`"), "{reason}");
}

#[test]
fn what_a_broker_of_version_5_refuses_is_said_with_what_to_do() {
    let broker = Broker::with_login("line", "right");
    let site = Site::with(&broker, &[("qos: 0", "qos: 1, version: 5, user: line, password: wrong")]);
    let mut job = site.run(&[]);
    job.until_logged("check `user`");
    job.signal("TERM");
    job.wait().succeeded();
}

/// Rules 7.1 and 7.2 at QoS 2: whenever the run is killed, each message is taken once, also those that are the same to
/// the byte.
#[test]
fn at_qos_2_each_message_is_taken_once_over_kills() {
    const BURSTS: usize = 30;
    const BURST: usize = 100;
    for version in ["", ", version: 5"] {
        let broker = Broker::started();
        let settings = format!("qos: 2, journal: {{size: 1MB, file: 16KB}}{version}");
        let checkpoint = ("job: line", "job: line\ncheckpoint: {interval: 200ms}");
        let site = Site::with(&broker, &[("qos: 0", &settings), checkpoint]);
        let mut job = site.run(&[]);
        let heard = listener(&broker);
        bind(&mut broker.client("probe"), &heard, "device/probe/t", ZERO);
        let mut publisher = broker.client("publisher");
        for burst in 0..BURSTS {
            // Most twins say the same again and again.
            let message = |number: usize| (number % 10, if number.is_multiple_of(10) { burst } else { 1 });
            let messages = (0..BURST).map(message);
            let publish = |(twin, t)| {
                publisher.publish_exactly_once(&format!("device/{twin}/t"), format!(r#"{{"t":{t}}}"#))
            };
            let ids = messages.map(publish).collect();
            // In the middle of it, at no moment in particular.
            if burst % 5 == 2 {
                job.signal("KILL");
                job.wait();
                job = site.run(&[]);
            }
            publisher.until_taken(ids);
        }
        publisher.publish_exactly_once("device/last/t", ZERO);
        heard.until_heard("the last", |message| is_state(message) && message.says("twin", "last"));
        job.signal("TERM");
        job.wait().succeeded();
        let archive = site.archive();
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        for twin in archive["physical"].cells("twin") {
            *taken.entry(twin.as_str().expect("a twin has an id").to_owned()).or_default() += 1;
        }
        taken.remove("probe");
        let expected = (0..10).map(|twin| (twin.to_string(), BURSTS * BURST / 10));
        let expected: BTreeMap<_, _> = expected.chain([("last".to_owned(), 1)]).collect();
        assert_eq!(taken, expected, "{settings}");
    }
}

/// Over websockets all is as over TCP: acknowledgements, more than a record of TLS, the end of the broker.
#[test]
fn a_connection_over_websockets_takes_and_publishes_all() {
    let authority = Authority::new("plant");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ca = folder.path().join("ca.pem");
    authority.write(&ca);
    for (mut broker, is_secure) in
        [(Broker::with_websockets(), false), (Broker::with_secure_websockets(&authority), true)]
    {
        let settings = match is_secure {
            false => format!("\"ws://127.0.0.1:{}/mqtt\", qos: 2, version: 5", broker.web_port()),
            true => format!("\"wss://127.0.0.1:{}\", ca: \"{}\", qos: 1", broker.web_port(), ca.display()),
        };
        let site = Site::with(&broker, &[("\"URL\", qos: 0", &settings)]);
        let (job, mut heard) = (site.run(&[]), listener(&broker));
        let mut publisher = broker.client("publisher");
        bind(&mut publisher, &heard, "device/a/t", ZERO);
        // Those of the first twin may still come, as it was spoken to until it answered.
        let is_one = |one: &&Message| is_state(one) && one.topic.contains("/d");
        let states = |client: &Client| client.messages().iter().filter(is_one).count();
        let message = |number| (format!("device/d{}/t", number % 50), format!(r#"{{"t":{number}}}"#));
        publisher.publish_all(&(0..2_000).map(message).collect::<Vec<_>>());
        until("2,000 states", || (states(&heard) == 2_000).then_some(()));
        broker.kill();
        broker.start();
        heard = listener(&broker);
        bind(&mut broker.client("publisher"), &heard, "device/b/t", ZERO);
        site.end(job, "TERM");
    }
    // A port that speaks something else.
    let broker = Broker::started();
    let site = Site::with(&broker, &[("\"URL\"", &format!("\"ws://127.0.0.1:{}\"", broker.port))]);
    let mut job = site.run(&[]);
    job.until_logged("broker not reached; retrying");
    job.signal("TERM");
    job.wait().succeeded();
}

/// A group shares the messages: each comes to one of two jobs, and both say that order is not promised.
#[test]
fn a_shared_topic_is_dealt_out_among_two_jobs() {
    let broker = Broker::started();
    let site = |name: &str| {
        let topic = "[\"$share/plant/device/{twin}/t\"]";
        let changes = [
            ("job: line", name),
            ("qos: 0", "qos: 1"),
            ("[\"device/{twin}/t\"]", topic),
            ("digital: [{to: plant}]\n", ""),
        ];
        Site::with(&broker, &changes)
    };
    let sites = [site("job: one"), site("job: two")];
    for (arguments, expected) in [
        (["validate", "job.yaml"], "is shared: the broker deals a twin's messages out among the group"),
        (["explain", "job.yaml"], "the order of a twin's messages is not promised"),
    ] {
        let said = run(sites[0].path(), &arguments).succeeded();
        assert!((said.stdout.clone() + &said.stderr).contains(expected), "{said:?}");
    }
    let ports = [free_port(), free_port()];
    let started = |(site, port): (&Site, u16)| {
        let listen = format!("127.0.0.1:{port}");
        start(&mut twinloom(
            site.path(),
            &["run", "job.yaml", "--json", "--data", "data", "--listen", &listen],
        ))
    };
    let jobs: Vec<_> = sites.iter().zip(ports).map(started).collect();
    let mut publisher = broker.client("publisher");
    let taken = |port| metric(port, "twinloom_source_messages_total{source=\"plant\"}").unwrap_or_default();
    until("both to take messages", || {
        publisher.publish("device/probe/t", ZERO);
        ports.iter().all(|port| taken(*port) > 0.0).then_some(())
    });
    let message = |number| (format!("device/{}/t", number % 20), ZERO.to_owned());
    publisher.publish_all(&(0..400).map(message).collect::<Vec<_>>());
    // Whoever has the end has all that was dealt out to it before.
    for (port, name) in ports.into_iter().zip(["one", "two"]) {
        until("the end to be taken", || {
            publisher.publish("device/end/t", ZERO);
            let (status, _) = http::get(port, &format!("/v1/jobs/{name}/twins/end"))?;
            (status == 200).then_some(())
        });
    }
    let mut events = Vec::new();
    for (job, site) in jobs.into_iter().zip(&sites) {
        job.signal("TERM");
        job.wait().succeeded();
        let of_others = |twin: &&serde_json::Value| !matches!(twin.as_str(), Some("probe" | "end"));
        let archive = site.archive();
        assert!(rows(&archive, "physical") > 0);
        events.push(archive["physical"].cells("twin").into_iter().filter(of_others).count());
    }
    assert_eq!(events.iter().sum::<usize>(), 400, "{events:?}");
    assert!(events.iter().all(|count| *count > 0), "{events:?}");
}

//! Each mistake of a job with Kafka: what is written, and what is said of it.

use crate::findings::{Finding, Severity};
use crate::job::Job;

const BASE: &str = r#"job: first
connections:
  bus: {kafka: {brokers: ["kafka:9092"]}}
  plant: {mqtt: {url: mqtt://localhost:1883}}
types:
  device:
    properties: {t: {type: double}, u: {type: double}}
    physical:
      tele:
        from: bus
        topics: ["plant.{site}.tele"]
        at: arrival
        properties: {t: /t}
        expected_rate: none
      floor: {from: plant, topics: ["device/{twin}"], at: arrival, properties: {u: /u}, expected_rate: none}
digital:
  - {to: bus}
  - {to: plant}
"#;

/// What is found in a text, a line each.
fn found(text: &str) -> String {
    let findings = match Job::parse("job.yaml", text, None) {
        Ok(job) => job.warnings,
        Err(findings) => findings,
    };
    let line = |finding: &Finding| {
        let word = match finding.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
            Severity::Note => "note: ",
        };
        let span = finding.span;
        format!("{}:{} {word}{} ({})", span.line, span.column, finding.message, finding.help)
    };
    findings.all.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What is found where `from` of the base is replaced by `to`.
fn check(cases: &[(&str, &str, &str)]) {
    let mut wrong = String::new();
    for (from, to, expected) in cases {
        assert!(BASE.contains(from), "{from} is in the base");
        let found = found(&BASE.replacen(from, to, 1));
        if found != *expected {
            wrong += &format!("{from:?} -> {to:?}\n found {found}\n not   {expected}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

const BROKERS: &str = r#"brokers: ["kafka:9092"]"#;
const TOPICS: &str = r#"topics: ["plant.{site}.tele"]"#;

#[test]
fn good_definitions_pass() {
    check(&[
        ("job: first", "job: first", ""),
        (
            BROKERS,
            r#"brokers: ["a:1", "b:2"], group: g, start: "2026-11-24T12:00:00Z", on_gap: skip, queue: 1MB"#,
            "",
        ),
        (
            BROKERS,
            r#"brokers: ["${BROKER}"], options: {sasl.password: "${file:/x}", security.protocol: "${HOW}"}"#,
            "",
        ),
        (TOPICS, "topics: [\"plant.#\", tele]\n        twin: \"{key}\"", ""),
        (TOPICS, r#"topics: ["plant.{twin}.tele"]"#, ""),
        (TOPICS, "topics: [\"plant.{site}.tele\"]\n        twin: \"{site}/{header.device}\"", ""),
        (TOPICS, "topics: [tele]\n        twin: /id", ""),
        ("{to: bus}", r#"{to: bus, topic: "x-{job}.{type}.{kind}", exactly_once: true}"#, ""),
        ("{to: bus}", "{to: bus, exactly_once: true}\n  - {to: bus, topic: other}", ""),
        ("{to: plant}", "{to: plant, exactly_once: false}", ""),
    ]);
}

#[test]
fn settings() {
    check(&[
        (BROKERS, "brokers: []", "3:17 brokers is empty (write for example [\"localhost:9092\"])"),
        (
            BROKERS,
            "brokers: [a:1, kafka]",
            "3:32 brokers has `kafka`, which is no host:port (write localhost:9092)",
        ),
        (
            BROKERS,
            "brokers: [\"a:1\"], option: {x: y}",
            "3:35 unknown key `option` (did you mean `options`?)",
        ),
        (
            BROKERS,
            "brokers: [\"a:1\"], ca: x",
            "3:35 unknown key `ca` (write it as an option: options: {ssl.ca.location: certs/ca.pem})",
        ),
        (BROKERS, "url: kafka://a", "3:17 unknown key `url` (write brokers: [\"localhost:9092\"])"),
        (
            BROKERS,
            "brokers: [\"a:1\"], start: now",
            "3:42 `now` is no place to start (write earliest, latest, stored or an instant such as 2026-11-24T12:00:00Z)",
        ),
        (BROKERS, "brokers: [\"a:1\"], on_gap: wait", "3:43 unknown word `wait` (there are: skip, stop)"),
        (
            BROKERS,
            "brokers: [\"a:1\"], outbox: 0B",
            "3:43 outbox must be more than 0 (write for example 16MB)",
        ),
        (
            BROKERS,
            "brokers: [\"a:1\"], options: {group.id: g}",
            "3:55 options has `group.id`, which the engine sets itself (write it as `group`)",
        ),
        (
            BROKERS,
            "brokers: [\"a:1\"], options: {linger.ms: 5, enable.auto.commit: true}",
            "3:79 options has `enable.auto.commit`, which the engine sets itself (remove it: offsets belong to the checkpoints)",
        ),
    ]);
    // The words are the client library's; the value is not shown.
    for (options, place) in
        [("{linger.ms: 5, sasl.pasword: hunter2}", "3:73 "), ("{security.protocol: hunter2}", "3:64 ")]
    {
        let found = found(&BASE.replacen(BROKERS, &format!("brokers: [\"a:1\"], options: {options}"), 1));
        assert!(found.starts_with(place), "{options}: {found}");
        assert!(found.contains("options cannot be used: `s"), "{options}: {found}");
        assert!(found.ends_with(" (write options of librdkafka)"), "{options}: {found}");
        assert!(!found.contains("hunter2"), "{options}: {found}");
    }
}

#[test]
fn streams() {
    check(&[
        (
            TOPICS,
            "topics: [plant/tele]",
            "11:18 `plant/tele` has a `/`, and Kafka's topics have none (write a dot between levels: plant.tele)",
        ),
        (
            TOPICS,
            "topics: [tele]\n        twin: \"{site}\"",
            "12:15 the topic `tele` has no capture {site} (write it as a level of every topic, or say with `twin:` where the id is ({key}, {header.NAME}, a template such as \"{site}-{key}\", or a pointer such as /deviceId))",
        ),
        (
            "topics: [\"device/{twin}\"]",
            "topics: [\"device/+\"], twin: \"{key}\"",
            "15:56 MQTT has no keys; `{key}` is of a record of Kafka (write {twin} as a level of every topic, or say with `twin:` where the id is (a template such as \"{site}-{device}\", or a pointer such as /deviceId))",
        ),
        // A connection with a mistake is told of once, and its streams are not held to another kind's rules.
        (BROKERS, "borkers: [a:1]", "3:17 unknown key `borkers` (did you mean `brokers`?)"),
    ]);
}

#[test]
fn listeners() {
    check(&[
        (
            "{to: bus}",
            "{to: bus, topic: \"twins.{twin}\"}",
            "17:22 `{twin}` is no place in the topic of a Kafka listener: the key of each record is the twin's id (write {job}, {type} or {kind}, such as twins.{job})",
        ),
        (
            "{to: bus}",
            "{to: bus, topic: twins/all}",
            "17:22 `twins/all` has a `/`, and Kafka's topics have none (write a dot between levels: twins.all)",
        ),
        (
            "{to: bus}",
            "{to: bus, topic: \"plant.{job}.tele\"}",
            "17:22 `plant.{job}.tele` feeds the stream `tele` of type `device`, which reads `plant.{site}.tele` (write to a topic that no stream reads, such as twins.{job})",
        ),
        (
            "{to: bus}",
            "{to: bus, topic: \"plant.{kind}.tele\", kinds: [event]}",
            "17:22 `plant.{kind}.tele` feeds the stream `tele` of type `device`, which reads `plant.{site}.tele` (write to a topic that no stream reads, such as twins.{job})",
        ),
        ("{to: bus}", "{to: bus, topic: \"plant.{kind}.state\"}", ""),
        (
            "{to: bus}",
            "{to: bus, retain: false}",
            "17:23 Kafka keeps records as the settings of their topic say, and has no retained ones (leave `retain` out; a topic with cleanup.policy=compact keeps the last record of each key, so give each kind a topic of its own: topic: twins.{job}.{kind})",
        ),
        (
            "{to: plant}",
            "{to: plant, exactly_once: true}",
            "18:31 MQTT has no transactions, so events cannot come exactly once (leave `exactly_once` out (each event comes at least once, a repeat has a higher generation), or send to a Kafka connection)",
        ),
        ("{to: bus}", "{to: bus, exactly_once: 1}", "17:29 `1` is not a boolean (write true or false)"),
    ]);
    let type_name = BASE.replace("  device:", "  ü:").replace("{to: bus}", "{to: bus, topic: \"a.{type}\"}");
    assert_eq!(
        found(&type_name),
        "17:22 the topic for the type `ü` cannot be: `a.ü` has `ü`, which Kafka's topics cannot have (write a shorter topic without {type}, or give the type another name)"
    );
}

#[test]
fn connections_must_agree() {
    let second = |settings: &str, topics: &str| {
        BASE.replace("\n  plant:", &format!("\n  other: {{kafka: {{{settings}}}}}\n  plant:")).replace(
            "      floor:",
            &format!(
                "      more: {{from: other, topics: [{topics}], at: arrival, properties: {{t: /t}}, expected_rate: none}}\n      floor:"
            ),
        )
    };
    let same = "4:75 `bus` reads the same topics of the same cluster in the same group `twinloom-first-bus` (give each connection a group of its own, or read the topics through one connection)";
    let feeds = "19:6 `twins.{job}` feeds the stream `more` of type `device`, which reads `twins.#` (write to a topic that no stream reads, such as twins.{job})";
    for (settings, topics, expected) in [
        ("brokers: [\"b:9092\"]", "plant.x.tele", ""),
        ("brokers: [\"kafka:9092\"]", "plant.x.tele", ""),
        (
            "brokers: [\"x:1\",      \"KAFKA:9092\"],             group: twinloom-first-bus",
            "plant.x.tele",
            same,
        ),
        ("brokers: [\"b:9092\"], group: twinloom-first-bus", "plant.x.tele", ""),
        ("brokers: [\"kafka:9092\"], group: twinloom-first-bus", "other.x", ""),
        ("brokers: [\"kafka:9092\"]", "\"twins.#\"", feeds),
        ("brokers: [\"b:9092\"]", "\"twins.#\"", ""),
    ] {
        assert_eq!(found(&second(settings, topics)), expected, "{settings} {topics}");
    }
    let named = BASE
        .replace(
            "\n  plant: {mqtt: {url: mqtt://localhost:1883}}",
            "\n  bus-exactly-once: {mqtt: {url: mqtt://a}}",
        )
        .replace("from: plant", "from: bus-exactly-once")
        .replace("{to: plant}", "{to: bus-exactly-once}")
        .replace("{to: bus}", "{to: bus, exactly_once: true}");
    assert_eq!(
        found(&named),
        "4:3 `bus-exactly-once` is the name of another sink as well (give the connection a name without -exactly-once)"
    );
}

#[test]
fn groups_are_named_after_the_job() {
    let two = BASE.replace("\n  plant:", "\n  other: {kafka: {brokers: [\"b:1\"], group: mine}}\n  plant:");
    for (text, name, expected) in
        [(BASE, "bus", "twinloom-first"), (&two, "bus", "twinloom-first-bus"), (&two, "other", "mine")]
    {
        let job = Job::parse("job.yaml", text, None).expect("good");
        let settings = super::cluster_of(&job.definition, name).expect("a cluster");
        assert_eq!(super::group(&job.definition, name, settings), expected);
    }
}

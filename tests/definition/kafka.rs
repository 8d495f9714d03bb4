//! The same of a job with Kafka.

use expect_test::expect;

use super::check_piece;

/// A job between Kafka and Kafka, with a broker of MQTT beside it.
const KAFKA: &str = r#"job: line
connections:
  bus: {kafka: {brokers: ["kafka:9092"], options: {sasl.password: "${UNSET}"}}}
  plant: {mqtt: {url: mqtt://localhost:1883}}
types:
  press:
    properties: {t: {type: double}, u: {type: double}}
    physical:
      telemetry: {from: bus, topics: [plant.telemetry], at: arrival, properties: {t: /t}, expected_rate: 1/s}
      floor: {from: plant, topics: ["press/{twin}"], at: arrival, properties: {u: /u}, expected_rate: none}
digital:
  - {to: bus, kinds: [state], exactly_once: true}
  - {to: plant, kinds: [event]}
"#;

#[test]
fn kafka_in_a_job_file() {
    for (from, to, expected) in [
        (
            "job: line",
            "job: line",
            expect![[r#"
                job.yaml is valid: 1 type, 2 streams, 0 functions, 2 listeners
                exit 0
            "#]],
        ),
        (
            "[\"kafka:9092\"]",
            "[\"kafka:9092\"], strat: latest",
            expect![[r#"
                job.yaml:3:42: unknown key `strat`
                  help: did you mean `start`?
                exit 78
            "#]],
        ),
        (
            "[\"kafka:9092\"]",
            "[]",
            expect![[r#"
                job.yaml:3:17: brokers is empty
                  help: write for example ["localhost:9092"]
                exit 78
            "#]],
        ),
        (
            "[\"kafka:9092\"]",
            "[\"kafka:9092\"], start: now",
            expect![[r#"
                job.yaml:3:49: `now` is no place to start
                  help: write earliest, latest, stored or an instant such as 2026-11-24T12:00:00Z
                exit 78
            "#]],
        ),
        (
            "[\"kafka:9092\"]",
            "[\"kafka:9092\"], on_gap: ignore",
            expect![[r#"
                job.yaml:3:50: unknown word `ignore`
                  help: there are: skip, stop
                exit 78
            "#]],
        ),
        (
            "{sasl.password: \"${UNSET}\"}",
            "{group.id: mine}",
            expect![[r#"
                job.yaml:3:62: options has `group.id`, which the engine sets itself
                  help: write it as `group`
                exit 78
            "#]],
        ),
        (
            "{sasl.password: \"${UNSET}\"}",
            "{linger.ms: 5, sasl.pasword: hunter2}",
            expect![[r#"
                job.yaml:3:80: options cannot be used: `sasl.pasword`: No such configuration property: "sasl.pasword"
                  help: write options of librdkafka
                exit 78
            "#]],
        ),
        (
            "[plant.telemetry]",
            "[plant/telemetry]",
            expect![[r#"
                job.yaml:9:39: `plant/telemetry` has a `/`, and Kafka's topics have none
                  help: write a dot between levels: plant.telemetry
                exit 78
            "#]],
        ),
        (
            "[\"press/{twin}\"]",
            "[\"press/+\"], twin: \"{key}\"",
            expect![[r#"
                job.yaml:10:55: MQTT has no keys; `{key}` is of a record of Kafka
                  help: write {twin} as a level of every topic, or say with `twin:` where the id is (a template such as "{site}-{device}", or a pointer such as /deviceId)
                exit 78
            "#]],
        ),
        (
            "exactly_once: true}",
            "exactly_once: true, topic: \"twins.{twin}\"}",
            expect![[r#"
                job.yaml:12:58: `{twin}` is no place in the topic of a Kafka listener: the key of each record is the twin's id
                  help: write {job}, {type} or {kind}, such as twins.{job}
                exit 78
            "#]],
        ),
        (
            "exactly_once: true}",
            "exactly_once: true, topic: plant.telemetry}",
            expect![[r#"
                job.yaml:12:58: `plant.telemetry` feeds the stream `telemetry` of type `press`, which reads `plant.telemetry`
                  help: write to a topic that no stream reads, such as twins.{job}
                exit 78
            "#]],
        ),
        (
            "exactly_once: true}",
            "exactly_once: true, retain: true}",
            expect![[r#"
                job.yaml:12:59: Kafka keeps records as the settings of their topic say, and has no retained ones
                  help: leave `retain` out; a topic with cleanup.policy=compact keeps the last record of each key, so give each kind a topic of its own: topic: twins.{job}.{kind}
                exit 78
            "#]],
        ),
        (
            "kinds: [event]}",
            "kinds: [event], exactly_once: true}",
            expect![[r#"
                job.yaml:13:47: MQTT has no transactions, so events cannot come exactly once
                  help: leave `exactly_once` out (each event comes at least once, a repeat has a higher generation), or send to a Kafka connection
                exit 78
            "#]],
        ),
    ] {
        check_piece(KAFKA, from, to, expected);
    }
}

//! Tables of good and bad messages (rules 3.6, 3.7, 8.1, 8.2).

use expect_test::{Expect, expect};

use super::*;
use crate::model::{self, Model, ModelSettings};

const STATE: &str = "device/p-1/telemetry/device_state";

pub(super) fn decoder(streams: &str) -> Decoder {
    decoder_of(streams, Bus::Levels)
}

/// What is said of a stream that is wrong, with everything that all streams have.
pub(super) fn problem_of(stream: &str) -> String {
    let all = format!(r#"{{"from": "plant", "topics": ["t/{{twin}}"], "expected_rate": "none", {stream}}}"#);
    let settings: StreamSettings = serde_json::from_str(&all).expect("well formed");
    match StreamPlan::compile(&settings, &model(), Bus::Levels) {
        Ok(_) => "good".into(),
        Err(problem) => format!("{}: {}; {}", problem.path.join("."), problem.message, problem.help),
    }
}

pub(super) fn model() -> Model {
    let settings = ModelSettings {
        properties: serde_json::from_str(
            r#"{"temperature": {"type": "double", "range": [-100, 1000]}, "energy": {"type": "double"},
                "count": {"type": "integer"}, "on": {"type": "boolean"}, "name": {"type": "string"},
                "mode": {"type": "enum", "values": ["idle", "run"]},
                "wave": {"type": "array", "items": "double", "length_max": 3}, "box": {"type": "object"}}"#,
        )
        .expect("the model is well formed"),
        events: serde_json::from_str(r#"{"door": {"type": "object"}}"#).expect("well formed"),
        ..ModelSettings::default()
    };
    model::compile(&settings).expect("the model is good")
}

fn decoder_of(streams: &str, bus: Bus) -> Decoder {
    let model = model();
    let streams: Vec<StreamSettings> = serde_json::from_str(streams).expect("well formed");
    let routes = streams
        .iter()
        .enumerate()
        .map(|(index, stream)| Route {
            twin_type: 0,
            stream: index as u16,
            plan: StreamPlan::compile(stream, &model, bus).expect("the stream is good"),
        })
        .collect();
    Decoder::new(0, routes)
}

/// The paper's device: its aggregated state and its single values.
fn paper() -> Decoder {
    decoder(
        r#"[{"from": "plant", "topics": ["device/{twin}/telemetry/device_state"],
             "at": {"pointer": "/timestamp", "format": "unix_ms"},
             "properties": {"temperature": "/data/iot.sensor.temperature", "energy": "/data/iot.sensor.energy"},
             "expected_rate": "1/s"},
            {"from": "plant", "topics": ["device/{twin}/telemetry/temperature"],
             "at": {"pointer": "/timestamp", "format": "unix_ms"},
             "properties": {"temperature": "/data"}, "expected_rate": "none"}]"#,
    )
}

/// One stream that maps one value of each kind, with `extra` settings.
fn kinds(extra: &str) -> Decoder {
    decoder(&format!(
        r#"[{{"from": "plant", "topics": ["t/{{twin}}"], "at": "arrival", "expected_rate": "none",
             "properties": {{"count": "/count", "on": "/on", "name": "/name", "wave": "/wave", "box": "/box",
                            "mode": {{"pointer": "/mode", "map": {{"0": "idle", "1": "run"}}}}}} {extra}}}]"#
    ))
}

pub(super) fn check(mut decoder: Decoder, topic: &str, payload: &[u8], expected: Expect) {
    expected.assert_eq(&decoded(&mut decoder, &message(topic, payload)));
}

/// How many events and dead letters a payload on the topic `t/p` makes.
pub(super) fn count(decoder: &mut Decoder, payload: &[u8]) -> (usize, usize) {
    let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
    decoder.decode(&message("t/p", payload), &mut events, &mut dead_letters);
    (events.len(), dead_letters.len())
}

pub(super) fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Message<'a> {
    Message {
        position: 7,
        arrived_at: ArrivalTime(5_000_000),
        topic: topic.as_bytes(),
        payload,
        retained: false,
        oversize: None,
        key: None,
        headers: &[],
    }
}

fn decoded(decoder: &mut Decoder, message: &Message<'_>) -> String {
    let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
    decoder.decode(message, &mut events, &mut dead_letters);
    let mut lines: Vec<String> = events
        .events()
        .map(|event| {
            let properties: Vec<_> = event.properties().collect();
            let happened: Vec<_> = event.events().collect();
            let head = event.head;
            let live = if head.live { "" } else { " not live" };
            format!(
                "{} stream {} at {} {:?}{live}: {properties:?} {happened:?}",
                event.id, head.stream, head.physical_at.0, head.claimed
            )
        })
        .collect();
    let dead = |letter: &DeadLetter| format!("dead: {} <- {}", letter.reason, letter.payload);
    lines.extend(dead_letters.iter().map(dead));
    lines.join("\n")
}

#[test]
fn the_papers_messages_are_read() {
    check(
        paper(),
        STATE,
        br#"{"timestamp":1646847376104,"type":"iot.sensor.state.aggregated","data":{"iot.sensor.temperature":24.28,"iot.sensor.energy":4.67}}"#,
        expect!["p-1 stream 0 at 1646847376104000 Device: [(0, Double(24.28)), (1, Double(4.67))] []"],
    );
    check(
        paper(),
        "device/p-1/telemetry/temperature",
        br#"{"timestamp":1646847376104,"type":"iot.sensor.temperature","data":24.28}"#,
        expect!["p-1 stream 1 at 1646847376104000 Device: [(0, Double(24.28))] []"],
    );
    check(
        paper(),
        STATE,
        br#"{"data":{"iot.sensor.energy":4},"timestamp":1646847376104.25}"#,
        expect!["p-1 stream 0 at 1646847376104250 Device: [(1, Double(4.0))] []"],
    );
}

#[test]
fn what_cannot_be_read_is_a_dead_letter() {
    for (payload, expected) in [
        (
            &b"{\"timestamp\":1,"[..],
            expect![[
                r#"dead: malformed JSON: EOF while parsing a value at line 1 column 15 <- {"timestamp":1,"#
            ]],
        ),
        (
            b"{\"timestamp\":1} x",
            expect![[
                r#"dead: malformed JSON: trailing characters at line 1 column 17 <- {"timestamp":1} x"#
            ]],
        ),
        (b"", expect!["dead: the payload is empty <- "]),
        (b"\xff\xfe", expect!["dead: malformed JSON: expected value at line 1 column 1 <- \u{fffd}\u{fffd}"]),
        (b"[1, 2]", expect!["dead: the device time is missing <- [1, 2]"]),
        (
            br#"{"data":{"iot.sensor.energy":1}}"#,
            expect![[r#"dead: the device time is missing <- {"data":{"iot.sensor.energy":1}}"#]],
        ),
        (
            br#"{"timestamp":"noon","data":{"iot.sensor.energy":1}}"#,
            expect![[
                r#"dead: `/timestamp`: the device time cannot be read <- {"timestamp":"noon","data":{"iot.sensor.energy":1}}"#
            ]],
        ),
        (
            br#"{"timestamp":1,"data":{"iot.sensor.energy":"much"}}"#,
            expect![[
                r#"dead: `/data/iot.sensor.energy`: "much" is no double <- {"timestamp":1,"data":{"iot.sensor.energy":"much"}}"#
            ]],
        ),
        (
            br#"{"timestamp":1,"data":{"iot.sensor.energy":[1]}}"#,
            expect![[
                r#"dead: `/data/iot.sensor.energy`: an array is no double <- {"timestamp":1,"data":{"iot.sensor.energy":[1]}}"#
            ]],
        ),
        (
            br#"{"timestamp":1,"data":{"iot.sensor.energy":NaN}}"#,
            expect![[
                r#"dead: malformed JSON: expected value at line 1 column 44 <- {"timestamp":1,"data":{"iot.sensor.energy":NaN}}"#
            ]],
        ),
        (
            br#"{"timestamp":1,"data":{"iot.sensor.energy":1e999}}"#,
            expect![[
                r#"dead: malformed JSON: number out of range at line 1 column 48 <- {"timestamp":1,"data":{"iot.sensor.energy":1e999}}"#
            ]],
        ),
        (
            br#"{"timestamp":1,"data":{"iot.sensor.energy":null}}"#,
            expect![[
                r#"dead: none of the mapped values is there <- {"timestamp":1,"data":{"iot.sensor.energy":null}}"#
            ]],
        ),
        (
            br#"{"timestamp":1,"data":{"iot.sensor.temperature":1001}}"#,
            expect![[
                r#"dead: `/data/iot.sensor.temperature`: 1001 is outside the range [-100, 1000] <- {"timestamp":1,"data":{"iot.sensor.temperature":1001}}"#
            ]],
        ),
    ] {
        check(paper(), STATE, payload, expected);
    }
}

#[test]
fn ids_are_checked_and_unescaped() {
    let payload = br#"{"timestamp":1,"data":1}"#;
    let topic = |id: &str| format!("device/{id}/telemetry/temperature");
    check(
        paper(),
        &topic("a%2Fb ü"),
        payload,
        expect!["a/b ü stream 1 at 1000 Device: [(0, Double(1.0))] []"],
    );
    check(
        paper(),
        &topic(""),
        payload,
        expect![[r#"dead: the twin id is empty <- {"timestamp":1,"data":1}"#]],
    );
    check(
        paper(),
        &topic("a\u{1}"),
        payload,
        expect![[r#"dead: the twin id has a control character <- {"timestamp":1,"data":1}"#]],
    );
    check(
        paper(),
        &topic(&"x".repeat(257)),
        payload,
        expect![[r#"dead: the twin id has 257 bytes, more than 256 <- {"timestamp":1,"data":1}"#]],
    );
    check(
        paper(),
        "other",
        payload,
        expect![[r#"dead: no stream of the job takes this topic <- {"timestamp":1,"data":1}"#]],
    );
}

#[test]
fn times_that_64_bits_cannot_hold_saturate() {
    check(
        paper(),
        "device/p/telemetry/temperature",
        br#"{"timestamp":18446744073709551615,"data":1}"#,
        expect!["p stream 1 at 9223372036854775807 Device: [(0, Double(1.0))] []"],
    );
}

#[test]
fn every_kind_is_read_and_refused() {
    for (payload, expected) in [
        (
            r#"{"count": 5.0, "on": true, "name": "x\ny", "mode": 1, "wave": [1, 2.5], "box": {"a": [null]}}"#,
            expect![[
                r#"p stream 0 at 5000000 Arrival: [(2, Integer(5)), (3, Boolean(true)), (4, Text("x\ny")), (5, Enum(1)), (6, Json("[1,2.5]")), (7, Json("{\"a\":[null]}"))] []"#
            ]],
        ),
        (r#"{"count": 1, "count": 2}"#, expect!["p stream 0 at 5000000 Arrival: [(2, Integer(2))] []"]),
        (r#"{"count": 1.5}"#, expect![[r#"dead: `/count`: 1.5 is no integer <- {"count": 1.5}"#]]),
        (r#"{"on": 1}"#, expect![[r#"dead: `/on`: 1 is no boolean <- {"on": 1}"#]]),
        (r#"{"mode": 2}"#, expect![[r#"dead: `/mode`: `2` is not in the map <- {"mode": 2}"#]]),
        (
            r#"{"wave": [1, 2, 3, 4]}"#,
            expect![[r#"dead: `/wave`: 4 elements, at most 3 <- {"wave": [1, 2, 3, 4]}"#]],
        ),
        (
            r#"{"wave": [1, "2"]}"#,
            expect![[r#"dead: `/wave`: the element "2" is of the wrong type <- {"wave": [1, "2"]}"#]],
        ),
        (r#"{"box": 1}"#, expect![[r#"dead: `/box`: 1 is no object <- {"box": 1}"#]]),
    ] {
        check(kinds(""), "t/p", payload.as_bytes(), expected);
    }
}

#[test]
fn many_measurements_in_one_message_fail_one_by_one() {
    let bursts = || {
        decoder(
            r#"[{"from": "plant", "topics": ["t/{twin}"], "each": "/bursts", "at": {"pointer": "/ts", "format": "unix_s"},
                 "properties": {"count": "/values/n"}, "expected_rate": "none"}]"#,
        )
    };
    check(
        bursts(),
        "t/p",
        br#"{"bursts": [{"ts": 1, "values": {"n": 1}}, {"ts": 2, "values": {"n": "two"}}, {"values": {"n": 3}}, {"ts": 4, "values": {"n": 4}}]}"#,
        expect![[r#"
            p stream 0 at 1000000 Device: [(2, Integer(1))] []
            p stream 0 at 4000000 Device: [(2, Integer(4))] []
            dead: `/values/n`: "two" is no integer <- {"ts":2,"values":{"n":"two"}}
            dead: the device time is missing <- {"values":{"n":3}}"#]],
    );
    check(
        bursts(),
        "t/p",
        br#"{"bursts": 1}"#,
        expect![[r#"dead: there is no array where `each` says <- {"bursts": 1}"#]],
    );
}

/// The usual form of stamped values, alone and in an array.
#[test]
fn stamped_values_are_pointers() {
    let stamped = |each: &str| {
        decoder(&format!(
            r#"[{{"from": "plant", "topics": ["t/{{twin}}"], {each} "at": {{"pointer": "/ts", "format": "unix_ms"}},
                 "properties": {{"temperature": "/values/t", "count": "/values/n"}}, "expected_rate": "none"}}]"#
        ))
    };
    check(
        stamped(r#""decode": "json","#),
        "t/p",
        br#"{"ts":1500,"values":{"t":20.5,"n":1,"more":{"deep":[]}}}"#,
        expect!["p stream 0 at 1500000 Device: [(0, Double(20.5)), (2, Integer(1))] []"],
    );
    for (payload, expected) in [
        (
            r#"[{"ts":1,"values":{"t":1}},{"ts":2,"values":{"t":2,"n":2}}]"#,
            expect![[r#"
                p stream 0 at 1000 Device: [(0, Double(1.0))] []
                p stream 0 at 2000 Device: [(0, Double(2.0)), (2, Integer(2))] []"#]],
        ),
        (
            r#"[{"ts":1,"values":{}},{"ts":2,"values":7},{"ts":"3","values":{"t":3}},[4],{"ts":5,"values":{"t":5}}]"#,
            expect![[r#"
                p stream 0 at 5000 Device: [(0, Double(5.0))] []
                dead: none of the mapped values is there <- {"ts":1,"values":{}}
                dead: none of the mapped values is there <- {"ts":2,"values":7}
                dead: `/ts`: the device time cannot be read <- {"ts":"3","values":{"t":3}}
                dead: the device time is missing <- [4]"#]],
        ),
        (
            r#"{"ts":1,"values":{"t":1}}"#,
            expect![[r#"dead: there is no array where `each` says <- {"ts":1,"values":{"t":1}}"#]],
        ),
    ] {
        check(stamped(r#""each": "","#), "t/p", payload.as_bytes(), expected);
    }
}

/// Nothing that a device sends makes a dead letter longer than it may be.
#[test]
fn reasons_are_limited() {
    let payload = format!(r#"{{"timestamp":1,"data":{{"iot.sensor.energy":"{}"}}}}"#, "\u{fc}".repeat(5_000));
    let message = message(STATE, payload.as_bytes());
    let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
    paper().decode(&message, &mut events, &mut dead_letters);
    let reason = &dead_letters[0].reason;
    assert!(reason.starts_with("`/data/iot.sensor.energy`: \"\u{fc}"), "{reason}");
    assert!((DEAD_LETTER_REASON_BYTES_MAX - 1..=DEAD_LETTER_REASON_BYTES_MAX).contains(&reason.len()));
}

#[test]
fn events_ids_and_backfill_are_taken_from_the_payload() {
    let extra = r#", "events": {"door": ""}, "twin": "/id", "historical": "/old""#;
    check(
        kinds(extra),
        "t/p",
        br#"{"id": 42, "count": 1, "old": true}"#,
        expect![[
            r#"42 stream 0 at 5000000 Arrival not live: [(2, Integer(1))] [(0, "{\"id\":42,\"count\":1,\"old\":true}")]"#
        ]],
    );
    check(kinds(extra), "t/p", br#"{"count": 1}"#, expect![[r#"dead: the twin id is empty <- {"count":1}"#]]);
}

#[test]
fn nesting_and_size_are_limited() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let payload = |depth| format!(r#"{{"count": 1, "deep": {}}}"#, nested(depth)).into_bytes();
    check(kinds(""), "t/p", &payload(31), expect!["p stream 0 at 5000000 Arrival: [(2, Integer(1))] []"]);
    let mut deep = kinds("");
    let message = Message {
        position: 1,
        arrived_at: ArrivalTime(0),
        topic: b"t/p",
        payload: &payload(32),
        retained: false,
        oversize: None,
        key: None,
        headers: &[],
    };
    assert!(decoded(&mut deep, &message).starts_with("dead: the payload nests deeper than 32"));
    let oversize = Message { oversize: Some(5_000_000), payload: b"[1", ..message };
    expect!["dead: the payload has 5000000 bytes, more than the source's max_payload <- [1"]
        .assert_eq(&decoded(&mut deep, &oversize));
    let brackets = format!(r#"{{"count": 1, "name": "{}"}}"#, "[".repeat(100));
    check(
        kinds(""),
        "t/p",
        brackets.as_bytes(),
        expect![[
            r#"p stream 0 at 5000000 Arrival: [(2, Integer(1)), (4, Text("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["))] []"#
        ]],
    );
}

#[test]
fn a_retained_message_is_not_live() {
    let message = Message {
        position: 1,
        arrived_at: ArrivalTime(0),
        topic: b"t/p",
        payload: br#"{"count": 1}"#,
        retained: true,
        oversize: None,
        key: None,
        headers: &[],
    };
    expect!["p stream 0 at 0 Arrival not live: [(2, Integer(1))] []"]
        .assert_eq(&decoded(&mut kinds(""), &message));
}

#[test]
fn topics_of_one_twin_have_one_lane() {
    let key = paper().lane_key();
    assert_eq!(key.of(STATE.as_bytes()), key.of(b"device/p-1/telemetry/temperature"));
    assert_ne!(key.of(STATE.as_bytes()), key.of(b"device/p-2/telemetry/temperature"));
    let in_payload = kinds(r#", "twin": "/id""#).lane_key();
    assert_eq!(in_payload.of(b"t/a"), in_payload.of(b"t/b"));
}

//! Records of Kafka: where the twin's id is, what is wrong with a key or header, and empty payloads.

use super::*;
use crate::model::{self, Model, ModelSettings};

fn model() -> Model {
    let settings = ModelSettings {
        properties: serde_json::from_str(r#"{"t": {"type": "double"}}"#).expect("well formed"),
        ..ModelSettings::default()
    };
    model::compile(&settings).expect("the model is good")
}

fn compile(topics: &str, twin: &str, bus: Bus) -> Result<StreamPlan, String> {
    let twin = if twin.is_empty() { String::new() } else { format!(r#""twin": "{twin}","#) };
    let stream = format!(
        r#"{{"from": "bus", "topics": [{topics}], {twin} "at": "arrival", "properties": {{"t": "/t"}},
            "expected_rate": "none"}}"#
    );
    let settings: StreamSettings = serde_json::from_str(&stream).expect("well formed");
    let plan = StreamPlan::compile(&settings, &model(), bus);
    plan.map_err(|problem| format!("{}: {}; {}", problem.path.join("."), problem.message, problem.help))
}

/// A decoder of streams of records, each with its topic and its `twin`.
fn decoder(streams: &[(&str, &str)]) -> Decoder {
    let route = |(stream, (topic, twin)): (usize, &(&str, &str))| Route {
        twin_type: 0,
        stream: stream as u16,
        plan: compile(&format!("\"{topic}\""), twin, Bus::Records).expect("a good stream"),
    };
    Decoder::new(0, streams.iter().enumerate().map(route).collect())
}

const PAYLOAD: &[u8] = br#"{"t": 1, "id": "in payload"}"#;

/// A record of the topic `plant.s1` with this key and these headers, by name.
fn decoded(
    decoder: &mut Decoder,
    key: Option<&[u8]>,
    headers: &[(&str, &'static [u8])],
    payload: &[u8],
) -> String {
    let header = |name: &String| {
        let found = headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| Bytes::from_static(value))
    };
    let wanted: Vec<Option<Bytes>> = decoder.headers().iter().map(header).collect();
    let message = Message {
        position: 1,
        arrived_at: ArrivalTime(5),
        topic: b"plant.s1",
        key,
        headers: &wanted,
        payload,
        retained: false,
        oversize: None,
    };
    let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
    decoder.decode(&message, &mut events, &mut dead_letters);
    let taken = events.events().map(|event| format!("{} of stream {}", event.id, event.head.stream));
    let dead = dead_letters.iter().map(|letter| format!("dead: {}", letter.reason));
    taken.chain(dead).collect::<Vec<String>>().join("\n")
}

#[test]
fn ids_are_taken_from_where_the_stream_says() {
    let long = [b'x'; 257];
    for (twin, topic, key, expected) in [
        ("", "plant.+", Some(&b"p-1"[..]), "p-1 of stream 0"),
        // As it is: what stands for a slash in a topic stands for itself in a key.
        ("", "plant.+", Some(b"a%2Fb/c"), "a%2Fb/c of stream 0"),
        ("", "plant.{twin}", Some(b"p-1"), "s1 of stream 0"),
        ("{key}", "plant.{twin}", Some(b"p-1"), "p-1 of stream 0"),
        ("{site}-{key}", "plant.{site}", Some(b"p-1"), "s1-p-1 of stream 0"),
        ("{header.device}", "plant.+", None, "d-7 of stream 0"),
        ("{key}/{header.device}:{header.site}", "plant.+", Some(b"k"), "k/d-7:\u{fc} of stream 0"),
        ("/id", "plant.+", None, "in payload of stream 0"),
        ("", "plant.+", None, "dead: the record has no key, and the twin id is taken from it"),
        ("", "plant.+", Some(b""), "dead: the twin id is empty"),
        ("", "plant.+", Some(b"\xff\x00"), "dead: the record's key, taken as twin id, is not UTF-8"),
        ("", "plant.+", Some(b"a\nb"), "dead: the twin id has a control character"),
        ("", "plant.+", Some(&long), "dead: the twin id has 257 bytes, more than 256"),
        (
            "{header.line}",
            "plant.+",
            Some(b"p-1"),
            "dead: the record has no header `line`, and the twin id is taken from it",
        ),
        (
            "{header.raw}",
            "plant.+",
            Some(b"p-1"),
            "dead: the record's header `raw`, taken as twin id, is not UTF-8",
        ),
    ] {
        let headers: [(&str, &'static [u8]); 3] =
            [("device", b"d-7"), ("site", "\u{fc}".as_bytes()), ("raw", b"\xc3")];
        let found = decoded(&mut decoder(&[(topic, twin)]), key, &headers, PAYLOAD);
        assert_eq!(found, expected, "`{twin}` of {topic} with the key {key:?}");
    }
}

#[test]
fn each_header_is_asked_for_once() {
    let mut decoder = decoder(&[
        ("plant.+", "{header.b}{header.a}"),
        ("plant.#", "{header.a}"),
        ("plant.s1", "{header.c}-{header.b}-{header.c}"),
    ]);
    assert_eq!(decoder.headers(), ["b", "a", "c"]);
    let headers: [(&str, &'static [u8]); 3] = [("a", b"A"), ("b", b"B"), ("c", b"C")];
    let found = decoded(&mut decoder, None, &headers, PAYLOAD);
    assert_eq!(found, "BA of stream 0\nA of stream 1\nC-B-C of stream 2");
    // A source that gives fewer than it was asked for lacks them.
    let message = Message {
        position: 1,
        arrived_at: ArrivalTime(5),
        topic: b"plant.s1",
        key: None,
        headers: &[],
        payload: PAYLOAD,
        retained: false,
        oversize: None,
    };
    let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
    decoder.decode(&message, &mut events, &mut dead_letters);
    assert_eq!((events.events().count(), dead_letters.len()), (0, 3));
}

#[test]
fn payloads_that_are_none() {
    for (key, payload, expected) in [
        (
            Some(&b"p-1"[..]),
            &b""[..],
            "dead: the payload is empty: a tombstone says that the topic keeps nothing of this key any longer; \
             the twin stays as it is",
        ),
        (None, b"", "dead: the payload is empty"),
        (
            Some(b"p-1"),
            b"\0\0\0\0\x07{\"t\": 1}",
            "dead: the payload is no JSON: it begins with byte 0, as one of a schema registry does; \
             send plain JSON, without the registry's 5 bytes",
        ),
        (Some(b"p-1"), b"\x01", "dead: malformed JSON: expected value at line 1 column 1"),
    ] {
        assert_eq!(decoded(&mut decoder(&[("plant.s1", "")]), key, &[], payload), expected, "{payload:?}");
    }
}

#[test]
fn streams_that_cannot_tell_their_twins() {
    let (records, levels, properties) = (Bus::Records, Bus::Levels, Bus::LevelsAndHeaders);
    let help = "write it as a level of every topic, or say with `twin:` where the id is ({key}, {header.NAME}, \
                a template such as \"{site}-{key}\", or a pointer such as /deviceId)";
    let mqtt = "write {twin} as a level of every topic, or say with `twin:` where the id is (a template such as \
                \"{site}-{device}\", or a pointer such as /deviceId)";
    let headers: String = (0..9).map(|number| format!("{{header.h{number}}}")).collect();
    for (topics, twin, bus, expected) in [
        (
            r#""plant.{twin}", "line""#,
            "",
            records,
            format!("topics: the topic `line` has no capture {{twin}}; {help}"),
        ),
        (r#""plant""#, "{site}", records, format!("twin: the topic `plant` has no capture {{site}}; {help}")),
        (
            r#""plant""#,
            "{header.}",
            records,
            format!("twin: the topic `plant` has no capture {{header.}}; {help}"),
        ),
        (
            r#""plant""#,
            "key",
            records,
            "twin: `key` would be one id for all; write the record's key or a header (\"{key}\", \
             \"{header.device}\"), captures of the topic (\"{site}-{key}\"), or a pointer (/id)"
                .into(),
        ),
        (
            r#""plant""#,
            &headers,
            records,
            format!("twin: `{headers}` names 9 headers, at most 8; send the id in one header or in the key"),
        ),
        (
            r#""plant/{site}""#,
            "",
            records,
            "topics.0: `plant/{site}` has a `/`, and Kafka's topics have none; write a dot between levels: \
             plant.{site}"
                .into(),
        ),
        ("", "", records, "topics: the stream has no topic; add topics: [plant.telemetry]".into()),
        (
            r#""plant/+""#,
            "{key}",
            levels,
            format!("twin: MQTT has no keys; `{{key}}` is of a record of Kafka; {mqtt}"),
        ),
        (
            r#""plant/{site}""#,
            "{site}{header.x}",
            levels,
            format!(
                "twin: MQTT 3.1.1 has no user properties, which `{{header.x}}` is of; MQTT 5 has (version: 5); {mqtt}"
            ),
        ),
        (
            r#""plant/+""#,
            "{key}",
            properties,
            "twin: MQTT has no keys; `{key}` is of a record of Kafka; write {twin} as a level of every topic, or say \
             with `twin:` where the id is ({header.NAME} for a user property, a template such as \"{site}-{device}\", \
             or a pointer such as /deviceId)"
                .into(),
        ),
    ] {
        assert_eq!(compile(topics, twin, bus).expect_err(twin), expected, "{topics} with `{twin}`");
    }
    // A level of a topic may have any name where there are no keys.
    assert!(compile(r#""plant/{key}""#, "{key}", levels).is_ok());
    assert!(compile(r#""plant/{site}""#, "{site}-{header.x}", properties).is_ok());
}

/// The same user property may come on any topic, so that all topics are one lane; else they are not.
#[test]
fn user_properties_are_beside_the_topic() {
    let key = |twin: &str| {
        let plan = compile(r#""plant/{site}""#, twin, Bus::LevelsAndHeaders).expect("a good stream");
        let key = Decoder::new(0, vec![Route { twin_type: 0, stream: 0, plan }]).lane_key();
        key.of(b"plant/a") == key.of(b"plant/b")
    };
    assert_eq!([key("{header.x}"), key("{site}")], [true, false]);
}

#[test]
fn records_of_a_source_have_one_lane_key() {
    let key = decoder(&[("plant.{twin}", "")]).lane_key();
    assert_eq!(key.of(b"plant.a"), key.of(b"plant.b"));
}

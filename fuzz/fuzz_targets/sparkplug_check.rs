//! What must hold of whatever edge nodes say, in whatever order. It stands by itself, as `check.rs` does.
//!
//! ```text
//!   bytes:  kind and name u8 | length u8 | payload | kind and name u8 | ..      each a message
//! ```

use std::cell::RefCell;

use operators::batch::{EventBatch, fits};
use operators::bus::Bus;
use operators::decode::{
    DEAD_LETTER_REASON_BYTES_MAX, Decoder, ELEMENTS_MAX, Message, Route, StreamPlan, StreamSettings,
};
use operators::model::{self, Model, ModelSettings};
use operators::time::{ArrivalTime, SECOND_US};

/// Streams of devices and of edge nodes, with properties of every kind that Sparkplug fills.
const STREAMS: [&str; 2] = [
    r#""twin": "{edge}:{device}", "events": {"door": "B"},
       "properties": {"double": "T", "integer": "N", "boolean": "B", "string": "S",
                      "enum": {"pointer": "M", "map": {"0": "idle", "1": "run"}}}"#,
    r#""twin": "{edge}", "at": "arrival", "properties": {"string": "S"}"#,
];

/// What a message may be, of two edge nodes with two devices each.
const TOPICS: [&str; 16] = [
    "NBIRTH/e",
    "DBIRTH/e/d",
    "DDATA/e/d",
    "NDATA/e",
    "NDEATH/e",
    "DDEATH/e/d",
    "DBIRTH/e/x",
    "DDATA/e/x",
    "DDEATH/e/x",
    "NBIRTH/f",
    "DBIRTH/f/d",
    "DDATA/f/d",
    "NDEATH/f",
    "NCMD/e",
    "DDATA/e/",
    "NDATA/f",
];

thread_local! {
    static FRESH: RefCell<(Model, Decoder)> = RefCell::new(fresh());
}

fn fresh() -> (Model, Decoder) {
    let settings = ModelSettings {
        properties: serde_json::from_str(
            r#"{"double": {"type": "double", "range": [-100, 1000]}, "integer": {"type": "integer"},
                "boolean": {"type": "boolean"}, "string": {"type": "string"},
                "enum": {"type": "enum", "values": ["idle", "run"]}}"#,
        )
        .expect("the properties are well formed"),
        events: serde_json::from_str(r#"{"door": {"type": "object"}}"#).expect("the event is well formed"),
        ..ModelSettings::default()
    };
    let model = model::compile(&settings).expect("the model is good");
    let route = |(stream, text): (usize, &&str)| {
        let text = format!(
            r#"{{"from": "plant", "expected_rate": "none", "decode": "sparkplug_b", "group": "g", {text}}}"#
        );
        let settings: StreamSettings = serde_json::from_str(&text).expect("the stream is well formed");
        let plan = StreamPlan::compile(&settings, &model, Bus::Levels).expect("the stream is good");
        Route { twin_type: 0, stream: stream as u16, plan }
    };
    let decoder = Decoder::new(0, STREAMS.iter().enumerate().map(route).collect());
    (model, decoder)
}

/// Fails where a sequence of messages breaks what the decoder promises.
pub fn check(bytes: &[u8]) {
    FRESH.with_borrow(|(model, fresh)| check_from(model, fresh, bytes));
}

fn check_from(model: &Model, fresh: &Decoder, mut bytes: &[u8]) {
    let (mut decoder, mut position) = (fresh.clone(), 0);
    while let [kind, length, rest @ ..] = bytes {
        let payload = &rest[..rest.len().min((*length).into())];
        bytes = &rest[payload.len()..];
        let topic = format!("spBv1.0/g/{}", TOPICS[usize::from(kind % 16)]);
        let message = Message {
            position,
            // Now and then some time goes by.
            arrived_at: ArrivalTime(
                1_767_225_600_000_000 + position as i64 * i64::from(kind / 16) * SECOND_US,
            ),
            topic: topic.as_bytes(),
            key: None,
            headers: &[],
            payload,
            retained: *kind == 255,
            oversize: None,
        };
        position += 1;
        // Who goes on from what was remembered hears the same.
        let mut again = fresh.clone();
        for record in decoder.memory().records() {
            again.restore(&record, |_| true).expect("a record that was written");
        }
        let heard = hear(&mut decoder, &message);
        assert_eq!(heard, hear(&mut again, &message), "{topic}: from memory");
        check_heard(model, &message, &heard.0, &heard.1);
    }
}

type Heard = (EventBatch, Vec<operators::decode::DeadLetter>, Vec<String>);

fn hear(decoder: &mut Decoder, message: &Message<'_>) -> Heard {
    let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
    decoder.decode(message, &mut events, &mut dead_letters);
    let requests = decoder.take_requests().into_iter().map(|request| request.topic);
    (events, dead_letters, requests.collect())
}

fn check_heard(
    model: &Model,
    message: &Message<'_>,
    events: &EventBatch,
    dead_letters: &[operators::decode::DeadLetter],
) {
    assert!(events.len() <= ELEMENTS_MAX, "too many");
    for event in events.events() {
        assert_eq!(event.head.position, message.position);
        operators::id::check(event.id).expect("an event has a twin");
        let says = [
            event.presence().is_some(),
            event.properties().next().is_some(),
            event.events().next().is_some(),
        ];
        assert!(says.contains(&true), "empty");
        for (property, value) in event.properties() {
            let property = &model.properties[usize::from(property)];
            assert!(fits(&property.kind, value), "{value:?} as {}", property.name);
            assert!(value.as_number().is_none_or(f64::is_finite), "{value:?}");
        }
        for (_, json) in event.events() {
            serde_json::from_str::<serde_json::Value>(json).expect("the value of an event is JSON");
        }
    }
    for letter in dead_letters {
        assert!(!letter.reason.is_empty() && letter.reason.len() <= DEAD_LETTER_REASON_BYTES_MAX);
    }
}

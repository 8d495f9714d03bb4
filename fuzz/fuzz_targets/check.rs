//! What must hold of any payload, whichever decoder reads it. It stands by itself, as two programs have it: the target
//! for cargo-fuzz, and the suite, which runs it over the corpus and over what chance makes of that.

use std::cell::RefCell;

use operators::batch::{EventBatch, fits};
use operators::bus::Bus;
use operators::decode::{
    DEAD_LETTER_PAYLOAD_BYTES_MAX, DEAD_LETTER_REASON_BYTES_MAX, Decoder, ELEMENTS_MAX, Message, Route,
    StreamPlan, StreamSettings,
};
use operators::model::{self, Model, ModelSettings};
use operators::time::ArrivalTime;

/// Properties of every kind that the streams below fill.
const PROPERTIES: &str = r#"{
    "double": {"type": "double", "range": [-100, 1000]}, "integer": {"type": "integer"},
    "boolean": {"type": "boolean"}, "string": {"type": "string"},
    "enum": {"type": "enum", "values": ["idle", "run"]},
    "array": {"type": "array", "items": "double", "length_max": 4}, "object": {"type": "object"}
}"#;

/// Streams of every decoder, each with the topic that its payloads come by.
const STREAMS: [(&str, &str); 9] = [
    (
        "json/p",
        r#""topics": ["json/{twin}"], "at": {"pointer": "/ts", "format": "unix_ms"},
           "properties": {"double": "/t", "integer": "/n", "array": "/a", "object": "/o", "string": "/s/s"}"#,
    ),
    (
        "each/p",
        r#""topics": ["each/+"], "twin": "/id", "each": "", "at": {"pointer": "/ts", "format": "rfc3339"},
           "properties": {"double": "/values/t", "boolean": "/values/b"}, "events": {"door": ""},
           "historical": "/old""#,
    ),
    (
        "senml/p",
        r#""topics": ["senml/{twin}"], "decode": "senml", "events": {"door": "/b"},
           "properties": {"double": "/t", "integer": "/n", "boolean": "/b", "string": "/s",
                          "enum": {"pointer": "/m", "map": {"0": "idle", "1": "run"}}}"#,
    ),
    ("bases/p", r#""topics": ["bases/+"], "decode": "senml", "twin": "/bn", "properties": {"double": "/t"}"#),
    ("names/p", r#""topics": ["names/+"], "decode": "senml", "twin": "/n", "properties": {"double": ""}"#),
    (
        "csv/p",
        r#""topics": ["csv/{twin}"], "at": {"pointer": "/ts", "format": "unix_s"},
           "decode": {"csv": {"columns": ["ts", "t", "m", "s"], "separator": ";"}},
           "properties": {"double": "/t", "enum": "/m", "string": "/s"}"#,
    ),
    (
        "numbers/p",
        r#""topics": ["numbers/+"], "decode": "csv", "at": "arrival", "twin": "/0", "historical": "/2",
           "properties": {"integer": "/1"}, "events": {"door": "/3"}"#,
    ),
    (
        "value/p",
        r#""topics": ["value/{twin}"], "decode": "value", "at": "arrival", "properties": {"double": ""}"#,
    ),
    (
        "text/p",
        r#""topics": ["text/{twin}"], "decode": "value", "at": "arrival", "properties": {"string": ""}"#,
    ),
];

thread_local! {
    static DECODER: RefCell<(Model, Decoder)> = RefCell::new(decoder());
}

fn decoder() -> (Model, Decoder) {
    let settings = ModelSettings {
        properties: serde_json::from_str(PROPERTIES).expect("the properties are well formed"),
        events: serde_json::from_str(r#"{"door": {"type": "object"}}"#).expect("the event is well formed"),
        ..ModelSettings::default()
    };
    let model = model::compile(&settings).expect("the model is good");
    let route = |(stream, (_, text)): (usize, &(&str, &str))| {
        let text = format!(r#"{{"from": "plant", "expected_rate": "none", {text}}}"#);
        let settings: StreamSettings = serde_json::from_str(&text).expect("the stream is well formed");
        let plan = StreamPlan::compile(&settings, &model, Bus::Levels).expect("the stream is good");
        Route { twin_type: 0, stream: stream as u16, plan }
    };
    let routes = STREAMS.iter().enumerate().map(route).collect();
    (model, Decoder::new(0, routes))
}

/// Fails where a payload breaks what decoders promise.
pub fn check(payload: &[u8]) {
    DECODER.with_borrow_mut(|(model, decoder)| {
        for (stream, (topic, _)) in STREAMS.iter().enumerate() {
            check_stream(model, decoder, stream, topic, payload);
        }
    });
}

fn check_stream(model: &Model, decoder: &mut Decoder, stream: usize, topic: &str, payload: &[u8]) {
    let message = Message {
        position: 7,
        arrived_at: ArrivalTime(1_767_225_600_000_000),
        topic: topic.as_bytes(),
        key: None,
        headers: &[],
        payload,
        retained: false,
        oversize: None,
    };
    let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
    decoder.decode(&message, &mut events, &mut dead_letters);

    // Nothing is lost without a word, but an empty array, which says nothing.
    let is_empty_array = || {
        serde_json::from_slice::<Vec<serde_json::Value>>(payload).is_ok_and(|elements| elements.is_empty())
    };
    assert!(!events.is_empty() || !dead_letters.is_empty() || is_empty_array(), "{topic}: no word");
    let is_bounded = !matches!(topic.split('/').next(), Some("json" | "each"));
    assert!(!is_bounded || events.len() + dead_letters.len() <= ELEMENTS_MAX, "{topic}: too many");
    for event in events.events() {
        assert_eq!((event.head.position, usize::from(event.head.stream)), (7, stream));
        operators::id::check(event.id).expect("an event has a twin");
        assert!(event.properties().next().is_some() || event.events().next().is_some(), "{topic}: empty");
        for (property, value) in event.properties() {
            let property = &model.properties[usize::from(property)];
            assert!(fits(&property.kind, value), "{topic}: {value:?} as {}", property.name);
            assert!(value.as_number().is_none_or(f64::is_finite), "{topic}: {value:?}");
        }
        for (_, json) in event.events() {
            serde_json::from_str::<serde_json::Value>(json).expect("the value of an event is JSON");
        }
    }
    let heads = events.heads();
    assert!(heads.is_sorted_by(|one, next| one.element < next.element), "{topic}: order of elements");
    for letter in &dead_letters {
        assert!(!letter.reason.is_empty() && letter.reason.len() <= DEAD_LETTER_REASON_BYTES_MAX);
        // What is no UTF-8 takes three bytes for one.
        assert!(letter.payload.len() <= 3 * DEAD_LETTER_PAYLOAD_BYTES_MAX);
    }

    // What was read before leaves no trace.
    let (mut again, mut dead_again) = (EventBatch::default(), Vec::new());
    decoder.clone().decode(&message, &mut again, &mut dead_again);
    assert_eq!((events, dead_letters), (again, dead_again), "{topic}: read twice");
}

//! Calls as CloudEvents 1.0, and answers from what a function sends back.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value as Json};

use super::HttpFormat;
use crate::function::{Call, CallKey, Failure, FailureKind};

/// What an event of a call is.
const EVENT_TYPE: &str = "twinloom.update";
/// What attributes have encoded in a header (HTTP protocol binding, 3.1.3.2): what is no printable ASCII, and
/// space, `"` and `%`.
const IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// A request as it goes out.
pub(super) struct Message {
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
}

/// Writes calls as one request; more than one only where they may be a batch.
pub(super) fn encode(calls: &[Call], format: HttpFormat, is_batch: bool) -> Message {
    if is_batch {
        let events = join(calls.iter().map(structured));
        return Message { content_type: "application/cloudevents-batch+json", headers: vec![], body: events };
    }
    let call = &calls[0];
    match format {
        HttpFormat::Structured => Message {
            content_type: "application/cloudevents+json",
            headers: vec![key_header(&call.key)],
            body: structured(call),
        },
        HttpFormat::Binary => {
            let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
            let value =
                |text: &str| HeaderValue::from_str(&utf8_percent_encode(text, IN_HEADER).to_string()).ok();
            let pairs = attributes(&call.key).into_iter();
            let mut headers: Vec<_> =
                pairs.filter_map(|(key, text)| name(&format!("ce-{key}")).zip(value(&text))).collect();
            headers.push(key_header(&call.key));
            Message { content_type: "application/json", headers, body: call.body.clone() }
        }
    }
}

/// What a call says of itself. Its id is the same each time that it is made.
fn attributes(key: &CallKey) -> [(&'static str, String); 7] {
    [
        ("specversion", "1.0".into()),
        ("id", id(key)),
        ("source", format!("/jobs/{}", key.job)),
        ("type", EVENT_TYPE.into()),
        ("subject", key.twin.clone()),
        ("function", key.function.to_string()),
        ("functionversion", key.version.to_string()),
    ]
}

/// The idempotency key of rule 6.2: twin, update, function and version, in the job.
fn id(key: &CallKey) -> String {
    let CallKey { job, twin, update, function, version, .. } = key;
    format!("{job}/{function}@{version}/{update}/{twin}")
}

/// The header that others than CloudEvents go by (draft-ietf-httpapi-idempotency-key-header).
fn key_header(key: &CallKey) -> (HeaderName, HeaderValue) {
    let text = utf8_percent_encode(&id(key), IN_HEADER).to_string();
    let value = HeaderValue::from_str(&format!("\"{text}\""));
    (HeaderName::from_static("idempotency-key"), value.unwrap_or_else(|_| HeaderValue::from_static("")))
}

fn structured(call: &Call) -> Vec<u8> {
    let attributes = attributes(&call.key).into_iter();
    let event: Map<String, Json> = attributes.map(|(key, text)| (key.to_owned(), text.into())).collect();
    let mut body = Json::Object(event).to_string().into_bytes();
    body.pop();
    body.extend_from_slice(b",\"datacontenttype\":\"application/json\",\"data\":");
    body.extend_from_slice(&call.body);
    body.push(b'}');
    body
}

fn join(events: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut body = b"[".to_vec();
    for (index, event) in events.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&event);
    }
    body.push(b']');
    body
}

/// Takes an answer apart, one result a call; or says why it is none.
pub(super) fn decode(
    calls: &[Call],
    content_type: &str,
    body: Vec<u8>,
) -> Result<Vec<Result<Vec<u8>, Failure>>, String> {
    if let [_] = calls
        && !content_type.starts_with("application/cloudevents")
        && body.first() != Some(&b'[')
    {
        // Whoever asked reads it; nothing said is nothing yielded.
        return Ok(vec![Ok(if body.is_empty() { b"{}".to_vec() } else { body })]);
    }
    let answer: Json = match body.is_empty() {
        true => Json::Array(Vec::new()),
        false => serde_json::from_slice(&body).map_err(|error| format!("the answer is no JSON: {error}"))?,
    };
    let events = match answer {
        Json::Array(events) => events,
        one => vec![one],
    };
    Ok(sort(calls, events))
}

/// Finds the answer of each call: by its id where answers have one, else by its place.
fn sort(calls: &[Call], events: Vec<Json>) -> Vec<Result<Vec<u8>, Failure>> {
    let have_ids = events.iter().any(|event| event.get("id").is_some());
    let (is_empty, by_place) = (events.is_empty(), events.len() == calls.len() && !have_ids);
    let of = |(place, call): (usize, &Call)| {
        if is_empty {
            return Ok(b"{}".to_vec());
        }
        let event = match by_place {
            true => events.get(place),
            false => {
                let id = id(&call.key);
                events.iter().find(|event| event["id"] == *id)
            }
        };
        let event = match (event, &events[..]) {
            (Some(event), _) => event,
            // A function that answers one event with one of its own needs no id.
            (None, [only]) if calls.len() == 1 => only,
            _ => return Err(Failure::new(FailureKind::Error, "the answer has nothing for this event")),
        };
        match (event.get("data"), event.get("specversion")) {
            (Some(data), _) => Ok(data.to_string().into_bytes()),
            (None, Some(_)) => Ok(b"{}".to_vec()),
            (None, None) => Ok(event.to_string().into_bytes()),
        }
    };
    calls.iter().enumerate().map(of).collect()
}

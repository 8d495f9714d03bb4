//! Presence: a message that says whether a physical twin is up (rule 4.3), as a last will does, a status topic,
//! or a field of a message.

use schemars::JsonSchema;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Scratch;
use super::element::{Element, Taken};
use super::plan::tokens;
use crate::batch::EventBatch;
use crate::problem::Problem;

/// `types.<type>.presence`: where it is said that a physical twin is up, or down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PresenceSettings {
    /// The connection that it comes from.
    pub from: String,
    /// Its topic: `device/{twin}/status`.
    pub topic: String,
    /// The twin's id, as of a stream; `{twin}` by default.
    #[serde(default)]
    pub twin: Option<String>,
    /// Where in a message of JSON the word stands (RFC 6901); by default it is the whole payload.
    #[serde(default)]
    pub pointer: Option<String>,
    /// What says that the twin is up: `online`.
    pub up: Word,
    /// What says that it is down: `offline`, the payload of its last will.
    pub down: Word,
}

/// A word, a number or a truth value, by its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;
        impl Visitor<'_> for WordVisitor {
            type Value = Word;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a word such as online, a whole number, or true or false")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }
            fn visit_bool<E: Error>(self, flag: bool) -> Result<Word, E> {
                Ok(Word(flag.to_string()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }
        deserializer.deserialize_any(WordVisitor)
    }
}

/// What reads presence, made ready.
#[derive(Clone, Debug)]
pub(super) struct Words {
    /// Where the word stands, as its tokens; none where it is the payload.
    place: Option<Vec<String>>,
    up: String,
    down: String,
}

impl Words {
    pub fn compile(settings: &PresenceSettings) -> Result<Self, Problem> {
        let (Word(up), Word(down)) = (&settings.up, &settings.down);
        if up == down {
            let message = format!("`{up}` says both that a twin is up and that it is down");
            return Err(Problem::new(message, "write for example up: online, down: offline").under("down"));
        }
        let place = settings.pointer.as_deref().map(tokens).transpose();
        let place = place.map_err(|problem| problem.under("pointer"))?;
        Ok(Self { place, up: up.clone(), down: down.clone() })
    }

    /// What a payload says.
    fn read(&self, payload: &[u8]) -> Result<bool, String> {
        let Ok(text) = std::str::from_utf8(payload) else { return Err("the payload is not UTF-8".into()) };
        let found = match &self.place {
            None => text.trim().to_owned(),
            Some(place) => at(text, place)?,
        };
        match found {
            found if found == self.up => Ok(true),
            found if found == self.down => Ok(false),
            found => Err(format!(
                "`{}` says neither that the twin is up (`{}`) nor that it is down (`{}`)",
                found.chars().take(60).collect::<String>(),
                self.up,
                self.down
            )),
        }
    }
}

/// The scalar at a place of a JSON text, as text.
fn at(text: &str, place: &[String]) -> Result<String, String> {
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("the payload is no JSON: {error}"))?;
    let pointer = || place.iter().map(|token| format!("/{token}")).collect::<String>();
    let step = |json: &serde_json::Value, token: &String| match json {
        serde_json::Value::Array(items) => items.get(token.parse::<usize>().ok()?).cloned(),
        other => other.get(token).cloned(),
    };
    let found = place.iter().try_fold(json, |json, token| step(&json, token));
    match found.ok_or_else(|| format!("`{}`: there is no value", pointer()))? {
        serde_json::Value::String(word) => Ok(word),
        scalar @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Ok(scalar.to_string()),
        _ => Err(format!("`{}`: no word, number or truth value stands there", pointer())),
    }
}

/// Decodes one message of one route.
#[inline(never)]
pub(super) fn decode(
    words: &Words,
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    refuse: &mut impl FnMut(String, &[u8]),
) {
    let payload = taken.message.payload;
    let is_up = match words.read(payload) {
        Ok(is_up) => is_up,
        Err(reason) => return refuse(reason, payload),
    };
    let mut element = Element::new(&taken.route.plan, events, &mut scratch.id);
    element.say_presence(is_up);
    element.finish(taken, 0).unwrap_or_else(|reason| refuse(reason, payload));
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, Message, Route, StreamPlan};
    use super::*;
    use crate::bus::Bus;
    use crate::time::ArrivalTime;

    fn plan(json: &str) -> Result<StreamPlan, Problem> {
        let settings: PresenceSettings = serde_json::from_str(json).expect("well formed");
        StreamPlan::compile_presence(&settings, Bus::Levels)
    }

    /// What a retained payload on `device/p/status` becomes.
    fn read(more: &str, payload: &str) -> String {
        let settings = format!(r#"{{"from": "plant", "topic": "device/{{twin}}/status", {more}}}"#);
        let route = Route { twin_type: 0, stream: 3, plan: plan(&settings).expect("it is good") };
        let (mut events, mut letters) = (EventBatch::default(), Vec::new());
        let message = Message {
            position: 1,
            arrived_at: ArrivalTime(5),
            topic: b"device/p/status",
            key: None,
            headers: &[],
            payload: payload.as_bytes(),
            retained: true,
            oversize: None,
        };
        Decoder::new(0, vec![route]).decode(&message, &mut events, &mut letters);
        let event = |event: crate::batch::Event<'_>| {
            assert!(!event.head.live && event.head.stream == 3 && event.properties().next().is_none());
            format!("{} {:?}", event.id, event.presence())
        };
        let letter = letters.into_iter().map(|letter| letter.reason);
        events.events().map(event).chain(letter).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn words_are_understood() {
        let words = r#""up": "online", "down": "offline""#;
        let field = r#""pointer": "/state/on", "up": true, "down": false"#;
        let number = r#""pointer": "/links/0", "up": 1, "down": 0"#;
        for (settings, payload, expected) in [
            (words, "online", "p Some(true)"),
            (words, " offline\n", "p Some(false)"),
            (
                words,
                "Online",
                "`Online` says neither that the twin is up (`online`) nor that it is down (`offline`)",
            ),
            (words, "", "the payload is empty"),
            (field, r#"{"state": {"on": true}}"#, "p Some(true)"),
            (field, r#"{"state": {"on": "false"}}"#, "p Some(false)"),
            (field, r#"{"state": {}}"#, "`/state/on`: there is no value"),
            (field, r#"{"state": {"on": []}}"#, "`/state/on`: no word, number or truth value stands there"),
            (field, "{", "the payload is no JSON: EOF while parsing an object at line 1 column 1"),
            (number, r#"{"links": [0, 1]}"#, "p Some(false)"),
        ] {
            assert_eq!(read(settings, payload), expected, "{payload}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (json, expected) in [
            (r#"{"from": "p", "topic": "a/{twin}", "up": "x", "down": "x"}"#, "`x` says both"),
            (r#"{"from": "p", "topic": "a/{twin}", "pointer": "x", "up": 1, "down": 0}"#, "no JSON Pointer"),
            (r#"{"from": "p", "topic": "a/b", "up": 1, "down": 0}"#, "twin"),
        ] {
            let problem = plan(json).expect_err(json);
            assert!(format!("{problem:?}").contains(expected), "{json}: {problem:?}");
        }
    }
}

//! The decoders, as one list: what a user writes, what each asks of its stream, and what reads a payload.
//!
//! ```text
//!  decode:   places of values         time               a message is
//!  json      pointers                 at                 one element, or those of `each`
//!  value     "" (the payload)         arrival            one element
//! ```
//!
//! A new decoder is a file beside this one, and an arm of each `match` here, which the compiler asks for.

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::element::Taken;
use super::plan::{self, Leaf};
use super::settings::StreamSettings;
use super::{Scratch, json, value};
use crate::batch::EventBatch;
use crate::model::{Kind, Property};
use crate::problem::Problem;

/// How the payloads of a stream are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DecodeSettings {
    /// JSON; pointers (RFC 6901) say where values stand.
    #[default]
    Json,
    /// The payload is the value of one property, as text.
    Value,
}

/// The words of a job file.
const WORDS: &[&str] = &["json", "value"];

impl DecodeSettings {
    /// The word of a job file.
    pub fn word(&self) -> &'static str {
        match self {
            DecodeSettings::Json => "json",
            DecodeSettings::Value => "value",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "json" => DecodeSettings::Json,
            "value" => DecodeSettings::Value,
            _ => return None,
        })
    }

    /// Checks what a stream may not say with this decoder.
    pub(super) fn check(&self, settings: &StreamSettings) -> Result<(), Problem> {
        match self {
            DecodeSettings::Json => return Ok(()),
            DecodeSettings::Value => value::check(settings)?,
        }
        match settings.each {
            Some(_) => {
                let message = format!("`each` is of JSON, and the stream has `decode: {}`", self.word());
                Err(Problem::new(message, "leave `each` out").under("each"))
            }
            None => Ok(()),
        }
    }

    /// Checks whether values of a property can be read.
    pub(super) fn check_property(&self, property: &Property) -> Result<(), Problem> {
        let kind = match property.kind {
            Kind::Array { .. } => "array",
            Kind::Object => "object",
            _ => return Ok(()),
        };
        match self {
            DecodeSettings::Json => Ok(()),
            DecodeSettings::Value => Err(Problem::new(
                format!("`{}` is of type {kind}, and `decode: {}` reads scalars", property.name, self.word()),
                "read it from a stream of JSON",
            )),
        }
    }

    /// The place that a setting of the stream names, as steps down from an element.
    pub(super) fn place(&self, pointer: &str) -> Result<Vec<String>, Problem> {
        match self {
            DecodeSettings::Json => plan::tokens(pointer),
            DecodeSettings::Value => value::place(pointer),
        }
    }

    /// What reads the payloads, made ready.
    pub(super) fn compile(&self, _leaves: &[Leaf]) -> Result<Format, Problem> {
        Ok(match self {
            DecodeSettings::Json => Format::Json,
            DecodeSettings::Value => Format::Value,
        })
    }
}

/// What reads a payload.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Json,
    Value,
}

impl Format {
    /// Appends the events of a message to `events`, and says what is wrong, element by element.
    pub fn decode(
        &self,
        taken: Taken<'_>,
        scratch: &mut Scratch,
        events: &mut EventBatch,
        refuse: &mut impl FnMut(String, &[u8]),
    ) {
        match self {
            Format::Json => json::decode(taken, scratch, events, refuse),
            Format::Value => value::decode(taken, scratch, events, refuse),
        }
    }
}

impl<'de> Deserialize<'de> for DecodeSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DecodeVisitor)
    }
}

/// Reads the word of a decoder, or the word with its settings.
struct DecodeVisitor;

impl<'de> Visitor<'de> for DecodeVisitor {
    type Value = DecodeSettings;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "one of: {}", WORDS.join(", "))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<DecodeSettings, E> {
        DecodeSettings::of_word(word).ok_or_else(|| E::unknown_variant(word, WORDS))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DecodeSettings, A::Error> {
        let word: String = map.next_key()?.unwrap_or_default();
        let decoder: DecodeSettings = self.visit_str(&word)?;
        Err(A::Error::custom(format!("`{word}` has no settings; write decode: {}", decoder.word())))
    }
}

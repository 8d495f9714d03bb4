//! The decoders, as one list: what a user writes, what each asks of its stream, and what reads a payload.
//!
//! ```text
//!  decode:      places of values       device time      elements of a message
//!  json         pointers               at               itself, or those of the array at `each`
//!  senml        names of records       of each record   records of one twin and one time
//!  csv          columns                at               lines
//!  value        "", the payload        none             itself
//!  sparkplug_b  names of metrics       of each metric   metrics of one time
//! ```
//!
//! A new decoder is a file beside this one, and an arm of each `match` here, which the compiler asks for.

use schemars::JsonSchema;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::csv::{self, CsvSettings, Lines};
use super::element::Taken;
use super::plan::{self, Leaf};
use super::presence::{self, Words};
use super::senml::{self, TwinName};
use super::settings::StreamSettings;
use super::sparkplug::{self, Metrics, Sparkplug};
use super::{Scratch, TopicPattern, json, value};
use crate::batch::EventBatch;
use crate::bus::Bus;
use crate::model::{Kind, Property};
use crate::problem::Problem;

/// How the payloads of a stream are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = words_alone)]
pub enum DecodeSettings {
    /// JSON; pointers (RFC 6901) say where values stand.
    #[default]
    Json,
    /// A pack of SenML, as JSON (RFC 8428).
    Senml,
    /// Lines with values in columns (RFC 4180).
    Csv(CsvSettings),
    /// The payload is the value of one property, as text.
    Value,
    /// What edge nodes of a group of Sparkplug say.
    #[serde(rename = "sparkplug_b")]
    SparkplugB,
}

/// The words of a job file.
const WORDS: &[&str] = &["json", "senml", "csv", "value", "sparkplug_b"];

/// In the schema: the word alone is the decoder with settings that are all left out.
fn words_alone(schema: &mut schemars::Schema) {
    let Some(serde_json::Value::Array(choices)) = schema.get_mut("oneOf") else { return };
    let words = choices.iter().filter_map(|choice| choice["properties"].as_object()?.keys().next().cloned());
    let words = words.map(|word| serde_json::json!({ "type": "string", "const": word })).collect::<Vec<_>>();
    choices.extend(words);
}

impl DecodeSettings {
    /// The word of a job file.
    pub fn word(&self) -> &'static str {
        match self {
            DecodeSettings::Json => "json",
            DecodeSettings::Senml => "senml",
            DecodeSettings::Csv(_) => "csv",
            DecodeSettings::Value => "value",
            DecodeSettings::SparkplugB => "sparkplug_b",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "json" => DecodeSettings::Json,
            "senml" => DecodeSettings::Senml,
            "csv" => DecodeSettings::Csv(CsvSettings::default()),
            "value" => DecodeSettings::Value,
            "sparkplug_b" => DecodeSettings::SparkplugB,
            _ => return None,
        })
    }

    /// Checks what a stream may not say with this decoder.
    pub(super) fn check(&self, settings: &StreamSettings) -> Result<(), Problem> {
        if settings.group.is_some() && *self != DecodeSettings::SparkplugB {
            let message = format!("`group` is of Sparkplug, and the stream has `decode: {}`", self.word());
            let help = "leave `group` out, or write decode: sparkplug_b";
            return Err(Problem::new(message, help).under("group"));
        }
        match self {
            DecodeSettings::Json => return Ok(()),
            DecodeSettings::Senml => senml::check(settings)?,
            DecodeSettings::Csv(csv) => {
                csv.check().map_err(|problem| problem.under("csv").under("decode"))?
            }
            DecodeSettings::Value => value::check(settings)?,
            DecodeSettings::SparkplugB => sparkplug::check(settings)?,
        }
        match settings.each {
            Some(_) => {
                let message = format!("`each` is of JSON, and the stream has `decode: {}`", self.word());
                Err(Problem::new(message, "leave `each` out").under("each"))
            }
            None => Ok(()),
        }
    }

    /// The topics of a stream, of a decoder that knows them.
    pub(super) fn topics(&self, settings: &StreamSettings) -> Option<Vec<String>> {
        (*self == DecodeSettings::SparkplugB).then(|| sparkplug::topics(settings))
    }

    /// What a twin's id is made by, and its template where the stream says none, of a decoder that knows its topics.
    pub(super) fn id_patterns(
        &self,
        settings: &StreamSettings,
        bus: Bus,
    ) -> Result<Option<(Vec<TopicPattern>, &'static str)>, Problem> {
        match self {
            DecodeSettings::SparkplugB => sparkplug::id_patterns(settings, bus).map(Some),
            _ => Ok(None),
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
            DecodeSettings::Senml
            | DecodeSettings::Csv(_)
            | DecodeSettings::Value
            | DecodeSettings::SparkplugB => Err(Problem::new(
                format!("`{}` is of type {kind}, and `decode: {}` reads scalars", property.name, self.word()),
                "read it from a stream of JSON",
            )),
        }
    }

    /// The place that a setting of the stream names, as steps down from an element.
    pub(super) fn place(&self, pointer: &str) -> Result<Vec<String>, Problem> {
        match self {
            DecodeSettings::Json => plan::tokens(pointer),
            DecodeSettings::Senml => senml::place(pointer),
            DecodeSettings::Csv(csv) => csv.place(pointer),
            DecodeSettings::Value => value::place(pointer),
            DecodeSettings::SparkplugB => sparkplug::place(pointer),
        }
    }

    /// Which part of the payload is the twin's id, of a decoder that has such parts of its own.
    pub(super) fn twin(&self, pointer: &str) -> Result<Option<TwinName>, Problem> {
        match self {
            DecodeSettings::Senml => TwinName::parse(pointer).map(Some),
            DecodeSettings::Json
            | DecodeSettings::Csv(_)
            | DecodeSettings::Value
            | DecodeSettings::SparkplugB => Ok(None),
        }
    }

    /// Whether elements say their device time in a way of the decoder's own.
    pub(super) fn has_device_time(&self) -> bool {
        matches!(self, DecodeSettings::Senml | DecodeSettings::SparkplugB)
    }

    /// What reads the payloads, made ready.
    pub(super) fn compile(&self, settings: &StreamSettings, leaves: &[Leaf]) -> Result<Format, Problem> {
        Ok(match self {
            DecodeSettings::Json => Format::Json,
            DecodeSettings::Senml => {
                let pointer = settings.twin.as_deref().filter(|twin| twin.starts_with('/'));
                Format::Senml(pointer.map(TwinName::parse).transpose()?)
            }
            DecodeSettings::Csv(csv) => Format::Csv(Box::new(csv.compile(leaves)?)),
            DecodeSettings::Value => Format::Value,
            DecodeSettings::SparkplugB => Format::Sparkplug(Box::new(Metrics::compile(settings, leaves))),
        })
    }
}

/// What reads a payload.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Json,
    Senml(Option<TwinName>),
    Csv(Box<Lines>),
    Value,
    Presence(Box<Words>),
    Sparkplug(Box<Metrics>),
}

impl Format {
    /// The metrics that are read, of Sparkplug.
    pub fn metrics(&self) -> Option<&Metrics> {
        match self {
            Format::Sparkplug(metrics) => Some(metrics),
            _ => None,
        }
    }

    /// Appends the events of a message to `events`, and says what is wrong, element by element.
    pub fn decode(
        &self,
        taken: Taken<'_>,
        sparkplug: &Sparkplug,
        scratch: &mut Scratch,
        events: &mut EventBatch,
        refuse: &mut impl FnMut(String, &[u8]),
    ) {
        match self {
            Format::Json => json::decode(taken, scratch, events, refuse),
            Format::Senml(twin) => senml::decode(*twin, taken, scratch, events, refuse),
            Format::Csv(lines) => csv::decode(lines, taken, scratch, events, refuse),
            Format::Value => value::decode(taken, scratch, events, refuse),
            Format::Presence(words) => presence::decode(words, taken, scratch, events, refuse),
            Format::Sparkplug(metrics) => {
                sparkplug::decode(metrics, sparkplug, taken, scratch, events, refuse);
            }
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
        let decoder = match self.visit_str(&word)? {
            DecodeSettings::Csv(_) => DecodeSettings::Csv(map.next_value()?),
            other => {
                let message = format!("`{word}` has no settings; write decode: {}", other.word());
                return Err(A::Error::custom(message));
            }
        };
        match map.next_key::<String>()? {
            Some(second) => Err(A::Error::custom(format!("`{second}` stands beside `{word}`; remove one"))),
            None => Ok(decoder),
        }
    }
}

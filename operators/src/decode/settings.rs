//! What a user writes of a stream, one mapping of one source: `types.<type>.physical.<stream>`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::list::DecodeSettings;
use crate::entanglement::{ExpectedRate, RateForm};
use crate::problem::Problem;

/// One stream of physical events: which messages, and what of them is what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamSettings {
    /// The connection that it comes from.
    pub from: String,
    /// Topics: `{twin}` captures the twin's id, `+` and `#` are MQTT's wildcards. Levels stand between `/`, of
    /// a Kafka connection between `.`. Left out where the decoder knows them.
    #[serde(default)]
    pub topics: Vec<String>,
    /// The group of Sparkplug that is read, with `decode: sparkplug_b`.
    #[serde(default)]
    pub group: Option<String>,
    /// The twin's id: a template over captures (`"{site}-{device}"`) and, of a Kafka connection, the record's
    /// key and headers (`"{site}-{key}"`, `"{header.device}"`); or a pointer into the payload (`/deviceId`).
    /// Default `{twin}`; of a Kafka connection `{key}`, unless the topics capture `{twin}`.
    #[serde(default)]
    pub twin: Option<String>,
    /// How payloads are read: `json` (the default), or one of the others of `docs/decoders.md`.
    #[serde(default)]
    pub decode: DecodeSettings,
    /// A message that holds many measurements: the JSON Pointer to their array (`""` is the whole
    /// message). All other pointers then begin at an element.
    #[serde(default)]
    pub each: Option<String>,
    /// The device time: `arrival`, or a pointer and its format.
    #[serde(default)]
    pub at: Option<AtSettings>,
    /// Properties and where they stand in the message.
    #[serde(default)]
    pub properties: IndexMap<String, MappingSettings>,
    /// Events and the JSON Pointer to their values; `""` is the whole message.
    #[serde(default)]
    pub events: IndexMap<String, String>,
    /// JSON Pointer to a flag that marks backfill: such events initialise and are archived, and
    /// are no observations (rule 3.6).
    #[serde(default)]
    pub historical: Option<String>,
    /// How often a message is expected from each twin: `1/s`, `0.2/s`, `6/m`, or `none`.
    #[schemars(with = "RateForm")]
    pub expected_rate: ExpectedRate,
}

impl StreamSettings {
    /// The topics that it reads: those that it says, or that its decoder knows.
    pub fn topics(&self) -> Vec<String> {
        self.decode.topics(self).unwrap_or_else(|| self.topics.clone())
    }

    /// Checks that no two properties are filled by the same part of a message, of a decoder that refuses parts one by
    /// one.
    pub(super) fn check_places_differ(&self, part: &str) -> Result<(), Problem> {
        let mappings = self.properties.iter();
        for (index, (name, mapping)) in mappings.clone().enumerate() {
            if let Some((other, _)) =
                mappings.clone().take(index).find(|(_, one)| one.pointer() == mapping.pointer())
            {
                let message = format!("`{name}` and `{other}` are filled by the same {part}");
                let help =
                    format!("let a function make one of the other, such as {name}: {{cel: \"{other}\"}}");
                return Err(Problem::new(message, help).under(name).under("properties"));
            }
        }
        Ok(())
    }
}

/// Where the device time is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "write `arrival`, or {pointer: /timestamp, format: unix_ms}")]
pub enum AtSettings {
    /// There is none: the time of arrival counts.
    Arrival(ArrivalWord),
    /// In the message.
    Pointer(AtPointer),
}

/// The word `arrival`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArrivalWord {
    /// See [`AtSettings::Arrival`].
    Arrival,
}

/// Where in the message the device time stands, and how it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AtPointer {
    /// JSON Pointer (RFC 6901).
    pub pointer: String,
    /// How it is written.
    pub format: TimeFormat,
}

/// How a device time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// Seconds since 1970; a fraction is read.
    UnixS,
    /// Milliseconds since 1970; a fraction is read.
    UnixMs,
    /// Microseconds since 1970.
    UnixUs,
    /// Nanoseconds since 1970.
    UnixNs,
    /// RFC 3339, with any offset.
    Rfc3339,
}

/// Where a property stands: a pointer, or a pointer with the meaning of its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "write a JSON Pointer, or {pointer: /data/mode, map: {0: idle}}")]
pub enum MappingSettings {
    /// JSON Pointer (RFC 6901).
    Pointer(String),
    /// With a map of values.
    Mapped(MappedSettings),
}

/// A pointer with the meaning of its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MappedSettings {
    /// JSON Pointer (RFC 6901).
    pub pointer: String,
    /// What a value of the message means: `{0: idle, 1: run}`. A value that is not listed is wrong.
    #[serde(default)]
    pub map: IndexMap<String, serde_json::Value>,
}

impl MappingSettings {
    /// The JSON Pointer.
    pub fn pointer(&self) -> &str {
        match self {
            MappingSettings::Pointer(pointer) => pointer,
            MappingSettings::Mapped(mapped) => &mapped.pointer,
        }
    }
}

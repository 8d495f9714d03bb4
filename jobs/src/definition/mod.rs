//! The definition file: what a user writes, as settings structs of the components put together.
//!
//! ```text
//!  Document ─ secrets ─► Document ─ reader ─► Definition ─ checks ─► Checked ─ plan ─► dataflows::Plan
//!              (run only)             │                       │
//!                                     └──── Findings, all of them at once
//! ```

pub mod functions;
mod models;
mod reader;
pub mod secrets;
pub(crate) mod webhooks;

use std::collections::BTreeSet;
use std::time::Duration;

use bytesize::ByteSize;
use connectors::archive::{ArchiveSettings, Compression, Roll};
use connectors::file::FileSettings;
use connectors::kafka::KafkaSettings;
use connectors::mqtt::{MqttSettings, Version};
use connectors::webhook::WebhookSettings;
use dataflows::plan::Priority;
use dataflows::quota::{Overload, Rates};
use humantime_serde::re::humantime;
use indexmap::IndexMap;
use operators::bus::Bus;
use operators::decode::{PresenceSettings, StreamSettings};
use operators::digital::{DigitalKind, TopicTemplate};
use operators::entanglement::EntanglementSettings;
use operators::model::ModelSettings;
use operators::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use self::functions::FunctionDefinition;
use crate::roster::RosterSettings;

pub(crate) use self::models::DECLARES;
pub use self::models::Origin;
pub(crate) use reader::{Reader, read};

/// A job, as its file says it.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(title = "Twinloom job", deny_unknown_fields)]
pub struct Definition {
    /// Its name: letters, digits, `-`, `_`, `.`, up to 64 bytes.
    pub job: String,
    /// Who it belongs to; nobody in particular where it is left out.
    #[schemars(default)]
    pub tenant: Option<String>,
    /// Connections whose topics other jobs of the same server may read or write too.
    #[schemars(default)]
    pub shared: Vec<String>,
    /// Where messages come from and go to, by name.
    pub connections: IndexMap<String, ConnectionSettings>,
    /// Twins that are there before they speak.
    #[schemars(with = "RosterSettings", default)]
    pub roster: Option<RosterSettings>,
    /// Types of twins, by name.
    pub types: IndexMap<String, TypeSettings>,
    /// Who listens to digital events.
    #[schemars(default)]
    pub digital: Vec<DigitalSettings>,
    /// Where history goes; nowhere where it is left out.
    #[schemars(with = "HistorySettings", default)]
    pub archive: Option<HistorySettings>,
    /// How often its state is kept, and where.
    #[schemars(default)]
    pub checkpoint: CheckpointSettings,
    /// What the job may take.
    #[schemars(default)]
    pub limits: LimitsSettings,
    /// Parts that were not read whole, by their paths: what they name is not held against others.
    #[schemars(skip)]
    pub(crate) unread: BTreeSet<String>,
}

/// A connection, by its kind.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionSettings {
    /// An MQTT broker.
    Mqtt(MqttSettings),
    /// A Kafka cluster.
    Kafka(KafkaSettings),
    /// A file of JSON lines.
    File(FileSettings),
    /// An HTTP endpoint that digital events are posted to.
    Webhook(WebhookSettings),
}

impl ConnectionSettings {
    /// How its messages are named, and where they say whose they are.
    pub fn bus(&self) -> Bus {
        match self {
            ConnectionSettings::Kafka(_) => Bus::Records,
            ConnectionSettings::Mqtt(mqtt) if mqtt.version == Version::V5 => Bus::LevelsAndHeaders,
            ConnectionSettings::Mqtt(_) | ConnectionSettings::File(_) | ConnectionSettings::Webhook(_) => {
                Bus::Levels
            }
        }
    }
}

/// A type of twin.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
pub struct TypeSettings {
    /// Attributes, properties, events, relationships and actions, with those of its model from elsewhere.
    #[schemars(flatten)]
    pub model: ModelSettings,
    /// Where part of its model comes from, if that is a file of another language.
    #[schemars(rename = "model", with = "models::ModelForm")]
    pub origin: Option<Origin>,
    /// Streams of physical events, by name.
    pub physical: IndexMap<String, StreamSettings>,
    /// Where it is said that a physical twin is up, or down.
    #[schemars(with = "PresenceSettings")]
    pub presence: Option<PresenceSettings>,
    /// Functions, by the property or event that they write.
    pub augmentation: IndexMap<String, FunctionDefinition>,
    /// Step 2, where it is a function outside.
    #[schemars(with = "FunctionDefinition")]
    pub shadow: Option<FunctionDefinition>,
    /// How fresh and complete a twin must be.
    pub entanglement: EntanglementSettings,
}

/// What a type takes messages by: a stream, or its presence.
pub(crate) struct Input<'a> {
    /// The stream's name; none of presence.
    stream: Option<&'a str>,
    /// The connection that they come from.
    pub(crate) from: &'a str,
    /// Their topics.
    pub(crate) topics: Vec<String>,
}

impl TypeSettings {
    /// All that it takes messages by.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = Input<'_>> {
        let streams = self.physical.iter().map(|(name, stream)| Input {
            stream: Some(name),
            from: &stream.from,
            topics: stream.topics(),
        });
        let presence = self.presence.iter().map(|presence| Input {
            stream: None,
            from: &presence.from,
            topics: vec![presence.topic.clone()],
        });
        streams.chain(presence)
    }
}

impl Input<'_> {
    /// Its name in sentences.
    pub(crate) fn name(&self) -> &str {
        self.stream.unwrap_or("presence")
    }

    /// Where it stands in its type.
    pub(crate) fn path(&self) -> String {
        self.stream.map_or("presence".to_owned(), |stream| format!("physical.{stream}"))
    }

    /// A problem of it, as one of its type.
    pub(crate) fn under(&self, problem: Problem) -> Problem {
        match self.stream {
            Some(stream) => problem.under(stream).under("physical"),
            None => problem.under("presence"),
        }
    }
}

/// One listener to digital events.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigitalSettings {
    /// The connection that they go to. One that is a webhook of this listener alone may be named here instead:
    /// `webhook: URL`, with `group` and its other settings beside it.
    pub to: String,
    /// Their topic, with places for `{job}`, `{twin}`, `{type}` and `{kind}`; `twins/{job}/{twin}/{kind}` by
    /// default. On Kafka the key of a record is the twin's id, so there is no `{twin}`, and the default is
    /// `twins.{job}`.
    #[serde(default)]
    pub topic: Option<String>,
    /// Which kinds; all four by default.
    #[serde(default = "kinds_default")]
    pub kinds: Vec<DigitalKind>,
    /// Whether the broker keeps the last one for late listeners; by default all but `event`. Not of Kafka, where
    /// the topic's settings say what is kept.
    #[serde(default)]
    pub retain: Option<bool>,
    /// Whether each comes exactly once, over crashes as well: they go out in a transaction with each checkpoint.
    /// Kafka only; by default, and on other connections, each comes at least once.
    #[serde(default)]
    pub exactly_once: bool,
}

impl DigitalSettings {
    /// The template of their topics, on a connection of such a bus.
    pub fn topic(&self, bus: Bus) -> &str {
        self.topic.as_deref().unwrap_or(TopicTemplate::default_of(bus))
    }
}

fn kinds_default() -> Vec<DigitalKind> {
    DigitalKind::ALL.to_vec()
}

/// Where history goes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistorySettings {
    /// The archive's folder; it is made where it is missing.
    pub path: std::path::PathBuf,
    /// When a file is complete: `128MB/10m`, by size or age, whichever comes first.
    #[serde(default)]
    #[schemars(with = "String", extend("format" = "roll"))]
    pub roll: Roll,
    /// How columns are compressed: `snappy` or `none`.
    #[serde(default)]
    pub compression: Compression,
    /// How long history is kept, such as `90d`; for ever by default.
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("format" = "time"))]
    pub retain: Option<Duration>,
    /// Whether physical events are kept as they came; without them there is no replay.
    #[serde(default = "physical_default")]
    pub physical: bool,
}

fn physical_default() -> bool {
    true
}

impl HistorySettings {
    /// What the connector needs of it.
    pub fn archive(&self) -> ArchiveSettings {
        ArchiveSettings {
            path: self.path.clone(),
            roll: self.roll,
            compression: self.compression,
            retain: self.retain,
        }
    }
}

/// How often the job's state is kept, and where (rule 7).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSettings {
    /// From the begin of one checkpoint to the next, such as `10s`. After a crash, at most so much is worked
    /// off again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub interval: Duration,
    /// How many are kept.
    pub retain: usize,
    /// Where they are kept: a folder that all processes see, or `s3://bucket/prefix`; by default in the
    /// job's data folder.
    pub store: Option<String>,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), retain: 3, store: None }
    }
}

/// What the job may take (rule 8.2). The limit of payloads is `max_payload` of a connection, that
/// of arrays `length_max` of a property.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSettings {
    /// Most twins.
    pub twins: u64,
    /// Most dead letters that are kept, such as `1000/s`; more are counted.
    #[serde(deserialize_with = "per_second")]
    #[schemars(with = "String", extend("format" = "count a second"))]
    pub dead_letters: u32,
    /// How much of each lane of a source may be under way in the engine.
    #[schemars(with = "String", extend("format" = "size"))]
    pub in_flight: ByteSize,
    /// Most messages that are worked off, such as `1000/s`; as many as come by default.
    #[serde(deserialize_with = "messages_per_second")]
    #[schemars(with = "Option<String>", extend("format" = "count a second"))]
    pub events: Option<f64>,
    /// Most bytes of topics and payloads that are worked off, such as `1MB/s`.
    #[serde(deserialize_with = "bytes_per_second")]
    #[schemars(with = "Option<String>", extend("format" = "size a second"))]
    pub bytes: Option<f64>,
    /// Most of the time of functions outside, a second: `2s` is two requests at a time.
    #[serde(deserialize_with = "seconds_per_second")]
    #[schemars(with = "Option<String>", extend("format" = "time"))]
    pub functions_time: Option<f64>,
    /// What becomes of live input that is more.
    pub on_overload: OverloadSettings,
    /// How much is worked off when it is the job's turn, beside other jobs of a server.
    pub priority: PrioritySettings,
}

/// What becomes of live input that is more than `events` and `bytes` allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverloadSettings {
    /// It waits at the broker.
    #[default]
    Wait,
    /// Of each twin (topic and key) the newest message is kept, older ones that wait are dropped and counted.
    NewestPerTwin,
    /// It is dropped and counted.
    Shed,
}

impl From<OverloadSettings> for Overload {
    fn from(settings: OverloadSettings) -> Self {
        match settings {
            OverloadSettings::Wait => Overload::Wait,
            OverloadSettings::NewestPerTwin => Overload::NewestPerTwin,
            OverloadSettings::Shed => Overload::Shed,
        }
    }
}

/// How much is worked off when it is the job's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrioritySettings {
    /// A quarter of what others have.
    Low,
    /// As much as others.
    #[default]
    Normal,
    /// Four times as much.
    High,
}

impl From<PrioritySettings> for Priority {
    fn from(settings: PrioritySettings) -> Self {
        match settings {
            PrioritySettings::Low => Priority::Low,
            PrioritySettings::Normal => Priority::Normal,
            PrioritySettings::High => Priority::High,
        }
    }
}

impl LimitsSettings {
    /// Most that is worked off a second.
    pub fn rates(&self) -> Rates {
        Rates { messages: self.events, bytes: self.bytes, functions: self.functions_time }
    }
}

impl Default for LimitsSettings {
    fn default() -> Self {
        let limits = dataflows::plan::Limits::default();
        Self {
            twins: limits.twins_max,
            dead_letters: limits.dead_letters_per_second_max,
            in_flight: ByteSize::b(limits.in_flight_bytes_max as u64),
            events: None,
            bytes: None,
            functions_time: None,
            on_overload: OverloadSettings::default(),
            priority: PrioritySettings::default(),
        }
    }
}

/// Reads `1000/s` or `0.5/s`.
pub(crate) fn messages_per_second<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = text.strip_suffix("/s").and_then(|number| number.trim().parse::<f64>().ok());
    number.filter(|rate| rate.is_finite() && *rate > 0.0).map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no rate of messages; write for example 1000/s"))
    })
}

/// Reads `1MB/s`.
pub(crate) fn bytes_per_second<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let size = text.strip_suffix("/s").and_then(|size| size.trim().parse::<ByteSize>().ok());
    size.filter(|size| size.as_u64() > 0).map(|size| Some(size.as_u64() as f64)).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no rate of bytes; write for example 1MB/s"))
    })
}

/// Reads how much time there is a second, such as `2s` or `500ms`.
pub(crate) fn seconds_per_second<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = humantime::parse_duration(&text).ok().map(|time| time.as_secs_f64());
    time.filter(|time| (1e-3..=1e6).contains(time)).map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "`{text}` is no time a second; write for example 2s, which is two calls at a time, or 500ms"
        ))
    })
}

/// Reads `1000/s`.
fn per_second<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = text.strip_suffix("/s").and_then(|number| number.trim().parse().ok());
    number.ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no whole number a second; write for example 1000/s"))
    })
}

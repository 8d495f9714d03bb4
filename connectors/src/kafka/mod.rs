//! Apache Kafka, in and out. The client library (librdkafka) stays behind this module.
//!
//! `source` takes the records of topics and owns their offsets, `sink` publishes at least once, `outbox`
//! exactly once, in transactions.

pub mod admin;
mod block;
mod client;
mod consumer;
mod damage;
mod discovery;
pub mod outbox;
mod partitions;
pub mod sink;
pub mod source;

use std::fmt;

use bytesize::ByteSize;
use indexmap::IndexMap;
use rdkafka::ClientConfig;
use schemars::JsonSchema;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// How to reach a cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// Some of its brokers, `host:port`; the others are learnt from them.
    pub brokers: Vec<String>,
    /// The group that offsets are shown under, for tools that look at lag; by default the caller chooses one.
    /// The offsets that count are those of the checkpoints.
    #[serde(default)]
    pub group: Option<String>,
    /// Where a topic is begun that no checkpoint knows.
    #[serde(default)]
    #[schemars(with = "String")]
    pub start: Start,
    /// What to do where the topic has lost records that were not taken yet.
    #[serde(default)]
    pub on_gap: OnGap,
    /// The longest payload that is taken; a longer one is handed on cut, marked as oversize.
    #[serde(default = "max_payload_default")]
    #[schemars(with = "String", extend("format" = "size"))]
    pub max_payload: ByteSize,
    /// How much may wait in memory: of a source in each lane, of a sink in all.
    #[serde(default = "queue_default")]
    #[schemars(with = "String", extend("format" = "size"))]
    pub queue: ByteSize,
    /// How much a sink that publishes exactly once keeps on disk while the cluster is away.
    #[serde(default = "outbox_default")]
    #[schemars(with = "String", extend("format" = "size"))]
    pub outbox: ByteSize,
    /// Options of librdkafka, such as `security.protocol`, as they stand.
    #[serde(default)]
    #[schemars(with = "IndexMap<String, String>")]
    pub options: IndexMap<String, OptionValue>,
}

/// Where a topic is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At its first record.
    #[default]
    Earliest,
    /// Behind its last record.
    Latest,
    /// Where the group has committed; at its first record where it has not.
    Stored,
    /// At the first record of this instant or later, milliseconds since 1970.
    At(i64),
}

/// What to do where records are gone before they were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    /// The run ends and says how many.
    #[default]
    Stop,
    /// They are counted, and it goes on with those that are there.
    Skip,
}

/// The value of an option: a text, a number or true or false. It may be a password, so it is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionValue(Secret);

impl OptionValue {
    /// An option with this value.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Secret::new(text))
    }

    /// Whether its text is such a one; the text itself is not handed out.
    pub fn is(&self, such: impl FnOnce(&str) -> bool) -> bool {
        such(self.0.reveal())
    }
}

/// Why a connector to a cluster could not be started. A cluster that is away is no reason: it is tried for
/// ever.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A setting that cannot work.
    #[error("{name}: {reason}")]
    Settings {
        /// The connector's name.
        name: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// The client library did not start.
    #[error("{name}: the Kafka client cannot start: {reason}; see the options of the connection")]
    Client {
        /// The connector's name.
        name: String,
        /// What it said.
        reason: String,
    },
    /// Topics were not made.
    #[error("{name}: topics cannot be made: {reason}; make them with the cluster's own tools")]
    Topics {
        /// The connector's name.
        name: String,
        /// What the cluster said.
        reason: String,
    },
    /// The operating system gave no thread.
    #[error("{name}: cannot start its thread: {error}; raise the limit of threads (ulimit -u)")]
    Thread {
        /// The connector's name.
        name: String,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Options that are the engine's own: it could not keep its promises if they were others.
const OWN: [(&str, &str); 11] = [
    ("bootstrap.servers", "write them as `brokers`"),
    ("metadata.broker.list", "write them as `brokers`"),
    ("group.id", "write it as `group`"),
    ("auto.offset.reset", "write `start` and `on_gap`"),
    ("enable.auto.commit", "offsets belong to the checkpoints"),
    ("enable.auto.offset.store", "offsets belong to the checkpoints"),
    ("enable.partition.eof", "remove it"),
    ("enable.idempotence", "it is always on"),
    ("acks", "it is always all"),
    ("transactional.id", "write `exactly_once: true` at the listener"),
    ("message.timeout.ms", "a sink tries for ever"),
];

impl KafkaSettings {
    /// The settings for these brokers, everything else by default.
    pub fn new(brokers: &[&str]) -> Self {
        Self {
            brokers: brokers.iter().map(|broker| (*broker).to_owned()).collect(),
            group: None,
            start: Start::default(),
            on_gap: OnGap::default(),
            max_payload: max_payload_default(),
            queue: queue_default(),
            outbox: outbox_default(),
            options: IndexMap::new(),
        }
    }

    /// Says what cannot work, and what to write instead. Makes no connection.
    pub fn check(&self) -> Result<(), String> {
        if self.brokers.is_empty() {
            return Err("brokers is empty; write for example [\"localhost:9092\"]".into());
        }
        for broker in &self.brokers {
            let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) || broker.contains("://") {
                return Err(format!("brokers has `{broker}`, which is no host:port; write localhost:9092"));
            }
        }
        for (name, size) in
            [("max_payload", self.max_payload), ("queue", self.queue), ("outbox", self.outbox)]
        {
            if size.as_u64() == 0 {
                return Err(format!("{name} must be more than 0; write for example 16MB"));
            }
        }
        for (option, instead) in OWN {
            if self.options.contains_key(option) {
                return Err(format!("options has `{option}`, which the engine sets itself; {instead}"));
            }
        }
        let known = self.options(ClientConfig::new()).create_native_config();
        known.map(|_| ()).map_err(|error| {
            // The library's words name the option and never its value.
            format!("options cannot be used: {}; write options of librdkafka", client::reason(&error))
        })
    }

    /// What every client of the cluster is configured with.
    fn options(&self, mut config: ClientConfig) -> ClientConfig {
        for (option, value) in &self.options {
            config.set(option, value.0.reveal());
        }
        config
    }
}

fn max_payload_default() -> ByteSize {
    ByteSize::mb(1)
}

fn queue_default() -> ByteSize {
    ByteSize::mb(16)
}

fn outbox_default() -> ByteSize {
    ByteSize::gb(1)
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            "stored" => Ok(Start::Stored),
            instant => {
                let instant: jiff::Timestamp = instant.parse().map_err(|_| {
                    de::Error::custom(format!(
                        "`{text}` is no place to start; write earliest, latest, stored or an instant such as \
                         2026-11-24T12:00:00Z"
                    ))
                })?;
                Ok(Start::At(instant.as_millisecond()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for OptionValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = OptionValue;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text, a number or true or false")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OptionValue, E> {
                Ok(OptionValue::new(text))
            }
            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<OptionValue, E> {
                Ok(OptionValue::new(flag.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<OptionValue, E> {
                Ok(OptionValue::new(number.to_string()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<OptionValue, E> {
                Ok(OptionValue::new(number.to_string()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<OptionValue, E> {
                Ok(OptionValue::new(number.to_string()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

#[cfg(test)]
mod cluster_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_checked() {
        for (json, expected) in [
            (r#"{"brokers": ["kafka:9092"]}"#, Ok(())),
            (r#"{"brokers": ["a:1", "b:2"], "start": "2026-11-24T12:00:00Z", "on_gap": "skip"}"#, Ok(())),
            (
                r#"{"brokers": ["a:1"], "options": {"security.protocol": "sasl_ssl", "fetch.min.bytes": 1}}"#,
                Ok(()),
            ),
            (r#"{"brokers": []}"#, Err("brokers is empty")),
            (r#"{"brokers": ["kafka"]}"#, Err("`kafka`, which is no host:port")),
            (r#"{"brokers": ["kafka://a:1"]}"#, Err("which is no host:port")),
            (r#"{"brokers": ["a:1"], "options": {"group.id": "g"}}"#, Err("write it as `group`")),
            (r#"{"brokers": ["a:1"], "options": {"sasl.pasword": "x"}}"#, Err("sasl.pasword")),
            (
                r#"{"brokers": ["a:1"], "options": {"security.protocol": "hunter2"}}"#,
                Err("security.protocol"),
            ),
            (r#"{"brokers": ["a:1"], "queue": "0B"}"#, Err("queue must be more than 0")),
        ] {
            let settings: KafkaSettings = serde_json::from_str(json).expect("well formed");
            match (settings.check(), expected) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(part)) => {
                    assert!(reason.contains(part) && reason.contains("; "), "{json}: {reason}");
                }
                (got, expected) => panic!("{json}: {got:?}, expected {expected:?}"),
            }
        }
        assert!(serde_json::from_str::<KafkaSettings>(r#"{"brokers": ["a:1"], "start": "now"}"#).is_err());
    }

    #[test]
    fn values_of_options_are_not_shown() {
        let json = r#"{"brokers": ["a:1"], "options": {"sasl.password": "hunter2"}}"#;
        let settings: KafkaSettings = serde_json::from_str(json).expect("well formed");
        let shown = format!("{settings:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }
}

//! What the clients of a cluster have in common: how they are configured, what they tell, and in which words.

use std::sync::{Mutex, PoisonError};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use tracing::debug;

use super::{KafkaError, KafkaSettings};

/// The configuration of a client, the user's options included.
pub(super) fn config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", settings.brokers.join(","));
    config.set("client.id", "twinloom");
    // What goes wrong is told in our own words; the library's are for RUST_LOG=debug.
    config.set_log_level(RDKafkaLogLevel::Info);
    settings.options(config)
}

/// A client that did not start.
pub(super) fn not_started(name: &str, error: &ClientError) -> KafkaError {
    KafkaError::Client { name: name.to_owned(), reason: reason(error) }
}

/// What the library says, without the value of an option, which may be a secret.
pub(super) fn reason(error: &ClientError) -> String {
    match error {
        ClientError::ClientConfig(_, description, option, value) => {
            let description = description.trim_end();
            match value.is_empty() {
                true => format!("`{option}`: {description}"),
                false => format!("`{option}`: {}", description.replace(value.as_str(), "***")),
            }
        }
        ClientError::AdminOp(code) => in_words(*code),
        other => match other.rdkafka_error_code() {
            Some(code) => in_words(code),
            None => other.to_string(),
        },
    }
}

/// An error code in words that say what to look at.
fn in_words(code: RDKafkaErrorCode) -> String {
    use RDKafkaErrorCode as Code;
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            "the cluster refuses the user or password; check the `sasl.*` options".into()
        }
        Code::SSL => "the TLS handshake failed; check the `ssl.*` options".into(),
        Code::TopicAuthorizationFailed => "the user may not use this topic; check the cluster's ACLs".into(),
        Code::GroupAuthorizationFailed => "the user may not use this group; check the cluster's ACLs".into(),
        Code::TransactionalIdAuthorizationFailed => {
            "the user may not use this transactional id; check the cluster's ACLs".into()
        }
        Code::UnsupportedFeature => {
            "the brokers are too old for this (transactions need Kafka 0.11 or later); publish without \
             exactly_once"
                .into()
        }
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
            "another engine runs this job on this cluster; end one of them".into()
        }
        Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut => {
            "no broker answers".into()
        }
        other => other.to_string(),
    }
}

/// What a client last complained of: errors come without a reason, and log lines with one.
#[derive(Debug, Default)]
pub(super) struct Complaint(Mutex<Option<String>>);

impl Complaint {
    /// Takes a log line of the library.
    pub(super) fn hear(&self, name: &str, level: RDKafkaLogLevel, facility: &str, line: &str) {
        debug!(connector = name, facility, line, "librdkafka");
        if matches!(facility, "FAIL" | "ERROR") || (level as i32) <= RDKafkaLogLevel::Error as i32 {
            // `[thrd:..]: host:port/1: reason (after 3ms in state CONNECT)`
            let line = line.split_once("]: ").map_or(line, |(_, rest)| rest);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.to_owned());
        }
    }

    /// The last one, behind what an error says.
    pub(super) fn explain(&self, error: &ClientError) -> String {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some(line) if line.contains("uthentication") => {
                format!("{} ({line})", in_words(RDKafkaErrorCode::Authentication))
            }
            Some(line) => format!("{} ({line})", reason(error)),
            None => reason(error),
        }
    }
}

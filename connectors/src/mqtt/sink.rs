//! Publishes to a broker.

use super::{MqttError, MqttSettings};
use crate::sink::SinkHandle;

/// Starts a sink.
pub fn start(name: &str, settings: &MqttSettings, _client_id: &str) -> Result<SinkHandle, MqttError> {
    settings.check().map_err(|reason| MqttError::Settings { name: name.to_owned(), reason })?;
    Err(MqttError::Embedded { reason: "in work".into() })
}

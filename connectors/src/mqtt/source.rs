//! Takes messages from a broker.

use super::{MqttError, MqttSettings};
use crate::clock::Clock;
use crate::source::{LaneOf, SourceHandle};
use std::sync::Arc;

/// Starts a source that subscribes to `filters`.
pub fn start(
    name: &str,
    settings: &MqttSettings,
    _client_id: &str,
    _filters: Vec<String>,
    _lanes: usize,
    _lane_of: LaneOf,
    _clock: Arc<dyn Clock>,
) -> Result<SourceHandle, MqttError> {
    settings.check().map_err(|reason| MqttError::Settings { name: name.to_owned(), reason })?;
    Err(MqttError::Embedded { reason: "in work".into() })
}

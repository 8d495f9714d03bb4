//! Listens to a broker for a while, as a job would, and keeps what it hears: for a draft of a job.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use connectors::message::Intake;
use connectors::mqtt::{self, MqttError, MqttSettings};
use connectors::queue::Received;
use connectors::source::SourceSetup;

use crate::drafting::Heard;

/// How long the broker may take to be reached.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Most messages that are kept; what comes then is let go.
const MESSAGES_MAX: usize = 500_000;
/// Most bytes of payloads that are kept.
const BYTES_MAX: usize = 256 << 20;
/// How long one look into the lane waits.
const LOOK: Duration = Duration::from_millis(50);

/// Why nothing was heard.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The settings, or the system.
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    /// There is no folder for what a source keeps.
    #[error("no temporary folder: {0}; name one in TMPDIR")]
    Folder(std::io::Error),
    /// The broker is away.
    #[error("{url} is not reached: {reason}; start it, or name another with --from")]
    Away {
        /// Where it should be.
        url: String,
        /// Why.
        reason: String,
    },
}

/// Hears what comes on a topic filter, for so long from the moment that the broker is reached.
pub(crate) fn listen(
    settings: &MqttSettings,
    filter: &str,
    time: Duration,
) -> Result<Vec<Heard>, ListenError> {
    let folder = tempfile::tempdir().map_err(ListenError::Folder)?;
    let client_id = format!("twinloom-init-{}", std::process::id());
    // At most once, the broker keeps nothing of us when we are gone.
    let settings = MqttSettings { qos: 0, ..settings.clone() };
    let setup = SourceSetup::new("init", &[filter], folder.path());
    let source = mqtt::source::start(setup, &settings, &client_id)?;
    let (begin, mut end) = (Instant::now(), None);
    let (mut heard, mut bytes, mut reason) = (Vec::new(), 0, "no answer".to_owned());
    while end.is_none_or(|end| Instant::now() < end) {
        if end.is_none() && source.stats.connected.load(Ordering::Relaxed) {
            end = Some(Instant::now() + time);
        }
        if end.is_none() && begin.elapsed() > CONNECT_MAX {
            return Err(ListenError::Away { url: settings.url.clone(), reason });
        }
        match source.lanes[0].recv_timeout(LOOK) {
            Received::Item(Intake::Message(message)) if heard.len() < MESSAGES_MAX && bytes < BYTES_MAX => {
                bytes += message.payload.len();
                heard.push(Heard {
                    topic: String::from_utf8_lossy(&message.topic).into_owned(),
                    payload: message.payload.to_vec(),
                    arrived_us: message.arrived_at_us,
                    retained: message.retained,
                });
            }
            Received::Item(Intake::Lost { reason: why, .. }) => reason = why,
            Received::Item(_) | Received::Timeout => {}
            Received::Closed => break,
        }
    }
    Ok(heard)
}

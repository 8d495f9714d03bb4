//! What the source and the sink share of a connection: its options, the pause before the next
//! attempt, and one clear line about a broker that is away.

use super::tls::{self, Tls};
use super::{MqttError, MqttSettings};
use crate::reminder::Reminder;
use crate::thread::StopSignal;
use rumqttc::{
    AsyncClient, Broker, ConnectReturnCode, ConnectionError, EventLoop, MqttOptions, NetworkOptions, QoS,
};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tracing::{info, warn};

/// The longest packet that the protocol can say. The client takes them all: a payload over the
/// job's limit is a dead letter, where a packet over the client's would be a disconnect, again and
/// again.
const PACKET_BYTES_MAX: usize = 268_435_455 + 5;

/// How many messages may be published and not yet acknowledged.
pub(super) const IN_FLIGHT_MAX: u16 = 1_000;

/// How many packets are read or written at once, at most.
pub(super) const PACKET_BATCH_MAX: usize = 128;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A connection that lasted this long was a good one; one that did not counts as another failure,
/// so that a broker that throws the client out again and again is not asked ten times a second.
const GOOD_CONNECTION_MIN: Duration = Duration::from_secs(5);

/// A client, its event loop, and a runtime to drive it on the connector's own thread.
pub(super) struct Connection {
    pub(super) client: AsyncClient,
    pub(super) event_loop: EventLoop,
    pub(super) runtime: Runtime,
}

impl Connection {
    /// Makes everything ready, with the options of a clean session as `adjust` changes them; connects
    /// only when the event loop is driven.
    pub(super) fn new(
        name: &str,
        settings: &MqttSettings,
        client_id: &str,
        adjust: impl FnOnce(&mut MqttOptions, Option<Tls>),
    ) -> Result<Self, MqttError> {
        settings.check().map_err(|reason| MqttError::Settings { name: name.to_owned(), reason })?;
        let address = settings.address();
        let (host, port) = address.map_err(|reason| MqttError::Settings { name: name.to_owned(), reason })?;
        // The library joins host and port with a colon, which an IPv6 address needs brackets for.
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let mut options = MqttOptions::new(settings.client_id(client_id), Broker::tcp(host, port));
        options
            .set_keep_alive(u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX))
            .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX)
            .set_clean_session(true)
            .set_inflight(IN_FLIGHT_MAX)
            .set_max_request_batch(PACKET_BATCH_MAX)
            .set_read_batch_size(PACKET_BATCH_MAX);
        match (&settings.user, &settings.password) {
            (Some(user), Some(password)) => {
                options.set_credentials(user.as_str(), password.reveal().as_bytes().to_vec())
            }
            (Some(user), None) => options.set_username(user.as_str()),
            _ => options.clear_auth(),
        };
        let tls =
            Tls::of(settings).map_err(|reason| MqttError::Settings { name: name.to_owned(), reason })?;
        adjust(&mut options, tls);
        let (client, mut event_loop) =
            AsyncClient::builder(options).capacity(2 * usize::from(IN_FLIGHT_MAX)).build();
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        event_loop.set_network_options(network);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| MqttError::Thread { name: name.to_owned(), error })?;
        Ok(Self { client, event_loop, runtime })
    }
}

/// The quality of service of the settings, which were checked.
pub(super) fn quality(settings: &MqttSettings) -> QoS {
    if settings.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}

/// A signal that wakes the connector's thread from its asynchronous waits.
pub(super) fn notify_on_stop(stop: &StopSignal) -> Arc<Notify> {
    let notify = Arc::new(Notify::new());
    let notified = notify.clone();
    stop.set_waker(Arc::new(move || notified.notify_one()));
    notify
}

/// What is known of the broker, and when it is tried again.
pub(super) struct Outage {
    name: String,
    /// It speaks TLS, and shows no certificate of its own.
    is_nameless: bool,
    /// The settings keep passwords out of the URL, so it may be shown.
    url: String,
    connected_at: Option<Instant>,
    /// An outage has begun and was reported.
    pub(super) is_reported: bool,
    pause: Duration,
    reminder: Reminder,
}

impl Outage {
    pub(super) fn new(name: &str, settings: &MqttSettings) -> Self {
        Self {
            name: name.to_owned(),
            is_nameless: settings.is_secure() && settings.certificate.is_none(),
            url: settings.url.clone(),
            connected_at: None,
            is_reported: false,
            pause: PAUSE_MIN,
            reminder: Reminder::default(),
        }
    }

    /// A connection stands. Gives whether an outage has ended with it.
    pub(super) fn connected(&mut self) -> bool {
        self.connected_at = Some(Instant::now());
        info!(connector = %self.name, url = %self.url, "broker connected");
        std::mem::take(&mut self.is_reported)
    }

    /// An attempt has failed, or the connection is gone. Gives the reason, the first time in an
    /// outage; the pause until the next attempt is in `pause`.
    pub(super) fn failed(&mut self, error: &ConnectionError) -> Option<String> {
        let mut reason = explain(error);
        let lasted = self.connected_at.take().map(|connected_at| connected_at.elapsed());
        // What the broker says of a certificate that is missing may be lost with the connection.
        if self.is_nameless
            && lasted.is_none()
            && reason.contains("reset by peer")
            && !reason.starts_with("TLS")
        {
            reason = format!("{reason}; the broker may ask for a certificate; write `certificate` and `key`");
        }
        if lasted.is_some_and(|lasted| lasted >= GOOD_CONNECTION_MIN) {
            self.pause = PAUSE_MIN;
            self.reminder.reset();
        }
        if let Some(attempts) = self.reminder.due() {
            warn!(connector = %self.name, url = %self.url, error = %reason, attempts, "broker not reached; retrying");
        }
        let is_first = !std::mem::replace(&mut self.is_reported, true);
        is_first.then_some(reason)
    }

    /// The pause before the next attempt: doubled each time, and never the same for two clients, so
    /// that a broker that comes back is not run over.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        // The hasher's keys differ from one to the next, which is chance enough for a jitter.
        let chance = RandomState::new().build_hasher().finish() % 1_000;
        pause.mul_f64(0.5 + chance as f64 / 2_000.0)
    }
}

/// The library's error in words that say what to look at.
fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => {
                "the broker refuses the user or password; check `user` and `password`".into()
            }
            ConnectReturnCode::NotAuthorized => {
                "the broker refuses this user; check `user`, `password` and the broker's access rules".into()
            }
            ConnectReturnCode::BadClientId => {
                "the broker refuses the client id; set another `client_id`".into()
            }
            ConnectReturnCode::ServiceUnavailable => "the broker says that it is not available now".into(),
            ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1".into(),
            ConnectReturnCode::Success => "the broker refuses the connection".into(),
        },
        ConnectionError::Io(error) => secured(error.to_string()),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => "no answer in time".into(),
        other => secured(other.to_string()),
    }
}

/// What a broker says of our certificate comes with the first read, and not with the handshake.
fn secured(error: String) -> String {
    match error.contains("SSL routines") && !error.starts_with("TLS") {
        true => tls::explain(&error),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut outage = Outage::new("s", &MqttSettings::new("mqtt://h"));
        let pauses: Vec<_> = (0..12).map(|_| outage.pause()).collect();
        assert!(pauses[0] >= PAUSE_MIN / 2 && pauses[0] < PAUSE_MIN, "{pauses:?}");
        assert!(pauses[4] >= PAUSE_MIN * 8, "{pauses:?}");
        assert!(pauses[11] >= PAUSE_MAX / 2 && pauses[11] < PAUSE_MAX, "{pauses:?}");
    }

    #[test]
    fn an_outage_is_reported_once() {
        let mut outage = Outage::new("s", &MqttSettings::new("mqtt://h"));
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword);
        let reason = outage.failed(&refused).expect("the first failure is reported");
        assert!(reason.contains("check `user` and `password`"), "{reason}");
        assert_eq!(outage.failed(&ConnectionError::NetworkTimeout), None);
        assert!(outage.connected());
        assert!(!outage.connected());
        assert!(outage.failed(&ConnectionError::NetworkTimeout).is_some());
    }
}

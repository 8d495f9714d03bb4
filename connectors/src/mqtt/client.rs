//! What the source and the sink share of a connection: its options, the pause before the next
//! attempt, and one clear line about a broker that is away.

use super::protocol::{self, Cause, Client, EventLoop, Trouble};
use super::socket::{Dial, Line};
use super::stream::Way;
use super::{MqttError, MqttSettings};
use crate::reminder::Reminder;
use crate::thread::StopSignal;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tracing::{info, warn};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A connection that lasted this long was a good one; one that did not counts as another failure,
/// so that a broker that throws the client out again and again is not asked ten times a second.
const GOOD_CONNECTION_MIN: Duration = Duration::from_secs(5);

/// How many connections in a row must be cut off for another client to be held for the one who does it.
const CUTS_MIN: u32 = 3;

/// A client, its event loop, and a runtime to drive it on the connector's own thread.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) event_loop: EventLoop,
    pub(super) runtime: Runtime,
}

impl Connection {
    /// Makes everything ready; connects only when the event loop is driven. A source writes through its `line` as
    /// well, and has the broker keep its session above QoS 0.
    pub(super) fn new(
        name: &str,
        settings: &MqttSettings,
        client_id: &str,
        line: Option<Line>,
    ) -> Result<Self, MqttError> {
        let of_settings = |reason| MqttError::Settings { name: name.to_owned(), reason };
        settings.check().map_err(of_settings)?;
        let (host, port) = settings.address().map_err(of_settings)?;
        // The library joins host and port with a colon, which an IPv6 address needs brackets for.
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let way = Way::of(settings).map_err(of_settings)?;
        let is_source = line.is_some();
        let (client, event_loop) = protocol::open(protocol::Setup {
            settings,
            client_id: settings.client_id(client_id),
            address: (host, port),
            is_source,
            is_kept: is_source && settings.qos > 0,
            dial: (is_source || !way.is_plain()).then_some(Dial { way, line }),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| MqttError::Thread { name: name.to_owned(), error })?;
        Ok(Self { client, event_loop, runtime })
    }
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
    /// The settings keep passwords out of the URL, so it may be shown.
    url: String,
    client_id: String,
    /// It speaks TLS, and shows no certificate of its own.
    is_nameless: bool,
    connected_at: Option<Instant>,
    /// How many connections were cut off soon, one after the other.
    cuts: u32,
    /// An outage has begun and was reported.
    pub(super) is_reported: bool,
    pause: Duration,
    reminder: Reminder,
    takeovers: Reminder,
}

/// What is most likely where a broker ends a connection by TLS before it has answered.
const NAMELESS: &str = "the broker may ask for a certificate; write `certificate` and `key`";

/// What has become of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Why, the first time in an outage.
    pub(super) reason: Option<String>,
    /// Another client has taken the session over, or is held for it.
    pub(super) is_taken_over: bool,
}

impl Outage {
    pub(super) fn new(name: &str, settings: &MqttSettings, client_id: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: settings.url.clone(),
            client_id: settings.client_id(client_id).to_owned(),
            is_nameless: settings.is_secure() && settings.certificate.is_none(),
            connected_at: None,
            cuts: 0,
            is_reported: false,
            pause: PAUSE_MIN,
            reminder: Reminder::default(),
            takeovers: Reminder::default(),
        }
    }

    /// A connection stands. Gives whether an outage has ended with it.
    pub(super) fn connected(&mut self) -> bool {
        self.connected_at = Some(Instant::now());
        info!(connector = %self.name, url = %self.url, "broker connected");
        std::mem::take(&mut self.is_reported)
    }

    /// An attempt has failed, or the connection is gone; the pause until the next attempt is in `pause`.
    pub(super) fn failed(&mut self, trouble: Trouble) -> Failure {
        let lasted = self.connected_at.take().map(|connected_at| connected_at.elapsed());
        let takeover = self.takeover(trouble.cause, lasted);
        let is_taken_over = takeover.is_some();
        // What the broker says of a certificate that is missing may be lost with the connection.
        let is_unnamed = self.is_nameless && lasted.is_none() && trouble.cause == Cause::Cut;
        let reason = takeover.unwrap_or(match is_unnamed && !trouble.reason.starts_with("TLS") {
            true => format!("{}; {NAMELESS}", trouble.reason),
            false => trouble.reason,
        });
        // Two clients that take the session from each other do so less and less often.
        if !is_taken_over && lasted.is_some_and(|lasted| lasted >= GOOD_CONNECTION_MIN) {
            self.pause = PAUSE_MIN;
            self.reminder.reset();
        }
        let due = if is_taken_over { self.takeovers.due() } else { self.reminder.due() };
        if let Some(attempts) = due {
            let problem = if is_taken_over { "session taken over" } else { "broker not reached" };
            warn!(connector = %self.name, url = %self.url, error = %reason, attempts, "{problem}; retrying");
        }
        let is_first = !std::mem::replace(&mut self.is_reported, true);
        Failure { reason: is_first.then_some(reason), is_taken_over }
    }

    /// Who took the session, where somebody did. A broker of MQTT 3.1.1 does not say so: it closes the connection of
    /// the one when the other comes, who then comes back, and so on.
    fn takeover(&mut self, cause: Cause, lasted: Option<Duration>) -> Option<String> {
        let client_id = &self.client_id;
        let help = "give each client, and each job, a `client_id` of its own";
        if cause == Cause::TakenOver {
            return Some(format!(
                "another client has connected with our client id `{client_id}` and has taken the session over; {help}"
            ));
        }
        // Whoever comes back does so within the longest pause of its own, which is hardly longer than ours.
        let is_cut = cause == Cause::Cut && lasted.is_some_and(|lasted| lasted < PAUSE_MAX);
        self.cuts = if is_cut { self.cuts.saturating_add(1) } else { 0 };
        (self.cuts >= CUTS_MIN).then(|| {
            format!(
                "the broker has closed {} connections in a row soon after they were made; most likely another client \
                 uses our client id `{client_id}`: {help}",
                self.cuts
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut outage = Outage::new("s", &MqttSettings::new("mqtt://h"), "c");
        let pauses: Vec<_> = (0..12).map(|_| outage.pause()).collect();
        assert!(pauses[0] >= PAUSE_MIN / 2 && pauses[0] < PAUSE_MIN, "{pauses:?}");
        assert!(pauses[4] >= PAUSE_MIN * 8, "{pauses:?}");
        assert!(pauses[11] >= PAUSE_MAX / 2 && pauses[11] < PAUSE_MAX, "{pauses:?}");
    }

    fn trouble(cause: Cause) -> Trouble {
        Trouble { reason: "it rains".into(), cause }
    }

    #[test]
    fn an_outage_is_reported_once() {
        let mut outage = Outage::new("s", &MqttSettings::new("mqtt://h"), "c");
        let failed =
            |reason: Option<&str>| Failure { reason: reason.map(str::to_owned), is_taken_over: false };
        assert_eq!(outage.failed(trouble(Cause::Other)), failed(Some("it rains")));
        assert_eq!(outage.failed(trouble(Cause::Other)), failed(None));
        assert!(outage.connected());
        assert!(!outage.connected());
        assert_eq!(outage.failed(trouble(Cause::Other)), failed(Some("it rains")));
    }

    #[test]
    fn a_takeover_is_named_as_soon_as_it_is_known() {
        let mut outage = Outage::new("s", &MqttSettings::new("mqtt://h"), "c");
        let mut cut = |connects: bool, cause: Cause| {
            if connects {
                outage.connected();
            }
            let failure = outage.failed(trouble(cause));
            assert!(
                failure.reason.is_none_or(|reason| reason.contains("client id `c`") == failure.is_taken_over)
            );
            failure.is_taken_over
        };
        let said = [(true, Cause::TakenOver), (true, Cause::Other), (true, Cause::TakenOver)];
        assert_eq!(said.map(|(connects, cause)| cut(connects, cause)), [true, false, true]);
        // A broker that does not say so is believed the third time; one that was away in between has restarted.
        let closed = [true, true, false, true, true, true, true].map(|connects| cut(connects, Cause::Cut));
        assert_eq!(closed, [false, false, false, false, false, true, true]);
        assert!(!cut(true, Cause::Other));
        assert!(!cut(true, Cause::Cut));
    }
}

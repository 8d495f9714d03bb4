//! The two versions of MQTT behind one face: 3.1.1 and 5 have a client library each, whose types have the same names
//! and are not the same. What differs is here, and no source or sink knows which version it speaks.
//!
//! ```text
//!   source, sink ──► Client ──► v3 | v5 ──► event loop ──► socket
//!        ^                                      |
//!        '──────── Event, or Trouble <──────────'
//! ```

mod reasons;
mod v3;
mod v5;

use std::io;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::MqttSettings;
use super::socket::Dial;

/// The longest packet that the protocol can say. The client takes them all: a payload over the
/// job's limit is a dead letter, where a packet over the client's would be a disconnect, again and
/// again.
const PACKET_BYTES_MAX: usize = 268_435_455 + 5;

/// How many messages may be published and not yet acknowledged.
pub(super) const IN_FLIGHT_MAX: u16 = 1_000;

/// How many packets are read or written at once, at most.
pub(super) const PACKET_BATCH_MAX: usize = 128;

/// Which version of the protocol is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "VersionText")]
pub enum Version {
    /// 3.1.1, which every broker speaks.
    #[default]
    V3,
    /// 5.
    V5,
}

/// A version as it is written: a number, or a text with dots.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "write version: 5, or version: 3.1.1")]
pub(super) enum VersionText {
    Number(f64),
    Text(String),
}

impl TryFrom<VersionText> for Version {
    type Error = String;

    fn try_from(text: VersionText) -> Result<Self, String> {
        match text {
            VersionText::Number(5.0) => Ok(Self::V5),
            VersionText::Text(text) if matches!(text.as_str(), "5" | "5.0") => Ok(Self::V5),
            VersionText::Text(text) if text == "3.1.1" => Ok(Self::V3),
            VersionText::Number(number) => Err(unknown(&number)),
            VersionText::Text(text) => Err(unknown(&text)),
        }
    }
}

fn unknown(version: &dyn std::fmt::Display) -> String {
    format!("there is no MQTT {version} here; write version: 5, or version: 3.1.1")
}

/// What a client is made from.
pub(super) struct Setup<'a> {
    /// Settings that were checked.
    pub(super) settings: &'a MqttSettings,
    /// What the broker knows the client by.
    pub(super) client_id: &'a str,
    /// Host, in brackets where it is an IPv6 address, and port.
    pub(super) address: (String, u16),
    /// Whether it is of a source, which acknowledges what comes itself.
    pub(super) is_source: bool,
    /// Whether the broker keeps a session.
    pub(super) is_kept: bool,
    /// How a connection is made; the library's own way where there is none.
    pub(super) dial: Option<Dial>,
}

/// What is asked of a connection.
pub(super) enum Client {
    V3(rumqttc::AsyncClient),
    V5(rumqttc_v5::AsyncClient),
}

/// What drives a connection.
pub(super) enum EventLoop {
    V3(Box<rumqttc::EventLoop>),
    V5(Box<rumqttc_v5::EventLoop>),
}

/// What a connection tells.
pub(super) enum Event {
    /// It stands.
    Connected(Welcome),
    /// A message came.
    Message(Arrived),
    /// The broker will never again send the message with this packet id (QoS 2).
    Released(u16),
    /// What became of each filter, in their order.
    Subscribed(Vec<Granted>),
    /// Filters are unsubscribed.
    Unsubscribed,
    /// The next message that was handed over is written, with this packet id.
    Sent(u16),
    /// The broker has taken the message with this packet id; or it has not and never will, and says why.
    Acknowledged(u16, Option<&'static str>),
    /// Nothing that is to be acted on.
    Other,
}

/// What the broker says of a connection at its begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    /// It has kept the session.
    pub(super) session_present: bool,
    /// It keeps messages for late listeners.
    pub(super) retains: bool,
    /// The highest quality of service that it takes.
    pub(super) qos_max: u8,
    /// The longest packet that it takes.
    pub(super) packet_bytes_max: usize,
}

impl Default for Welcome {
    /// What a broker of MQTT 3.1.1 can do, which does not say.
    fn default() -> Self {
        Self { session_present: false, retains: true, qos_max: 2, packet_bytes_max: PACKET_BYTES_MAX }
    }
}

/// A message as it came.
pub(super) struct Arrived {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    /// 0 where no acknowledgement is asked for.
    pub(super) packet_id: u16,
    /// It came at QoS 2: the broker releases its packet id when it knows that it has arrived.
    pub(super) exactly_once: bool,
    pub(super) retained: bool,
    pub(super) duplicate: bool,
    /// What its sender wrote beside the payload.
    pub(super) user_properties: Vec<(String, String)>,
}

/// What became of a filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// It is subscribed, at this quality of service.
    Qos(u8),
    /// It is not, and what to do.
    Refused(&'static str),
}

/// How a message is published.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// After how many seconds the broker forgets it.
    pub(super) expiry_s: Option<u32>,
}

/// Why a connection does not come about, or is gone.
#[derive(Debug)]
pub(super) struct Trouble {
    /// In words that say what to look at.
    pub(super) reason: String,
    pub(super) cause: Cause,
}

/// What the reason says of other clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another client has come with our client id; the broker says so.
    TakenOver,
    /// The broker closed the connection without a word.
    Cut,
    Other,
}

impl Trouble {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), cause: Cause::Other }
    }

    fn cut() -> Self {
        Self { reason: "the broker closed the connection".into(), cause: Cause::Cut }
    }

    /// What the operating system says of a connection.
    fn io(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let is_cut = matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
        let cause = if is_cut { Cause::Cut } else { Cause::Other };
        Self { reason: secured(error.to_string()), cause }
    }
}

/// What a broker says of our certificate comes with the first read, and not with the handshake.
fn secured(error: String) -> String {
    match error.contains("SSL routines") && !error.starts_with("TLS") {
        true => super::tls::explain(&error),
        false => error,
    }
}

/// Makes a client, which connects only when its event loop is driven.
pub(super) fn open(setup: Setup<'_>) -> (Client, EventLoop) {
    match setup.settings.version {
        Version::V3 => {
            let (client, event_loop) = v3::open(setup);
            (Client::V3(client), EventLoop::V3(Box::new(event_loop)))
        }
        Version::V5 => {
            let (client, event_loop) = v5::open(setup);
            (Client::V5(client), EventLoop::V5(Box::new(event_loop)))
        }
    }
}

impl Client {
    /// Hands a message over; the next [`Event::Sent`] is of the first that was handed over before.
    pub(super) fn publish(&self, topic: String, payload: Bytes, manner: Manner) -> Result<(), String> {
        match self {
            Self::V3(client) => v3::publish(client, topic, payload, manner),
            Self::V5(client) => v5::publish(client, topic, payload, manner),
        }
    }

    pub(super) fn subscribe(&self, filters: &[String], qos: u8) -> Result<(), String> {
        match self {
            Self::V3(client) => v3::subscribe(client, filters, qos),
            Self::V5(client) => v5::subscribe(client, filters, qos),
        }
    }

    pub(super) fn unsubscribe(&self, filters: Vec<String>) -> Result<(), String> {
        match self {
            Self::V3(client) => client.try_unsubscribe_many(filters).map_err(|error| error.to_string()),
            Self::V5(client) => client.try_unsubscribe_many(filters).map_err(|error| error.to_string()),
        }
    }

    /// Says that a message of QoS 2 has arrived (PUBREC); `false` where the client has no room for that now. The
    /// library must know, as it answers what the broker says next.
    pub(super) fn received(&self, packet_id: u16) -> bool {
        match self {
            Self::V3(client) => {
                let received = rumqttc::ManualAck::PubRec(rumqttc::PubRec::new(packet_id));
                client.try_manual_ack(received).is_ok()
            }
            Self::V5(client) => {
                let received = rumqttc_v5::ManualAck::PubRec(rumqttc_v5::PubRec::new(packet_id, None));
                client.try_manual_ack(received).is_ok()
            }
        }
    }

    /// Says goodbye; `false` where that cannot be said.
    pub(super) fn disconnect(&self) -> bool {
        match self {
            Self::V3(client) => client.try_disconnect_now().is_ok(),
            Self::V5(client) => client.try_disconnect_now().is_ok(),
        }
    }
}

impl EventLoop {
    /// Drives the connection to its next event. After an error it connects anew.
    pub(super) async fn poll(&mut self) -> Result<Event, Trouble> {
        match self {
            Self::V3(event_loop) => {
                event_loop.poll().await.map(v3::event).map_err(|error| v3::trouble(&error))
            }
            Self::V5(event_loop) => v5::poll(event_loop).await,
        }
    }

    /// What has been read and not told of yet.
    pub(super) fn pop(&mut self) -> Option<Event> {
        match self {
            Self::V3(event_loop) => event_loop.state.events.pop_front().map(v3::event),
            Self::V5(event_loop) => event_loop.state.events.pop_front().map(v5::event),
        }
    }

    /// How many packets the next read may bring.
    pub(super) fn set_read_batch(&mut self, packets: usize) {
        match self {
            Self::V3(event_loop) => _ = event_loop.mqtt_options.set_read_batch_size(packets),
            Self::V5(event_loop) => _ = event_loop.options.set_read_batch_size(packets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_or_a_text() {
        for (text, expected) in [
            ("5", Some(Version::V5)),
            ("\"5\"", Some(Version::V5)),
            ("\"3.1.1\"", Some(Version::V3)),
            ("4", None),
            ("3.1", None),
            ("\"3.1\"", None),
        ] {
            let read = serde_json::from_str::<Version>(text);
            assert_eq!(read.as_ref().ok().copied(), expected, "{text}");
            assert!(read.err().is_none_or(|error| error.to_string().contains("write version: 5")), "{text}");
        }
        assert!(serde_json::from_str::<Version>("[]").is_err());
    }
}

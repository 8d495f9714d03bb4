//! MQTT 5, in the words of its client library.
//!
//! A topic alias stands for a topic on one connection, both ways: the broker's are put back into topics by the
//! library, and ours are given to the first topics that are published to, as many as the broker takes.

use bytes::Bytes;
use rumqttc_v5::{
    AckMode, AsyncClient, Broker, ConnAck, ConnectionError, Event as Told, EventLoop, MqttOptions,
    NetworkOptions, Outgoing, Packet, PersistedAckMode, PersistedSession, PubAckReason, PubRecReason,
    PublishOptions, PublishProperties, QoS, SessionStore, SessionStoreError, SessionStoreKey, StateError,
    SubscribeFilter, SubscribeReasonCode, TopicAliasPolicy,
};
use std::future::{Future, ready};
use std::pin::Pin;

use super::{
    Arrived, Cause, Event, Granted, IN_FLIGHT_MAX, Manner, PACKET_BATCH_MAX, Setup, Trouble, Welcome, reasons,
};

/// How many seconds stand for a session that never ends.
const SESSION_FOR_EVER_S: u32 = u32::MAX;

pub(super) fn open(setup: Setup<'_>) -> (AsyncClient, EventLoop) {
    let Setup { settings, client_id, address: (host, port), is_source, is_kept, dial } = setup;
    let mut options = MqttOptions::new(client_id, Broker::tcp(host, port));
    options
        .set_keep_alive(u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX))
        .set_unlimited_incoming_packet_size()
        .set_clean_start(!is_kept)
        .set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX)
        .set_max_request_batch(PACKET_BATCH_MAX)
        .set_read_batch_size(PACKET_BATCH_MAX)
        .set_receive_maximum(settings.receive_maximum);
    if is_kept {
        let expiry_s = settings.session_expiry.map_or(SESSION_FOR_EVER_S, super::super::seconds);
        options.set_session_expiry_interval(Some(expiry_s));
        options.set_session_store(Begin { client_id: client_id.to_owned() });
    }
    if settings.topic_aliases > 0 {
        options.set_topic_alias_max(Some(settings.topic_aliases));
        options.set_topic_alias_policy(TopicAliasPolicy::Monotonic);
    }
    match (&settings.user, &settings.password) {
        (Some(user), Some(password)) => {
            options.set_credentials(user.as_str(), password.reveal().as_bytes().to_vec())
        }
        (Some(user), None) => options.set_username(user.as_str()),
        _ => options.clear_auth(),
    };
    if is_source {
        options.set_ack_mode(AckMode::Manual);
    }
    if let Some(dial) = dial {
        options.set_socket_connector(move |host, network| dial.clone().connect(host, network));
    }
    let capacity = 2 * usize::from(IN_FLIGHT_MAX);
    let (client, mut event_loop) = AsyncClient::builder(options).capacity(capacity).build();
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    event_loop.options.set_network_options(network);
    (client, event_loop)
}

/// Tells the library that a session which the broker kept over a restart is ours: what was acknowledged in it is
/// known to the journal, and nothing is published in it. Else the library would refuse to go on with it.
#[derive(Debug)]
struct Begin {
    client_id: String,
}

type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for Begin {
    fn load<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, Option<PersistedSession>> {
        Box::pin(ready(Ok(Some(PersistedSession {
            format_version: 1,
            client_id: self.client_id.clone(),
            clean_start: false,
            session_expiry_interval: None,
            outgoing_inflight_upper_limit: Some(IN_FLIGHT_MAX),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        }))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Stored<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, ()> {
        Box::pin(ready(Ok(())))
    }
}

pub(super) async fn poll(event_loop: &mut EventLoop) -> Result<Event, Trouble> {
    match event_loop.poll().await {
        Ok(told) => {
            if let Told::Incoming(Packet::ConnAck(_)) = &told {
                // It was needed to begin with; from now on the library would look at all it has after each read.
                event_loop.options.clear_session_store();
            }
            Ok(event(told))
        }
        Err(error) => Err(trouble(&error)),
    }
}

pub(super) fn publish(
    client: &AsyncClient,
    topic: String,
    payload: Bytes,
    manner: Manner,
) -> Result<(), String> {
    let mut options = PublishOptions::new(quality(manner.qos)).retain(manner.retain);
    if manner.expiry_s.is_some() {
        options = options.properties(PublishProperties {
            message_expiry_interval: manner.expiry_s,
            ..PublishProperties::default()
        });
    }
    client.try_publish(topic, payload, options).map_err(|error| error.to_string())
}

pub(super) fn subscribe(client: &AsyncClient, filters: &[String], qos: u8) -> Result<(), String> {
    let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), quality(qos)));
    client.try_subscribe_many(filters).map_err(|error| error.to_string())
}

fn quality(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

pub(super) fn event(told: Told) -> Event {
    match told {
        Told::Incoming(Packet::Publish(publish)) => Event::Message(Arrived {
            topic: publish.topic,
            payload: publish.payload,
            packet_id: publish.pkid,
            exactly_once: publish.qos == QoS::ExactlyOnce,
            retained: publish.retain,
            duplicate: publish.dup,
            user_properties: publish.properties.map_or(Vec::new(), |of| of.user_properties),
        }),
        Told::Incoming(Packet::PubAck(answer)) => {
            let is_taken =
                matches!(answer.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
            let refusal = (!is_taken).then(|| reasons::publishing(answer.reason as u8));
            Event::Acknowledged(answer.pkid, refusal)
        }
        Told::Incoming(Packet::PubRec(answer)) => match answer.reason {
            PubRecReason::Success | PubRecReason::NoMatchingSubscribers => Event::Other,
            refused => Event::Acknowledged(answer.pkid, Some(reasons::publishing(refused as u8))),
        },
        Told::Incoming(Packet::PubComp(answer)) => Event::Acknowledged(answer.pkid, None),
        Told::Incoming(Packet::PubRel(release)) => Event::Released(release.pkid),
        Told::Incoming(Packet::ConnAck(answer)) => Event::Connected(welcome(&answer)),
        Told::Incoming(Packet::SubAck(answer)) => {
            let granted = |code: &SubscribeReasonCode| match code {
                SubscribeReasonCode::Success(qos) => Granted::Qos(*qos as u8),
                refused => Granted::Refused(reasons::subscription(*refused)),
            };
            Event::Subscribed(answer.return_codes.iter().map(granted).collect())
        }
        Told::Incoming(Packet::UnsubAck(_)) => Event::Unsubscribed,
        Told::Outgoing(Outgoing::Publish(packet_id)) => Event::Sent(packet_id),
        _ => Event::Other,
    }
}

fn welcome(answer: &ConnAck) -> Welcome {
    let welcome = Welcome { session_present: answer.session_present, ..Welcome::default() };
    let Some(properties) = &answer.properties else { return welcome };
    let bytes_max = properties.max_packet_size.and_then(|bytes| usize::try_from(bytes).ok());
    Welcome {
        retains: properties.retain_available != Some(0),
        qos_max: properties.max_qos.unwrap_or(2),
        packet_bytes_max: bytes_max.unwrap_or(welcome.packet_bytes_max),
        ..welcome
    }
}

pub(super) fn trouble(error: &ConnectionError) -> Trouble {
    match error {
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => {
            Trouble::new(reasons::connection(*code))
        }
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let mut reason = reasons::disconnection(*reason_code).to_owned();
            if let Some(text) = reason_string {
                // What the broker says is not trusted to be short.
                reason += &format!(" (it says: {:.200})", text.escape_debug());
            }
            let is_taken_over = *reason_code == rumqttc_v5::DisconnectReasonCode::SessionTakenOver;
            Trouble { reason, cause: if is_taken_over { Cause::TakenOver } else { Cause::Other } }
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => Trouble::cut(),
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => Trouble::io(error),
        ConnectionError::Timeout(_) => Trouble::new(reasons::NO_ANSWER),
        ConnectionError::MqttState(StateError::Deserialization(error)) => Trouble::new(format!(
            "{error}; a broker that speaks no MQTT 5 answers so: leave `version` out then"
        )),
        other => Trouble::new(super::secured(other.to_string())),
    }
}

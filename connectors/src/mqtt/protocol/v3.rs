//! MQTT 3.1.1, in the words of its client library.

use bytes::Bytes;
use rumqttc::{
    AckMode, AsyncClient, Broker, ConnectReturnCode, ConnectionError, Event as Told, EventLoop, MqttOptions,
    NetworkOptions, Outgoing, Packet, PublishOptions, QoS, StateError, SubscribeFilter, SubscribeReasonCode,
};

use super::{
    Arrived, Event, Granted, IN_FLIGHT_MAX, Manner, PACKET_BATCH_MAX, PACKET_BYTES_MAX, Setup, Trouble,
    Welcome, reasons,
};

pub(super) fn open(setup: Setup<'_>) -> (AsyncClient, EventLoop) {
    let Setup { settings, client_id, address: (host, port), is_source, is_kept, dial } = setup;
    let mut options = MqttOptions::new(client_id, Broker::tcp(host, port));
    options
        .set_keep_alive(u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX))
        .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX)
        .set_clean_session(!is_kept)
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
    event_loop.set_network_options(network);
    (client, event_loop)
}

pub(super) fn publish(
    client: &AsyncClient,
    topic: String,
    payload: Bytes,
    manner: Manner,
) -> Result<(), String> {
    let options = PublishOptions::new(quality(manner.qos)).retain(manner.retain);
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
            user_properties: Vec::new(),
        }),
        Told::Incoming(Packet::PubAck(answer)) => Event::Acknowledged(answer.pkid, None),
        Told::Incoming(Packet::PubComp(answer)) => Event::Acknowledged(answer.pkid, None),
        Told::Incoming(Packet::PubRel(release)) => Event::Released(release.pkid),
        Told::Incoming(Packet::ConnAck(answer)) => {
            Event::Connected(Welcome { session_present: answer.session_present, ..Welcome::default() })
        }
        Told::Incoming(Packet::SubAck(answer)) => {
            let granted = |code: &SubscribeReasonCode| match code {
                SubscribeReasonCode::Success(qos) => Granted::Qos(*qos as u8),
                SubscribeReasonCode::Failure => Granted::Refused(reasons::SUBSCRIPTION),
            };
            Event::Subscribed(answer.return_codes.iter().map(granted).collect())
        }
        Told::Incoming(Packet::UnsubAck(_)) => Event::Unsubscribed,
        Told::Outgoing(Outgoing::Publish(packet_id)) => Event::Sent(packet_id),
        _ => Event::Other,
    }
}

pub(super) fn trouble(error: &ConnectionError) -> Trouble {
    match error {
        ConnectionError::ConnectionRefused(code) => Trouble::new(match code {
            ConnectReturnCode::BadUserNamePassword => reasons::LOGIN,
            ConnectReturnCode::NotAuthorized => reasons::RIGHTS,
            ConnectReturnCode::BadClientId => reasons::CLIENT_ID,
            ConnectReturnCode::ServiceUnavailable => reasons::UNAVAILABLE,
            ConnectReturnCode::RefusedProtocolVersion => {
                "the broker does not speak MQTT 3.1.1; write version: 5"
            }
            ConnectReturnCode::Success => reasons::REFUSED,
        }),
        ConnectionError::MqttState(StateError::ConnectionAborted) => Trouble::cut(),
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => Trouble::io(error),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => Trouble::new(reasons::NO_ANSWER),
        other => Trouble::new(super::secured(other.to_string())),
    }
}

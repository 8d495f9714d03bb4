//! What brokers say when they refuse, in words that say what to do (MQTT 5, 2.4).

use rumqttc_v5::{ConnectReturnCode as Connect, DisconnectReasonCode as Disconnect, SubscribeReasonCode};

pub(super) const LOGIN: &str = "the broker refuses the user or password; check `user` and `password`";
pub(super) const RIGHTS: &str =
    "the broker refuses this user; check `user`, `password` and the broker's access rules";
pub(super) const CLIENT_ID: &str = "the broker refuses the client id; set another `client_id`";
pub(super) const UNAVAILABLE: &str = "the broker says that it is not available now";
pub(super) const REFUSED: &str = "the broker refuses the connection";
pub(super) const NO_ANSWER: &str = "no answer in time";
pub(super) const SUBSCRIPTION: &str = "check the filter and the user's rights";

const BUSY: &str = "the broker is busy and asks to come back later";
const QUOTA: &str = "a quota of the broker is used up; raise it there, or send less";
const MOVED: &str = "the broker sends its clients to another server; write that one under `url`";
const RATE: &str = "the broker takes no more connections for now; raise its rate of connections";
const PACKET: &str = "a packet is larger than the broker takes; raise its limit, or publish fewer properties";
const RETAIN: &str = "the broker keeps no retained messages; write retain: false at the listener";
const QOS: &str = "the broker does not take this quality of service; write a lower `qos`";
const PROTOCOL: &str = "the broker takes what we sent for an error of protocol; write version: 3.1.1";

/// Why a broker refuses a connection.
pub(super) fn connection(code: Connect) -> &'static str {
    match code {
        Connect::BadUserNamePassword => LOGIN,
        Connect::NotAuthorized => RIGHTS,
        Connect::BadClientId | Connect::ClientIdentifierNotValid => CLIENT_ID,
        Connect::ServiceUnavailable | Connect::ServerUnavailable => UNAVAILABLE,
        Connect::RefusedProtocolVersion | Connect::UnsupportedProtocolVersion => {
            "the broker does not speak MQTT 5; write version: 3.1.1"
        }
        Connect::ServerBusy => BUSY,
        Connect::Banned => "the broker has banned this client; ask those who run it",
        Connect::BadAuthenticationMethod => {
            "the broker asks for a way to log in that is not spoken here; let it take `user` and `password`"
        }
        Connect::PacketTooLarge => PACKET,
        Connect::QuotaExceeded => QUOTA,
        Connect::RetainNotSupported => RETAIN,
        Connect::QoSNotSupported => QOS,
        Connect::UseAnotherServer | Connect::ServerMoved => MOVED,
        Connect::ConnectionRateExceeded => RATE,
        Connect::MalformedPacket | Connect::ProtocolError => PROTOCOL,
        Connect::Success
        | Connect::UnspecifiedError
        | Connect::ImplementationSpecificError
        | Connect::TopicNameInvalid
        | Connect::PayloadFormatInvalid => "the broker refuses the connection; its log says why",
    }
}

/// Why a broker ends a connection.
pub(super) fn disconnection(code: Disconnect) -> &'static str {
    match code {
        Disconnect::SessionTakenOver => "another client has connected with the same client id",
        Disconnect::NotAuthorized => RIGHTS,
        Disconnect::ServerBusy => BUSY,
        Disconnect::ServerShuttingDown => "the broker shuts down",
        Disconnect::KeepAliveTimeout => {
            "the broker heard nothing for one and a half times `keep_alive`; look at the network between"
        }
        Disconnect::ReceiveMaximumExceeded => {
            "the broker has more of our messages in flight than it takes; raise its receive maximum"
        }
        Disconnect::TopicAliasInvalid => "the broker does not take a topic alias; write topic_aliases: 0",
        Disconnect::PacketTooLarge => PACKET,
        Disconnect::MessageRateTooHigh => {
            "the broker takes no messages this fast; raise its limit, or send less"
        }
        Disconnect::QuotaExceeded => QUOTA,
        Disconnect::AdministrativeAction => "the connection was ended by those who run the broker; ask them",
        Disconnect::RetainNotSupported => RETAIN,
        Disconnect::QoSNotSupported => QOS,
        Disconnect::UseAnotherServer | Disconnect::ServerMoved => MOVED,
        Disconnect::SharedSubscriptionNotSupported => SHARED,
        Disconnect::WildcardSubscriptionsNotSupported => WILDCARDS,
        Disconnect::ConnectionRateExceeded => RATE,
        Disconnect::MaximumConnectTime => {
            "the broker ends connections after some time; it is connected to again"
        }
        Disconnect::TopicFilterInvalid => "the broker does not take a topic filter; check `topics`",
        Disconnect::TopicNameInvalid => "the broker does not take a topic; check the listener's `topic`",
        Disconnect::MalformedPacket | Disconnect::ProtocolError => PROTOCOL,
        Disconnect::NormalDisconnection
        | Disconnect::DisconnectWithWillMessage
        | Disconnect::UnspecifiedError
        | Disconnect::ImplementationSpecificError
        | Disconnect::PayloadFormatInvalid
        | Disconnect::SubscriptionIdentifiersNotSupported => {
            "the broker ended the connection; its log says why"
        }
    }
}

const SHARED: &str = "the broker has no shared subscriptions; write the topic without $share/group/";
const WILDCARDS: &str = "the broker takes no wildcards; write whole topics, and the twin's id as a pointer";

/// Why a broker does not subscribe.
pub(super) fn subscription(code: SubscribeReasonCode) -> &'static str {
    match code {
        SubscribeReasonCode::QuotaExceeded => QUOTA,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => SHARED,
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => WILDCARDS,
        SubscribeReasonCode::TopicFilterInvalid => "the broker does not take the filter; check `topics`",
        SubscribeReasonCode::NotAuthorized => RIGHTS,
        _ => SUBSCRIPTION,
    }
}

/// Why a broker does not take a message: the code of a PUBACK or a PUBREC, which have the same.
pub(super) fn publishing(code: u8) -> &'static str {
    match code {
        0x87 => "the broker does not let this user publish there; check its access rules",
        0x90 => "the broker does not take the topic; check the listener's `topic`",
        0x97 => QUOTA,
        0x99 => "the broker takes another form of payload on this topic; check its rules",
        _ => "the broker does not take the message; its log says why",
    }
}

//! MQTT 3.1.1 and 5, over TCP, TLS or websockets. The client libraries stay behind this module.
//!
//! `source` takes messages from a broker and loses none, `sink` publishes to one, `embedded` is a small
//! broker inside the process for the demo and for tests.

mod client;
pub mod embedded;
mod protocol;
mod repeats;
mod session;
pub mod sink;
mod socket;
pub mod source;
mod stream;
mod tls;
mod window;

pub use protocol::Version;
pub use session::SessionError;

use crate::journal::{JournalError, JournalSettings};

use crate::secret::Secret;
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Schemes of urls: over TCP, by TLS, and both behind websockets; with the port of each.
const SCHEMES: [(&str, u16); 4] = [("mqtt", 1883), (SECURE, 8883), (WEB, 80), (SECURE_WEB, 443)];
const SECURE: &str = "mqtts";
const WEB: &str = "ws";
const SECURE_WEB: &str = "wss";

/// How topics begin that several subscribers share: `$share/<group>/<filter>`.
const SHARED: &str = "$share/";

/// How to reach a broker.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttSettings {
    /// Where the broker is: `mqtt://host` or `mqtt://host:port`, or `mqtts://` for TLS; the port is 1883 by default, of
    /// TLS 8883. Behind websockets `ws://host/path` or `wss://host/path`, by default port 80 or 443.
    pub url: String,
    /// Which MQTT is spoken: `3.1.1` or `5`.
    #[serde(default)]
    #[schemars(with = "protocol::VersionText")]
    pub version: Version,
    /// The CA that the broker's certificate is to be of, a PEM file; by default all that the system trusts.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The certificate that the client shows, a PEM file, where the broker asks for one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The key of that certificate, a PEM file (PKCS #8).
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// What the broker knows this client by; the caller chooses one where it is not given.
    #[serde(default)]
    pub client_id: Option<String>,
    /// The user to log in as, where the broker asks for one.
    #[serde(default)]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// After how much silence the connection is proved alive by a ping; whole seconds, 1 s to 18 h.
    #[serde(default = "keep_alive_default", with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub keep_alive: Duration,
    /// Quality of service: 0 at most once, 1 at least once, 2 exactly once.
    #[serde(default = "qos_default")]
    pub qos: u8,
    /// The longest payload that is taken; a longer one is handed on cut, marked as oversize.
    #[serde(default = "max_payload_default")]
    #[schemars(with = "String", extend("format" = "size"))]
    pub max_payload: ByteSize,
    /// How much may wait in memory: of a source in each lane, of a sink in all.
    #[serde(default = "queue_default")]
    #[schemars(with = "String", extend("format" = "size"))]
    pub queue: ByteSize,
    /// How much a source keeps on disk until a checkpoint has it: `{size: 1GB, file: 16MB}`.
    #[serde(default)]
    pub journal: JournalSettings,
    /// How long the broker keeps what comes for the job while it is away; for ever by default. MQTT 5.
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("format" = "time"))]
    pub session_expiry: Option<Duration>,
    /// How many messages the broker may send before the first of them is acknowledged; 65,535 by default. MQTT 5.
    #[serde(default)]
    pub receive_maximum: Option<u16>,
    /// How many topics the broker may send as a number of two bytes; 0 is none, and none for what is published either.
    /// MQTT 5.
    #[serde(default = "topic_aliases_default")]
    pub topic_aliases: u16,
    /// How long the broker keeps what is published for listeners that are away; for ever by default. MQTT 5.
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("format" = "time"))]
    pub message_expiry: Option<Duration>,
}

/// Why a connector to a broker could not be started. A broker that is away is no reason: it is
/// tried for ever.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// A setting that cannot work.
    #[error("{name}: {reason}")]
    Settings {
        /// The connector's name.
        name: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// The operating system gave no thread or socket.
    #[error(
        "{name}: cannot start its thread: {error}; raise the limit of threads and open files (ulimit -u, ulimit -n)"
    )]
    Thread {
        /// The connector's name.
        name: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// What it keeps on disk cannot be used.
    #[error("{name}: {error}")]
    Journal {
        /// The connector's name.
        name: String,
        /// Why, and what to do.
        error: JournalError,
    },
    /// What it remembers of its session cannot be used.
    #[error("{name}: {error}")]
    Session {
        /// The connector's name.
        name: String,
        /// Why, and what to do.
        error: SessionError,
    },
    /// The broker inside the process did not come up.
    #[error("the embedded broker did not start: {reason}; check that TCP ports on 127.0.0.1 may be opened")]
    Embedded {
        /// What went wrong.
        reason: String,
    },
}

impl MqttSettings {
    /// The settings for a broker at `url`, everything else by default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            version: Version::default(),
            ca: None,
            certificate: None,
            key: None,
            client_id: None,
            user: None,
            password: None,
            keep_alive: keep_alive_default(),
            qos: qos_default(),
            max_payload: max_payload_default(),
            queue: queue_default(),
            journal: JournalSettings::default(),
            session_expiry: None,
            receive_maximum: None,
            topic_aliases: topic_aliases_default(),
            message_expiry: None,
        }
    }

    /// What the broker knows the client by, where the caller would choose `default`.
    pub(crate) fn client_id<'a>(&'a self, default: &'a str) -> &'a str {
        self.client_id.as_deref().unwrap_or(default)
    }

    /// Says what cannot work, and what to write instead. Makes no connection.
    pub fn check(&self) -> Result<(), String> {
        self.address()?;
        let has_tls = self.ca.is_some() || self.certificate.is_some() || self.key.is_some();
        if has_tls && !self.is_secure() {
            return Err(
                "`ca`, `certificate` and `key` are for TLS; write mqtts://host or wss://host/path".into()
            );
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err("a certificate is shown with its key; write both `certificate` and `key`".into());
        }
        if self.qos > 2 {
            return Err(format!(
                "qos {} is not offered; use 0 (at most once), 1 (at least once) or 2 (exactly once)",
                self.qos
            ));
        }
        self.check_of_version()?;
        let seconds = self.keep_alive.as_secs();
        if !(1..=u64::from(u16::MAX)).contains(&seconds) || self.keep_alive.subsec_nanos() != 0 {
            return Err(
                "keep_alive is counted in whole seconds, from 1s to 65535s; write for example 30s".into()
            );
        }
        if self.max_payload.as_u64() == 0 || self.queue.as_u64() == 0 {
            return Err("max_payload and queue must be more than 0; write for example 1MB and 16MB".into());
        }
        if self.password.is_some() && self.user.is_none() {
            return Err("a password without a user cannot be sent; add `user`".into());
        }
        self.journal.check()
    }

    /// What only MQTT 5 has.
    fn check_of_version(&self) -> Result<(), String> {
        let spans = [("session_expiry", self.session_expiry), ("message_expiry", self.message_expiry)];
        let asked = spans.into_iter().find_map(|(key, span)| span.map(|_| key));
        let asked = asked.or(self.receive_maximum.map(|_| "receive_maximum"));
        if let (Version::V3, Some(key)) = (self.version, asked) {
            return Err(format!("{key} is of MQTT 5; write version: 5 beside it"));
        }
        for (key, span) in spans {
            let in_range = |span: Duration| (1..u64::from(u32::MAX)).contains(&span.as_secs());
            if span.is_some_and(|span| !in_range(span) || span.subsec_nanos() != 0) {
                return Err(format!(
                    "{key} is counted in whole seconds, from 1s to 136years; write for example 7days"
                ));
            }
        }
        match self.receive_maximum {
            Some(0) => Err("receive_maximum is at least 1; write for example 1000, or leave it out".into()),
            _ => Ok(()),
        }
    }

    fn url(&self) -> Result<Url, String> {
        // The text itself is not repeated in messages: it may hold a password that does not belong there.
        Url::parse(&self.url).map_err(|error| {
            format!("the url cannot be read ({error}); write mqtt://host or mqtt://host:port")
        })
    }

    /// Host and port.
    pub(crate) fn address(&self) -> Result<(String, u16), String> {
        let url = self.url()?;
        let Some((scheme, own)) = SCHEMES.into_iter().find(|(scheme, _)| *scheme == url.scheme()) else {
            return Err(format!("{}:// is not MQTT; write mqtt://host or mqtt://host:port", url.scheme()));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the url holds a user or password; write them as `user` and `password`".into());
        }
        let is_web = matches!(scheme, WEB | SECURE_WEB);
        if !is_web && !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("the url has more than host and port; topics are given apart from it".into());
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or("the url names no host; write mqtt://host or mqtt://host:port")?;
        match url.port() {
            Some(0) => Err("port 0 cannot be connected to; MQTT's own is 1883".into()),
            port => Ok((host.trim_matches(['[', ']']).to_owned(), port.unwrap_or(own))),
        }
    }

    /// Whether the connection is by TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.url().is_ok_and(|url| matches!(url.scheme(), SECURE | SECURE_WEB))
    }

    /// Whether the broker is behind websockets.
    pub(crate) fn is_web(&self) -> bool {
        self.url().is_ok_and(|url| matches!(url.scheme(), WEB | SECURE_WEB))
    }
}

/// Whole seconds of a span that was checked.
fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX - 1)
}

fn keep_alive_default() -> Duration {
    Duration::from_secs(30)
}

fn topic_aliases_default() -> u16 {
    64
}

fn qos_default() -> u8 {
    1
}

fn max_payload_default() -> ByteSize {
    ByteSize::mb(1)
}

fn queue_default() -> ByteSize {
    ByteSize::mb(16)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod settings_tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, u16), &str>) {
        let settings: MqttSettings = serde_json::from_str(text).expect("settings that can be read");
        match (settings.check().and_then(|()| settings.address()), expected) {
            (Ok((host, port)), Ok(address)) => assert_eq!((host.as_str(), port), address, "{text}"),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{text}: {reason}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn settings_are_checked_with_a_hint() {
        check(r#"{"url":"mqtt://broker"}"#, Ok(("broker", 1883)));
        check(r#"{"url":"mqtt://127.0.0.1:2883/"}"#, Ok(("127.0.0.1", 2883)));
        check(r#"{"url":"mqtt://[::1]:2883"}"#, Ok(("::1", 2883)));
        check(
            r#"{"url":"mqtt://h","qos":0,"user":"u","password":"p","keep_alive":"5s","queue":"1MB"}"#,
            Ok(("h", 1883)),
        );
        check(r#"{"url":"mqtts://broker"}"#, Ok(("broker", 8883)));
        for url in ["mqtts://broker", "MQTTS://broker", " mqtts://broker"] {
            assert!(
                MqttSettings::new(url).is_secure(),
                "what has the port of TLS is spoken to by TLS: {url:?}"
            );
        }
        check(r#"{"url":"mqtts://broker:2883","ca":"a","certificate":"b","key":"c"}"#, Ok(("broker", 2883)));
        check(r#"{"url":"mqtt://broker","ca":"a"}"#, Err("write mqtts://host"));
        check(r#"{"url":"mqtts://broker","certificate":"b"}"#, Err("write both `certificate` and `key`"));
        check(r#"{"url":"ws://broker"}"#, Ok(("broker", 80)));
        check(r#"{"url":"wss://broker:8443/mqtt","ca":"a"}"#, Ok(("broker", 8443)));
        check(r#"{"url":"ws://broker/mqtt?x=1"}"#, Err("more than host and port"));
        check(r#"{"url":"ws://broker/mqtt","ca":"a"}"#, Err("write mqtts://host or wss://host/path"));
        check(r#"{"url":"http://broker"}"#, Err("write mqtt://host"));
        check(r#"{"url":"broker"}"#, Err("write mqtt://host"));
        check(r#"{"url":"broker:1883"}"#, Err("write mqtt://host"));
        check(r#"{"url":"mqtt://"}"#, Err("names no host"));
        check(r#"{"url":"mqtt://broker:0"}"#, Err("port 0"));
        check(r#"{"url":"mqtt://broker:99999"}"#, Err("cannot be read"));
        check(r#"{"url":"mqtt://u:p@broker"}"#, Err("as `user` and `password`"));
        check(r#"{"url":"mqtt://broker/topic"}"#, Err("topics are given apart"));
        check(r#"{"url":"mqtt://broker","qos":2}"#, Ok(("broker", 1883)));
        check(r#"{"url":"mqtt://broker","qos":3}"#, Err("use 0"));
        check(
            r#"{"url":"mqtt://h","version":5,"session_expiry":"7days","receive_maximum":100,"message_expiry":"1h"}"#,
            Ok(("h", 1883)),
        );
        check(
            r#"{"url":"mqtt://h","session_expiry":"1h"}"#,
            Err("session_expiry is of MQTT 5; write version: 5"),
        );
        check(
            r#"{"url":"mqtt://h","receive_maximum":9}"#,
            Err("receive_maximum is of MQTT 5; write version: 5"),
        );
        check(r#"{"url":"mqtt://h","version":5,"receive_maximum":0}"#, Err("at least 1"));
        check(r#"{"url":"mqtt://h","version":5,"message_expiry":"1500ms"}"#, Err("whole seconds"));
        check(r#"{"url":"mqtt://h","version":5,"session_expiry":"0s"}"#, Err("whole seconds"));
        check(r#"{"url":"mqtt://broker","keep_alive":"100ms"}"#, Err("whole seconds"));
        check(r#"{"url":"mqtt://broker","password":"p"}"#, Err("add `user`"));
        check(r#"{"url":"mqtt://broker","queue":"0B"}"#, Err("more than 0"));
        check(r#"{"url":"mqtt://broker","journal":{"size":"2MB"}}"#, Ok(("broker", 1883)));
        check(r#"{"url":"mqtt://broker","journal":{"size":"1kB"}}"#, Err("write for example {size: 1GB"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let settings =
            MqttSettings { password: Some(Secret::new("hunter2")), ..MqttSettings::new("mqtt://h") };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}

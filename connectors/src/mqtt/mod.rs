//! MQTT 3.1.1 over TCP or TLS. The client library stays behind this module.
//!
//! `source` takes messages from a broker and loses none, `sink` publishes to one, `embedded` is a small
//! broker inside the process for the demo and for tests.

mod client;
pub mod embedded;
mod repeats;
mod session;
pub mod sink;
mod socket;
pub mod source;
mod tls;
mod window;

pub use session::SessionError;

use crate::journal::{JournalError, JournalSettings};

use crate::secret::Secret;
use bytesize::ByteSize;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// The scheme of an url that asks for TLS.
const SECURE: &str = "mqtts";

/// How to reach a broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSettings {
    /// Where the broker is: `mqtt://host` or `mqtt://host:port`, or `mqtts://` for TLS; the port is 1883 by default, of
    /// TLS 8883.
    pub url: String,
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
    pub keep_alive: Duration,
    /// Quality of service: 0 at most once, 1 at least once.
    #[serde(default = "qos_default")]
    pub qos: u8,
    /// The longest payload that is taken; a longer one is handed on cut, marked as oversize.
    #[serde(default = "max_payload_default")]
    pub max_payload: ByteSize,
    /// How much may wait in memory: of a source in each lane, of a sink in all.
    #[serde(default = "queue_default")]
    pub queue: ByteSize,
    /// How much a source keeps on disk until a checkpoint has it: `{size: 1GB, file: 16MB}`.
    #[serde(default)]
    pub journal: JournalSettings,
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
            return Err("`ca`, `certificate` and `key` are for TLS; write mqtts://host".into());
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err("a certificate is shown with its key; write both `certificate` and `key`".into());
        }
        if self.qos > 1 {
            return Err(format!(
                "qos {} is not offered; use 0 (at most once) or 1 (at least once)",
                self.qos
            ));
        }
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

    fn url(&self) -> Result<Url, String> {
        // The text itself is not repeated in messages: it may hold a password that does not belong there.
        Url::parse(&self.url).map_err(|error| {
            format!("the url cannot be read ({error}); write mqtt://host or mqtt://host:port")
        })
    }

    /// Host and port.
    pub(crate) fn address(&self) -> Result<(String, u16), String> {
        let url = self.url()?;
        match url.scheme() {
            "mqtt" | SECURE => {}
            "ws" | "wss" => {
                return Err(format!("{}:// comes later; use mqtt:// or mqtts://", url.scheme()));
            }
            other => {
                return Err(format!("{other}:// is not MQTT; write mqtt://host or mqtt://host:port"));
            }
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the url holds a user or password; write them as `user` and `password`".into());
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("the url has more than host and port; topics are given apart from it".into());
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or("the url names no host; write mqtt://host or mqtt://host:port")?;
        match url.port() {
            Some(0) => Err("port 0 cannot be connected to; MQTT's own is 1883".into()),
            port => {
                let own = if url.scheme() == SECURE { 8883 } else { 1883 };
                Ok((host.trim_matches(['[', ']']).to_owned(), port.unwrap_or(own)))
            }
        }
    }

    /// Whether the connection is by TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.url().is_ok_and(|url| url.scheme() == SECURE)
    }
}

fn keep_alive_default() -> Duration {
    Duration::from_secs(30)
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
        check(r#"{"url":"ws://broker"}"#, Err("ws:// comes later; use mqtt://"));
        check(r#"{"url":"http://broker"}"#, Err("write mqtt://host"));
        check(r#"{"url":"broker"}"#, Err("write mqtt://host"));
        check(r#"{"url":"broker:1883"}"#, Err("write mqtt://host"));
        check(r#"{"url":"mqtt://"}"#, Err("names no host"));
        check(r#"{"url":"mqtt://broker:0"}"#, Err("port 0"));
        check(r#"{"url":"mqtt://broker:99999"}"#, Err("cannot be read"));
        check(r#"{"url":"mqtt://u:p@broker"}"#, Err("as `user` and `password`"));
        check(r#"{"url":"mqtt://broker/topic"}"#, Err("topics are given apart"));
        check(r#"{"url":"mqtt://broker","qos":2}"#, Err("use 0"));
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

//! TLS between a client and its broker (`mqtts://`): whom the client trusts, and who it says it is.

use std::io;
use std::path::Path;

use native_tls::{Certificate, Identity};
use tokio::net::TcpStream;
use tokio_native_tls::{TlsConnector, TlsStream};

use super::MqttSettings;

/// What is most likely where a broker lets go of a handshake without a word.
const NO_TLS: &str = "the broker may not speak TLS on this port; write its TLS port, often 8883";

/// How a connection is secured.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    /// The name that the broker's certificate must be for.
    host: String,
}

impl Tls {
    /// Reads the certificates of the settings, which were checked; none where the url is not `mqtts://`. What cannot
    /// be read is said, with the file.
    pub(super) fn of(settings: &MqttSettings) -> Result<Option<Self>, String> {
        if !settings.is_secure() {
            return Ok(None);
        }
        let (host, _) = settings.address()?;
        let mut builder = native_tls::TlsConnector::builder();
        if let Some(path) = &settings.ca {
            let certificates = Certificate::stack_from_pem(&read(path, "ca")?);
            let certificates = certificates.map_err(|error| not_pem(path, "ca", &error))?;
            if certificates.is_empty() {
                return Err(not_pem(path, "ca", "there is no certificate in it"));
            }
            // Whoever names a CA trusts that one, and not all that the system trusts.
            builder.disable_built_in_roots(true);
            certificates.into_iter().for_each(|one| _ = builder.add_root_certificate(one));
        }
        if let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) {
            let identity = Identity::from_pkcs8(&read(certificate, "certificate")?, &read(key, "key")?);
            builder.identity(identity.map_err(|error| {
                let (certificate, key) = (certificate.display(), key.display());
                format!(
                    "certificate {certificate} and key {key} are no pair ({error}); write PEM files, the key as PKCS #8 \
                     (openssl pkcs8 -topk8 -nocrypt)"
                )
            })?);
        }
        let connector = builder.build().map_err(|error| format!("TLS is not to be had: {error}"))?;
        Ok(Some(Self { connector: connector.into(), host }))
    }

    /// Shakes hands over a connection that stands.
    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connected = self.connector.connect(&self.host, stream).await;
        connected.map_err(|error| io::Error::other(explain(&error.to_string())))
    }
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| {
        format!("{key}: cannot read {}: {error}; name a file that the engine may read", path.display())
    };
    std::fs::read(path).map_err(unreadable)
}

fn not_pem(path: &Path, key: &str, reason: impl std::fmt::Display) -> String {
    format!("{key}: {} is no PEM file of certificates ({reason})", path.display())
}

/// What went wrong in a handshake, and what to look at. The library's words end with the reason in parentheses.
pub(super) fn explain(error: &str) -> String {
    let help = [
        ("expired", "have the broker's certificate renewed, or look at this machine's clock"),
        ("not yet valid", "look at this machine's clock, and at the broker's certificate"),
        ("mismatch", "the broker's certificate is for another name; write that name in `url`"),
        ("self-signed", "name the CA of the broker's certificate under `ca`"),
        ("unable to get", "name the CA of the broker's certificate under `ca`"),
        ("certificate required", "the broker asks for a certificate; write `certificate` and `key`"),
        ("handshake failure", "the broker may ask for a certificate; write `certificate` and `key`"),
        ("unknown ca", "the broker does not trust our `certificate`; have it signed by its CA"),
        ("wrong version number", NO_TLS),
        ("reset by peer", NO_TLS),
        ("unexpected EOF", NO_TLS),
    ];
    let known = help.into_iter().find(|(word, _)| error.contains(word));
    match known {
        Some((_, help)) => format!("TLS: {error}; {help}"),
        None => format!("TLS: {error}"),
    }
}

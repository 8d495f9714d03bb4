//! A certificate for a broker's address, made by Java's own tool, and the settings with it.

use std::path::PathBuf;
use std::process::Command;

use super::Kafka;

/// The stores stand in a folder that is removed with the broker, so their password keeps nothing.
const PASSWORD: &str = "of-no-use";

impl Kafka {
    /// The broker's certificate, which is what clients are to trust.
    pub fn certificate(&self) -> PathBuf {
        self.path("certificate.pem")
    }

    pub(super) fn make_certificate(&self) {
        let (keys, trusted, certificate) =
            (self.path("keys.p12"), self.path("trusted.p12"), self.certificate());
        let store = |path: &PathBuf| ["-keystore".to_owned(), path.display().to_string()];
        let file = certificate.display().to_string();
        let name = ["-alias", "broker"];
        let key = ["-keyalg", "EC", "-validity", "2", "-dname", "CN=broker", "-ext", "san=ip:127.0.0.1"];
        keytool(&["-genkeypair"], &[&name[..], &key].concat(), &store(&keys));
        keytool(&["-exportcert", "-rfc"], &[&name[..], &["-file", &file]].concat(), &store(&keys));
        keytool(&["-importcert", "-noprompt"], &[&name[..], &["-file", &file]].concat(), &store(&trusted));
    }

    /// The broker is a client of itself, so it has to trust itself too.
    pub(super) fn tls_settings(&self) -> String {
        let (keys, trusted) = (self.path("keys.p12"), self.path("trusted.p12"));
        format!(
            "ssl.keystore.type=PKCS12\nssl.keystore.location={}\nssl.keystore.password={PASSWORD}\n\
             ssl.key.password={PASSWORD}\nssl.truststore.type=PKCS12\nssl.truststore.location={}\n\
             ssl.truststore.password={PASSWORD}\n",
            keys.display(),
            trusted.display()
        )
    }
}

fn keytool(what: &[&str], how: &[&str], store: &[String]) {
    let mut command = Command::new("keytool");
    command.args(what).args(how).args(store).args(["-storetype", "PKCS12", "-storepass", PASSWORD]);
    let output = command.output().expect("keytool comes with Java");
    assert!(output.status.success(), "keytool: {}", String::from_utf8_lossy(&output.stdout));
}

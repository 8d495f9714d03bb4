//! Certificates for brokers and clients on TLS, made anew for each test.

use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// One that signs certificates, and is trusted or not.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    /// A broker on 127.0.0.1.
    Loopback,
    /// A broker with this name.
    Name(&'static str),
    /// A broker on 127.0.0.1 whose certificate has expired.
    Expired,
    /// A client.
    Client,
}

const DAY: i64 = 86_400;

impl Authority {
    /// A new one, which nobody knows yet.
    pub fn new(name: &str) -> Self {
        let key = new_key();
        let certificate = build(name, &key, None, &|_| {}, 365);
        Self { certificate, key }
    }

    /// Writes its certificate.
    pub fn write(&self, path: &Path) {
        write(path, &self.certificate.to_pem().expect("it is a certificate"));
    }

    /// Signs a certificate; writes it, and its key.
    pub fn issue(&self, of: Of, certificate: &Path, key: &Path) {
        let own = new_key();
        let name = |alternative: &mut SubjectAlternativeName| match of {
            Of::Loopback | Of::Expired => _ = alternative.ip("127.0.0.1"),
            Of::Name(name) => _ = alternative.dns(name),
            Of::Client => _ = alternative.dns("client"),
        };
        let days = if matches!(of, Of::Expired) { -1 } else { 365 };
        let made = build("twin", &own, Some(self), &name, days);
        write(certificate, &made.to_pem().expect("it is a certificate"));
        write(key, &own.private_key_to_pem_pkcs8().expect("it is a key"));
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("the folder is ours");
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("the curve is known");
    PKey::from_ec_key(EcKey::generate(&group).expect("keys can be made")).expect("it is a key")
}

/// A certificate that is good from ten days ago on for so many days from now; signed by itself where nobody signs it.
fn build(
    name: &str,
    key: &PKey<Private>,
    signer: Option<&Authority>,
    alternative: &dyn Fn(&mut SubjectAlternativeName),
    days: i64,
) -> X509 {
    let made = || -> Result<X509, openssl::error::ErrorStack> {
        let mut subject = X509NameBuilder::new()?;
        subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
        let subject = subject.build();
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs() as i64);
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        let serial = openssl::bn::BigNum::from_u32(now as u32)?.to_asn1_integer()?;
        builder.set_serial_number(&serial)?;
        builder.set_subject_name(&subject)?;
        builder.set_issuer_name(signer.map_or(&*subject, |signer| signer.certificate.subject_name()))?;
        builder.set_pubkey(key)?;
        builder.set_not_before(&*Asn1Time::from_unix(now - 10 * DAY)?)?;
        builder.set_not_after(&*Asn1Time::from_unix(now + days * DAY)?)?;
        match signer {
            None => builder.append_extension(BasicConstraints::new().critical().ca().build()?)?,
            Some(_) => {
                let mut names = SubjectAlternativeName::new();
                alternative(&mut names);
                let names = names.build(&builder.x509v3_context(None, None))?;
                builder.append_extension(names)?;
            }
        }
        builder.sign(signer.map_or(key, |signer| &signer.key), MessageDigest::sha256())?;
        Ok(builder.build())
    };
    made().expect("a certificate can be made")
}

//! What a certificate says.

use std::{fmt::Write, net::IpAddr};

use echoic_core::event::SUBJECT_BYTES_MAX;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// Names of a certificate that are kept.
const NAMES_MAX: usize = 100;

/// What a certificate says. The texts are its issuer's: escape them where they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Its subject, `CN=localhost`.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// The host names and addresses that it is for; at most 100 of them.
    pub names: Vec<String>,
    /// It is valid from this time on, in seconds since the Unix epoch.
    pub not_before: i64,
    /// It is valid until this time.
    pub not_after: i64,
    /// Whether it may issue certificates.
    pub is_ca: bool,
    /// SHA-256 of the certificate (DER), 64 hexadecimal digits.
    pub sha256: String,
}

impl CertificateInfo {
    /// Reads a certificate in DER; `None` if it is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let names = alternative.map(|names| &names.value.general_names[..]);
        let names = names.unwrap_or_default().iter().filter_map(name);
        let validity = certificate.validity();
        Some(Self {
            subject: text(certificate.subject()),
            issuer: text(certificate.issuer()),
            names: names.take(NAMES_MAX).collect(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            is_ca: certificate.is_ca(),
            sha256: sha256(der),
        })
    }

    /// Reads the first certificate of a PEM text; `None` if there is none.
    pub fn read_pem(text: &[u8]) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(text).ok()?;
        Self::read(&der)
    }

    /// Whether it issued itself, by its names.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}

/// Returns the SHA-256 of a certificate.
pub(super) fn sha256(der: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(der) {
        let _ = write!(text, "{byte:02x}"); // a string takes it
    }
    text
}

/// Formats a time in seconds since the Unix epoch: `2026-11-30 09:15:00 UTC`.
pub(super) fn date(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => "a time out of range".to_owned(),
    }
}

/// Formats a duration in seconds roughly: `3 days`.
pub(super) fn roughly(seconds: i64) -> String {
    let (n, unit) = match seconds.unsigned_abs() {
        n @ 0..120 => (n, "second"),
        n @ 120..7200 => (n / 60, "minute"),
        n @ 7200..172_800 => (n / 3600, "hour"),
        n => (n / 86_400, "day"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

/// Formats a distinguished name, cut to its first bytes.
fn text(name: &X509Name<'_>) -> String {
    let mut text = name.to_string();
    text.truncate(text.floor_char_boundary(SUBJECT_BYTES_MAX));
    text
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let ip = match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
            };
            ip.map(|ip| ip.to_string())
        }
        _ => None,
    }
}

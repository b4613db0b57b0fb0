//! What handshakes of TLS told, as text and as JSON.

use echoic_client::probe::{TlsAnswer, TlsFailure};
use echoic_core::{escape, event::TlsInfo};
use echoic_wire::{CertificateInfo, TlsErrorKind, TlsReport};
use jiff::Timestamp;
use serde::Serialize;

use super::json::ms;
use crate::term::{DIMMED, OutputError, Payload};
use echoic_client::probe::Report;

/// Names of a certificate that are printed.
const NAMES_MAX: usize = 8;

/// Returns the result of a handshake in a word or two.
pub(super) fn result(answer: &TlsAnswer) -> &'static str {
    match &answer.failure {
        Some(TlsFailure::TimedOut) => "no answer",
        Some(TlsFailure::Failed(_)) => "failed",
        None if answer.is_trusted() => "trusted",
        None => "not trusted",
    }
}

/// Writes what was agreed on, and each certificate, its own first.
pub(super) fn write(payload: &mut Payload, report: &Report) -> Result<(), OutputError> {
    for answer in &report.tls {
        let Some(told) = &answer.report else {
            continue;
        };
        payload.line(format_args!("   TLS     {}", agreed(told)))?;
        for (number, certificate) in (1..).zip(&told.chain) {
            let CertificateInfo {
                subject, issuer, ..
            } = certificate;
            payload.line(format_args!(
                "   cert {number}  {}",
                escaped(&format!(
                    "{subject}, for {}, issued by {issuer}",
                    names(certificate)
                ))
            ))?;
            payload.line(format_args!(
                "           valid {} to {}, {}",
                day(certificate.not_before),
                day(certificate.not_after),
                left(answer, certificate),
            ))?;
            payload.line(format_args!(
                "           {DIMMED}SHA-256 {}{DIMMED:#}",
                certificate.sha256
            ))?;
        }
    }
    Ok(())
}

/// `1.3, TLS13_AES_256_GCM_SHA384, key exchange X25519MLKEM768, ALPN h2, server name localhost`
fn agreed(told: &TlsReport) -> String {
    let TlsInfo {
        version,
        cipher,
        alpn,
        sni,
        ..
    } = &*told.info;
    let or = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
    let wants = if told.wants_certificate {
        ", asks for a certificate of the client"
    } else {
        ""
    };
    escaped(&format!(
        "{}, {}, key exchange {}, ALPN {}, server name {}{wants}",
        or(version, "?"),
        or(cipher, "?"),
        or(&told.group, "?"),
        or(alpn, "none"),
        or(sni, "none"),
    ))
}

fn names(certificate: &CertificateInfo) -> String {
    let names = &certificate.names;
    match names.len() {
        0 if certificate.is_ca => "issuing (CA)".to_owned(),
        0 => "no name".to_owned(),
        n if n > NAMES_MAX => format!(
            "{} and {} more",
            names[..NAMES_MAX].join(", "),
            n - NAMES_MAX
        ),
        _ => names.join(", "),
    }
}

/// `61 days left`
fn left(answer: &TlsAnswer, certificate: &CertificateInfo) -> String {
    let plural = |n: i64| if n == 1 { "" } else { "s" };
    match answer.days_until(certificate.not_after) {
        days if days < 0 => format!("expired {} day{} ago", -days, plural(-days)),
        days => format!("{days} day{} left", plural(days)),
    }
}

fn day(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(
        |_| "a time out of range".to_owned(),
        |time| time.strftime("%Y-%m-%d").to_string(),
    )
}

fn escaped(text: &str) -> String {
    escape::text(text.as_bytes()).to_string()
}

/// A handshake as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Handshake<'a> {
    address: String,
    started_ms: f64,
    ended_ms: f64,
    trusted: bool,
    /// Why not: a word, and a sentence.
    reason: Option<&'static str>,
    why: Option<String>,
    version: Option<&'a str>,
    cipher: Option<&'a str>,
    group: Option<&'a str>,
    alpn: Option<&'a str>,
    sni: Option<&'a str>,
    wants_certificate: Option<bool>,
    trust: Option<&'a str>,
    days_left: Option<i64>,
    chain: Vec<Certificate<'a>>,
}

#[derive(Debug, Serialize)]
struct Certificate<'a> {
    subject: &'a str,
    issuer: &'a str,
    names: &'a [String],
    not_before: String,
    not_after: String,
    days_left: i64,
    ca: bool,
    sha256: &'a str,
}

impl<'a> Handshake<'a> {
    pub(super) fn of(answer: &'a TlsAnswer) -> Self {
        let told = answer.report.as_ref();
        let info = told.map(|told| &*told.info);
        let chain = told.map(|told| &told.chain[..]).unwrap_or_default();
        let chain: Vec<_> = chain.iter().map(|one| certificate(answer, one)).collect();
        let unverified = told.and_then(|told| told.unverified.as_ref());
        let (reason, why) = match &answer.failure {
            Some(TlsFailure::TimedOut) => (Some("timed-out"), None),
            Some(TlsFailure::Failed(error)) => (
                Some(answer.error().map_or("other", |error| word(error.kind()))),
                Some(error.to_string()),
            ),
            None => (
                unverified.map(|error| word(error.kind())),
                unverified.map(ToString::to_string),
            ),
        };
        Self {
            address: answer.address.to_string(),
            started_ms: ms(answer.started),
            ended_ms: ms(answer.ended),
            trusted: answer.is_trusted(),
            reason,
            why,
            version: info.and_then(|info| info.version.as_deref()),
            cipher: info.and_then(|info| info.cipher.as_deref()),
            group: told.and_then(|told| told.group.as_deref()),
            alpn: info.and_then(|info| info.alpn.as_deref()),
            sni: info.and_then(|info| info.sni.as_deref()),
            wants_certificate: told.map(|told| told.wants_certificate),
            trust: told.map(|told| &*told.trust),
            days_left: chain.iter().map(|certificate| certificate.days_left).min(),
            chain,
        }
    }
}

fn certificate<'a>(answer: &TlsAnswer, info: &'a CertificateInfo) -> Certificate<'a> {
    let time = |seconds| {
        Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
    };
    Certificate {
        subject: &info.subject,
        issuer: &info.issuer,
        names: &info.names,
        not_before: time(info.not_before),
        not_after: time(info.not_after),
        days_left: answer.days_until(info.not_after),
        ca: info.is_ca,
        sha256: &info.sha256,
    }
}

fn word(kind: TlsErrorKind) -> &'static str {
    match kind {
        TlsErrorKind::Expired => "expired",
        TlsErrorKind::NotYetValid => "not-yet-valid",
        TlsErrorKind::WrongName => "wrong-name",
        TlsErrorKind::UnknownIssuer => "unknown-issuer",
        TlsErrorKind::Certificate => "certificate",
        TlsErrorKind::Protocol => "protocol",
        TlsErrorKind::Alpn => "alpn",
        TlsErrorKind::ClientCertificateWanted => "client-certificate",
        TlsErrorKind::Refused => "refused",
        TlsErrorKind::NotTls => "not-tls",
        TlsErrorKind::Closed => "closed",
        TlsErrorKind::Other => "other",
    }
}

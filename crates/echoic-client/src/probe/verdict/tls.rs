//! Interprets handshakes of TLS.

use echoic_core::escape;
use echoic_wire::{TlsError, TlsErrorKind, TlsReport};

use super::state::{State, show};
use crate::probe::{
    report::{Report, figure},
    tls::{TlsAnswer, TlsFailure},
};

/// A certificate is said to end soon this many days before.
const SOON_DAYS: i64 = 14;

const DAY_SECONDS: i64 = 86_400;

impl TlsAnswer {
    /// Returns the whole days until `not_after`; negative once it has passed.
    pub fn days_until(&self, not_after: i64) -> i64 {
        not_after.saturating_sub(self.at).div_euclid(DAY_SECONDS)
    }
}

/// Explains the handshakes: the first that failed, else that no client would object.
pub(super) fn tls(report: &Report) -> Option<(State, String)> {
    let failed = report.tls.iter().find(|answer| !answer.is_trusted());
    let answer = failed.or_else(|| report.tls.first())?;
    let at = show(&answer.address);
    Some(match (&answer.failure, &answer.report) {
        (None, None) => return None,
        (None, Some(told)) => match &told.unverified {
            Some(error) => (State::Untrusted, untrusted(&at, told, error)),
            None => (State::Trusted, trusted(&at, answer, told)),
        },
        (Some(TlsFailure::TimedOut), _) => (
            State::TimedOut,
            format!(
                "timed out: {at} accepts connections, but did not finish the TLS handshake within {}; it may not speak TLS",
                figure(report.timeout)
            ),
        ),
        (Some(TlsFailure::Failed(error)), _) => {
            let remedy = TlsError::of(error).and_then(|error| remedy(error.kind(), None));
            let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
            let why = escape::text(error.to_string().as_bytes()).to_string();
            (
                State::HandshakeFailed,
                format!("handshake failed: {at} accepts connections, but {why}{remedy}"),
            )
        }
    })
}

fn trusted(at: &str, answer: &TlsAnswer, told: &TlsReport) -> String {
    let version = told.info.version.as_deref().unwrap_or("?");
    let until = told.chain.iter().map(|certificate| certificate.not_after);
    let days = until.min().map_or(0, |until| answer.days_until(until));
    let soon = if days < SOON_DAYS {
        "; renew it soon"
    } else {
        ""
    };
    let wants = if told.wants_certificate {
        "; it asks for a certificate of the client, and does without"
    } else {
        ""
    };
    let trust = escape::text(told.trust.as_bytes());
    format!(
        "trusted: {at} speaks TLS {version}, its certificate is verified by {trust}, and valid for {days} day{} more{soon}{wants}",
        if days == 1 { "" } else { "s" }
    )
}

fn untrusted(at: &str, told: &TlsReport, error: &TlsError) -> String {
    let version = told.info.version.as_deref().unwrap_or("?");
    let why = escape::text(error.to_string().as_bytes()).to_string();
    let remedy = remedy(error.kind(), Some(told));
    let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
    format!("not trusted: {at} speaks TLS {version}, but {why}{remedy}")
}

/// Returns what to do.
fn remedy(kind: TlsErrorKind, told: Option<&TlsReport>) -> Option<&'static str> {
    let is_alone =
        told.is_some_and(|told| told.chain.len() == 1 && !told.chain[0].is_self_issued());
    Some(match kind {
        TlsErrorKind::Expired => "renew it at the server",
        TlsErrorKind::NotYetValid => "check the clocks of both machines",
        TlsErrorKind::WrongName => "use one of these names, or name one with --servername",
        TlsErrorKind::UnknownIssuer if is_alone => {
            "the server sent no certificate of an issuer, and may have to; or name one with --ca FILE"
        }
        TlsErrorKind::UnknownIssuer => "name its issuer's certificate, or its own, with --ca FILE",
        TlsErrorKind::Protocol => "echoic speaks TLS 1.2 and 1.3 with their cipher suites of today",
        TlsErrorKind::Alpn => "name a protocol of the server with --alpn, or none",
        TlsErrorKind::ClientCertificateWanted => {
            "name one that it accepts with --client-cert FILE --client-key FILE"
        }
        TlsErrorKind::NotTls => "try tcp://, or check the port",
        TlsErrorKind::Certificate
        | TlsErrorKind::Refused
        | TlsErrorKind::Closed
        | TlsErrorKind::Other => return None,
    })
}

//! Why a handshake failed, in words, and what to do.

use std::{error::Error, fmt, io, sync::Arc};

use echoic_core::event::TlsInfo;
use rustls::{AlertDescription, CertificateError, ContentType, HandshakeType, InvalidMessage};

use super::certificate::{CertificateInfo, date, roughly};

/// Names of a certificate that a message lists.
const NAMES_TOLD_MAX: usize = 8;

/// Why a peer does not speak TLS.
pub(super) const NO_RECORD: &str = "the peer does not speak TLS: its first bytes are no TLS record";

/// A failure of TLS: in the handshake, or of the peer's records after it. It is the source of an [`io::Error`].
#[derive(Clone, Debug)]
pub struct TlsError {
    kind: TlsErrorKind,
    why: String,
    info: Arc<TlsInfo>,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsErrorKind {
    /// The peer's certificate has expired.
    Expired,
    /// The peer's certificate is not valid yet.
    NotYetValid,
    /// The server's certificate is for other names.
    WrongName,
    /// The peer's certificate is signed by nobody who is trusted.
    UnknownIssuer,
    /// Another flaw of the peer's certificate.
    Certificate,
    /// The two have no version of TLS or cipher suite in common.
    Protocol,
    /// The two have no application protocol (ALPN) in common.
    Alpn,
    /// The server wants a certificate of the client.
    ClientCertificateWanted,
    /// The peer refuses our certificate, or the handshake, by an alert.
    Refused,
    /// The peer does not speak TLS.
    NotTls,
    /// The peer ended or reset the connection during the handshake.
    Closed,
    /// Anything else.
    Other,
}

impl TlsError {
    pub(super) fn new(kind: TlsErrorKind, why: String, mut info: TlsInfo) -> Self {
        info.failure = Some(why.clone());
        Self {
            kind,
            why,
            info: Arc::new(info),
        }
    }

    /// Returns the failure of TLS that `error` is, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns what failed.
    pub fn kind(&self) -> TlsErrorKind {
        self.kind
    }

    /// Returns what was known of the connection, with the reason.
    pub fn info(&self) -> Arc<TlsInfo> {
        Arc::clone(&self.info)
    }

    /// Returns what to do about it, if that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self.kind {
            TlsErrorKind::Expired => "renew it at the server, or connect with --insecure",
            TlsErrorKind::NotYetValid => {
                "check the clocks of both machines, or connect with --insecure"
            }
            TlsErrorKind::WrongName => {
                "connect by one of these names, name one with --servername, or connect with --insecure"
            }
            TlsErrorKind::UnknownIssuer => {
                "name its issuer's certificate, or its own, with --ca FILE, or connect with --insecure"
            }
            TlsErrorKind::Certificate => "connect with --insecure to go on without verification",
            TlsErrorKind::Protocol => {
                "echoic speaks TLS 1.2 and 1.3 with their cipher suites of today"
            }
            TlsErrorKind::Alpn => "name a protocol of the server with --alpn, or none",
            TlsErrorKind::ClientCertificateWanted => {
                "name one that it accepts with --client-cert FILE --client-key FILE"
            }
            TlsErrorKind::NotTls => "try tcp://, or check the port",
            TlsErrorKind::Refused | TlsErrorKind::Closed | TlsErrorKind::Other => return None,
        })
    }

    /// Returns the error as one of a socket.
    pub(super) fn into_io(self, kind: io::ErrorKind) -> io::Error {
        io::Error::new(kind, self)
    }
}

impl Error for TlsError {}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Server,
    Client,
}

/// Returns the failure that an error of the handshake is at `our` end. `leaf` is the peer's certificate, if it came.
pub(super) fn of_handshake(
    our: End,
    error: &io::Error,
    leaf: Option<&CertificateInfo>,
    info: TlsInfo,
) -> TlsError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let (kind, why) = match inner {
        Some(error) => match of_rustls(our, error, leaf) {
            // What an echo service makes of our ClientHello, if it changes some of the bytes.
            (TlsErrorKind::Other, _)
                if our == End::Client
                    && leaf.is_none()
                    && matches!(error, rustls::Error::InvalidMessage(_)) =>
            {
                let why = "the peer does not speak TLS: its answer is no valid message of TLS";
                (TlsErrorKind::NotTls, why.to_owned())
            }
            told => told,
        },
        None if error.kind() == io::ErrorKind::UnexpectedEof => (
            TlsErrorKind::Closed,
            "the peer closed the connection during the TLS handshake".to_owned(),
        ),
        None => (
            TlsErrorKind::Closed,
            format!("the connection was lost during the TLS handshake: {error}"),
        ),
    };
    TlsError::new(kind, why, info)
}

/// Returns what failed, and why in words.
pub(super) fn of_rustls(
    our: End,
    error: &rustls::Error,
    leaf: Option<&CertificateInfo>,
) -> (TlsErrorKind, String) {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(error) => of_certificate(our, error, leaf),
        E::AlertReceived(alert) => of_alert(our, *alert),
        E::NoCertificatesPresented => (
            TlsErrorKind::ClientCertificateWanted,
            "the client sent no certificate, and ?client-ca= wants one".to_owned(),
        ),
        E::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge
            | InvalidMessage::InvalidEmptyPayload,
        ) => (TlsErrorKind::NotTls, NO_RECORD.to_owned()),
        // What an echo service makes of our first message.
        E::InappropriateMessage {
            got_type: ContentType::Handshake,
            ..
        }
        | E::InappropriateHandshakeMessage {
            got_type: HandshakeType::ClientHello,
            ..
        } if our == End::Client => (
            TlsErrorKind::NotTls,
            "the peer does not speak TLS: it sent our own ClientHello back".to_owned(),
        ),
        E::PeerIncompatible(why) => (
            TlsErrorKind::Protocol,
            format!("no version of TLS or no cipher suite in common ({why:?})"),
        ),
        E::NoApplicationProtocol => (
            TlsErrorKind::Alpn,
            "no application protocol (ALPN) in common".to_owned(),
        ),
        error => (TlsErrorKind::Other, format!("TLS failed: {error}")),
    }
}

fn of_certificate(
    our: End,
    error: &CertificateError,
    leaf: Option<&CertificateInfo>,
) -> (TlsErrorKind, String) {
    let whose = match our {
        End::Client => "the server's certificate",
        End::Server => "the client's certificate",
    };
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let (now, until) = (seconds(time.as_secs()), seconds(not_after.as_secs()));
            let since = roughly(now - until);
            let date = date(until);
            (
                TlsErrorKind::Expired,
                format!("{whose} expired {since} ago, on {date}"),
            )
        }
        CertificateError::Expired => (TlsErrorKind::Expired, format!("{whose} has expired")),
        CertificateError::NotValidYetContext { not_before, .. } => (
            TlsErrorKind::NotYetValid,
            format!(
                "{whose} is not valid before {}",
                date(seconds(not_before.as_secs()))
            ),
        ),
        CertificateError::NotValidYet => (
            TlsErrorKind::NotYetValid,
            format!("{whose} is not valid yet"),
        ),
        CertificateError::NotValidForNameContext { expected, .. } => (
            TlsErrorKind::WrongName,
            format!(
                "{whose} is not for {}, but for {}",
                expected.to_str(),
                names(leaf)
            ),
        ),
        CertificateError::UnknownIssuer if leaf.is_some_and(CertificateInfo::is_self_issued) => (
            TlsErrorKind::UnknownIssuer,
            format!("{whose} is signed by itself, and not among those that are trusted"),
        ),
        CertificateError::UnknownIssuer => {
            let issuer = leaf.map_or(String::new(), |leaf| format!(", {}", leaf.issuer));
            (
                TlsErrorKind::UnknownIssuer,
                format!("{whose} is signed by an unknown issuer{issuer}"),
            )
        }
        // As of a self-signed certificate with the CA flag, which is in no list.
        CertificateError::Other(_) if leaf.is_some_and(|leaf| leaf.is_ca) => (
            TlsErrorKind::UnknownIssuer,
            format!("{whose} is that of an issuer (CA), and not among those that are trusted"),
        ),
        error => (
            TlsErrorKind::Certificate,
            format!("{whose} cannot be accepted: {error}"),
        ),
    }
}

/// Lists the names of a certificate.
fn names(leaf: Option<&CertificateInfo>) -> String {
    let names = leaf.map(|leaf| &leaf.names[..]).unwrap_or_default();
    match names.len() {
        0 => "no name at all".to_owned(),
        n if n > NAMES_TOLD_MAX => format!(
            "{} and {} more",
            names[..NAMES_TOLD_MAX].join(", "),
            n - NAMES_TOLD_MAX
        ),
        _ => names.join(", "),
    }
}

fn of_alert(our: End, alert: AlertDescription) -> (TlsErrorKind, String) {
    use AlertDescription as A;
    let peer = match our {
        End::Client => "the server",
        End::Server => "the client",
    };
    match alert {
        A::CertificateRequired => (
            TlsErrorKind::ClientCertificateWanted,
            format!("{peer} wants a certificate of the client"),
        ),
        A::ProtocolVersion | A::InsufficientSecurity => (
            TlsErrorKind::Protocol,
            format!(
                "{peer} found no version of TLS or no cipher suite in common ({})",
                word(alert)
            ),
        ),
        A::NoApplicationProtocol => (
            TlsErrorKind::Alpn,
            format!("{peer} knows none of the application protocols (ALPN)"),
        ),
        A::UnrecognisedName => (
            TlsErrorKind::Refused,
            format!("{peer} does not know this server name (SNI)"),
        ),
        A::UnknownCA
        | A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::AccessDenied => (
            TlsErrorKind::Refused,
            format!("{peer} refuses our certificate ({})", word(alert)),
        ),
        _ => (
            TlsErrorKind::Refused,
            format!("{peer} refused the TLS handshake ({})", word(alert)),
        ),
    }
}

/// Returns the name of an alert in words: `unknown ca`.
fn word(alert: AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut words = String::new();
    let mut last = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && last.is_ascii_lowercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
        last = c;
    }
    format!("alert {words}")
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

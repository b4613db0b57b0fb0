//! TLS as a layer over a stream, by rustls with the cryptography of aws-lc-rs: [`TlsServer`] and [`TlsClient`].
//!
//! TLS 1.3 and 1.2. There is no renegotiation (rustls refuses it) and no early data (0-RTT), which a third party could
//! send a second time. The end of the stream is the peer's `close_notify`; a FIN without it is an error of the kind
//! `UnexpectedEof`, since somebody in between may have cut the stream.

mod certificate;
mod client;
mod error;
mod files;
mod first_answer;
mod first_flight;
mod oracle;
mod server;
mod transport;
mod trust;

use std::{
    env,
    ffi::OsString,
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use rustls::{
    KeyLog, KeyLogFile, ProtocolVersion, SupportedProtocolVersion, crypto::CryptoProvider, version,
};

#[doc(hidden)]
pub use self::oracle::check_first_flight;
pub use self::{
    certificate::CertificateInfo,
    client::{TlsClient, TlsClientOptions, TlsReport},
    error::{TlsError, TlsErrorKind},
    files::TlsFileError,
    server::{TlsServer, TlsServerOptions},
};

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl TlsVersion {
    /// This version and the later ones.
    fn and_later(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::V1_2 => vec![&version::TLS13, &version::TLS12],
            Self::V1_3 => vec![&version::TLS13],
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::V1_2),
            "1.3" => Ok(Self::V1_3),
            _ => Err(format!(
                "invalid TLS version {}: expected 1.2 or 1.3",
                echoic_core::units::quoted(text)
            )),
        }
    }
}

/// Returns the one provider of cryptography. It is passed to rustls everywhere, so that nothing depends on the default of a
/// process.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// Returns the file that the keys of connections are written to, for Wireshark: `SSLKEYLOGFILE`, if it is set.
pub fn key_log_file() -> Option<OsString> {
    env::var_os("SSLKEYLOGFILE").filter(|file| !file.is_empty())
}

/// Returns where the keys of connections are written to, if anywhere.
fn key_log() -> Option<Arc<dyn KeyLog>> {
    key_log_file().map(|_| Arc::new(KeyLogFile::new()) as Arc<dyn KeyLog>)
}

/// Returns the number of a protocol version.
fn version_number(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_3 => TlsVersion::V1_3.to_string(),
        ProtocolVersion::TLSv1_2 => TlsVersion::V1_2.to_string(),
        other => format!("{other:?}"),
    }
}

/// Checks the names of application protocols (ALPN), and returns them as rustls wants them.
///
/// # Errors
///
/// A name is empty or longer than 255 bytes (RFC 7301).
fn alpn_protocols(names: &[String]) -> Result<Vec<Vec<u8>>, TlsFileError> {
    if let Some(name) = names.iter().find(|name| !(1..=255).contains(&name.len())) {
        return Err(TlsFileError::Alpn { name: name.clone() });
    }
    Ok(names.iter().map(|name| name.clone().into_bytes()).collect())
}

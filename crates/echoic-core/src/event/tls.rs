//! What the TLS handshake of a conversation agreed on.

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

/// What the TLS handshake of a conversation agreed on, or why it failed. The texts may be the peer's: escape them where
/// they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub struct TlsInfo {
    /// The protocol version: `1.2` or `1.3`. `None` if the handshake failed.
    #[serde(default)]
    pub version: Option<String>,
    /// The cipher suite by its IANA name. `None` if the handshake failed.
    #[serde(default)]
    pub cipher: Option<String>,
    /// The server name that the client asked for (SNI), in lower case.
    #[serde(default)]
    pub sni: Option<String>,
    /// The application protocol that was negotiated (ALPN).
    #[serde(default)]
    pub alpn: Option<String>,
    /// The certificate that the client presented, and the server verified.
    #[serde(default)]
    pub client: Option<ClientCertificate>,
    /// Why the handshake failed.
    #[serde(default)]
    pub failure: Option<String>,
}

/// In JSON without the fields that are not known. A binary form has no names, so it has all fields.
impl Serialize for TlsInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let leaves_out = serializer.is_human_readable();
        let mut fields = serializer.serialize_struct("TlsInfo", 6)?;
        let texts = [
            ("version", &self.version),
            ("cipher", &self.cipher),
            ("sni", &self.sni),
            ("alpn", &self.alpn),
        ];
        for (name, text) in texts {
            if text.is_some() || !leaves_out {
                fields.serialize_field(name, text)?;
            }
        }
        if self.client.is_some() || !leaves_out {
            fields.serialize_field("client", &self.client)?;
        }
        if self.failure.is_some() || !leaves_out {
            fields.serialize_field("failure", &self.failure)?;
        }
        fields.end()
    }
}

/// The certificate of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// Its subject, `CN=alice, O=Example`; at most [`SUBJECT_BYTES_MAX`] bytes.
    pub subject: String,
    /// SHA-256 of the certificate (DER), 64 hexadecimal digits.
    pub sha256: String,
}

/// Bytes of a subject that are kept.
pub const SUBJECT_BYTES_MAX: usize = 1024;

impl TlsInfo {
    /// Whether `word` is its version or its cipher suite, ignoring case: a value of the filter `tls:`.
    pub fn is(&self, word: &str) -> bool {
        [&self.version, &self.cipher]
            .into_iter()
            .flatten()
            .any(|known| known.eq_ignore_ascii_case(word))
    }
}

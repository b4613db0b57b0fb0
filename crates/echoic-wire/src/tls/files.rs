//! Certificates and keys in PEM files.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use thiserror::Error;

/// Largest file that is read, in bytes: several times the root certificates of a system.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why TLS cannot be set up. No message has the content of a key.
#[derive(Debug, Error)]
pub enum TlsFileError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file has no certificate.
    #[error("{} has no certificate; expected PEM: -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in the file cannot be used.
    #[error("{}: invalid certificate: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The file has no private key.
    #[error("{} has no private key; expected PEM without a password: -----BEGIN PRIVATE KEY-----", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The private key cannot be used.
    #[error("{}: invalid private key: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The key is not that of the certificate.
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The name of an application protocol (ALPN) is invalid.
    #[error("invalid ALPN protocol {name:?}: expected 1 to 255 bytes, for example h2 or http/1.1")]
    Alpn {
        /// The name.
        name: String,
    },
    /// The name of the server is invalid.
    #[error("invalid server name {name:?}: expected a host name or an address")]
    ServerName {
        /// The name.
        name: String,
    },
    /// Another error of the TLS library.
    #[error("TLS cannot be set up: {0}")]
    Failed(String),
}

/// Reads all certificates of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| TlsFileError::Certificate {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    if certificates.is_empty() {
        return Err(TlsFileError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

/// Reads the first private key of a PEM file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => TlsFileError::NoKey {
            path: path.to_owned(),
        },
        error => TlsFileError::Key {
            path: path.to_owned(),
            why: error.to_string(),
        },
    })
}

/// Describes the error of rustls for a certificate and its key.
pub(super) fn pair_error(certificate: &Path, key: &Path, error: &rustls::Error) -> TlsFileError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsFileError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        },
        rustls::Error::InvalidCertificate(why) => TlsFileError::Certificate {
            path: certificate.to_owned(),
            why: why.to_string(),
        },
        error => TlsFileError::Key {
            path: key.to_owned(),
            why: error.to_string(),
        },
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let failed = |source| TlsFileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    if read.map_err(failed)? as u64 > FILE_BYTES_MAX {
        return Err(failed(io::Error::other("it is too long for certificates")));
    }
    Ok(bytes)
}

//! Whether a client believes a server's certificate.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{TlsFileError, certificate::CertificateInfo, files::certificates, provider};

/// Whom a client trusts.
#[derive(Debug)]
pub(super) struct Trust {
    /// `None` if there are no roots.
    roots: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that a server's is compared with.
    pinned: Vec<CertificateDer<'static>>,
    /// In words, for a report.
    pub(super) source: String,
}

impl Trust {
    /// Trusts the certificates in `file`: those of issuers (CA) as roots, and each as the certificate of a server itself.
    pub(super) fn of_file(file: &Path) -> Result<Self, TlsFileError> {
        let pinned = certificates(file)?;
        let mut roots = RootCertStore::empty();
        for certificate in &pinned {
            let invalid = |why: String| TlsFileError::Certificate {
                path: file.to_owned(),
                why,
            };
            let Some(info) = CertificateInfo::read(certificate) else {
                return Err(invalid("it is malformed".to_owned()));
            };
            // Whoever has the key of a server must not be able to issue certificates by it.
            if info.is_ca {
                let added = roots.add(certificate.clone());
                added.map_err(|error| invalid(error.to_string()))?;
            }
        }
        let source = format!("the certificates in {}", file.display());
        Self::new(roots, pinned, source)
    }

    /// Trusts the roots of the system.
    pub(super) fn of_system() -> Result<Self, TlsFileError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        let source = match (added, found.errors.first()) {
            (0, Some(error)) => {
                format!("the roots of this system, of which there are none ({error})")
            }
            (0, None) => "the roots of this system, of which there are none".to_owned(),
            (n, _) => format!("the {n} roots of this system"),
        };
        Self::new(roots, Vec::new(), source)
    }

    fn new(
        roots: RootCertStore,
        pinned: Vec<CertificateDer<'static>>,
        source: String,
    ) -> Result<Self, TlsFileError> {
        let roots = if roots.is_empty() {
            None
        } else {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
            let verifier = verifier.build();
            Some(verifier.map_err(|error| TlsFileError::Failed(error.to_string()))?)
        };
        Ok(Self {
            roots,
            pinned,
            source,
        })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.pinned.iter().any(|pinned| **pinned == **leaf) {
            return verify_pinned(leaf, name, now);
        }
        let Some(roots) = &self.roots else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verified = roots.verify_server_cert(leaf, intermediates, name, &[], now);
        verified.map(drop)
    }
}

/// Verifies the dates and the name of a certificate that is trusted itself. That the server has its key is verified by the
/// signature of the handshake.
fn verify_pinned(
    leaf: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let info = CertificateInfo::read(leaf).ok_or(CertificateError::BadEncoding)?;
    let time = |seconds: i64| {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    };
    let (not_before, not_after) = (time(info.not_before), time(info.not_after));
    if now < not_before {
        let time = now;
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if now > not_after {
        let time = now;
        return Err(CertificateError::ExpiredContext { time, not_after }.into());
    }
    verify_server_name(&ParsedCertificate::try_from(leaf)?, name)
}

/// Verifies the certificate of one connection, and keeps what it has seen.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Arc<Trust>,
    /// Go on whatever the verification says.
    insecure: bool,
    seen: Mutex<Seen>,
}

/// What a verifier has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The certificates of the server, its own first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Why the verification failed, if it did.
    pub(super) failure: Option<Error>,
}

impl Verifier {
    pub(super) fn new(trust: Arc<Trust>, insecure: bool) -> Self {
        Self {
            trust,
            insecure,
            seen: Mutex::default(),
        }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .trust
            .verify(end_entity, intermediates, server_name, now);
        let chain = [end_entity].into_iter().chain(intermediates);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen {
            chain: chain
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            failure: verified.as_ref().err().cloned(),
        };
        match verified {
            Err(error) if !self.insecure => Err(error),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    /// Also verified with `--insecure`: the bytes are then those of whoever has the key of the certificate.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

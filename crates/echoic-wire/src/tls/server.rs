//! The server's end of TLS.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use echoic_core::{
    event::{ClientCertificate, TlsInfo},
    service::BoxFuture,
};
use rustls::{
    RootCertStore, ServerConfig,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio_rustls::TlsStream;

use super::{
    TlsFileError, TlsVersion, alpn_protocols,
    certificate::{CertificateInfo, sha256},
    error::End,
    files::{certificates, pair_error, private_key},
    first_flight::{self, describe},
    key_log, provider,
    transport::{TlsTransport, agreed},
};
use crate::{link::Link, transport::ServerLayer};

/// What a server needs for TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsServerOptions {
    /// PEM file of its certificate, followed by those of its issuers.
    pub certificate: PathBuf,
    /// PEM file of the certificate's private key.
    pub key: PathBuf,
    /// PEM file of the issuers whose certificates clients must present. `None` asks clients for none.
    pub client_ca: Option<PathBuf>,
    /// Application protocols (ALPN), the preferred first. With any, a client that offers only others is refused.
    pub alpn: Vec<String>,
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
}

/// TLS over the connections that a server accepts.
pub struct TlsServer {
    options: TlsServerOptions,
    current: RwLock<Current>,
}

/// What new connections use.
struct Current {
    config: Arc<ServerConfig>,
    certificate: CertificateInfo,
    stamps: Vec<Stamp>,
}

/// By what a changed file is noticed: device, inode, size, and the times of its content and of its inode.
type Stamp = Option<(u64, u64, u64, [i64; 4])>;

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A file cannot be read or used.
    pub fn new(options: TlsServerOptions) -> Result<Self, TlsFileError> {
        let current = load(&options)?;
        Ok(Self {
            options,
            current: RwLock::new(current),
        })
    }

    /// Reads the files again if one of them has changed since it was last looked at. New connections then use what they
    /// have; open ones are not affected. `None` if nothing has changed.
    ///
    /// # Errors
    ///
    /// A file cannot be used: what was read before stays in use. The same files are not reported again.
    pub fn reload(&self) -> Option<Result<CertificateInfo, TlsFileError>> {
        let stamps = stamps(&self.options);
        if stamps == self.read().stamps {
            return None;
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match load(&self.options) {
            Ok(loaded) => {
                *current = loaded;
                Some(Ok(current.certificate.clone()))
            }
            Err(error) => {
                current.stamps = stamps;
                Some(Err(error))
            }
        }
    }

    /// Returns what the certificate of new connections says.
    pub fn certificate(&self) -> CertificateInfo {
        self.read().certificate.clone()
    }

    /// Returns the options.
    pub fn options(&self) -> &TlsServerOptions {
        &self.options
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handshake(&self, link: Link) -> io::Result<Link> {
        let mut info = TlsInfo::default();
        let start = first_flight::read(link).await;
        let start = start.map_err(|error| describe(error, &info))?;
        info.sni = start
            .client_hello()
            .server_name()
            .map(str::to_ascii_lowercase);
        start.io.report_step(&format!(
            "TLS: ClientHello: server name {}, {} cipher suites",
            info.sni.as_deref().unwrap_or("none"),
            start.client_hello().cipher_suites().len()
        ));
        let config = Arc::clone(&self.read().config);
        let stream = start.into_stream(config).await;
        let stream = TlsStream::from(stream.map_err(|error| describe(error, &info))?);
        agreed(&stream, &mut info);
        info.client = client_certificate(&stream);
        stream.get_ref().0.report_step(&format!(
            "TLS: handshake done: TLS {}, {}, ALPN {}, client certificate {}",
            info.version.as_deref().unwrap_or("?"),
            info.cipher.as_deref().unwrap_or("?"),
            info.alpn.as_deref().unwrap_or("none"),
            info.client
                .as_ref()
                .map_or("none", |client| &client.subject),
        ));
        Ok(TlsTransport::link(stream, End::Server, Arc::new(info)))
    }
}

impl ServerLayer for TlsServer {
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(self.handshake(link))
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn client_certificate(stream: &TlsStream<Link>) -> Option<ClientCertificate> {
    let TlsStream::Server(stream) = stream else {
        return None;
    };
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    let subject = CertificateInfo::read(leaf).map(|info| info.subject);
    Some(ClientCertificate {
        subject: subject.unwrap_or_default(),
        sha256: sha256(leaf),
    })
}

fn load(options: &TlsServerOptions) -> Result<Current, TlsFileError> {
    // Taken first: what changes while it is read is read again.
    let stamps = stamps(options);
    let (certificate, key) = (&*options.certificate, &*options.key);
    let chain = certificates(certificate)?;
    let info = CertificateInfo::read(&chain[0]).ok_or_else(|| TlsFileError::Certificate {
        path: certificate.to_owned(),
        why: "it is malformed".to_owned(),
    })?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&options.min_version.and_later())
        .map_err(|error| TlsFileError::Failed(error.to_string()))?;
    let builder = match &options.client_ca {
        Some(file) => builder.with_client_cert_verifier(client_verifier(file)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, private_key(key)?)
        .map_err(|error| pair_error(certificate, key, &error))?;
    config.alpn_protocols = alpn_protocols(&options.alpn)?;
    if let Some(log) = key_log() {
        config.key_log = log;
    }
    Ok(Current {
        config: Arc::new(config),
        certificate: info,
        stamps,
    })
}

fn client_verifier(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    let invalid = |why: String| TlsFileError::Certificate {
        path: file.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        let added = roots.add(certificate);
        added.map_err(|error| invalid(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let verifier = verifier.map_err(|error| invalid(error.to_string()))?;
    Ok(verifier)
}

/// Looks at the files without reading them.
fn stamps(options: &TlsServerOptions) -> Vec<Stamp> {
    let files = [
        Some(&options.certificate),
        Some(&options.key),
        options.client_ca.as_ref(),
    ];
    let stamp = |file: &PathBuf| {
        let file = fs::metadata(file).ok()?;
        let times = [
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
        ];
        Some((file.dev(), file.ino(), file.size(), times))
    };
    files.into_iter().flatten().map(stamp).collect()
}

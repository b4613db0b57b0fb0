//! The client's end of TLS.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use echoic_core::{
    endpoint::{Host, HostPort},
    event::TlsInfo,
    service::BoxFuture,
};
use rustls::{
    ClientConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    pki_types::ServerName,
    sign::CertifiedKey,
};
use tokio_rustls::{TlsConnector, TlsStream};

use super::{
    TlsFileError, TlsVersion, alpn_protocols,
    certificate::{CertificateInfo, date},
    error::{End, TlsError, TlsErrorKind, of_handshake, of_rustls},
    files::{certificates, pair_error, private_key},
    first_answer, key_log, provider,
    transport::{TlsTransport, agreed, group},
    trust::{Seen, Trust, Verifier},
};
use crate::{link::Link, transport::ClientLayer};

/// What a client needs for TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsClientOptions {
    /// PEM file of the certificates to trust instead of the system's roots: those of issuers, or that of the server itself.
    pub ca: Option<PathBuf>,
    /// Go on if the server's certificate cannot be verified.
    pub insecure: bool,
    /// The name to verify and to ask for (SNI), if it is not the host of the endpoint.
    pub server_name: Option<String>,
    /// Application protocols (ALPN), the preferred first.
    pub alpn: Vec<String>,
    /// PEM files of the client's certificate, followed by those of its issuers, and of its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
    /// Resume the session of an earlier connection if the server allows it. Otherwise each handshake is a full one, which
    /// verifies the certificate.
    pub resume: bool,
}

/// TLS over the connections of a client to one server.
pub struct TlsClient {
    config: Arc<ClientConfig>,
    /// The verifier of `config`.
    verifier: Arc<Verifier>,
    resume: bool,
    trust: Arc<Trust>,
    insecure: bool,
    name: ServerName<'static>,
    identity: Arc<Identity>,
    report: Mutex<Option<TlsReport>>,
}

/// What a client learned from a handshake.
#[derive(Clone, Debug)]
pub struct TlsReport {
    /// What was agreed on.
    pub info: Arc<TlsInfo>,
    /// The group of the key exchange.
    pub group: Option<String>,
    /// The certificates of the server, its own first.
    pub chain: Vec<CertificateInfo>,
    /// Why the certificate could not be verified; with `insecure` the connection was opened all the same.
    pub unverified: Option<TlsError>,
    /// The server asked for a certificate of the client. With TLS 1.3 it refuses a client without one only afterwards.
    pub wants_certificate: bool,
    /// Whom the client trusts, in words.
    pub trust: String,
    /// Duration of the handshake.
    pub took: Duration,
}

/// The client's certificate, if it has one, and whether a server wanted it.
#[derive(Debug)]
struct Identity {
    key: Option<Arc<CertifiedKey>>,
    was_wanted: AtomicBool,
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_wanted.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    /// Also without one, so that it is known whether the server wanted one.
    fn has_certs(&self) -> bool {
        true
    }
}

impl TlsClient {
    /// Reads the files. `at` is the server.
    ///
    /// # Errors
    ///
    /// A file cannot be read or used, or the server's name is none.
    pub fn new(at: &HostPort, options: &TlsClientOptions) -> Result<Self, TlsFileError> {
        let text = options.server_name.clone().unwrap_or_else(|| host_name(at));
        let Ok(name) = ServerName::try_from(text.clone()) else {
            return Err(TlsFileError::ServerName { name: text });
        };
        let trust = Arc::new(match &options.ca {
            Some(file) => Trust::of_file(file)?,
            None => Trust::of_system()?,
        });
        let identity = Arc::new(Identity {
            key: options.identity.as_ref().map(identity).transpose()?,
            was_wanted: AtomicBool::new(false),
        });
        let verifier = Arc::new(Verifier::new(Arc::clone(&trust), options.insecure));
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&options.min_version.and_later())
            .map_err(|error| TlsFileError::Failed(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<_>)
            .with_client_cert_resolver(Arc::clone(&identity) as Arc<dyn ResolvesClientCert>);
        config.alpn_protocols = alpn_protocols(&options.alpn)?;
        if !options.resume {
            config.resumption = Resumption::disabled();
        }
        if let Some(log) = key_log() {
            config.key_log = log;
        }
        Ok(Self {
            config: Arc::new(config),
            verifier,
            resume: options.resume,
            trust,
            insecure: options.insecure,
            name,
            identity,
            report: Mutex::default(),
        })
    }

    /// Returns what the last handshake told.
    pub fn report(&self) -> Option<TlsReport> {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Does the handshake over `link`, and returns what it told with the open link.
    ///
    /// # Errors
    ///
    /// As [`ClientLayer::connect`]; an error of TLS is a [`TlsError`].
    pub async fn open(&self, link: Link) -> io::Result<(Link, TlsReport)> {
        let began = Instant::now();
        let mut info = TlsInfo {
            sni: match &self.name {
                ServerName::DnsName(name) => Some(name.as_ref().to_ascii_lowercase()),
                _ => None,
            },
            ..TlsInfo::default()
        };
        let (config, verifier) = self.for_connection();
        link.report_step(&self.hello(&info));
        let connector = TlsConnector::from(config);
        let link = first_answer::checked(link);
        let connected = connector.connect(self.name.clone(), link).await;
        let seen = verifier.seen();
        let chain: Vec<_> = seen
            .chain
            .iter()
            .filter_map(|der| CertificateInfo::read(der))
            .collect();
        let stream = match connected {
            Ok(stream) => TlsStream::from(stream),
            Err(error) => {
                let failure = of_handshake(End::Client, &error, chain.first(), info);
                return Err(self
                    .with_identity(failure)
                    .into_io(io::ErrorKind::InvalidData));
            }
        };
        agreed(&stream, &mut info);
        let info = Arc::new(info);
        let report = TlsReport {
            info: Arc::clone(&info),
            group: group(&stream),
            unverified: unverified(&seen, chain.first(), &info),
            wants_certificate: self.identity.was_wanted.load(Ordering::Relaxed),
            chain,
            trust: self.trust.source.clone(),
            took: began.elapsed(),
        };
        for step in report.steps() {
            stream.get_ref().0.report_step(&step);
        }
        Ok((TlsTransport::link(stream, End::Client, info), report))
    }

    async fn open_and_keep(&self, link: Link) -> io::Result<Link> {
        let (link, report) = self.open(link).await?;
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        Ok(link)
    }

    /// Returns what one connection uses: a verifier of its own, since it keeps what it sees. A session is resumed only under
    /// the verifier that it began with, so all have the same then.
    fn for_connection(&self) -> (Arc<ClientConfig>, Arc<Verifier>) {
        if self.resume {
            return (Arc::clone(&self.config), Arc::clone(&self.verifier));
        }
        let verifier = Arc::new(Verifier::new(Arc::clone(&self.trust), self.insecure));
        let mut config = ClientConfig::clone(&self.config);
        config
            .dangerous()
            .set_certificate_verifier(Arc::clone(&verifier) as Arc<_>);
        (Arc::new(config), verifier)
    }

    /// Under TLS 1.2 a server that misses a certificate only says that the handshake failed.
    fn with_identity(&self, failure: TlsError) -> TlsError {
        let is_missing =
            self.identity.key.is_none() && self.identity.was_wanted.load(Ordering::Relaxed);
        if failure.kind() == TlsErrorKind::Refused && is_missing {
            let why = format!("{failure}; it had asked for a certificate of the client");
            let info = TlsInfo::clone(&failure.info());
            return TlsError::new(TlsErrorKind::ClientCertificateWanted, why, info);
        }
        failure
    }

    /// Describes our first message.
    fn hello(&self, info: &TlsInfo) -> String {
        let protocols = self.config.alpn_protocols.iter();
        let protocols: Vec<_> = protocols
            .map(|name| String::from_utf8_lossy(name))
            .collect();
        format!(
            "TLS: ClientHello: server name {}, ALPN {}",
            info.sni.as_deref().unwrap_or("none (an address has none)"),
            if protocols.is_empty() {
                "none".to_owned()
            } else {
                protocols.join(", ")
            },
        )
    }
}

impl TlsReport {
    /// Describes the handshake in steps, a line each.
    pub fn steps(&self) -> Vec<String> {
        let or =
            |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
        let TlsInfo {
            version,
            cipher,
            alpn,
            ..
        } = &*self.info;
        let mut steps = vec![format!(
            "TLS: ServerHello: TLS {}, {}, key exchange {}, ALPN {}",
            or(version, "?"),
            or(cipher, "?"),
            or(&self.group, "resumed"),
            or(alpn, "none"),
        )];
        for (i, certificate) in self.chain.iter().enumerate() {
            steps.push(format!(
                "TLS: certificate {}: {}, for {}, issued by {}, valid until {}",
                i + 1,
                certificate.subject,
                if certificate.names.is_empty() {
                    "no name".to_owned()
                } else {
                    certificate.names.join(", ")
                },
                certificate.issuer,
                date(certificate.not_after),
            ));
        }
        steps.push(match &self.unverified {
            None => format!("TLS: certificate verified by {}", self.trust),
            Some(why) => format!("TLS: certificate not verified: {why}"),
        });
        steps.push(format!(
            "TLS: Finished, {:.1} ms",
            self.took.as_secs_f64() * 1000.0
        ));
        steps
    }
}

impl ClientLayer for TlsClient {
    fn connect(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(self.open_and_keep(link))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Returns why the certificate could not be verified.
fn unverified(seen: &Seen, leaf: Option<&CertificateInfo>, info: &TlsInfo) -> Option<TlsError> {
    let (kind, why) = of_rustls(End::Client, seen.failure.as_ref()?, leaf);
    Some(TlsError::new(kind, why, info.clone()))
}

/// Returns the name of the server: its host.
fn host_name(at: &HostPort) -> String {
    match &at.host {
        Host::Loopback | Host::Any => "localhost".to_owned(),
        Host::Ip(ip) => ip.to_string(),
        Host::Zoned(ip, _) => ip.to_string(),
        Host::Name(name) => name.trim_end_matches('.').to_owned(),
    }
}

fn identity((certificate, key): &(PathBuf, PathBuf)) -> Result<Arc<CertifiedKey>, TlsFileError> {
    let pair = CertifiedKey::from_der(certificates(certificate)?, private_key(key)?, &provider());
    let pair = pair.map_err(|error| pair_error(certificate, key, &error))?;
    Ok(Arc::new(pair))
}

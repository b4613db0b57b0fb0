//! The options of `connect` for TLS.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use echoic_core::endpoint::Endpoint;
use echoic_wire::{
    ClientLayer, StartTls, TlsClient, TlsClientOptions, TlsReport, TlsVersion, key_log_file,
};

use crate::{
    exit::CliError,
    pretty,
    term::{self, sanitize},
};

/// Options of `tls://`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "TLS (tls://)")]
pub(crate) struct TlsArgs {
    #[command(flatten)]
    client: TlsClientArgs,

    /// Go on if the server's certificate cannot be verified, and say why it could not
    #[arg(long)]
    insecure: bool,
}

/// Options of `tls://` that every client has.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "TLS (tls://)")]
pub(crate) struct TlsClientArgs {
    /// Trust the certificates in this PEM file instead of the system's: those of issuers (CA), or that of the server itself
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Ask for this name (SNI), and verify the certificate for it, instead of the host of the endpoint
    #[arg(long, value_name = "NAME")]
    servername: Option<String>,

    /// Offer these application protocols, the preferred first: h2,http/1.1
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    alpn: Vec<String>,

    /// Present the certificate in this PEM file, if the server wants one
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,

    /// The private key of --client-cert, a PEM file without a password
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Returns what a connection to `endpoint` needs; `None` without TLS.
    pub(crate) fn options(&self, endpoint: &Endpoint) -> Result<Option<TlsClientOptions>, String> {
        if matches!(endpoint, Endpoint::Tls(_)) {
            return Ok(Some(TlsClientOptions {
                insecure: self.insecure,
                ..self.client.options()?
            }));
        }
        if self.insecure {
            return Err(tls_only("--insecure"));
        }
        self.client.refuse_without_tls()?;
        Ok(None)
    }
}

impl TlsClientArgs {
    /// Returns what a connection over TLS needs.
    pub(crate) fn options(&self) -> Result<TlsClientOptions, String> {
        let identity = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => {
                return Err("--client-cert needs --client-key FILE, the private key of the certificate (it may be in the same file)".to_owned());
            }
            (None, Some(_)) => {
                return Err("--client-key needs --client-cert FILE, the certificate of the key (it may be in the same file)".to_owned());
            }
        };
        Ok(TlsClientOptions {
            ca: self.ca.clone(),
            insecure: false,
            server_name: self.servername.clone(),
            alpn: self.alpn.clone(),
            identity,
            min_version: TlsVersion::default(),
            resume: false,
        })
    }

    /// Refuses options that would have no effect.
    pub(crate) fn refuse_without_tls(&self) -> Result<(), String> {
        let given = [
            ("--ca", self.ca.is_some()),
            ("--servername", self.servername.is_some()),
            ("--alpn", !self.alpn.is_empty()),
            ("--client-cert", self.client_cert.is_some()),
            ("--client-key", self.client_key.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(tls_only(flag)),
            None => Ok(()),
        }
    }
}

pub(crate) fn tls_only(flag: &str) -> String {
    format!("{flag} applies to tls:// only; expected tls://HOST:PORT")
}

/// The option to change to TLS on a plain port.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "TLS (tls://)")]
pub(crate) struct StartTlsArgs {
    /// Begin in plain text and ask the server for TLS, as clients of this protocol do: smtp, imap or postgres
    #[arg(long, value_name = "PROTOCOL")]
    starttls: Option<StartTls>,
}

impl StartTlsArgs {
    /// Returns the layer below TLS; it has no meaning without.
    pub(crate) fn layer(&self, is_tls: bool) -> Result<Option<Arc<dyn ClientLayer>>, String> {
        match self.starttls {
            Some(_) if !is_tls => Err(tls_only("--starttls")),
            protocol => Ok(protocol.map(|protocol| Arc::new(protocol) as Arc<dyn ClientLayer>)),
        }
    }
}

/// Returns the TLS layer of a connection; `None` without TLS.
pub(super) fn layer(
    endpoint: &Endpoint,
    options: Option<&TlsClientOptions>,
) -> Result<Option<TlsClient>, CliError> {
    let (Some(at), Some(options)) = (endpoint.host_port(), options) else {
        return Ok(None);
    };
    let layer = TlsClient::new(at, options);
    layer
        .map(Some)
        .map_err(|error| CliError::usage(sanitize(error)))
}

/// Warns of what a user must know of a connection: that the server was not verified, that keys are written to a file, and, if
/// `ends_input`, that the end of our input ends both directions.
pub(super) fn warn(report: &TlsReport, ends_input: bool) {
    if let Some(why) = &report.unverified {
        term::note(&sanitize(format!(
            "echoic: the server was not verified (--insecure): {why}"
        )));
    }
    if let Some(file) = key_log_file() {
        term::note(&sanitize(format!(
            "echoic: SSLKEYLOGFILE is set: the keys of this connection are written to {}; who has it can read what was sent",
            file.display()
        )));
    }
    if ends_input && report.info.version.as_deref() == Some("1.2") {
        term::note(
            "echoic: TLS 1.2 has no half-close: the end of the input ends both directions, and a reply after it may be lost (--hold keeps them open)",
        );
    }
}

/// `TLS 1.3, TLS13_AES_256_GCM_SHA384, server name localhost; certificate CN=localhost, verified by …`
pub(super) fn summary(report: &TlsReport) -> String {
    let subject = report.chain.first().map_or("none", |leaf| &leaf.subject);
    let verified = match &report.unverified {
        None => format!("verified by {}", report.trust),
        Some(_) => "not verified".to_owned(),
    };
    let agreed = pretty::tls(&report.info);
    sanitize(format!("{agreed}; certificate {subject}, {verified}"))
}

//! TLS endpoints of `serve`: their certificates, from files or made on the spot, and what is told about them.

mod machine;
mod throw_away;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use echoic_core::{endpoint::Endpoint, view::CertificateJson};
use echoic_wire::{ServerLayer, TlsServer, TlsServerOptions, TlsVersion};

use self::throw_away::ThrowAway;
use crate::{certificates, exit::CliError, store_url::StoreUrl, term};

/// The options of a TLS endpoint.
#[derive(Debug, Default)]
pub(super) struct TlsOptions {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    alpn: Vec<String>,
    min_version: TlsVersion,
}

/// The names of the options, for messages.
pub(super) const OPTIONS: [&str; 5] = ["cert", "key", "client-ca", "alpn", "tls-min"];

impl TlsOptions {
    /// Applies one of [`OPTIONS`].
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err("it is empty; expected a value".to_owned());
        }
        match name {
            "cert" => self.certificate = Some(value.into()),
            "key" => self.key = Some(value.into()),
            "client-ca" => self.client_ca = Some(value.into()),
            "alpn" => self.alpn = value.split(',').map(str::to_owned).collect(),
            _ => self.min_version = value.parse()?,
        }
        Ok(())
    }
}

/// The TLS endpoints of a server.
#[derive(Default)]
pub(super) struct TlsEndpoints {
    /// Each with the position of its endpoint among those of the plan.
    servers: Vec<(usize, Endpoint, Arc<TlsServer>)>,
    /// The certificate that was made on the spot, if an endpoint has none of its own.
    throw_away: Option<ThrowAway>,
}

/// The certificates of an endpoint; none without TLS.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    /// That of clients, if it was made on the spot.
    pub(super) ca: Option<CertificateJson>,
    /// That of new connections.
    pub(super) cert: Option<CertificateJson>,
}

impl TlsEndpoints {
    /// Returns the layers of the endpoint at a position of the plan; none unless its scheme is that of TLS.
    pub(super) fn layers(
        &mut self,
        position: usize,
        endpoint: &Endpoint,
        options: TlsOptions,
        store: &StoreUrl,
    ) -> Result<Vec<Arc<dyn ServerLayer>>, CliError> {
        if !matches!(endpoint, Endpoint::Tls(_)) {
            return Ok(Vec::new());
        }
        let usage = |why: String| CliError::usage(format!("{endpoint}: {why}"));
        let (certificate, key) = match (options.certificate, options.key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                let why = "?cert= is given and ?key= is not: add ?key=FILE, the private key of the certificate (it may be in the same file)";
                return Err(usage(why.to_owned()));
            }
            (None, Some(_)) => {
                let why = "?key= is given and ?cert= is not: add ?cert=FILE, the certificate of the key (it may be in the same file)";
                return Err(usage(why.to_owned()));
            }
            (None, None) => {
                let throw_away = self.throw_away(store)?;
                (throw_away.server.clone(), throw_away.server.clone())
            }
        };
        let server = TlsServer::new(TlsServerOptions {
            certificate,
            key,
            client_ca: options.client_ca,
            alpn: options.alpn,
            min_version: options.min_version,
        });
        let server = Arc::new(server.map_err(|error| usage(error.to_string()))?);
        self.servers
            .push((position, endpoint.clone(), Arc::clone(&server)));
        Ok(vec![server])
    }

    fn throw_away(&mut self, store: &StoreUrl) -> Result<&ThrowAway, CliError> {
        if self.throw_away.is_none() {
            self.throw_away = Some(ThrowAway::beside(store)?);
        }
        let made = self.throw_away.as_ref();
        Ok(made.expect("invariant: it was just made"))
    }

    /// Returns the certificate (CA) that clients verify the endpoint at a position by, if it was made on the spot.
    pub(super) fn ca_of(&self, position: usize) -> Option<&ThrowAway> {
        let throw_away = self.throw_away.as_ref()?;
        let server = self.at(position)?;
        (server.options().certificate == throw_away.server).then_some(throw_away)
    }

    /// Returns the certificates of the endpoint at a position.
    pub(super) fn certificates_of(&self, position: usize) -> Certificates {
        let json = |file: &Path, sha256: &str| CertificateJson {
            file: file.to_string_lossy().into_owned(),
            sha256: sha256.to_owned(),
        };
        let made = self.ca_of(position);
        Certificates {
            ca: made.map(|made| json(&made.ca, &made.ca_sha256)),
            cert: self
                .at(position)
                .map(|server| json(&server.options().certificate, &server.certificate().sha256)),
        }
    }

    fn at(&self, position: usize) -> Option<&TlsServer> {
        let mut servers = self.servers.iter();
        let (.., server) = servers.find(|(at, ..)| *at == position)?;
        Some(server)
    }

    /// Reports the certificates, and whether keys are logged.
    pub(super) fn announce(&self) {
        if let Some(throw_away) = &self.throw_away {
            term::note(&format!(
                "certificate for this machine, made by echoic: clients verify it by --ca {} (SHA-256 {})",
                throw_away.ca.display(),
                throw_away.ca_sha256
            ));
        }
        for (_, endpoint, server) in &self.servers {
            certificates::announce(endpoint, server);
        }
    }

    /// Whether there is nothing to look after.
    pub(super) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Returns a task that reads certificates again when their files change, until it is dropped.
    pub(super) fn watch(&self, quiet: bool) -> impl Future<Output = ()> + Send + use<> {
        let named = self.servers.iter();
        let named = named.map(|(_, endpoint, server)| (endpoint.to_string(), Arc::clone(server)));
        certificates::watch(named.collect(), quiet)
    }
}

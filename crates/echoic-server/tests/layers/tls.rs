//! TLS as the program uses it, with a certificate created by the test.

use std::{fs, io, sync::Arc};

use echoic_core::{
    endpoint::{Host, HostPort},
    service::BoxFuture,
};
use echoic_wire::{
    ClientLayer, Link, ServerLayer, TlsClient, TlsClientOptions, TlsServer, TlsServerOptions,
    TlsVersion,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

/// Both sides of the handshake, with a certificate of their own.
#[derive(Clone, Debug)]
pub(crate) struct TlsLayer {
    pub(crate) server: Arc<TlsServer>,
    pub(crate) client: Arc<TlsClient>,
    /// The files, which the server looks at.
    _files: Arc<TempDir>,
}

impl TlsLayer {
    pub(crate) fn new() -> Self {
        Self::with_alpn(&[])
    }

    /// Offers these protocols at both ends.
    pub(crate) fn with_alpn(alpn: &[&str]) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = tempfile::tempdir().unwrap();
        let (certificate, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
        fs::write(&certificate, cert.pem()).unwrap();
        fs::write(&key, signing_key.serialize_pem()).unwrap();
        let alpn: Vec<_> = alpn.iter().map(|name| (*name).to_owned()).collect();
        let at = HostPort {
            host: Host::Loopback,
            port: 0,
        };
        let client = TlsClientOptions {
            ca: Some(certificate.clone()),
            alpn: alpn.clone(),
            ..TlsClientOptions::default()
        };
        let server = TlsServerOptions {
            certificate,
            key,
            client_ca: None,
            alpn,
            min_version: TlsVersion::default(),
        };
        Self {
            server: Arc::new(TlsServer::new(server).unwrap()),
            client: Arc::new(TlsClient::new(&at, &client).unwrap()),
            _files: Arc::new(files),
        }
    }
}

impl ServerLayer for TlsLayer {
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        self.server.accept(link)
    }
}

impl ClientLayer for TlsLayer {
    fn connect(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        self.client.connect(link)
    }
}

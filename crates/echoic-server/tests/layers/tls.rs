//! TLS with rustls as a layer, like a production one, with a certificate created by the test.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use echoic_core::service::BoxFuture;
use echoic_wire::{ClientLayer, Link, ServerLayer, Transport};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, ServerName},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// An open TLS connection, at either end.
struct Tls {
    stream: TlsStream<Link>,
    /// Accepted by rustls and not yet written in full.
    taken: usize,
}

impl Tls {
    fn link(stream: TlsStream<Link>) -> Link {
        Link::layered(Box::new(Self { stream, taken: 0 }))
    }
}

impl Transport for Tls {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut unfilled = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut unfilled))?;
        Poll::Ready(Ok(unfilled.filled().len()))
    }

    /// Bytes count as written only when rustls has written all of them; otherwise rustls would hold records that
    /// nothing flushes.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.taken == 0 {
            self.taken = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn abort(&mut self) {
        match &mut self.stream {
            TlsStream::Server(stream) => stream.get_mut().0.abort(),
            TlsStream::Client(stream) => stream.get_mut().0.abort(),
        }
    }

    fn lower(&self) -> Option<&Link> {
        Some(self.stream.get_ref().0)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Both sides of the handshake, with a certificate of their own.
#[derive(Clone)]
pub(crate) struct TlsLayer {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl TlsLayer {
    pub(crate) fn new() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        }
    }
}

impl ServerLayer for TlsLayer {
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async { Ok(Tls::link(self.acceptor.accept(link).await?.into())) })
    }
}

impl ClientLayer for TlsLayer {
    fn connect(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async {
            let name = ServerName::try_from("localhost").unwrap();
            Ok(Tls::link(self.connector.connect(name, link).await?.into()))
        })
    }
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer").finish_non_exhaustive()
    }
}

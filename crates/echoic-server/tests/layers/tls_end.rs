//! How a conversation over TLS ends, and what is recorded of it.

use std::{sync::Arc, time::Duration};

use echoic_core::{ending::CloseReason, framing::Framing};
use echoic_wire::ClientLayer;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    serving::{Serve, Serving, pipe},
    tls::TlsLayer,
};

async fn serving(tls: &TlsLayer, framing: Framing) -> Serving {
    let layers: Vec<Arc<dyn echoic_wire::ServerLayer>> = vec![Arc::new(tls.clone())];
    Serve::new("upper", framing, layers).start().await
}

/// A FIN without `close_notify`: whoever is in between may have cut the stream, so a last line without an end is no message.
#[tokio::test]
async fn fin_without_close_notify_is_told_as_truncated() {
    let tls = TlsLayer::new();
    let serving = serving(&tls, Framing::Line).await;
    let mut client = tls.connect(pipe(serving.call(4096).await)).await.unwrap();
    client.write_all(b"whole\ncut of").await.unwrap();
    let mut reply = [0; 6];
    client.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"WHOLE\n");
    drop(client);
    let store = Arc::clone(&serving.store);
    assert_eq!(serving.end().await, (1, vec![CloseReason::Truncated]));
    let left = store.endings()[0].1.left_over.clone();
    assert_eq!(
        left.map(|left| left.bytes.clone()),
        Some(b"cut of".to_vec())
    );
}

#[tokio::test]
async fn close_notify_is_the_end_in_order() {
    let tls = TlsLayer::new();
    let serving = serving(&tls, Framing::Line).await;
    let mut client = tls.connect(pipe(serving.call(4096).await)).await.unwrap();
    client.write_all(b"whole\nlast").await.unwrap();
    client.shutdown().await.unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"WHOLE\nLAST");
    assert_eq!(serving.end().await, (2, vec![CloseReason::PeerClosed]));
}

/// A client that speaks TLS 1.2 alone.
async fn old_client(tls: &TlsLayer, serving: &Serving) -> TlsStream<tokio::io::DuplexStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let file = &tls.server.options().certificate;
    roots
        .add(CertificateDer::from_pem_file(file).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    connector
        .connect(name, serving.call(4096).await)
        .await
        .unwrap()
}

/// RFC 5246, 7.2.1: the peer answers a `close_notify` by its own at once, and discards what it has not sent.
#[tokio::test]
async fn close_notify_ends_both_halves_under_tls_1_2() {
    let tls = TlsLayer::new();
    let serving = serving(&tls, Framing::Line).await;
    let mut client = old_client(&tls, &serving).await;
    client.write_all(b"whole\n").await.unwrap();
    let mut reply = [0; 6];
    client.read_exact(&mut reply).await.unwrap();
    // The last line is answered at the end of the input, which is the end of both halves here.
    client.write_all(b"last").await.unwrap();
    client.shutdown().await.unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"", "nothing but a close_notify");
    let store = Arc::clone(&serving.store);
    assert_eq!(serving.end().await, (2, vec![CloseReason::PeerReset]));
    let ending = &store.endings()[0].1;
    assert_eq!((ending.sent, ending.unsent), (6, 4));
}

#[tokio::test]
async fn bytes_that_are_no_record_end_the_conversation_by_an_alert() {
    let tls = TlsLayer::new();
    let serving = serving(&tls, Framing::Line).await;
    let mut client = old_client(&tls, &serving).await;
    client.write_all(b"whole\n").await.unwrap();
    let mut reply = [0; 6];
    client.read_exact(&mut reply).await.unwrap();
    // A record that is no TLS: the server answers by an alert, and ends.
    let (pipe, _): (&mut tokio::io::DuplexStream, &mut ClientConnection) = client.get_mut();
    pipe.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut back = Vec::new();
    let read = timeout(Duration::from_secs(20), pipe.read_to_end(&mut back)).await;
    read.unwrap().unwrap();
    assert_eq!(back.first(), Some(&21), "an alert: {back:?}");
    drop(client);
    assert_eq!(serving.end().await, (1, vec![CloseReason::Malformed]));
}

#[tokio::test]
async fn record_has_what_the_handshake_agreed_on_and_why_it_failed() {
    let tls = TlsLayer::with_alpn(&["echo/1"]);
    let serving = serving(&tls, Framing::Line).await;
    let mut client = tls.connect(pipe(serving.call(4096).await)).await.unwrap();
    client.write_all(b"a\n").await.unwrap();
    client.read_exact(&mut [0; 2]).await.unwrap();
    client.shutdown().await.unwrap();
    client.read_to_end(&mut Vec::new()).await.unwrap();
    let other = TlsLayer::with_alpn(&["other"]);
    let refused = other.connect(pipe(serving.call(4096).await)).await;
    assert!(refused.is_err());
    let store = Arc::clone(&serving.store);
    serving.end().await;
    let opened = store.opened();
    let agreed = opened[0].tls.as_ref().unwrap();
    assert_eq!(agreed.version.as_deref(), Some("1.3"));
    assert_eq!(agreed.sni.as_deref(), Some("localhost"));
    assert_eq!(agreed.alpn.as_deref(), Some("echo/1"));
    assert!(
        agreed.cipher.as_ref().unwrap().starts_with("TLS13_"),
        "{agreed:?}"
    );
    assert_eq!((&agreed.client, &agreed.failure), (&None, &None));
    let failed = opened[1].tls.as_ref().unwrap();
    assert_eq!(failed.sni.as_deref(), Some("localhost"));
    let why = failed.failure.as_ref().unwrap();
    assert!(why.contains("ALPN"), "{why}");
}

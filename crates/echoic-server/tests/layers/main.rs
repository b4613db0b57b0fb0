//! Layers over a socket, such as TLS, through the public interface: the requirements of any transport.

#![allow(clippy::unwrap_used, reason = "in a test that is the failure")]

#[path = "../../../echoic-recorder/tests/common/mod.rs"]
mod common;
mod first_flight;
mod serving;
mod tls;
mod tls_end;
#[path = "../../../echoic-wire/tests/xor/mod.rs"]
mod xor;

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use echoic_core::{
    ending::CloseReason,
    endpoint::{Endpoint, Shape},
    framing::Framing,
    limits::{Limits, SourceLimits},
    service::BoxFuture,
};
use echoic_recorder::Recorder;
use echoic_server::{EndpointConfig, OpenError, Server};
use echoic_service::NamedService;
use echoic_wire::{ClientLayer, DialError, DialOptions, Link, ServerLayer, Transport, dial};
use serving::{Serve, pipe};
use tls::TlsLayer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};
use xor::XorLayer;

/// Sends `request`, shuts down the sending side, and reads to the end.
async fn ask(mut peer: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Vec<u8> {
    peer.write_all(request).await.unwrap();
    peer.shutdown().await.unwrap();
    let mut back = Vec::new();
    peer.read_to_end(&mut back).await.unwrap();
    back
}

#[tokio::test]
async fn client_reading_while_writing_gets_megabytes_back_over_tls() {
    const BYTES: usize = 5 << 20;
    let tls = TlsLayer::new();
    let serving = Serve::new("echo", Framing::Chunk, vec![Arc::new(tls.clone())]);
    let serving = serving.start().await;
    for room in [1000, 200_000] {
        let client = tls.connect(pipe(serving.call(room).await)).await.unwrap();
        let data: Arc<[u8]> = (0..BYTES).map(|i| (i * 31 % 251) as u8).collect();
        let (mut reader, mut writer) = split(client);
        let sent = Arc::clone(&data);
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
            writer
        });
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await.unwrap();
        assert!(back == *data);
        writing.join_next().await;
    }
    let store = Arc::clone(&serving.store);
    let (_, ends) = serving.end().await;
    assert_eq!(ends, [CloseReason::PeerClosed; 2]);
    assert_eq!(store.endings().len(), 2);
    for (_, ending) in store.endings() {
        assert_eq!(ending.sent, BYTES as u64);
    }
}

#[tokio::test]
async fn close_notify_closes_one_half_only() {
    let tls = TlsLayer::new();
    let serving = Serve::new("upper", Framing::Line, vec![Arc::new(tls.clone())]);
    let serving = serving.start().await;
    let client = tls.connect(pipe(serving.call(4096).await)).await.unwrap();
    let lines = (0..1000)
        .map(|i| format!("line {i}\n"))
        .collect::<Vec<_>>()
        .concat();
    let back = ask(client, (lines.clone() + "last without end").as_bytes()).await;
    let expected = lines.to_uppercase() + "LAST WITHOUT END";
    assert_eq!(String::from_utf8(back).unwrap(), expected);
    assert_eq!(serving.end().await, (1001, vec![CloseReason::PeerClosed]));
}

/// Reads and writes one byte at a time.
#[derive(Debug)]
struct Drip(Link);

#[derive(Debug)]
struct DripLayer;

impl ServerLayer for DripLayer {
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async { Ok(Link::layered(Box::new(Drip(link)))) })
    }
}

impl Transport for Drip {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, &mut buffer[..1])
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &bytes[..1])
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_finish(cx)
    }

    fn abort(&mut self) {
        self.0.abort();
    }
}

#[tokio::test]
async fn layers_stack_in_any_order_also_one_byte_at_a_time() {
    let (tls, xor) = (TlsLayer::new(), XorLayer(0x5a));
    let xor_below: [Arc<dyn ClientLayer>; 2] = [Arc::new(xor), Arc::new(tls.clone())];
    let tls_below: [Arc<dyn ClientLayer>; 2] = [Arc::new(tls.clone()), Arc::new(xor)];
    let tls: Arc<dyn ServerLayer> = Arc::new(tls);
    let (xor, drip): (Arc<dyn ServerLayer>, _) = (Arc::new(xor), Arc::new(DripLayer));
    for (ours, theirs) in [
        (vec![Arc::clone(&xor), Arc::clone(&tls)], &xor_below),
        (vec![Arc::clone(&tls), Arc::clone(&xor)], &tls_below),
        (
            vec![drip.clone(), Arc::clone(&xor), Arc::clone(&tls)],
            &xor_below,
        ),
        (vec![drip.clone(), Arc::clone(&tls), drip, xor], &tls_below),
    ] {
        let serving = Serve::new("upper", Framing::Line, ours).start().await;
        let mut client = pipe(serving.call(4096).await);
        for layer in theirs {
            client = layer.connect(client).await.unwrap();
        }
        assert_eq!(
            ask(client, b"hello\nworld\nend").await,
            b"HELLO\nWORLD\nEND"
        );
        assert_eq!(serving.end().await, (3, vec![CloseReason::PeerClosed]));
    }
}

#[tokio::test]
async fn client_dials_through_the_same_layers() {
    let tls = TlsLayer::new();
    let serving = Serve::new("upper", Framing::Line, vec![Arc::new(tls.clone())]);
    let serving = serving.start().await;
    let options = DialOptions {
        layers: vec![Arc::new(tls)],
        ..DialOptions::default()
    };
    let dialled = dial(&serving.endpoint, &options).await.unwrap();
    assert_eq!(dialled.link.remote(), Some(dialled.peer));
    assert_eq!(ask(dialled.link, b"hello\n").await, b"HELLO\n");
    assert_eq!(serving.end().await, (1, vec![CloseReason::PeerClosed]));
}

/// Single bytes now and then do not extend the deadline.
#[tokio::test(start_paused = true)]
async fn handshake_timeout_is_not_renewed_by_bytes() {
    let mut serve = Serve::new("upper", Framing::Line, vec![Arc::new(TlsLayer::new())]);
    serve.limits.handshake_timeout = Duration::from_millis(2500);
    let serving = serve.start().await;
    for bytes in [0, 5] {
        let began = Instant::now();
        let mut peer = serving.call(4096).await;
        let mut hello = [22, 3, 1, 2, 0].into_iter().take(bytes);
        let ended = loop {
            let mut byte = [0];
            tokio::select! {
                read = peer.read(&mut byte) => break read.unwrap(),
                () = sleep(Duration::from_millis(600)) => {
                    if let Some(byte) = hello.next() {
                        peer.write_all(&[byte]).await.unwrap();
                    }
                }
            }
        };
        assert_eq!(ended, 0, "an end, no alert");
        assert_eq!(began.elapsed(), Duration::from_millis(2500));
    }
    assert_eq!(
        serving.end().await,
        (0, vec![CloseReason::HandshakeTimeout; 2])
    );
}

/// With megabytes that the server does not read: if it closed the socket at once, the kernel would reset the connection
/// and the alert would be lost.
#[tokio::test]
async fn plain_text_client_gets_an_alert_and_a_clean_end() {
    let serving = Serve::new("upper", Framing::Line, vec![Arc::new(TlsLayer::new())]);
    let serving = serving.start().await;
    let Endpoint::Tcp(at) = &serving.endpoint else {
        unreachable!("it is a TCP endpoint")
    };
    let at = (Ipv4Addr::LOCALHOST, at.port);
    let mut peer = TcpStream::connect(at).await.unwrap();
    peer.write_all(b"HELO somebody\r\n").await.unwrap();
    peer.write_all(&vec![b'x'; 2 << 20]).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let back = ask(peer, b"\r\n\r\n").await;
    assert_eq!(back.first(), Some(&21), "an alert: {back:?}");
    let store = Arc::clone(&serving.store);
    assert_eq!(serving.end().await, (0, vec![CloseReason::HandshakeFailed]));
    let ending = &store.endings()[0].1;
    assert_eq!((ending.received, ending.sent), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn server_stop_ends_a_handshake_at_once() {
    let serving = Serve::new("upper", Framing::Line, vec![Arc::new(TlsLayer::new())]);
    let serving = serving.start().await;
    let mut peer = serving.call(4096).await;
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let reading = async {
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
        drop(peer);
        began.elapsed()
    };
    let (ended, elapsed) = tokio::join!(serving.end(), reading);
    assert_eq!(
        (ended, elapsed),
        ((0, vec![CloseReason::ServerStopped]), Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn handshake_counts_against_connection_and_source_limits() {
    let one = SourceLimits {
        connections_max: Some(1),
        on_loopback: true,
        ..SourceLimits::none()
    };
    for (connections_max, sources, refused) in [
        (1, SourceLimits::none(), CloseReason::TooManyConnections),
        (9, one, CloseReason::TooManyFromSource),
    ] {
        let tls = TlsLayer::new();
        let mut serve = Serve::new("upper", Framing::Line, vec![Arc::new(tls.clone())]);
        serve.limits.connections_max = connections_max;
        serve.sources = sources;
        let serving = serve.start().await;
        let mut silent = serving.call(4096).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(ask(serving.call(4096).await, b"").await, b"");
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        drop(silent);
        sleep(Duration::from_secs(1)).await;
        let client = tls.connect(pipe(serving.call(4096).await)).await.unwrap();
        assert_eq!(ask(client, b"hello\n").await, b"HELLO\n");
        let ends = vec![
            CloseReason::HandshakeTimeout,
            refused,
            CloseReason::PeerClosed,
        ];
        assert_eq!(serving.end().await, (1, ends));
    }
}

/// Fails, and does not give the link back.
#[derive(Debug, Default)]
struct Keeping(Mutex<Option<Link>>);

impl ServerLayer for Keeping {
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        *self.0.lock().unwrap() = Some(link);
        Box::pin(async { Err(io::Error::other("no")) })
    }
}

#[tokio::test]
async fn failed_layer_that_holds_the_link_is_recorded() {
    let keeping = Arc::new(Keeping::default());
    let layers = vec![Arc::clone(&keeping) as Arc<dyn ServerLayer>];
    let serving = Serve::new("upper", Framing::Line, layers).start().await;
    let mut peer = serving.call(4096).await;
    while keeping.0.lock().unwrap().take().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(serving.end().await, (0, vec![CloseReason::HandshakeFailed]));
}

/// Makes each read a message, like a layer with a message format.
#[derive(Debug)]
struct WholeMessages(Link);

#[derive(Debug)]
struct WholeMessagesLayer;

impl ServerLayer for WholeMessagesLayer {
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async { Ok(Link::layered(Box::new(WholeMessages(link)))) })
    }
}

impl Transport for WholeMessages {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_finish(cx)
    }

    fn abort(&mut self) {
        self.0.abort();
    }

    fn shape(&self) -> Shape {
        Shape::Messages
    }
}

#[tokio::test]
async fn layer_over_datagrams_is_rejected_at_both_ends() {
    let tls = TlsLayer::new();
    let config = EndpointConfig {
        layers: vec![Arc::new(tls.clone())],
        ..EndpointConfig::new(
            "udp://127.0.0.1:0".parse().unwrap(),
            "upper".parse::<NamedService>().unwrap().0,
        )
    };
    let mut server = Server::new(Recorder::none(), Limits::default());
    let error = server.open(config).await.unwrap_err();
    assert!(
        matches!(error, OpenError::LayerNeedsStream { .. }),
        "{error}"
    );
    let options = DialOptions {
        layers: vec![Arc::new(tls)],
        ..DialOptions::default()
    };
    let dialled = dial(&"udp://127.0.0.1:9".parse().unwrap(), &options).await;
    let error = dialled.unwrap_err();
    assert!(matches!(error, DialError::Handshake { .. }), "{error}");
}

#[tokio::test]
async fn endpoint_framing_does_not_apply_to_message_links() {
    let layers: Vec<Arc<dyn ServerLayer>> = vec![Arc::new(WholeMessagesLayer)];
    let serving = Serve::new("upper", Framing::Line, layers).start().await;
    let mut peer = serving.call(4096).await;
    for request in ["one\ntwo", "three"] {
        peer.write_all(request.as_bytes()).await.unwrap();
        let mut back = vec![0; request.len()];
        peer.read_exact(&mut back).await.unwrap();
        assert_eq!(back, request.to_uppercase().as_bytes());
    }
    drop(peer);
    assert_eq!(serving.end().await, (2, vec![CloseReason::PeerClosed]));
}

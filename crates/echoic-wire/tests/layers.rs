//! Layers over real sockets: what a link over a link tells, and how dialling through one can fail.

#![allow(clippy::unwrap_used, reason = "in a test that is the failure")]

mod xor;

use std::{io, sync::Arc, time::Duration};

use echoic_core::{
    endpoint::{Endpoint, Shape},
    service::BoxFuture,
};
use echoic_wire::{
    ClientLayer, DialError, DialOptions, Incoming, Link, ListenOptions, Listener, ServerLayer,
    dial, listen,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    join,
};
use xor::XorLayer;

async fn listener() -> (Listener, Endpoint) {
    let endpoint = "127.0.0.1:0".parse().unwrap();
    let mut listeners = listen(&endpoint, &ListenOptions::default()).await.unwrap();
    let listener = listeners.remove(0);
    let endpoint = listener.address().to_string().parse().unwrap();
    (listener, endpoint)
}

fn through(layers: Vec<Arc<dyn ClientLayer>>) -> DialOptions {
    DialOptions {
        layers,
        ..DialOptions::default()
    }
}

#[tokio::test]
async fn layers_stack_and_the_uppermost_link_tells_the_addresses_of_the_socket() {
    let (listener, endpoint) = listener().await;
    let options = through(vec![Arc::new(XorLayer(1)), Arc::new(XorLayer(4))]);
    let (accepted, dialled) = join!(listener.accept(), dial(&endpoint, &options));
    let (accepted, dialled) = (accepted.unwrap(), dialled.unwrap());
    let (peer, here) = (accepted.peer.clone(), accepted.local.clone());
    let mut ours = Incoming::open(accepted).unwrap();
    let mut theirs = dialled.link;
    for (link, local, remote) in [(&ours, &here, &peer), (&theirs, &peer, &here)] {
        assert_eq!(link.local().as_ref(), Some(local));
        assert_eq!(link.remote().as_ref(), Some(remote));
        assert_eq!(link.shape(), Shape::Stream);
    }
    theirs.write_all(b"abc").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut raw = Vec::new();
    ours.read_to_end(&mut raw).await.unwrap();
    assert_eq!(raw, [b'a' ^ 5, b'b' ^ 5, b'c' ^ 5]);

    let mut ours = XorLayer(5).accept(ours).await.unwrap();
    ours.write_all(b"back").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut back = String::new();
    theirs.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "back");
}

#[tokio::test]
async fn abort_of_the_uppermost_link_resets_the_connection() {
    let (listener, endpoint) = listener().await;
    let options = through(vec![Arc::new(XorLayer(1)), Arc::new(XorLayer(4))]);
    let (accepted, dialled) = join!(listener.accept(), dial(&endpoint, &options));
    let mut ours = accepted.unwrap().open().unwrap();
    let mut theirs = dialled.unwrap().link;
    theirs.abort();
    drop(theirs);
    let error = ours.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// Waits for one byte, which has to be `!`.
#[derive(Debug)]
struct Hello;

impl ClientLayer for Hello {
    fn connect(&self, mut link: Link) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async move {
            match link.read_u8().await? {
                b'!' => Ok(link),
                _ => Err(io::Error::other("no hello")),
            }
        })
    }
}

#[tokio::test]
async fn handshake_failure_and_timeout_differ_from_connect_failure() {
    let (listener, endpoint) = listener().await;
    let options = DialOptions {
        handshake_timeout: Duration::from_millis(100),
        ..through(vec![Arc::new(Hello)])
    };
    for (said, expected) in [
        ("!", "connected"),
        ("?", "the handshake with 127.0.0.1:P failed: no hello"),
        ("", "127.0.0.1:P did not finish the handshake within 100ms"),
    ] {
        let answering = async {
            let mut link = listener.accept().await.unwrap().open().unwrap();
            link.write_all(said.as_bytes()).await.unwrap();
            link
        };
        let (_held, dialled) = join!(answering, dial(&endpoint, &options));
        let told = match dialled {
            Ok(_) => "connected".to_owned(),
            Err(error @ (DialError::Handshake { .. } | DialError::HandshakeTimedOut { .. })) => {
                error.to_string()
            }
            Err(error) => panic!("{error}"),
        };
        let port = listener.address().port().unwrap().to_string();
        assert_eq!(told.replace(&port, "P"), expected);
    }
}

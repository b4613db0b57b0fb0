use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use echoic_core::endpoint::{Host, HostPort};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::tls::{TlsClient, TlsClientOptions, TlsError, TlsErrorKind};

/// The time until a client that waits for more is taken to wait for ever.
const FOR_EVER: Duration = Duration::from_secs(20);

/// A certificate that is trusted, so that the system's are not read for each client: they are never reached here.
const CA: &str = include_str!("ca.pem");

/// A PEM file that is removed with this.
struct CaFile(PathBuf);

impl CaFile {
    fn write() -> Self {
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        let n = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let name = format!("echoic-first-answer-{}-{n}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, CA).unwrap();
        Self(path)
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Does the handshake with a peer that sends `answer` of what it has received, and then waits for more. The `ClientHello`
/// grows with `size`.
async fn shake_hands(ca: &CaFile, size: usize, answer: impl Fn(&[u8]) -> Vec<u8>) -> TlsErrorKind {
    let options = TlsClientOptions {
        ca: Some(ca.0.clone()),
        alpn: vec!["x".repeat(size)],
        ..TlsClientOptions::default()
    };
    let at = HostPort {
        host: Host::Name("localhost".into()),
        port: 1,
    };
    let client = TlsClient::new(&at, &options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = TcpStream::connect(listener.local_addr().unwrap());
    let (ours, accepted) = tokio::join!(dial, listener.accept());
    let (mut peer, _) = accepted.unwrap();
    let plain = async {
        let mut received = vec![0; 16 << 10];
        loop {
            match peer.read(&mut received).await {
                Ok(0) | Err(_) => return,
                // The client may be gone.
                Ok(n) => drop(peer.write_all(&answer(&received[..n])).await),
            }
        }
    };
    let opened = timeout(FOR_EVER, client.open(Link::tcp(ours.unwrap(), None)));
    let (result, ()) = tokio::join!(
        async { opened.await.expect("the client waits for more").err() },
        plain
    );
    TlsError::of(&result.unwrap()).unwrap().kind()
}

/// Services change letters, and the numbers of a header may be letters: `upper` and `lower` make records of other lengths.
#[tokio::test]
async fn changed_client_hello_of_any_length_is_no_tls_at_once() {
    let ca = CaFile::write();
    for size in 1..=255 {
        for (name, answer) in [
            ("upper", <[u8]>::to_ascii_uppercase as fn(&[u8]) -> Vec<u8>),
            ("lower", <[u8]>::to_ascii_lowercase),
            ("echo", <[u8]>::to_vec),
        ] {
            let kind = shake_hands(&ca, size, answer).await;
            assert_eq!(kind, TlsErrorKind::NotTls, "{name}, {size}");
        }
    }
}

/// None of them is the beginning of a record that a server may begin with, and after none of them comes more.
#[tokio::test]
async fn short_answer_of_another_protocol_is_no_tls_at_once() {
    let ca = CaFile::write();
    for answer in [
        &b"h"[..],
        b"220 mail.example\r\n",
        b"\x16A",
        b"\x14\x03\x03\0\x01",   // a ChangeCipherSpec comes after a ServerHello
        b"\x17\x03\x03\0\x05",   // and so does application data
        b"\x15\x03\x03\0\x1a",   // an alert of the length of an encrypted one
        b"\x16\x03\x03\x7f\xff", // longer than a record may be
        b"\x16\x03\x03\0\0",     // shorter
        b"\x16\x03\x03\0\x7a\x0b", // a Certificate
    ] {
        let kind = shake_hands(&ca, 1, |_| answer.to_vec()).await;
        assert_eq!(kind, TlsErrorKind::NotTls, "{}", answer.escape_ascii());
    }
}

#[test]
fn answers_of_servers_pass_in_any_part() {
    for answer in [
        &b"\x16\x03\x03\0\x7a\x02"[..], // a ServerHello
        b"\x16\x03\x01\0\x02\x02",      // the beginning of one: it may be cut into records
        b"\x16\x03\x03\0\x04\0",        // a HelloRequest
        b"\x15\x03\x01\0\x02\x02\x28",  // an alert
        b"\x15\x03\x03\0\x02\x01\0", // another, whose first byte is no type of a handshake message
    ] {
        for n in 0..=answer.len().min(LOOKED_AT) {
            assert_eq!(check(&answer[..n]), Ok(()), "{}", answer.escape_ascii());
        }
    }
}

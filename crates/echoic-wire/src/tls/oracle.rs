//! The oracle of the fuzz target and of its seeds: any first bytes of a client.

use std::{
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use super::{TlsError, TlsServer};
use crate::{
    link::Link,
    transport::{ServerLayer, Transport},
};

/// Most that a server sends to a client whose handshake is not complete: its certificates and a few records.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A client that sends some bytes in pieces and ends.
#[derive(Debug)]
struct Client {
    bytes: Vec<u8>,
    read: usize,
    /// Longest piece, in bytes.
    piece: usize,
    answered: Arc<Mutex<Vec<u8>>>,
}

impl Transport for Client {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let rest = &self.bytes[self.read..];
        let n = rest.len().min(buffer.len()).min(self.piece);
        buffer[..n].copy_from_slice(&rest[..n]);
        self.read += n;
        Poll::Ready(Ok(n))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut answered = self.answered.lock().map_err(|_| io::ErrorKind::Other)?;
        answered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}
}

/// Checks that a server refuses any first bytes of a client, with a reason, within bounds, and the same however they are cut.
/// No such bytes complete a handshake: that takes an answer to the server's random numbers.
///
/// # Panics
///
/// If it does not.
#[doc(hidden)]
pub fn check_first_flight(server: &TlsServer, received: &[u8]) {
    let whole = refuse(server, received, usize::MAX);
    assert_eq!(
        whole,
        refuse(server, received, 1),
        "how the bytes are cut changes nothing"
    );
}

/// Returns the reason, and the first byte sent: the type of a record, or `H` of an answer in HTTP.
fn refuse(server: &TlsServer, received: &[u8], piece: usize) -> (String, Option<u8>) {
    let answered = Arc::<Mutex<Vec<u8>>>::default();
    let client = Client {
        bytes: received.to_vec(),
        read: 0,
        piece,
        answered: Arc::clone(&answered),
    };
    let mut handshake = server.accept(Link::layered(Box::new(client)));
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(done) = handshake.as_mut().poll(&mut cx) else {
        panic!("a client that has ended is waited for");
    };
    let Err(error) = done else {
        panic!("a handshake without a client");
    };
    let error = TlsError::of(&error).expect("invariant: a failed handshake has a reason");
    assert_eq!(error.info().failure, Some(error.to_string()));
    assert!(error.info().version.is_none());
    let answered = answered.lock().expect("invariant: nobody panicked");
    assert!(
        answered.len() <= ANSWER_BYTES_MAX,
        "{} bytes",
        answered.len()
    );
    let first = answered.first().copied();
    assert!(
        matches!(first, None | Some(20..=22)) || answered.starts_with(b"HTTP/1.1 400 "),
        "an answer that is neither TLS nor HTTP: {first:?}"
    );
    (error.to_string(), first)
}

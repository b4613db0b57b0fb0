//! The first bytes of a client: a `ClientHello`, or another protocol, which gets an answer that it understands if there is
//! one.

use std::{
    future::poll_fn,
    io::{self, Read},
    task::{Context, Poll},
};

use echoic_core::{event::TlsInfo, http::begins_as_http};
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio_rustls::StartHandshake;

use super::error::{End, NO_RECORD, TlsError, TlsErrorKind, of_handshake};
use crate::link::Link;

/// Bytes of another protocol that are read: the request line of HTTP.
const OTHER_BYTES_MAX: usize = 8 << 10;

/// Beginnings of a request line whose rest is waited for (RFC 9110, section 9; RFC 9113, section 3.4).
const METHODS: [&[u8]; 10] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PRI ",
];

/// A fatal alert `decode_error` (RFC 8446, section 6), as a record: the answer to what is no TLS.
const DECODE_ERROR: [u8; 7] = [21, 3, 1, 0, 2, 2, 50];

const HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 67\r\n\
    Connection: close\r\n\r\n\
    This port speaks TLS, and the request was plain HTTP: use https://\n";

/// Reads the `ClientHello`.
///
/// # Errors
///
/// The client closed, or sent something else. It has been answered, by an alert or in HTTP.
pub(super) async fn read(mut link: Link) -> io::Result<StartHandshake<Link>> {
    let mut acceptor = Acceptor::default();
    let mut first = Vec::new();
    loop {
        let n = poll_fn(|cx| {
            let mut reader = Reader {
                link: &mut link,
                cx,
                first: &mut first,
            };
            match acceptor.read_tls(&mut reader) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                result => Poll::Ready(result),
            }
        });
        if n.await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Decided by the first byte: rustls waits for five, and a line may have fewer.
        if first.first().is_some_and(|kind| !is_record(*kind)) {
            return Err(answer_other(&mut link, first).await);
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(StartHandshake::from_parts(accepted, link)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                alert.write_all(&mut bytes)?;
                // The error is what counts: the peer may be gone.
                let _ = link.write_all(&bytes).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

/// Describes an error of [`read`], or of the handshake after it.
pub(super) fn describe(error: io::Error, info: &TlsInfo) -> io::Error {
    if TlsError::of(&error).is_some() {
        return error;
    }
    of_handshake(End::Server, &error, None, info.clone()).into_io(io::ErrorKind::InvalidData)
}

/// Whether a record of TLS begins with this byte: its content type (RFC 8446, section 5.1).
fn is_record(kind: u8) -> bool {
    (20..=23).contains(&kind)
}

/// Answers a client that does not speak TLS, and returns the error.
async fn answer_other(link: &mut Link, mut first: Vec<u8>) -> io::Error {
    read_line(link, &mut first).await;
    let is_http = begins_as_http(&first);
    let answer = if is_http { HTTP_ANSWER } else { &DECODE_ERROR };
    // The error is what counts: the peer may be gone.
    let _ = link.write_all(answer).await;
    let why = if is_http {
        "the peer does not speak TLS: it sent a plain HTTP request, and was answered with 400"
    } else {
        NO_RECORD
    };
    TlsError::new(TlsErrorKind::NotTls, why.to_owned(), TlsInfo::default())
        .into_io(io::ErrorKind::InvalidData)
}

/// Reads on for as long as the bytes may be an unfinished request line; the deadline of the handshake is the caller's.
async fn read_line(link: &mut Link, first: &mut Vec<u8>) {
    let mut buffer = [0; 512];
    while may_become_http(first) && first.len() < OTHER_BYTES_MAX {
        match poll_fn(|cx| link.poll_read(cx, &mut buffer)).await {
            Ok(n) if n > 0 => first.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
}

fn may_become_http(bytes: &[u8]) -> bool {
    let mut methods = METHODS.iter();
    !bytes.contains(&b'\n')
        && methods.any(|method| bytes.starts_with(method) || method.starts_with(bytes))
}

/// A link as rustls reads it. It keeps the first bytes for what they may tell.
struct Reader<'a, 'b> {
    link: &'a mut Link,
    cx: &'a mut Context<'b>,
    first: &'a mut Vec<u8>,
}

impl Read for Reader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.link.poll_read(self.cx, buffer) {
            Poll::Ready(result) => {
                let n = result?;
                let room = OTHER_BYTES_MAX.saturating_sub(self.first.len());
                self.first.extend_from_slice(&buffer[..n.min(room)]);
                Ok(n)
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_in_http_has_its_own_length() {
        let text = std::str::from_utf8(HTTP_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        assert_eq!(length.unwrap().parse(), Ok(body.len()));
    }

    #[test]
    fn only_the_beginning_of_a_request_line_is_waited_for() {
        for (bytes, expected) in [
            (&b"G"[..], true),
            (b"GET / HTTP/1.", true),
            (b"GET / HTTP/1.1\r\n", false),
            (b"HELO x", false),
            (b"GETS", false),
            (b"hello", false),
            (b"\0\0\0\x08", false),
        ] {
            assert_eq!(may_become_http(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}

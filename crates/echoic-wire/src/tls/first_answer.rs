//! The first bytes of a server's answer. rustls waits for a whole record, so what is no TLS, or our own `ClientHello` with
//! another length, could keep a client waiting for bytes that never come. Six bytes tell the difference.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use rustls::{ContentType, Error, HandshakeType, InvalidMessage};

use crate::{link::Link, transport::Transport};

/// Bytes that are looked at: the header of a record, and the type of a handshake message.
const LOOKED_AT: usize = 6;

/// Longest content of a record without encryption (RFC 8446, section 5.1).
const RECORD_MAX: usize = 1 << 14;

/// Returns the link of a client with the check, to be passed to rustls.
pub(super) fn checked(link: Link) -> Link {
    Link::layered(Box::new(FirstAnswer {
        link,
        first: [0; LOOKED_AT],
        seen: 0,
    }))
}

/// Decides whether an answer that begins with `first` may be one of a TLS server, as soon as a byte decides it. A server
/// answers a `ClientHello` with a `ServerHello` or an alert, and TLS 1.2 allows a `HelloRequest` at any time.
fn check(first: &[u8]) -> Result<(), Error> {
    let no_record = Err(Error::InvalidMessage(InvalidMessage::InvalidContentType));
    let Some((&kind, rest)) = first.split_first() else {
        return Ok(());
    };
    let is_alert = match ContentType::from(kind) {
        ContentType::Alert => true,
        ContentType::Handshake => false,
        _ => return no_record,
    };
    if rest.first().is_some_and(|major| *major != 3) {
        return no_record;
    }
    if let [_, _, high, low, ..] = *rest {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let is_possible = if is_alert {
            length == 2
        } else {
            (1..=RECORD_MAX).contains(&length)
        };
        if !is_possible {
            return no_record;
        }
    }
    match rest.get(4).map(|kind| HandshakeType::from(*kind)) {
        Some(got_type) if !is_alert && is_of_client(got_type) => {
            Err(Error::InappropriateHandshakeMessage {
                expect_types: vec![HandshakeType::ServerHello],
                got_type,
            })
        }
        Some(got_type) if !is_alert && !is_of_server(got_type) => {
            let error = InvalidMessage::UnexpectedMessage("no ServerHello");
            Err(Error::InvalidMessage(error))
        }
        _ => Ok(()),
    }
}

fn is_of_client(kind: HandshakeType) -> bool {
    kind == HandshakeType::ClientHello
}

fn is_of_server(kind: HandshakeType) -> bool {
    matches!(
        kind,
        HandshakeType::ServerHello | HandshakeType::HelloRequest
    )
}

/// A link whose first bytes are checked as they are read.
#[derive(Debug)]
struct FirstAnswer {
    link: Link,
    first: [u8; LOOKED_AT],
    /// Bytes of `first` that have been read.
    seen: usize,
}

impl FirstAnswer {
    fn look_at(&mut self, bytes: &[u8]) -> io::Result<()> {
        let n = bytes.len().min(LOOKED_AT - self.seen);
        self.first[self.seen..self.seen + n].copy_from_slice(&bytes[..n]);
        self.seen += n;
        check(&self.first[..self.seen])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl Transport for FirstAnswer {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let n = ready!(self.link.poll_read(cx, buffer))?;
        if self.seen < LOOKED_AT {
            self.look_at(&buffer[..n])?;
        }
        Poll::Ready(Ok(n))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.link.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.link.poll_write_vectored(cx, parts)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_finish(cx)
    }

    fn abort(&mut self) {
        self.link.abort();
    }

    fn lower(&self) -> Option<&Link> {
        Some(&self.link)
    }

    fn closes_on_drop(&self) -> bool {
        self.link.closes_on_drop()
    }
}

#[cfg(test)]
mod tests;

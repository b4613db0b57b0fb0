//! An open TLS connection, at either end.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use echoic_core::event::TlsInfo;
use rustls::{CommonState, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use super::{
    error::{End, TlsError, of_rustls},
    version_number,
};
use crate::{link::Link, transport::Transport};

/// An open TLS connection.
pub(super) struct TlsTransport {
    stream: TlsStream<Link>,
    our: End,
    info: Arc<TlsInfo>,
    /// Bytes that rustls has taken and not yet written in full.
    taken: usize,
    /// The peer's half has ended: by `close_notify`, or by a FIN without it, which was reported.
    ended: bool,
}

impl TlsTransport {
    /// Returns a link over an open connection.
    pub(super) fn link(stream: TlsStream<Link>, our: End, info: Arc<TlsInfo>) -> Link {
        Link::layered(Box::new(Self {
            stream,
            our,
            info,
            taken: 0,
            ended: false,
        }))
    }

    /// Under TLS 1.2 the `close_notify` of the peer ends both halves (RFC 5246, 7.2.1).
    fn is_over(&self) -> bool {
        self.ended && state(&self.stream).protocol_version() == Some(ProtocolVersion::TLSv1_2)
    }

    /// Describes an error of TLS; leaves one of the socket as it is.
    fn describe(&self, error: io::Error) -> io::Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(inner) = inner else {
            return error;
        };
        // To a server a fatal alert is a peer that leaves at once. A client may still learn by it that it was refused.
        let is_alert = matches!(inner, rustls::Error::AlertReceived(_));
        let io_kind = if is_alert && self.our == End::Server {
            io::ErrorKind::ConnectionAborted
        } else {
            io::ErrorKind::InvalidData
        };
        let (kind, why) = of_rustls(self.our, inner, None);
        TlsError::new(kind, why, TlsInfo::clone(&self.info)).into_io(io_kind)
    }
}

impl Transport for TlsTransport {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let mut unfilled = ReadBuf::new(buffer);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut unfilled);
        // An alert that a record was answered by, as one that asks for a renegotiation: a peer that waits for it sends nothing
        // before. If the socket takes it later, or fails, a later call reports that.
        if self.taken == 0 && state(&self.stream).wants_write() {
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
        match ready!(read) {
            Ok(()) => {
                let n = unfilled.filled().len();
                self.ended = n == 0 && unfilled.capacity() > 0;
                Poll::Ready(Ok(n))
            }
            Err(error) => {
                self.ended = error.kind() == io::ErrorKind::UnexpectedEof;
                Poll::Ready(Err(self.describe(error)))
            }
        }
    }

    /// Bytes count as written only when rustls has written all of them: otherwise it would hold records that nothing
    /// flushes.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.taken == 0 {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
            self.taken = taken.map_err(|error| self.describe(error))?;
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        flushed.map_err(|error| self.describe(error))?;
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

    fn tls(&self) -> Option<&Arc<TlsInfo>> {
        Some(&self.info)
    }

    fn is_resumed(&self) -> Option<bool> {
        Some(state(&self.stream).handshake_kind() == Some(HandshakeKind::Resumed))
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

fn state(stream: &TlsStream<Link>) -> &CommonState {
    match stream {
        TlsStream::Server(stream) => stream.get_ref().1,
        TlsStream::Client(stream) => stream.get_ref().1,
    }
}

/// Adds what the handshake agreed on to `info`.
pub(super) fn agreed(stream: &TlsStream<Link>, info: &mut TlsInfo) {
    let state = state(stream);
    info.version = state.protocol_version().map(version_number);
    let suite = state.negotiated_cipher_suite().map(|suite| suite.suite());
    info.cipher = suite.and_then(|suite| suite.as_str().map(str::to_owned));
    info.alpn = state
        .alpn_protocol()
        .map(|name| String::from_utf8_lossy(name).into_owned());
}

/// Returns the group of the key exchange.
pub(super) fn group(stream: &TlsStream<Link>) -> Option<String> {
    let group = state(stream).negotiated_key_exchange_group()?;
    Some(format!("{:?}", group.name()))
}

//! The traits of layers between a [`Link`] and a socket: TLS, WebSocket, byte faults, a pipe in memory.
//!
//! A [`Transport`] is an open layer. A [`ServerLayer`] or a [`ClientLayer`] opens it over a link, with a handshake if
//! the protocol has one. Layers stack: each is opened over the link of the one below.

use std::{
    fmt::Debug,
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll},
};

use echoic_core::{endpoint::Shape, event::TlsInfo, service::BoxFuture};

use crate::{link::Link, send_queue::SendQueue};

/// An open layer, which carries the bytes of a [`Link`]. Polled, not awaited
/// (`docs/decisions/0002-poll-shaped-link.md`).
pub trait Transport: Send + Debug {
    /// Reads into `buffer`. 0 means the end of the peer's half and nothing else. With [`Shape::Messages`] each read
    /// is one whole message. Data that is buffered before it can be read (a TLS record) is bounded.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes a prefix of `bytes`, at least one byte, and returns its length.
    ///
    /// There is no flush: bytes count as written once none of them is buffered here. A transport that has taken bytes
    /// and cannot pass them on returns `Pending`; it is called again with the same bytes, possibly followed by more.
    /// With [`Shape::Messages`] `bytes` are one message, and the prefix is all of it.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Writes a prefix of the parts joined, as [`Self::poll_write`] does. A layer that passes bytes on unchanged overrides
    /// it, so that the records of a layer above leave in one system call.
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().find(|part| !part.is_empty());
        self.poll_write(cx, first.map_or(&[], |part| part))
    }

    /// Ends our half after everything written: sends the layer's close message (`close_notify`) and finishes the link
    /// below (FIN). The peer's half can still be read.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Makes dropping the link below reset the connection ([`Link::abort`]).
    fn abort(&mut self);

    /// Returns the link below, which knows the addresses; `None` for the lowest layer (a pipe in memory).
    fn lower(&self) -> Option<&Link> {
        None
    }

    /// Returns what the handshake of TLS agreed on, if this layer or one below is TLS.
    fn tls(&self) -> Option<&Arc<TlsInfo>> {
        self.lower()?.tls()
    }

    /// Whether the handshake of TLS resumed an earlier session; `None` without TLS.
    fn is_resumed(&self) -> Option<bool> {
        self.lower()?.is_resumed()
    }

    /// Returns what the peer has not taken yet ([`Link::send_queue`]), in bytes of the lowest layer.
    fn send_queue(&self) -> Option<SendQueue> {
        self.lower()?.send_queue()
    }

    /// Returns the shape of the data, which may differ from that of the link below.
    fn shape(&self) -> Shape {
        Shape::Stream
    }

    /// Whether dropping the transport ends our half in order, once the peer has ended its own. True only if
    /// [`Self::poll_finish`] sends nothing but the kernel's FIN; the server then saves that call.
    fn closes_on_drop(&self) -> bool {
        false
    }
}

/// Opens a layer over each connection that a server accepts.
pub trait ServerLayer: Send + Sync + Debug {
    /// Does the server's side of the handshake over `link`. It runs in the conversation's own task under the server's
    /// deadline, so the future may be dropped at any await.
    ///
    /// # Errors
    ///
    /// The peer violates the layer's protocol, or is rejected. An alert for the peer is written before this returns;
    /// the server then closes the link in order.
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>>;
}

/// Opens a layer over a client's connection.
pub trait ClientLayer: Send + Sync + Debug {
    /// Does the client's side of the handshake over `link`, under the caller's deadline.
    ///
    /// # Errors
    ///
    /// As for [`ServerLayer::accept`].
    fn connect(&self, link: Link) -> BoxFuture<'_, io::Result<Link>>;
}

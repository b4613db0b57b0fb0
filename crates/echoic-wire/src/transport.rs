//! The seam for what carries a [`Link`] beside plain sockets: TLS, WebSocket, byte faults, a pipe in memory.
//!
//! A [`Transport`] is the open layer; a [`ServerLayer`] and a [`ClientLayer`] open it over a link, which is where a
//! handshake takes place. Layers stack: each is opened over the link that the one below it has made.

use std::{
    fmt::Debug,
    io,
    task::{Context, Poll},
};

use echoic_core::{endpoint::Shape, service::BoxFuture};

use crate::link::Link;

/// What carries a [`Link`]. Polled, not awaited (`docs/decisions/0002-poll-shaped-link.md`).
pub trait Transport: Send + Debug {
    /// Reads into `buffer`; 0 is the end of the peer's half and nothing else. With [`Shape::Messages`] each read is
    /// one whole message. What is buffered of bytes not yet readable (a TLS record) is bounded.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes a prefix of `bytes`, one byte or more, and returns how long it is. Bytes count as written when nothing of
    /// them is buffered here any more, so there is no flush: a transport that has taken bytes and cannot pass them on
    /// returns `Pending`, and is called again with the same bytes, to which others may have been appended. With
    /// [`Shape::Messages`] `bytes` are one message and the prefix is all of it.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Ends our half after everything written, with the layer's own word for it (`close_notify`) and that of the link
    /// below (FIN). The peer's half can still be read.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Makes the drop of the link below a reset ([`Link::abort`]).
    fn abort(&mut self);

    /// The link this lies over, which knows the addresses; none for one that ends here (a pipe in memory).
    fn lower(&self) -> Option<&Link> {
        None
    }

    /// How its bytes travel, whatever the link below.
    fn shape(&self) -> Shape {
        Shape::Stream
    }

    /// Whether, once the peer has ended its half, dropping this ends ours: not if [`Self::poll_finish`] has a word to
    /// say. Where it does, the kernel's close is enough and saves a call.
    fn closes_on_drop(&self) -> bool {
        false
    }
}

/// Opens a layer over each connection that a server accepts.
pub trait ServerLayer: Send + Sync + Debug {
    /// The server's side of the handshake over `link`. It runs in the conversation's own task, with the server's
    /// deadline around it: to be dropped at any moment must do no harm.
    ///
    /// # Errors
    ///
    /// The peer does not speak the layer's protocol, or is not accepted. What the layer has to tell the peer about that
    /// (an alert) is written before this returns; the server then closes the link in order.
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>>;
}

/// Opens a layer over a connection that a client has made.
pub trait ClientLayer: Send + Sync + Debug {
    /// The client's side of the handshake over `link`, with the caller's deadline around it.
    ///
    /// # Errors
    ///
    /// As for [`ServerLayer::accept`].
    fn connect(&self, link: Link) -> BoxFuture<'_, io::Result<Link>>;
}

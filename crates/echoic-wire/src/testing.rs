//! What a test may put in the place of a socket. Not in the shipped program: a feature that only tests ask for.

use std::{
    fmt::Debug,
    io,
    task::{Context, Poll},
};

use echoic_core::event::Place;

/// A transport of a test's own making: in memory, or over TLS.
pub trait Transport: Send + Debug {
    /// As [`Link::poll_read`](crate::Link::poll_read).
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// As [`Link::poll_write`](crate::Link::poll_write).
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// As [`Link::poll_finish`](crate::Link::poll_finish).
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// As [`Link::abort`](crate::Link::abort).
    fn abort(&mut self);
}

/// Callers of a test's own making.
pub trait Callers: Send + Sync + Debug {
    /// As [`Listener::poll_accept`](crate::Listener::poll_accept): the next of them, and where it calls from.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Transport>, Place)>>;
    /// As [`Listener::hush`](crate::Listener::hush): who calls from now on is refused.
    fn hush(&self);
}

/// A socket of datagrams of a test's own making.
pub trait DatagramTransport: Send + Sync + Debug {
    /// Whether there may be a datagram to receive, or room for one to be sent.
    fn poll_ready(&self, cx: &mut Context<'_>, to_send: bool) -> Poll<io::Result<()>>;
    /// Takes one datagram: its bytes in `room`, its whole length, and who sent it; none is `WouldBlock`.
    fn receive(&self, room: &mut [u8]) -> io::Result<(usize, usize, Place)>;
    /// Sends one datagram, all of it; no room for it is `WouldBlock`.
    fn send(&self, bytes: &[u8], to: &Place) -> io::Result<usize>;
    /// As [`Datagrams::ask_dropped`](crate::Datagrams::ask_dropped).
    fn dropped(&self) -> u32;
    /// As [`Datagrams::room`](crate::Datagrams::room).
    fn room(&self) -> usize;
}

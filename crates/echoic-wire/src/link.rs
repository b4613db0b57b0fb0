//! One peer: bytes in, bytes out, an end.
//!
//! Poll-shaped, so that one future can wait for reading, writing, a service and a deadline at once. Reading goes
//! through `poll_read` and not `readable` + `try_read`: after a short read tokio then knows without asking that
//! nothing is left, which saves one failing `recv` a message.
//!
//! An enum, since a match is free where a table of functions is not: plain sockets are variants, every layer over one
//! is a [`Transport`] behind the same variant.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use echoic_core::{endpoint::Shape, event::Address};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixDatagram, UnixStream},
};

use crate::{
    explain::{Call, Explain},
    transport::Transport,
    udp, unix,
};

/// A connection to one peer.
#[derive(Debug)]
pub struct Link {
    transport: Kind,
    explain: Option<Explain>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(udp::Connected),
    Unixgram(UnixDatagram),
    Layered(Box<dyn Transport>),
}

impl Link {
    /// A link over a TCP stream that we have connected. Replies of one read leave in one write, so Nagle's algorithm
    /// would only delay them (RFC 896): `TCP_NODELAY` is set.
    pub fn tcp(stream: TcpStream, explain: Option<Explain>) -> Self {
        // A peer that has already reset the connection makes this fail; the next read will tell.
        let _ = stream.set_nodelay(true);
        Self::accepted(stream, explain)
    }

    /// A link over a TCP stream that was accepted: it has `TCP_NODELAY` from its listener.
    pub(crate) fn accepted(stream: TcpStream, explain: Option<Explain>) -> Self {
        Self {
            transport: Kind::Tcp(stream),
            explain,
        }
    }

    /// A link over a connected Unix stream.
    pub fn unix(stream: UnixStream, explain: Option<Explain>) -> Self {
        Self {
            transport: Kind::Unix(stream),
            explain,
        }
    }

    /// A link over a connected UDP socket.
    pub(crate) fn udp(socket: udp::Connected, explain: Option<Explain>) -> Self {
        Self {
            transport: Kind::Udp(socket),
            explain,
        }
    }

    /// A link over a connected Unix socket of datagrams.
    pub(crate) fn unixgram(socket: UnixDatagram, explain: Option<Explain>) -> Self {
        Self {
            transport: Kind::Unixgram(socket),
            explain,
        }
    }

    /// A link over a transport of any other kind. Calls of the system are told to `--explain` by the link below it.
    pub fn layered(transport: Box<dyn Transport>) -> Self {
        Self {
            transport: Kind::Layered(transport),
            explain: None,
        }
    }

    /// How its bytes travel. With datagrams a read is one message and a write is one, there is no end, and a message
    /// of no bytes is a message.
    pub fn shape(&self) -> Shape {
        match &self.transport {
            Kind::Udp(_) | Kind::Unixgram(_) => Shape::Datagrams,
            Kind::Tcp(_) | Kind::Unix(_) => Shape::Stream,
            Kind::Layered(transport) => transport.shape(),
        }
    }

    /// Our own address of it, if it has one.
    pub fn local(&self) -> Option<Address> {
        match &self.transport {
            Kind::Tcp(stream) => stream.local_addr().ok().map(Address::from),
            Kind::Unix(stream) => stream
                .local_addr()
                .ok()
                .map(|addr| unix::address(&addr.into())),
            Kind::Udp(socket) => socket.local_addr().ok().map(Address::from),
            Kind::Unixgram(socket) => socket
                .local_addr()
                .ok()
                .map(|addr| unix::address(&addr.into())),
            Kind::Layered(transport) => transport.lower()?.local(),
        }
    }

    /// The peer's address, if it has one and is still there.
    pub fn remote(&self) -> Option<Address> {
        match &self.transport {
            Kind::Tcp(stream) => stream.peer_addr().ok().map(Address::from),
            Kind::Unix(stream) => stream
                .peer_addr()
                .ok()
                .map(|addr| unix::address(&addr.into())),
            Kind::Udp(socket) => socket.peer_addr().ok().map(Address::from),
            Kind::Unixgram(socket) => socket
                .peer_addr()
                .ok()
                .map(|addr| unix::address(&addr.into())),
            Kind::Layered(transport) => transport.lower()?.remote(),
        }
    }

    /// Asks for room for so many bytes of datagrams that have not been read yet; the system may grant less. A stream's
    /// room is the system's to tune.
    pub fn set_receive_buffer_size(&self, bytes: usize) {
        if let Kind::Udp(socket) = &self.transport {
            socket.set_receive_buffer_size(bytes);
        }
    }

    /// Datagrams that the kernel has dropped since they were not read soon enough, where it counts them.
    pub fn dropped(&self) -> Option<u32> {
        match &self.transport {
            Kind::Udp(socket) => socket.dropped(),
            Kind::Layered(transport) => transport.lower()?.dropped(),
            _ => None,
        }
    }

    /// Reads into `buffer` what there is; 0 is the end of the peer's stream (FIN). Of datagrams it reads one, and what
    /// of it does not fit is lost: 64 KiB hold any that UDP carries.
    #[inline]
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(match &mut self.transport {
            Kind::Tcp(stream) => read(stream, cx, buffer),
            Kind::Unix(stream) => read(stream, cx, buffer),
            Kind::Udp(socket) => socket.poll_recv(cx, buffer),
            Kind::Unixgram(socket) => {
                let mut unfilled = ReadBuf::new(buffer);
                socket
                    .poll_recv(cx, &mut unfilled)
                    .map_ok(|()| unfilled.filled().len())
            }
            Kind::Layered(transport) => transport.poll_read(cx, buffer),
        });
        if let Some(explain) = &self.explain {
            explain.report(Call::Recv {
                capacity: buffer.len(),
                result: read.as_ref().map(|n| &buffer[..*n]),
            });
        }
        Poll::Ready(read)
    }

    /// Writes as much of `bytes` as the peer's window and the kernel's buffer take now; the rest is the caller's
    /// to keep. Writing less than asked is the normal case, not an error (send(2)). `bytes` are one datagram, where there
    /// are such: all of it leaves, or nothing (EMSGSIZE if it is too long).
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.transport {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Kind::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Kind::Udp(socket) => socket.poll_send(cx, bytes),
            Kind::Unixgram(socket) => socket.poll_send(cx, bytes),
            Kind::Layered(transport) => transport.poll_write(cx, bytes),
        });
        if let Some(explain) = &self.explain {
            explain.report(Call::Send {
                bytes,
                result: written.as_ref().copied(),
            });
        }
        match written {
            // A transport that takes nothing and does not say that it is not ready would be asked for ever.
            Ok(0) if !bytes.is_empty() => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(written),
        }
    }

    /// Ends our half of the stream after everything written: FIN. The peer can still be read.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let finished = ready!(match &mut self.transport {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            // Nobody is told: datagrams have no end.
            Kind::Udp(_) | Kind::Unixgram(_) => return Poll::Ready(Ok(())),
            Kind::Layered(transport) => transport.poll_finish(cx),
        });
        if let Some(explain) = &self.explain {
            explain.report(Call::Shutdown {
                result: finished.as_ref().copied(),
            });
        }
        Poll::Ready(finished)
    }

    /// Whether dropping the link is enough to end our half, where the peer has ended its own: so it is with what the
    /// kernel carries. A layer above that has a word of its own for the end must say it by [`Self::poll_finish`].
    pub fn closes_on_drop(&self) -> bool {
        match &self.transport {
            Kind::Tcp(_) | Kind::Unix(_) | Kind::Udp(_) | Kind::Unixgram(_) => true,
            Kind::Layered(transport) => transport.closes_on_drop(),
        }
    }

    /// Cuts the connection: what is unsent is thrown away and the peer sees a reset (RST), through `SO_LINGER` 0.
    /// For whoever asks for just that (`:rst`, a fault): no ordinary ending resets.
    pub fn abort(&mut self) {
        match &mut self.transport {
            Kind::Tcp(stream) => {
                let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            }
            Kind::Layered(transport) => transport.abort(),
            // A Unix stream knows no reset but this: closed with something unread, its peer sees one. Datagrams are
            // not connected.
            Kind::Unix(_) | Kind::Udp(_) | Kind::Unixgram(_) => {}
        }
    }
}

/// So that a library which takes a stream (rustls, tungstenite) can lie over a link. Nothing is buffered here, so there
/// is nothing to flush; shutdown is [`Link::poll_finish`].
impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Self::poll_read(&mut self, cx, buffer.initialize_unfilled()))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(&mut self, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(cx)
    }
}

fn read(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut unfilled = ReadBuf::new(buffer);
    Pin::new(stream)
        .poll_read(cx, &mut unfilled)
        .map_ok(|()| unfilled.filled().len())
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(explain) = &self.explain {
            explain.report(Call::Close);
        }
    }
}

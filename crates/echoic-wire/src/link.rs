//! [`Link`], a connection to one peer over any transport.
//!
//! Its methods are polled, not async, so that one future can wait for reading, writing, a handler and a deadline at
//! once. Reading uses `poll_read` and not `readable` with `try_read`: after a short read tokio then knows that no data
//! is left, which saves one failing `recv` for each message.
//!
//! Sockets are variants of an enum, which avoids dynamic dispatch before each system call. All layers over a socket
//! share one variant, a boxed [`Transport`].

use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use echoic_core::{
    endpoint::Shape,
    event::{Address, TlsInfo},
};
use rustix::{
    io::Errno,
    net::{SendFlags, send},
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixDatagram, UnixStream},
};

use crate::{
    after_fin::{self, PeerAfterFin},
    explain::{Call, Explain},
    send_queue::{self, SendQueue},
    socket,
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
    /// Returns a link over a TCP stream that we have connected. Sets `TCP_NODELAY`: replies of one read leave in one
    /// write, so Nagle's algorithm (RFC 896) would only delay them.
    pub fn tcp(stream: TcpStream, explain: Option<Explain>) -> Self {
        // Fails if the peer has already reset the connection; the next read reports that.
        let _ = socket::set_option(explain.as_ref(), "TCP_NODELAY", 1, || {
            stream.set_nodelay(true)
        });
        Self::accepted(stream, explain)
    }

    /// Returns a link over an accepted TCP stream, which has inherited `TCP_NODELAY` from its listener.
    pub(crate) fn accepted(stream: TcpStream, explain: Option<Explain>) -> Self {
        Self {
            transport: Kind::Tcp(stream),
            explain,
        }
    }

    /// Returns a link over a connected Unix stream.
    pub fn unix(stream: UnixStream, explain: Option<Explain>) -> Self {
        Self {
            transport: Kind::Unix(stream),
            explain,
        }
    }

    /// Returns a link over a connected UDP socket.
    pub(crate) fn udp(socket: udp::Connected, explain: Option<Explain>) -> Self {
        Self {
            transport: Kind::Udp(socket),
            explain,
        }
    }

    /// Returns a link over a connected Unix datagram socket.
    pub(crate) fn unixgram(socket: UnixDatagram, explain: Option<Explain>) -> Self {
        Self {
            transport: Kind::Unixgram(socket),
            explain,
        }
    }

    /// Returns a link over any other transport. The link below it reports the socket calls for `--explain`.
    pub fn layered(transport: Box<dyn Transport>) -> Self {
        Self {
            transport: Kind::Layered(transport),
            explain: None,
        }
    }

    /// Returns the shape of the data. With [`Shape::Datagrams`] each read and each write is one message, an empty one
    /// is a message too, and there is no end of stream.
    pub fn shape(&self) -> Shape {
        match &self.transport {
            Kind::Udp(_) | Kind::Unixgram(_) => Shape::Datagrams,
            Kind::Tcp(_) | Kind::Unix(_) => Shape::Stream,
            Kind::Layered(transport) => transport.shape(),
        }
    }

    /// Has calls of the socket also reported to `explain`. Calls of layers are reported by the link below them.
    pub(crate) fn explain_also(&mut self, explain: Explain) {
        self.explain = Some(match self.explain.take() {
            Some(first) => first.and(explain),
            None => explain,
        });
    }

    /// Returns the socket's file descriptor, that of the lowest link under layers.
    pub fn raw_fd(&self) -> Option<RawFd> {
        match &self.transport {
            Kind::Tcp(stream) => Some(stream.as_raw_fd()),
            Kind::Unix(stream) => Some(stream.as_raw_fd()),
            Kind::Udp(socket) => Some(socket.as_raw_fd()),
            Kind::Unixgram(socket) => Some(socket.as_raw_fd()),
            Kind::Layered(transport) => transport.lower()?.raw_fd(),
        }
    }

    /// Whether [`Self::abort`] makes the connection end with a reset. Unix sockets and datagrams have none.
    pub fn can_reset(&self) -> bool {
        match &self.transport {
            Kind::Tcp(_) => true,
            Kind::Unix(_) | Kind::Udp(_) | Kind::Unixgram(_) => false,
            Kind::Layered(transport) => transport.lower().is_none_or(Self::can_reset),
        }
    }

    /// Returns our address, if the socket has one.
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

    /// Returns the peer's address, if it has one and is still connected.
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

    /// Sets the kernel's receive buffer of a UDP socket, in bytes; the system may grant less. Does nothing for streams,
    /// whose buffers the kernel tunes.
    pub fn set_receive_buffer_size(&self, bytes: usize) {
        if let Kind::Udp(socket) = &self.transport {
            socket.set_receive_buffer_size(bytes);
        }
    }

    /// Returns the number of datagrams that the kernel has dropped because its receive buffer was full, if it counts
    /// them.
    pub fn dropped(&self) -> Option<u32> {
        match &self.transport {
            Kind::Udp(socket) => socket.dropped(),
            Kind::Layered(transport) => transport.lower()?.dropped(),
            _ => None,
        }
    }

    /// Reads the available bytes into `buffer`; 0 means the end of the peer's stream (FIN). With datagrams it reads one,
    /// truncated to `buffer`: 64 KiB hold any UDP datagram.
    #[inline]
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(match &mut self.transport {
            Kind::Tcp(stream) => read_stream(stream, cx, buffer),
            Kind::Unix(stream) => read_stream(stream, cx, buffer),
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
                result: result.as_ref().map(|n| &buffer[..*n]),
            });
        }
        Poll::Ready(result)
    }

    /// Writes as much of `bytes` as the peer's window and the kernel's buffer take now, and returns how much; the
    /// caller writes the rest later. A short write is normal, not an error (send(2)). With datagrams `bytes` are one:
    /// all of it is sent, or none (EMSGSIZE if it is too long).
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(match &mut self.transport {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Kind::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Kind::Udp(socket) => socket.poll_send(cx, bytes),
            Kind::Unixgram(socket) => socket.poll_send(cx, bytes),
            Kind::Layered(transport) => transport.poll_write(cx, bytes),
        });
        if let Some(explain) = &self.explain {
            explain.report(Call::Send {
                bytes,
                result: result.as_ref().copied(),
            });
        }
        match result {
            // A transport must return `Pending` if it takes nothing; otherwise the caller would loop for ever.
            Ok(0) if !bytes.is_empty() => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            result => Poll::Ready(result),
        }
    }

    /// Writes a prefix of the parts joined, as [`Self::poll_write`] does, in one system call.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [part] = parts {
            return self.poll_write(cx, part);
        }
        let result = ready!(match &mut self.transport {
            Kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Kind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Kind::Layered(transport) => transport.poll_write_vectored(cx, parts),
            // Parts of one datagram are not joined here: nothing needs it.
            Kind::Udp(_) | Kind::Unixgram(_) => {
                Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
            }
        });
        if let Some(explain) = &self.explain {
            explain.report(Call::Send {
                bytes: &parts
                    .iter()
                    .flat_map(|part| part.to_vec())
                    .collect::<Vec<u8>>(),
                result: result.as_ref().copied(),
            });
        }
        Poll::Ready(result)
    }

    /// Returns what the handshake of TLS agreed on, if there is TLS over the socket.
    pub fn tls(&self) -> Option<&Arc<TlsInfo>> {
        match &self.transport {
            Kind::Layered(transport) => transport.tls(),
            _ => None,
        }
    }

    /// Whether the handshake of TLS resumed an earlier session; `None` without TLS.
    pub fn is_resumed(&self) -> Option<bool> {
        match &self.transport {
            Kind::Layered(transport) => transport.is_resumed(),
            _ => None,
        }
    }

    /// Reports a step of a layer's protocol for `--explain`, between the socket calls of the link below.
    pub fn report_step(&self, step: &str) {
        match (&self.explain, &self.transport) {
            (Some(explain), _) => explain.report(Call::Step(step)),
            (None, Kind::Layered(transport)) => {
                if let Some(lower) = transport.lower() {
                    lower.report_step(step);
                }
            }
            _ => {}
        }
    }

    /// Writes as [`Self::poll_write`] does, but asks the kernel even if it has not reported the socket as writable: it
    /// does so only once a large part of the send buffer is free, and takes bytes before.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the kernel takes nothing, and always for layers and datagrams.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let result = match &self.transport {
            Kind::Tcp(stream) => send(stream, bytes, flags),
            Kind::Unix(stream) => send(stream, bytes, flags),
            Kind::Udp(_) | Kind::Unixgram(_) | Kind::Layered(_) => Err(Errno::WOULDBLOCK),
        };
        let result = result.map_err(io::Error::from);
        if let Some(explain) = &self.explain
            && !matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
            explain.report(Call::Send {
                bytes,
                result: result.as_ref().copied(),
            });
        }
        result
    }

    /// Returns what the peer has not taken yet of the bytes written; `None` for datagrams, and where the system does not
    /// tell. It costs some system calls: ask when a wait has lasted, not for each message.
    pub fn send_queue(&self) -> Option<SendQueue> {
        match &self.transport {
            Kind::Tcp(stream) => {
                send_queue::of_tcp(stream.local_addr().ok()?, stream.peer_addr().ok()?)
            }
            Kind::Unix(stream) => send_queue::of_unix(stream),
            Kind::Udp(_) | Kind::Unixgram(_) => None,
            Kind::Layered(transport) => transport.send_queue(),
        }
    }

    /// Ends our half of the stream after everything written (FIN). The peer's half can still be read.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(match &mut self.transport {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            // Datagrams have no end of stream to send.
            Kind::Udp(_) | Kind::Unixgram(_) => return Poll::Ready(Ok(())),
            Kind::Layered(transport) => transport.poll_finish(cx),
        });
        if let Some(explain) = &self.explain {
            explain.report(Call::Shutdown {
                result: result.as_ref().copied(),
            });
        }
        Poll::Ready(result)
    }

    /// Whether dropping the link ends our half in order, once the peer has ended its own. True for sockets, which the
    /// kernel closes. A layer with a close message of its own needs [`Self::poll_finish`].
    pub fn closes_on_drop(&self) -> bool {
        match &self.transport {
            Kind::Tcp(_) | Kind::Unix(_) | Kind::Udp(_) | Kind::Unixgram(_) => true,
            Kind::Layered(transport) => transport.closes_on_drop(),
        }
    }

    /// Returns what is known of a peer that has ended its half of the stream. Reads a table of the kernel, so it is not for
    /// every message.
    pub fn peer_after_fin(&self) -> PeerAfterFin {
        match &self.transport {
            Kind::Tcp(stream) => after_fin::tcp(stream),
            Kind::Unix(stream) => after_fin::unix(stream),
            Kind::Udp(_) | Kind::Unixgram(_) => PeerAfterFin::MayRead,
            Kind::Layered(transport) => transport
                .lower()
                .map_or(PeerAfterFin::MayRead, Self::peer_after_fin),
        }
    }

    /// Has the kernel find out, while nothing is sent, whether a TCP peer still knows the connection
    /// ([`Self::peer_after_fin`]).
    pub fn probe_peer(&self) {
        match &self.transport {
            // If the option cannot be set, the peer is not probed.
            Kind::Tcp(stream) => drop(after_fin::probe_tcp(stream)),
            Kind::Layered(transport) => {
                if let Some(lower) = transport.lower() {
                    lower.probe_peer();
                }
            }
            Kind::Unix(_) | Kind::Udp(_) | Kind::Unixgram(_) => {}
        }
    }

    /// Makes dropping the link reset the connection (RST, by `SO_LINGER` 0): unsent bytes are discarded. Only for a
    /// requested reset (`:rst`, a fault); no ordinary close resets.
    pub fn abort(&mut self) {
        match &mut self.transport {
            Kind::Tcp(stream) => {
                let _ = socket::set_option(self.explain.as_ref(), "SO_LINGER", 0, || {
                    SockRef::from(&*stream).set_linger(Some(Duration::ZERO))
                });
            }
            Kind::Layered(transport) => transport.abort(),
            // A Unix stream is reset only if it is closed with unread data. Datagrams have no connection.
            Kind::Unix(_) | Kind::Udp(_) | Kind::Unixgram(_) => {}
        }
    }
}

/// Lets libraries that need a stream (rustls, tungstenite) use a link. Flushing does nothing, since a link buffers
/// nothing; shutdown is [`Link::poll_finish`].
impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(Self::poll_read(&mut self, cx, buffer.initialize_unfilled()))?;
        buffer.advance(n);
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(&mut self, cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(cx)
    }
}

fn read_stream(
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

//! Datagram sockets (UDP and Unix): bind, receive with the route back, send.

use std::{
    fmt::Debug,
    io,
    os::fd::{AsRawFd, RawFd},
    task::{Context, Poll, ready},
};

use echoic_core::{
    endpoint::{Endpoint, Shape, UnixName},
    event::Address,
};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::Interest,
    net::{UdpSocket, UnixDatagram},
};

use crate::{
    explain::{Call, CloseReporter, Explain},
    inherited::{self, Inherited},
    listen::{HasAddress, ListenError, bind_all, listen_error},
    options::ListenOptions,
    udp,
    unix::{self, SocketFile},
    unixgram,
};

/// A bound datagram socket, to be opened on the runtime that will serve it.
#[derive(Debug)]
pub struct BoundDatagrams {
    socket: UnopenedSocket,
    address: Address,
    broadcast: bool,
    file: Option<SocketFile>,
    explain: Option<Explain>,
    close_reporter: CloseReporter,
}

#[derive(Debug)]
enum UnopenedSocket {
    Bound(Socket),
    Other(Box<dyn DatagramTransport>),
}

/// A source and sink of datagrams beside the sockets of this crate: a simulated network.
pub trait DatagramTransport: Send + Sync + Debug {
    /// Waits until a datagram may be received, or with `to_send` until one may be sent.
    fn poll_ready(&self, cx: &mut Context<'_>, to_send: bool) -> Poll<io::Result<()>>;
    /// Receives one datagram into `buffer`. Returns the bytes stored, the datagram's full length and the sender;
    /// `WouldBlock` if there is none.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, usize, Address)>;
    /// Sends one datagram, all of it; `WouldBlock` if it cannot be buffered.
    fn send(&self, bytes: &[u8], to: &Address) -> io::Result<usize>;
    /// As [`DatagramSocket::query_dropped`].
    fn dropped(&self) -> u32;
    /// As [`DatagramSocket::receive_buffer_size`].
    fn receive_buffer_size(&self) -> usize;
}

/// An open datagram socket.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Kind,
    address: Address,
    /// Bound to the unspecified address: only each datagram tells which local address it was sent to.
    unspecified: bool,
    /// Datagrams to a broadcast address are answered as all others.
    broadcast: bool,
    ancillary: Vec<u8>,
    /// Datagrams that the kernel has dropped, as of its last report.
    dropped: u32,
    explain: Option<Explain>,
    #[expect(dead_code, reason = "dropped with the socket")]
    close_reporter: CloseReporter,
    #[expect(dead_code, reason = "dropped with the socket")]
    file: Option<SocketFile>,
}

/// A received datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes stored in the buffer.
    pub len: usize,
    /// The datagram's length; more than `len` if the buffer was too small. 64 KiB hold any UDP datagram.
    pub full_len: usize,
    /// Its sender and the local address it was sent to.
    pub route: Route,
}

/// A peer and the local address that it sends to: the way of a datagram and of its reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The sender's address.
    pub peer: Address,
    /// The local address it was sent to. Replies leave from there, since a connected peer accepts no others.
    pub local: Address,
    /// It was sent to a multicast or broadcast address, and [`ListenOptions::broadcast`] is not set.
    pub is_multicast: bool,
}

/// Binds every address of `endpoint`, which has to be one of datagrams. Each entry of the list is one address with
/// `sockets` sockets, one for each worker; a Unix or inherited socket is always one, since the kernel cannot
/// distribute its datagrams.
///
/// As with [`crate::listen`], an endpoint for both address families is bound in both, at one port.
pub async fn bind_datagrams(
    endpoint: &Endpoint,
    options: &ListenOptions,
    sockets: usize,
) -> Result<Vec<Vec<BoundDatagrams>>, ListenError> {
    let failed = |source| ListenError::Failed {
        endpoint: endpoint.clone(),
        source,
    };
    match endpoint {
        Endpoint::Udp(at) => {
            let addresses = bind_all(endpoint, at, options, |addr| {
                // The kernel gives a broadcast datagram to every socket of the port, which would all answer.
                let count = if options.broadcast { 1 } else { sockets.max(1) };
                let sockets = udp::bind(addr, count, options)?;
                let address = Address::from(udp::local_address(&sockets[0])?);
                Ok(BoundAddress { address, sockets })
            });
            let unopened = |BoundAddress { address, sockets }: BoundAddress| {
                let each = sockets
                    .into_iter()
                    .map(|socket| BoundDatagrams::new(socket, address.clone(), options));
                each.collect()
            };
            Ok(addresses.await?.into_iter().map(unopened).collect())
        }
        Endpoint::Unixgram(name) => {
            let address = Address::Unix(Some(name.clone()));
            let bound = unix::bind_as(name, Type::DGRAM, options);
            let (socket, file) =
                bound.map_err(|error| listen_error(endpoint, address.clone(), error))?;
            Ok(vec![vec![BoundDatagrams {
                file,
                ..BoundDatagrams::new(socket, address, options)
            }]])
        }
        Endpoint::Fd(number) => match inherited::duplicate(*number).map_err(failed)? {
            Inherited::Datagrams(socket) => {
                let (address, domain) = (
                    local_address(&socket).map_err(failed)?,
                    socket.domain().map_err(failed)?,
                );
                if domain != Domain::UNIX {
                    udp::enable_ancillary_data(&socket, domain, options.explain.as_ref())
                        .map_err(failed)?;
                }
                Ok(vec![vec![BoundDatagrams::new(socket, address, options)]])
            }
            _ => Err(failed(io::Error::other(
                "it is a listening socket, expected a datagram one",
            ))),
        },
        Endpoint::Tcp(_) | Endpoint::Unix(_) | Endpoint::Tls(_) => Err(failed(io::Error::other(
            "it is a stream endpoint, expected a datagram one",
        ))),
    }
}

/// Returns the shape of `endpoint`: stream or datagrams. For an inherited socket it is read from the socket.
pub fn shape(endpoint: &Endpoint) -> Result<Shape, ListenError> {
    let Endpoint::Fd(number) = endpoint else {
        return Ok(endpoint.shape().unwrap_or(Shape::Stream));
    };
    match inherited::duplicate(*number) {
        Ok(Inherited::Datagrams(_)) => Ok(Shape::Datagrams),
        Ok(_) => Ok(Shape::Stream),
        Err(source) => Err(ListenError::Failed {
            endpoint: endpoint.clone(),
            source,
        }),
    }
}

/// The sockets bound to one address.
struct BoundAddress {
    address: Address,
    sockets: Vec<Socket>,
}

impl HasAddress for BoundAddress {
    fn address(&self) -> &Address {
        &self.address
    }
}

fn local_address(socket: &Socket) -> io::Result<Address> {
    let sockaddr = socket.local_addr()?;
    Ok(match sockaddr.as_socket() {
        Some(addr) => addr.into(),
        None => match (sockaddr.as_abstract_namespace(), sockaddr.as_pathname()) {
            (Some(name), _) => Address::Unix(Some(UnixName::Abstract(
                String::from_utf8_lossy(name).into_owned(),
            ))),
            (None, path) => Address::Unix(path.map(|path| UnixName::Path(path.to_owned()))),
        },
    })
}

impl BoundDatagrams {
    fn new(socket: Socket, address: Address, options: &ListenOptions) -> Self {
        Self {
            close_reporter: CloseReporter::new(&address, options.explain.as_ref()),
            socket: UnopenedSocket::Bound(socket),
            address,
            broadcast: options.broadcast,
            file: None,
            explain: options.explain.clone(),
        }
    }

    /// Returns a socket over `transport`, with `address` as its own.
    pub fn from_transport(transport: Box<dyn DatagramTransport>, address: Address) -> Self {
        Self {
            close_reporter: CloseReporter::new(&address, None),
            socket: UnopenedSocket::Other(transport),
            address,
            broadcast: false,
            file: None,
            explain: None,
        }
    }

    /// Returns the bound address, with the real port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Opens the socket on the current runtime.
    pub fn open(self) -> io::Result<DatagramSocket> {
        let Self {
            socket,
            address,
            broadcast,
            file,
            explain,
            close_reporter,
        } = self;
        let unspecified = matches!(&address, Address::Net(addr) if addr.ip().is_unspecified());
        let (socket, ancillary) = match socket {
            UnopenedSocket::Bound(socket) if socket.domain()? == Domain::UNIX => (
                Kind::Unixgram(UnixDatagram::from_std(
                    std::os::unix::net::UnixDatagram::from(socket),
                )?),
                Vec::new(),
            ),
            UnopenedSocket::Bound(socket) => (
                Kind::Udp(UdpSocket::from_std(socket.into())?),
                udp::ancillary_buffer(),
            ),
            UnopenedSocket::Other(transport) => (Kind::Other(transport), Vec::new()),
        };
        Ok(DatagramSocket {
            socket,
            address,
            unspecified,
            broadcast,
            ancillary,
            dropped: 0,
            explain,
            close_reporter,
            file,
        })
    }
}

impl DatagramSocket {
    /// Returns the bound address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the socket's file descriptor, if it is a socket.
    pub fn raw_fd(&self) -> Option<RawFd> {
        match &self.socket {
            Kind::Udp(socket) => Some(socket.as_raw_fd()),
            Kind::Unixgram(socket) => Some(socket.as_raw_fd()),
            Kind::Other(_) => None,
        }
    }

    /// Receives the next datagram into `buffer`. After an error the socket is still usable.
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Received>> {
        loop {
            ready!(self.socket.poll_ready(cx, Interest::READABLE))?;
            let (socket, ancillary) = (&self.socket, &mut self.ancillary);
            match socket.try_io(Interest::READABLE, || socket.receive(buffer, ancillary)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => {
                    return Poll::Ready(
                        received.map(|datagram| self.finish_receive(datagram, buffer)),
                    );
                }
            }
        }
    }

    /// Receives a datagram without asking the runtime whether there is one; `WouldBlock` if there is none.
    pub fn recv_now(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let datagram = self.socket.receive(buffer, &mut self.ancillary)?;
        Ok(self.finish_receive(datagram, buffer))
    }

    fn finish_receive(&mut self, datagram: Datagram, buffer: &[u8]) -> Received {
        let Datagram {
            len,
            full_len,
            peer,
            to,
            is_multicast,
            dropped,
        } = datagram;
        self.dropped = dropped.unwrap_or(self.dropped);
        let local = match (&self.address, to) {
            (Address::Net(addr), Some(ip)) if self.unspecified => {
                let mut local = *addr;
                local.set_ip(ip);
                local.into()
            }
            (address, _) => address.clone(),
        };
        if let Some(explain) = &self.explain {
            explain.report(Call::RecvFrom {
                from: peer.clone(),
                capacity: buffer.len(),
                bytes: &buffer[..len],
            });
        }
        Received {
            len,
            full_len,
            route: Route {
                peer,
                local,
                is_multicast: is_multicast && !self.broadcast,
            },
        }
    }

    /// Sends `bytes` to the peer of `route` as one datagram, all or nothing.
    ///
    /// # Errors
    ///
    /// The datagram is too long (EMSGSIZE), a Unix peer does not read (`WouldBlock`) or has no name to reply to, or
    /// another error of the system. The socket is still usable.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        route: &Route,
    ) -> Poll<io::Result<()>> {
        let (socket, unspecified) = (&self.socket, self.unspecified);
        let sent = if matches!(socket, Kind::Unixgram(_)) {
            socket.send(bytes, route, unspecified)
        } else {
            loop {
                ready!(socket.poll_ready(cx, Interest::WRITABLE))?;
                match socket.try_io(Interest::WRITABLE, || {
                    socket.send(bytes, route, unspecified)
                }) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // An ICMP error for an earlier datagram, perhaps to another peer. It is reported once.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        break socket.send(bytes, route, unspecified);
                    }
                    sent => break sent,
                }
            }
        };
        if let Some(explain) = &self.explain {
            explain.report(Call::SendTo {
                to: route.peer.clone(),
                bytes,
                result: sent.as_ref().copied(),
            });
        }
        Poll::Ready(sent.map(|_| ()))
    }

    /// Returns the number of datagrams that the kernel has dropped because its receive buffer was full, as of the last
    /// received datagram.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// As [`Self::dropped`], but asks the kernel, which by itself reports drops only with the next datagram.
    pub fn query_dropped(&mut self) -> u32 {
        match &self.socket {
            Kind::Udp(socket) => {
                self.dropped = udp::dropped(&SockRef::from(socket))
                    .unwrap_or(0)
                    .max(self.dropped);
            }
            Kind::Unixgram(_) => {}
            Kind::Other(transport) => self.dropped = transport.dropped(),
        }
        self.dropped
    }

    /// Returns the size of the kernel's receive buffer in bytes.
    pub fn receive_buffer_size(&self) -> usize {
        let buffer = match &self.socket {
            Kind::Udp(socket) => SockRef::from(socket).recv_buffer_size(),
            Kind::Unixgram(socket) => SockRef::from(socket).recv_buffer_size(),
            Kind::Other(transport) => Ok(transport.receive_buffer_size()),
        };
        buffer.unwrap_or_default()
    }
}

/// A socket registered with the runtime.
#[derive(Debug)]
enum Kind {
    Udp(UdpSocket),
    Unixgram(UnixDatagram),
    Other(Box<dyn DatagramTransport>),
}

/// A received datagram of any kind of socket.
struct Datagram {
    len: usize,
    full_len: usize,
    peer: Address,
    to: Option<std::net::IpAddr>,
    is_multicast: bool,
    dropped: Option<u32>,
}

impl Kind {
    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
        match (self, interest.is_readable()) {
            (Self::Udp(socket), true) => socket.poll_recv_ready(cx),
            (Self::Udp(socket), false) => socket.poll_send_ready(cx),
            (Self::Unixgram(socket), true) => socket.poll_recv_ready(cx),
            (Self::Unixgram(socket), false) => socket.poll_send_ready(cx),
            (Self::Other(transport), to_receive) => transport.poll_ready(cx, !to_receive),
        }
    }

    fn try_io<T>(&self, interest: Interest, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Udp(socket) => socket.try_io(interest, call),
            Self::Unixgram(socket) => socket.try_io(interest, call),
            Self::Other(_) => call(),
        }
    }

    fn receive(&self, buffer: &mut [u8], ancillary: &mut [u8]) -> io::Result<Datagram> {
        match self {
            Self::Udp(socket) => {
                let datagram = udp::receive(&SockRef::from(socket), buffer, ancillary)?;
                let udp::Datagram {
                    len,
                    full_len,
                    from,
                    to,
                    is_multicast,
                    dropped,
                } = datagram;
                Ok(Datagram {
                    len,
                    full_len,
                    peer: from.into(),
                    to,
                    is_multicast,
                    dropped,
                })
            }
            Self::Unixgram(socket) => {
                let (len, full_len, peer) = unixgram::receive(&SockRef::from(socket), buffer)?;
                Ok(Datagram {
                    len,
                    full_len,
                    peer,
                    to: None,
                    is_multicast: false,
                    dropped: None,
                })
            }
            Self::Other(transport) => {
                let (len, full_len, peer) = transport.receive(buffer)?;
                Ok(Datagram {
                    len,
                    full_len,
                    peer,
                    to: None,
                    is_multicast: false,
                    dropped: None,
                })
            }
        }
    }

    fn send(&self, bytes: &[u8], route: &Route, unspecified: bool) -> io::Result<usize> {
        match (self, &route.peer, &route.local) {
            (Self::Udp(socket), Address::Net(to), Address::Net(local)) => udp::send(
                &SockRef::from(socket),
                bytes,
                *to,
                unspecified.then(|| local.ip()),
            ),
            (Self::Unixgram(socket), Address::Unix(Some(name)), _) => {
                unixgram::send(&SockRef::from(socket), bytes, name)
            }
            (Self::Other(transport), to, _) => transport.send(bytes, to),
            _ => Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "the sender has no name to reply to",
            )),
        }
    }
}

//! Sockets of datagrams: whole messages from anybody, each with the way back.

use std::{
    fmt::Debug,
    io,
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
    listen::{At, ListenError, on_all, refused},
    options::ListenOptions,
    udp,
    unix::{self, SocketFile},
    unixgram,
};

/// A bound socket, to be opened on the runtime that will serve it.
#[derive(Debug)]
pub struct BoundDatagrams {
    socket: Unopened,
    address: Address,
    file: Option<SocketFile>,
    explain: Option<Explain>,
    close_reporter: CloseReporter,
}

#[derive(Debug)]
enum Unopened {
    Bound(Socket),
    Other(Box<dyn DatagramTransport>),
}

/// What carries datagrams beside the sockets of this crate.
pub trait DatagramTransport: Send + Sync + Debug {
    /// Whether there may be a datagram to receive, or room for one to be sent.
    fn poll_ready(&self, cx: &mut Context<'_>, to_send: bool) -> Poll<io::Result<()>>;
    /// Takes one datagram: its bytes in `room`, its whole length, and who sent it; none is `WouldBlock`.
    fn receive(&self, room: &mut [u8]) -> io::Result<(usize, usize, Address)>;
    /// Sends one datagram, all of it; no room for it is `WouldBlock`.
    fn send(&self, bytes: &[u8], to: &Address) -> io::Result<usize>;
    /// As [`DatagramSocket::query_dropped`].
    fn dropped(&self) -> u32;
    /// As [`DatagramSocket::receive_buffer_size`].
    fn receive_buffer_size(&self) -> usize;
}

/// A socket that datagrams arrive at.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Kind,
    address: Address,
    /// Bound to every address: only the datagram knows which one was asked.
    everywhere: bool,
    details: Vec<u8>,
    /// Datagrams dropped so far, as last heard.
    dropped: u32,
    explain: Option<Explain>,
    #[expect(dead_code, reason = "held for its end")]
    close_reporter: CloseReporter,
    #[expect(dead_code, reason = "held for its end")]
    file: Option<SocketFile>,
}

/// A datagram that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its bytes in the room it was read into.
    pub len: usize,
    /// How long it was; more than `len` if the room was too small, which 64 KiB never are for UDP.
    pub full_len: usize,
    /// Who sent it, and where to.
    pub route: Route,
}

/// A way there and back: a peer, and the address of ours that it used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Who sent it.
    pub peer: Address,
    /// The address it was sent to; answers leave from there, or the peer would not know them.
    pub local: Address,
    /// It was sent to many at once (broadcast, multicast).
    pub is_multicast: bool,
}

/// Binds every address of `endpoint`, which is one of datagrams. Each entry is one address, with as many sockets as
/// `sockets` says, each for a worker of its own (always one where the kernel cannot share them out).
///
/// As with [`crate::listen`], both families are bound where the endpoint stands for both, at one port.
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
            let doors = on_all(endpoint, at, options, |addr| {
                let sockets = udp::bind(addr, sockets.max(1), options)?;
                let address = Address::from(udp::local(&sockets[0])?);
                Ok(Door { address, sockets })
            });
            let unopened = |Door { address, sockets }: Door| {
                let each = sockets
                    .into_iter()
                    .map(|socket| BoundDatagrams::new(socket, address.clone(), options));
                each.collect()
            };
            Ok(doors.await?.into_iter().map(unopened).collect())
        }
        Endpoint::Unixgram(name) => {
            let address = Address::Unix(Some(name.clone()));
            let bound = unix::bind_as(name, Type::DGRAM, options);
            let (socket, file) =
                bound.map_err(|error| refused(endpoint, address.clone(), error))?;
            Ok(vec![vec![BoundDatagrams {
                file,
                ..BoundDatagrams::new(socket, address, options)
            }]])
        }
        Endpoint::Fd(number) => match inherited::take(*number).map_err(failed)? {
            Inherited::Datagrams(socket) => {
                let (address, domain) = (
                    place_of(&socket).map_err(failed)?,
                    socket.domain().map_err(failed)?,
                );
                if domain != Domain::UNIX {
                    udp::ask_for_details(&socket, domain).map_err(failed)?;
                }
                Ok(vec![vec![BoundDatagrams::new(socket, address, options)]])
            }
            _ => Err(failed(io::Error::other(
                "it is a socket that listens, not one of datagrams",
            ))),
        },
        Endpoint::Tcp(_) | Endpoint::Unix(_) => Err(failed(io::Error::other(
            "it is a place of streams, not of datagrams",
        ))),
    }
}

/// How bytes travel at `endpoint`; an inherited socket is looked at.
pub fn shape(endpoint: &Endpoint) -> Result<Shape, ListenError> {
    let Endpoint::Fd(number) = endpoint else {
        return Ok(endpoint.shape().unwrap_or(Shape::Stream));
    };
    match inherited::take(*number) {
        Ok(Inherited::Datagrams(_)) => Ok(Shape::Datagrams),
        Ok(_) => Ok(Shape::Stream),
        Err(source) => Err(ListenError::Failed {
            endpoint: endpoint.clone(),
            source,
        }),
    }
}

/// The sockets of one address.
struct Door {
    address: Address,
    sockets: Vec<Socket>,
}

impl At for Door {
    fn address(&self) -> &Address {
        &self.address
    }
}

fn place_of(socket: &Socket) -> io::Result<Address> {
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
            socket: Unopened::Bound(socket),
            address,
            file: None,
            explain: options.explain.clone(),
        }
    }

    /// One over `transport`, as if bound at `address`.
    pub fn from_transport(transport: Box<dyn DatagramTransport>, address: Address) -> Self {
        Self {
            close_reporter: CloseReporter::new(&address, None),
            socket: Unopened::Other(transport),
            address,
            file: None,
            explain: None,
        }
    }

    /// Where it is bound, with the port that was really taken.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Opens it on the runtime this is called on.
    pub fn open(self) -> io::Result<DatagramSocket> {
        let Self {
            socket,
            address,
            file,
            explain,
            close_reporter,
        } = self;
        let everywhere = matches!(&address, Address::Net(addr) if addr.ip().is_unspecified());
        let (socket, details) = match socket {
            Unopened::Bound(socket) if socket.domain()? == Domain::UNIX => (
                Kind::Unixgram(UnixDatagram::from_std(
                    std::os::unix::net::UnixDatagram::from(socket),
                )?),
                Vec::new(),
            ),
            Unopened::Bound(socket) => (
                Kind::Udp(UdpSocket::from_std(socket.into())?),
                udp::room_for_details(),
            ),
            Unopened::Other(transport) => (Kind::Other(transport), Vec::new()),
        };
        Ok(DatagramSocket {
            socket,
            address,
            everywhere,
            details,
            dropped: 0,
            explain,
            close_reporter,
            file,
        })
    }
}

impl DatagramSocket {
    /// Where it is bound.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next datagram, into `room`. An error is the system's and passes: the socket stays as it is.
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<Received>> {
        loop {
            ready!(self.socket.poll_ready(cx, Interest::READABLE))?;
            let (socket, details) = (&self.socket, &mut self.details);
            match socket.try_io(Interest::READABLE, || socket.receive(room, details)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received.map(|arrived| self.take(arrived, room))),
            }
        }
    }

    /// A datagram that has already arrived, whatever the runtime knows of it; none is `WouldBlock`.
    pub fn recv_now(&mut self, room: &mut [u8]) -> io::Result<Received> {
        let arrived = self.socket.receive(room, &mut self.details)?;
        Ok(self.take(arrived, room))
    }

    fn take(&mut self, arrived: Arrived, room: &[u8]) -> Received {
        let Arrived {
            len,
            full_len,
            peer,
            to,
            is_multicast,
            dropped,
        } = arrived;
        self.dropped = dropped.unwrap_or(self.dropped);
        let local = match (&self.address, to) {
            (Address::Net(addr), Some(ip)) if self.everywhere => {
                let mut asked = *addr;
                asked.set_ip(ip);
                asked.into()
            }
            (address, _) => address.clone(),
        };
        if let Some(explain) = &self.explain {
            explain.report(Call::RecvFrom {
                from: peer.clone(),
                capacity: room.len(),
                bytes: &room[..len],
            });
        }
        Received {
            len,
            full_len,
            route: Route {
                peer,
                local,
                is_multicast,
            },
        }
    }

    /// Sends `bytes` back along `route`, as one datagram: all of it or nothing. What cannot be sent is an error and
    /// nothing else comes of it: too long (EMSGSIZE), refused (an earlier one came back), a Unix peer that does not
    /// read (`WouldBlock`) or cannot be answered since it has no name.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        route: &Route,
    ) -> Poll<io::Result<()>> {
        let (socket, everywhere) = (&self.socket, self.everywhere);
        let sent = if matches!(socket, Kind::Unixgram(_)) {
            socket.send(bytes, route, everywhere)
        } else {
            loop {
                ready!(socket.poll_ready(cx, Interest::WRITABLE))?;
                match socket.try_io(Interest::WRITABLE, || socket.send(bytes, route, everywhere)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // Told of one sent before this, perhaps to somebody else (ICMP): it is said once.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        break socket.send(bytes, route, everywhere);
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

    /// Datagrams that the kernel has dropped because we were too slow to take them, as far as it has told.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// The same, having asked the kernel: it tells with a datagram, so of what was dropped since the last it has not.
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

    /// Bytes of datagrams that may wait in the kernel.
    pub fn receive_buffer_size(&self) -> usize {
        let room = match &self.socket {
            Kind::Udp(socket) => SockRef::from(socket).recv_buffer_size(),
            Kind::Unixgram(socket) => SockRef::from(socket).recv_buffer_size(),
            Kind::Other(transport) => Ok(transport.receive_buffer_size()),
        };
        room.unwrap_or_default()
    }
}

/// A socket as the runtime knows it.
#[derive(Debug)]
enum Kind {
    Udp(UdpSocket),
    Unixgram(UnixDatagram),
    Other(Box<dyn DatagramTransport>),
}

/// What one receive brought, over the internet or not.
struct Arrived {
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

    fn receive(&self, room: &mut [u8], details: &mut [u8]) -> io::Result<Arrived> {
        match self {
            Self::Udp(socket) => {
                let arrived = udp::receive(&SockRef::from(socket), room, details)?;
                let udp::Arrived {
                    len,
                    full_len,
                    from,
                    to,
                    is_multicast,
                    dropped,
                } = arrived;
                Ok(Arrived {
                    len,
                    full_len,
                    peer: from.into(),
                    to,
                    is_multicast,
                    dropped,
                })
            }
            Self::Unixgram(socket) => {
                let (len, full_len, peer) = unixgram::receive(&SockRef::from(socket), room)?;
                Ok(Arrived {
                    len,
                    full_len,
                    peer,
                    to: None,
                    is_multicast: false,
                    dropped: None,
                })
            }
            Self::Other(transport) => {
                let (len, full_len, peer) = transport.receive(room)?;
                Ok(Arrived {
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

    fn send(&self, bytes: &[u8], route: &Route, everywhere: bool) -> io::Result<usize> {
        match (self, &route.peer, &route.local) {
            (Self::Udp(socket), Address::Net(to), Address::Net(local)) => udp::send(
                &SockRef::from(socket),
                bytes,
                *to,
                everywhere.then(|| local.ip()),
            ),
            (Self::Unixgram(socket), Address::Unix(Some(name)), _) => {
                unixgram::send(&SockRef::from(socket), bytes, name)
            }
            (Self::Other(transport), to, _) => transport.send(bytes, to),
            _ => Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "the sender has no name to be answered at",
            )),
        }
    }
}

//! UDP sockets of servers and clients (udp(7)).

use std::{
    fmt, fs,
    future::{Future, poll_fn},
    io::{self, IoSlice, IoSliceMut},
    mem,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, RawFd},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use nix::{
    libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
        setsockopt, sockopt,
    },
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::{
    explain::{Call, CloseReporter, Explain, report},
    options::ListenOptions,
    self_connection::SelfConnection,
    socket,
};

/// A received datagram.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) len: usize,
    /// The datagram's length, before it was truncated to the buffer.
    pub(crate) full_len: usize,
    pub(crate) from: SocketAddr,
    /// The local address it was sent to, if the kernel reports it.
    pub(crate) to: Option<IpAddr>,
    /// It was sent to a multicast or broadcast address.
    pub(crate) is_multicast: bool,
    /// Datagrams the kernel has dropped for this socket since it was created, if the kernel reports it.
    pub(crate) dropped: Option<u32>,
}

/// Binds `count` sockets to `addr`. The kernel distributes peers among them by address.
///
/// The first socket is bound without `SO_REUSEPORT`, so that an address in use is an error, and sets it afterwards for
/// the others. `SO_REUSEADDR` is never set: on UDP it would let another program take over the port unnoticed.
pub(crate) fn bind(
    addr: SocketAddr,
    count: usize,
    options: &ListenOptions,
) -> io::Result<Vec<Socket>> {
    let first = bind_socket(addr, false, options)?;
    if count <= 1 {
        return Ok(vec![first]);
    }
    let explain = options.explain.as_ref();
    socket::set_option(explain, "SO_REUSEPORT", 1, || first.set_reuse_port(true))?;
    let addr = local_address(&first)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        report(explain, || {
            Call::Remark(
                "the same address once more: each worker has a socket, and the kernel divides the peers",
            )
        });
        sockets.push(bind_socket(addr, true, options)?);
    }
    Ok(sockets)
}

fn bind_socket(addr: SocketAddr, shared: bool, options: &ListenOptions) -> io::Result<Socket> {
    let explain = options.explain.as_ref();
    let socket = socket::open(addr, Type::DGRAM, Protocol::UDP, explain)?;
    if shared {
        socket::set_option(explain, "SO_REUSEPORT", 1, || socket.set_reuse_port(true))?;
    }
    if options.broadcast {
        socket::set_option(explain, "SO_BROADCAST", 1, || socket.set_broadcast(true))?;
    }
    enable_ancillary_data(&socket, Domain::for_address(addr), explain)?;
    let bytes = options.receive_buffer;
    socket::set_option(explain, "SO_RCVBUF", bytes, || {
        socket.set_recv_buffer_size(bytes)
    })?;
    socket::bind(&socket, addr, options)?;
    Ok(socket)
}

/// Has the kernel report with each datagram the address it was sent to, and the number of dropped ones. Applies to
/// datagrams that arrive afterwards, so it is called before the socket is bound.
pub(crate) fn enable_ancillary_data(
    socket: &Socket,
    domain: Domain,
    explain: Option<&Explain>,
) -> io::Result<()> {
    // Optional: a system without the count can still serve.
    let _ = socket::set_option(explain, "SO_RXQ_OVFL", 1, || {
        Ok(setsockopt(&socket.as_fd(), sockopt::RxqOvfl, &1)?)
    });
    if domain == Domain::IPV4 {
        socket::set_option(explain, "IP_PKTINFO", 1, || {
            Ok(setsockopt(&socket.as_fd(), sockopt::Ipv4PacketInfo, &true)?)
        })
    } else {
        socket::set_option(explain, "IPV6_RECVPKTINFO", 1, || {
            Ok(setsockopt(
                &socket.as_fd(),
                sockopt::Ipv6RecvPacketInfo,
                &true,
            )?)
        })
    }
}

/// Returns a buffer for the control messages of [`enable_ancillary_data`].
pub(crate) fn ancillary_buffer() -> Vec<u8> {
    nix::cmsg_space!(in6_pktinfo, in_pktinfo, u32)
}

/// Receives one datagram, or fails with `WouldBlock`.
pub(crate) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    ancillary: &mut [u8],
) -> io::Result<Datagram> {
    let capacity = buffer.len();
    let mut parts = [IoSliceMut::new(buffer)];
    // MSG_TRUNC: return the datagram's full length, not the truncated one.
    let flags = MsgFlags::MSG_TRUNC;
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(ancillary), flags)?;
    let address = received.address.as_ref();
    let v4 = address
        .and_then(|address| address.as_sockaddr_in())
        .map(|v4| SocketAddrV4::from(*v4).into());
    let v6 = || {
        address
            .and_then(|address| address.as_sockaddr_in6())
            .map(|v6| SocketAddrV6::from(*v6).into())
    };
    let from: SocketAddr = v4
        .or_else(v6)
        .ok_or_else(|| io::Error::other("the datagram has no source address"))?;
    let mut datagram = Datagram {
        len: received.bytes.min(capacity),
        full_len: received.bytes,
        from,
        to: None,
        is_multicast: false,
        dropped: None,
    };
    for message in received.cmsgs()? {
        match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let (local, destination) = (ipv4(info.ipi_spec_dst), ipv4(info.ipi_addr));
                // The local address is missing for a datagram that arrived before the option was set.
                let known = !local.is_unspecified();
                datagram.to = Some(if known { local } else { destination });
                datagram.is_multicast = known && local != destination || destination.is_multicast();
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let destination = IpAddr::from(info.ipi6_addr.s6_addr);
                datagram.to = Some(destination);
                datagram.is_multicast = destination.is_multicast();
            }
            ControlMessageOwned::RxqOvfl(dropped) => datagram.dropped = Some(dropped),
            _ => {}
        }
    }
    Ok(datagram)
}

/// Sends one datagram to `to`. `from` selects the local address of a socket bound to the unspecified one.
pub(crate) fn send(
    socket: &Socket,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<usize> {
    let (v4, v6);
    let ancillary: &[ControlMessage<'_>] = match from {
        None => &[],
        Some(IpAddr::V4(ip)) => {
            let local = in_addr {
                s_addr: u32::from_ne_bytes(ip.octets()),
            };
            v4 = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: local,
                ipi_addr: in_addr { s_addr: 0 },
            };
            &[ControlMessage::Ipv4PacketInfo(&v4)]
        }
        Some(IpAddr::V6(ip)) => {
            v6 = in6_pktinfo {
                ipi6_addr: in6_addr {
                    s6_addr: ip.octets(),
                },
                ipi6_ifindex: 0,
            };
            &[ControlMessage::Ipv6PacketInfo(&v6)]
        }
    };
    let address = SockaddrStorage::from(to);
    let sent = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        ancillary,
        MsgFlags::empty(),
        Some(&address),
    )?;
    Ok(sent)
}

/// Sockets that are opened at most, until one has another address than its peer.
const CONNECT_TRIES: usize = 3;

/// Returns a socket connected to `addr`. The kernel discards datagrams from other addresses.
///
/// With `broadcast`, a socket for a broadcast address stays unconnected, since the replies have the addresses of those
/// who sent them.
pub(crate) fn connect(
    addr: SocketAddr,
    broadcast: bool,
    explain: Option<&Explain>,
) -> io::Result<Connected> {
    let (socket, unconnected) = match connect_socket(addr, explain) {
        Err(error) if broadcast && is_broadcast(&error) => {
            let socket = socket::open(addr, Type::DGRAM, Protocol::UDP, explain)?;
            socket::set_option(explain, "SO_BROADCAST", 1, || socket.set_broadcast(true))?;
            (socket, Some(addr))
        }
        connected => (connected?, None),
    };
    let socket = Arc::new(UdpSocket::from_std(socket.into())?);
    let ready = Arc::<AtomicBool>::default();
    Ok(Connected {
        readiness: Box::pin(watch_readiness(Arc::clone(&socket), Arc::clone(&ready))),
        socket,
        unconnected,
        ready,
    })
}

/// Returns whether `error` means that the address is one of broadcast and `SO_BROADCAST` is not set (EACCES, udp(7)). A
/// local rule that forbids the address gives EPERM.
pub(crate) fn is_broadcast(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::ACCESS.raw_os_error())
}

/// Connects a socket. If the port that the kernel chose is the peer's (nobody is bound there), another socket is opened,
/// since the first would receive what it sends.
fn connect_socket(addr: SocketAddr, explain: Option<&Explain>) -> io::Result<Socket> {
    // A socket that met itself stays open meanwhile, so that the next one gets another port.
    let mut to_themselves = Vec::new();
    for _ in 0..CONNECT_TRIES {
        let socket = socket::open(addr, Type::DGRAM, Protocol::UDP, explain)?;
        let closes = CloseReporter::new(&addr.into(), explain);
        let connected = socket.connect(&addr.into());
        report(explain, || Call::Connect {
            address: addr.into(),
            result: connected.as_ref().copied(),
        });
        connected?;
        if socket.local_addr()?.as_socket() != Some(addr) {
            closes.hand_over();
            return Ok(socket);
        }
        to_themselves.push((socket, closes));
    }
    Err(SelfConnection.into())
}

/// A socket for one peer.
pub(crate) struct Connected {
    socket: Arc<UdpSocket>,
    /// The broadcast address to send to. Datagrams are received from everyone.
    unconnected: Option<SocketAddr>,
    /// Sets `ready` when there is a datagram or an error to read. One future for the life of the socket, so that
    /// waiting allocates nothing.
    readiness: Pin<Box<dyn Future<Output = io::Error> + Send + Sync>>,
    /// Set by `readiness`, cleared by [`Self::poll_recv`].
    ready: Arc<AtomicBool>,
}

/// Sets `ready` whenever `socket` has a datagram or an error, then yields until the next poll. Ends with the runtime.
async fn watch_readiness(socket: Arc<UdpSocket>, ready: Arc<AtomicBool>) -> io::Error {
    loop {
        if let Err(error) = socket.ready(Interest::READABLE | Interest::ERROR).await {
            return error;
        }
        ready.store(true, Ordering::Relaxed);
        let mut yielded = false;
        poll_fn(|_| {
            if mem::replace(&mut yielded, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Connected {
    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.unconnected.map_or_else(|| self.socket.peer_addr(), Ok)
    }

    pub(crate) fn set_receive_buffer_size(&self, bytes: usize) {
        let _ = SockRef::from(&*self.socket).set_recv_buffer_size(bytes);
    }

    pub(crate) fn dropped(&self) -> Option<u32> {
        dropped(&SockRef::from(&*self.socket))
    }

    /// Receives a datagram, or `ConnectionRefused` if the peer's port is closed.
    ///
    /// An ICMP error makes the socket neither readable nor writable, it only sets an error. tokio's own `poll_recv`
    /// waits for readability alone and is not woken by it.
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = match self.unconnected {
                None => self.socket.try_recv(buffer),
                Some(_) => self.socket.try_recv_from(buffer).map(|(bytes, _)| bytes),
            };
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
            let refused = || {
                self.socket
                    .take_error()?
                    .ok_or_else(|| io::ErrorKind::WouldBlock.into())
            };
            match self.socket.try_io(Interest::ERROR, refused) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                error => return Poll::Ready(Err(error.unwrap_or_else(|error| error))),
            }
            if let Poll::Ready(error) = self.readiness.as_mut().poll(cx) {
                return Poll::Ready(Err(error));
            }
            if !self.ready.swap(false, Ordering::Relaxed) {
                return Poll::Pending;
            }
        }
    }

    pub(crate) fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.unconnected {
            None => self.socket.poll_send(cx, bytes),
            Some(to) => self.socket.poll_send_to(cx, bytes, to),
        }
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

/// Returns the number of datagrams the kernel has dropped for this socket since it was created, from /proc/net/udp
/// (proc(5)). The count that comes with a datagram lacks those dropped after it; this one has them.
pub(crate) fn dropped(socket: &Socket) -> Option<u32> {
    const INODE: usize = 9;
    const DROPS: usize = 12;
    let inode = rustix::fs::fstat(socket).ok()?.st_ino.to_string();
    let table = if local_address(socket).ok()?.is_ipv4() {
        "/proc/net/udp"
    } else {
        "/proc/net/udp6"
    };
    let table = fs::read_to_string(table).ok()?;
    let mut rows = table
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(INODE).is_some_and(|found| *found == inode))?;
    row.get(DROPS)?.parse().ok()
}

pub(crate) fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn ipv4(address: in_addr) -> IpAddr {
    IpAddr::from(address.s_addr.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// The kernel chooses the port of an unbound socket at random, so that it comes to the peer's own sooner or later.
    #[test]
    fn socket_never_has_its_peers_address() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let calls = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&calls);
        let explain = Explain::new(move |_, call| {
            if let Call::Connect { .. } = call {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        for tries in 1..=1_000_000 {
            let socket = connect_socket(addr, Some(&explain)).unwrap();
            assert_ne!(socket.local_addr().unwrap().as_socket(), Some(addr));
            if calls.load(Ordering::Relaxed) > tries {
                return;
            }
        }
        panic!("no socket got the port of {addr}: the test shows nothing");
    }
}

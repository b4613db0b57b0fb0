//! UDP, both its ends (udp(7)).

use std::{
    fmt, fs,
    future::{Future, poll_fn},
    io::{self, IoSlice, IoSliceMut},
    mem,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd},
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
    explain::{Call, Explain, report},
    options::ListenOptions,
    socket,
};

/// What one receive brought.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) len: usize,
    /// Its length before it was cut to the room there was.
    pub(crate) full_len: usize,
    pub(crate) from: SocketAddr,
    /// The address it was sent to, where the kernel tells.
    pub(crate) to: Option<IpAddr>,
    /// It was sent to many at once.
    pub(crate) is_multicast: bool,
    /// Datagrams the kernel has dropped for this socket since it was made, where it tells.
    pub(crate) dropped: Option<u32>,
}

/// `count` sockets at `addr` that share what arrives there: the kernel picks one by the address of the peer.
///
/// The first binds it alone, so that an owner is noticed, and only then admits others (`SO_REUSEPORT`). With
/// `SO_REUSEADDR`, which on UDP means something else than on TCP, a second program could take the port away unnoticed.
pub(crate) fn bind(
    addr: SocketAddr,
    count: usize,
    options: &ListenOptions,
) -> io::Result<Vec<Socket>> {
    let first = bind_one(addr, false, options)?;
    if count <= 1 {
        return Ok(vec![first]);
    }
    first.set_reuse_port(true)?;
    let addr = local(&first)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(bind_one(addr, true, options)?);
    }
    Ok(sockets)
}

fn bind_one(addr: SocketAddr, shared: bool, options: &ListenOptions) -> io::Result<Socket> {
    let explain = options.explain.as_ref();
    let socket = socket::open(addr, Type::DGRAM, Protocol::UDP, explain)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    ask_for_details(&socket, Domain::for_address(addr))?;
    socket.set_recv_buffer_size(options.receive_buffer)?;
    socket::bind(&socket, addr, options)?;
    Ok(socket)
}

/// Has the kernel tell with each datagram which address it was sent to, and how many it has dropped. It does so of those
/// that arrive from then on: asked before the socket is bound, it leaves none out.
pub(crate) fn ask_for_details(socket: &Socket, domain: Domain) -> io::Result<()> {
    // A system that does not count is no reason not to listen.
    let _ = setsockopt(&socket.as_fd(), sockopt::RxqOvfl, &1);
    if domain == Domain::IPV4 {
        setsockopt(&socket.as_fd(), sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(&socket.as_fd(), sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

/// Room for what [`ask_for_details`] asks for.
pub(crate) fn room_for_details() -> Vec<u8> {
    nix::cmsg_space!(in6_pktinfo, in_pktinfo, u32)
}

/// Takes one datagram, if there is one.
pub(crate) fn receive(socket: &Socket, room: &mut [u8], details: &mut [u8]) -> io::Result<Arrived> {
    let available = room.len();
    let mut parts = [IoSliceMut::new(room)];
    // MSG_TRUNC: the true length is returned, not what was left of it.
    let flags = MsgFlags::MSG_TRUNC;
    let got = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(details), flags)?;
    let address = got.address.as_ref();
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
        .ok_or_else(|| io::Error::other("a datagram from no address"))?;
    let mut arrived = Arrived {
        len: got.bytes.min(available),
        full_len: got.bytes,
        from,
        to: None,
        is_multicast: false,
        dropped: None,
    };
    for detail in got.cmsgs()? {
        match detail {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let (ours, asked) = (ipv4(info.ipi_spec_dst), ipv4(info.ipi_addr));
                // Which of our addresses it reached is not kept of a datagram that came before it was asked for.
                let known = !ours.is_unspecified();
                arrived.to = Some(if known { ours } else { asked });
                arrived.is_multicast = known && ours != asked || asked.is_multicast();
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let asked = IpAddr::from(info.ipi6_addr.s6_addr);
                arrived.to = Some(asked);
                arrived.is_multicast = asked.is_multicast();
            }
            ControlMessageOwned::RxqOvfl(dropped) => arrived.dropped = Some(dropped),
            _ => {}
        }
    }
    Ok(arrived)
}

/// Sends one datagram to `to`, from our address `from` where several are bound.
pub(crate) fn send(
    socket: &Socket,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<usize> {
    let (v4, v6);
    let details: &[ControlMessage<'_>] = match from {
        None => &[],
        Some(IpAddr::V4(ip)) => {
            let ours = in_addr {
                s_addr: u32::from_ne_bytes(ip.octets()),
            };
            v4 = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: ours,
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
        details,
        MsgFlags::empty(),
        Some(&address),
    )?;
    Ok(sent)
}

/// A socket that speaks with `addr` alone. What anybody else sends to it, the kernel throws away.
pub(crate) fn connect(addr: SocketAddr, explain: Option<&Explain>) -> io::Result<Connected> {
    let socket = socket::open(addr, Type::DGRAM, Protocol::UDP, explain)?;
    let connected = socket.connect(&addr.into());
    report(explain, || Call::Connect {
        address: addr.into(),
        result: connected.as_ref().copied(),
    });
    connected?;
    let socket = Arc::new(UdpSocket::from_std(socket.into())?);
    let rung = Arc::<AtomicBool>::default();
    Ok(Connected {
        bell: Box::pin(ring(Arc::clone(&socket), Arc::clone(&rung))),
        socket,
        rung,
    })
}

/// A socket that speaks with one peer.
pub(crate) struct Connected {
    socket: Arc<UdpSocket>,
    /// Rings when there is something to be read, or an error. One for the life of the socket, so that waiting
    /// allocates nothing.
    bell: Pin<Box<dyn Future<Output = io::Error> + Send + Sync>>,
    /// It has rung, and nobody has come since.
    rung: Arc<AtomicBool>,
}

/// Sets `rung` whenever `socket` has something, and rests until the next poll. Ends with the runtime.
async fn ring(socket: Arc<UdpSocket>, rung: Arc<AtomicBool>) -> io::Error {
    loop {
        if let Err(error) = socket.ready(Interest::READABLE | Interest::ERROR).await {
            return error;
        }
        rung.store(true, Ordering::Relaxed);
        let mut rested = false;
        poll_fn(|_| {
            if mem::replace(&mut rested, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Connected {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    pub(crate) fn set_receive_buffer_size(&self, bytes: usize) {
        let _ = SockRef::from(&*self.socket).set_recv_buffer_size(bytes);
    }

    pub(crate) fn dropped(&self) -> Option<u32> {
        dropped(&SockRef::from(&*self.socket))
    }

    /// Reads a datagram, or that the peer is not there.
    ///
    /// That a datagram came back refused (ICMP) makes the socket neither readable nor writable, it only has an error:
    /// who waits for reading alone, as the runtime's own `poll_recv` does, is not woken.
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.try_recv(room) {
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
                told => return Poll::Ready(Err(told.unwrap_or_else(|error| error))),
            }
            if let Poll::Ready(error) = self.bell.as_mut().poll(cx) {
                return Poll::Ready(Err(error));
            }
            if !self.rung.swap(false, Ordering::Relaxed) {
                return Poll::Pending;
            }
        }
    }

    pub(crate) fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_send(cx, bytes)
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

/// Datagrams the kernel has dropped for this socket since it was made, from its table (proc(5)). With a datagram the
/// kernel tells only of those dropped before it: this finds what was dropped after the last.
pub(crate) fn dropped(socket: &Socket) -> Option<u32> {
    const INODE: usize = 9;
    const DROPS: usize = 12;
    let inode = rustix::fs::fstat(socket).ok()?.st_ino.to_string();
    let table = if local(socket).ok()?.is_ipv4() {
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

pub(crate) fn local(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn ipv4(address: in_addr) -> IpAddr {
    IpAddr::from(address.s_addr.to_ne_bytes())
}

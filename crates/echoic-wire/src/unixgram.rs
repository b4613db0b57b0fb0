//! Unix datagram sockets of servers and clients (unix(7)). No datagram is dropped: a sender blocks while the receiver's
//! queue is full.

use std::{io, os::unix::net as std_unix, path::PathBuf};

use echoic_core::{
    endpoint::{Shape, UnixName},
    event::Address,
};
use rustix::net::{RecvFlags, SocketAddrAny, SocketAddrUnix, recvfrom};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixDatagram;

use crate::{
    explain::{Call, CloseReporter, Explain, report},
    self_connection::SelfConnection,
    unix,
};

/// Receives one datagram, or fails with `WouldBlock`. Returns the bytes stored in `buffer`, the datagram's full length
/// and the sender.
pub(crate) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, usize, Address)> {
    let (len, full_len, from) = recvfrom(socket, buffer, RecvFlags::TRUNC)?;
    Ok((len, full_len, Address::Unix(from.and_then(name))))
}

/// Sends one datagram to `to`. Fails with `WouldBlock` if the peer's queue is full: waiting for one peer would delay
/// all others.
pub(crate) fn send(socket: &Socket, bytes: &[u8], to: &UnixName) -> io::Result<usize> {
    socket.send_to(bytes, &unix::sockaddr(to)?)
}

/// Returns a socket connected to `peer`, with a name chosen by the kernel: a peer cannot reply to one without a name.
pub(crate) fn connect(peer: &UnixName, explain: Option<&Explain>) -> io::Result<UnixDatagram> {
    let address = || Address::Unix(Some(peer.clone()));
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None);
    report(explain, || Call::Socket {
        address: address(),
        shape: Shape::Datagrams,
        result: socket.as_ref().map(|_| ()),
    });
    let socket = socket?;
    let closes = CloseReporter::new(&address(), explain);
    socket.set_nonblocking(true)?;
    // An empty address has Linux choose a unique abstract name (autobind, unix(7)).
    let bound = socket.bind(&SockAddr::unix("")?);
    report(explain, || Call::Bind {
        address: Address::Unix(None),
        result: bound.as_ref().copied(),
    });
    bound?;
    let sockaddr = unix::sockaddr(peer)?;
    if socket.local_addr()? == sockaddr {
        return Err(SelfConnection.into());
    }
    let connected = socket.connect(&sockaddr);
    report(explain, || Call::Connect {
        address: address(),
        result: connected.as_ref().copied(),
    });
    connected?;
    closes.hand_over();
    UnixDatagram::from_std(std_unix::UnixDatagram::from(socket))
}

/// Returns the name of a sender. `None` for an abstract name that is not UTF-8, which cannot be represented.
fn name(sockaddr: SocketAddrAny) -> Option<UnixName> {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    let sockaddr = SocketAddrUnix::try_from(sockaddr).ok()?;
    if let Some(name) = sockaddr.abstract_name() {
        return String::from_utf8(name.to_vec())
            .ok()
            .map(UnixName::Abstract);
    }
    let path = sockaddr
        .path_bytes()
        .filter(|path| !path.is_empty())?
        .to_vec();
    let path: Vec<u8> = path.into_iter().take_while(|byte| *byte != 0).collect();
    Some(UnixName::Path(PathBuf::from(OsString::from_vec(path))))
}

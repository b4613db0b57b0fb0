//! Unix sockets of datagrams, both their ends (unix(7)). They lose nothing: a sender waits while we are busy.

use std::{io, os::unix::net as std_unix, path::PathBuf};

use echoic_core::{
    endpoint::{Shape, UnixName},
    event::Address,
};
use rustix::net::{RecvFlags, SocketAddrAny, SocketAddrUnix, recvfrom};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixDatagram;

use crate::{
    explain::{Call, Explain, report},
    unix,
};

/// Takes one datagram, if there is one: bytes in `room`, its true length, and who sent it.
pub(crate) fn receive(socket: &Socket, room: &mut [u8]) -> io::Result<(usize, usize, Address)> {
    let (len, full_len, from) = recvfrom(socket, room, RecvFlags::TRUNC)?;
    Ok((len, full_len, Address::Unix(from.and_then(name))))
}

/// Sends one datagram to `to`. A queue that is full is the peer's: one that does not read must not keep others waiting.
pub(crate) fn send(socket: &Socket, bytes: &[u8], to: &UnixName) -> io::Result<usize> {
    socket.send_to(bytes, &unix::sockaddr(to)?)
}

/// A socket that speaks with `peer` alone, under a name of the kernel's choosing: without one it could not be answered.
pub(crate) fn connect(peer: &UnixName, explain: Option<&Explain>) -> io::Result<UnixDatagram> {
    let address = || Address::Unix(Some(peer.clone()));
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None);
    report(explain, || Call::Socket {
        address: address(),
        shape: Shape::Datagrams,
        result: socket.as_ref().map(|_| ()),
    });
    let socket = socket?;
    socket.set_nonblocking(true)?;
    // An empty address: Linux gives an abstract name nobody else has (autobind).
    socket.bind(&SockAddr::unix("")?)?;
    let connected = socket.connect(&unix::sockaddr(peer)?);
    report(explain, || Call::Connect {
        address: address(),
        result: connected.as_ref().copied(),
    });
    connected?;
    UnixDatagram::from_std(std_unix::UnixDatagram::from(socket))
}

/// The name of a sender; none that is no text, which could not be told from another.
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

//! Creates and binds IP sockets, TCP and UDP alike.

use std::{io, net::SocketAddr};

use echoic_core::endpoint::Shape;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    explain::{Call, Explain, report},
    options::ListenOptions,
};

/// Creates a non-blocking socket of the address family of `addr`.
pub(crate) fn open(
    addr: SocketAddr,
    kind: Type,
    protocol: Protocol,
    explain: Option<&Explain>,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol));
    report(explain, || Call::Socket {
        address: addr.into(),
        shape: shape(kind),
        result: socket.as_ref().map(|_| ()),
    });
    let socket = socket?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Returns the shape of a socket type.
pub(crate) fn shape(kind: Type) -> Shape {
    if kind == Type::DGRAM {
        Shape::Datagrams
    } else {
        Shape::Stream
    }
}

/// Binds `socket` to `addr`, for one address family alone: the other one gets its own socket.
pub(crate) fn bind(socket: &Socket, addr: SocketAddr, options: &ListenOptions) -> io::Result<()> {
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    let bound = socket.bind(&addr.into());
    report(options.explain.as_ref(), || Call::Bind {
        address: addr.into(),
        result: bound.as_ref().copied(),
    });
    bound
}

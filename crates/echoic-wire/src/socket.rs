//! What sockets of streams and of datagrams have in common on the internet: how they are made and bound.

use std::{io, net::SocketAddr};

use echoic_core::endpoint::Shape;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    explain::{Call, Explain, report},
    options::ListenOptions,
};

/// A socket for `addr`, not yet bound or connected, that never blocks.
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

/// What a socket of this type carries.
pub(crate) fn shape(kind: Type) -> Shape {
    if kind == Type::DGRAM {
        Shape::Datagrams
    } else {
        Shape::Stream
    }
}

/// Binds it, in one family alone: the other one has a socket of its own.
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

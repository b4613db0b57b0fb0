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

/// Sets an option of a socket with `set` (setsockopt(2)), and reports it.
pub(crate) fn set_option(
    explain: Option<&Explain>,
    name: &'static str,
    value: usize,
    set: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let result = set();
    report(explain, || Call::SetOption {
        name,
        value,
        result: result.as_ref().copied(),
    });
    result
}

/// Binds `socket` to `addr`, for one address family alone: the other one gets its own socket.
pub(crate) fn bind(socket: &Socket, addr: SocketAddr, options: &ListenOptions) -> io::Result<()> {
    let explain = options.explain.as_ref();
    if addr.is_ipv6() {
        set_option(explain, "IPV6_V6ONLY", 1, || socket.set_only_v6(true))?;
    }
    if let Some(bytes) = options.send_buffer {
        set_option(explain, "SO_SNDBUF", bytes, || {
            socket.set_send_buffer_size(bytes)
        })?;
    }
    let bound = socket.bind(&addr.into());
    report(explain, || Call::Bind {
        address: addr.into(),
        result: bound.as_ref().copied(),
    });
    bound
}

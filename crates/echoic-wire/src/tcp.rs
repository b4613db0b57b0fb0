//! TCP sockets of servers and clients.

use std::{io, net::SocketAddr};

use echoic_core::endpoint::Shape;
#[cfg(target_os = "linux")]
use socket2::SockFilter;
use socket2::{Protocol, SockRef, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{
    explain::{Call, Explain, report},
    options::ListenOptions,
    socket,
};

/// Returns a socket that listens at `addr`.
pub(crate) fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let explain = options.explain.as_ref();
    let socket = socket::open(addr, Type::STREAM, Protocol::TCP, explain)?;
    // Lets a restarted server bind the port while old connections are in TIME_WAIT (socket(7)). Both the old and the new
    // socket need it. On Windows the option would let other processes share the port.
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    socket::bind(&socket, addr, options)?;
    let listening = socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX));
    report(explain, || Call::Listen {
        backlog: options.backlog,
        result: listening.as_ref().copied(),
    });
    listening?;
    TcpListener::from_std(socket.into())
}

/// Attaches a filter that drops segments with SYN and without ACK, and nothing else, so that no new handshake begins.
/// Handshakes in progress are completed, and connections go on although they inherit the listener's filter.
#[cfg(target_os = "linux")]
pub(crate) fn stop_accepting(socket: &TcpListener) -> io::Result<()> {
    // Classic BPF over the TCP header; byte 13 has the flags (RFC 9293, section 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Other systems have no such filter.
#[cfg(not(target_os = "linux"))]
pub(crate) fn stop_accepting(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns the maximum segment size of the connection in bytes (`TCP_MAXSEG`, tcp(7)).
pub(crate) fn mss(stream: &TcpStream) -> Option<u32> {
    SockRef::from(stream).tcp_mss().ok()
}

/// Connects a stream to `addr`.
pub(crate) async fn connect(addr: SocketAddr, explain: Option<&Explain>) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    report(explain, || Call::Socket {
        address: addr.into(),
        shape: Shape::Stream,
        result: socket.as_ref().map(|_| ()),
    });
    let stream = socket?.connect(addr).await;
    report(explain, || Call::Connect {
        address: addr.into(),
        result: stream.as_ref().map(|_| ()),
    });
    stream
}

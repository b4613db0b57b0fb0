//! TCP sockets of servers and clients.

use std::{io, net::SocketAddr, time::Duration};

use echoic_core::endpoint::Shape;
#[cfg(target_os = "linux")]
use socket2::SockFilter;
use socket2::{Protocol, SockRef, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{
    explain::{Call, CloseReporter, Explain, report},
    options::ListenOptions,
    self_connection::SelfConnection,
    socket,
};

/// Returns a socket that listens at `addr`.
pub(crate) fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let explain = options.explain.as_ref();
    let socket = socket::open(addr, Type::STREAM, Protocol::TCP, explain)?;
    // Lets a restarted server bind the port while old connections are in TIME_WAIT (socket(7)). Both the old and the new
    // socket need it. On Windows the option would let other processes share the port.
    if cfg!(unix) {
        socket::set_option(explain, "SO_REUSEADDR", 1, || {
            socket.set_reuse_address(true)
        })?;
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
pub(crate) fn stop_accepting(socket: &TcpListener, explain: Option<&Explain>) -> io::Result<()> {
    // Classic BPF over the TCP header; byte 13 has the flags (RFC 9293, section 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    socket::set_option(explain, "SO_ATTACH_FILTER", filter.len(), || {
        SockRef::from(socket).attach_filter(&filter)
    })
}

/// Other systems have no such filter.
#[cfg(not(target_os = "linux"))]
pub(crate) fn stop_accepting(_: &TcpListener, _: Option<&Explain>) -> io::Result<()> {
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
    let socket = socket?;
    // The attempt may also be cancelled, as the loser of a race.
    let closes = CloseReporter::new(&addr.into(), explain);
    let stream = socket.connect(addr).await;
    report(explain, || Call::Connect {
        address: addr.into(),
        result: stream.as_ref().map(|_| ()),
    });
    let stream = refuse_self_connection(stream?, explain)?;
    closes.hand_over();
    Ok(stream)
}

/// Returns an error if the stream is connected to itself.
///
/// If nobody listens on a port of the ephemeral range (`ip_local_port_range`, ip(7)), the kernel may choose that port for
/// our side too. The SYN then meets its own socket, which is a simultaneous open (RFC 9293, section 3.5): the connection
/// is established and echoes, and it keeps a server from binding the port.
fn refuse_self_connection(stream: TcpStream, explain: Option<&Explain>) -> io::Result<TcpStream> {
    if stream.local_addr()? != stream.peer_addr()? {
        return Ok(stream);
    }
    // A reset leaves no TIME_WAIT behind, so that the server can bind the port.
    socket::set_option(explain, "SO_LINGER", 0, || {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    })?;
    Err(SelfConnection.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket};

    use super::*;

    #[tokio::test]
    async fn stream_with_two_equal_addresses_is_refused_and_reset() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap();
        socket.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(socket.into()).unwrap();
        let error = refuse_self_connection(stream, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(SelfConnection::is_in(&error), "{error}");
        // Without SO_REUSEADDR, this fails while the port is in TIME_WAIT.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&own).unwrap();
    }

    /// For connect(2) the kernel goes through the ports that are as even as the first of the range, so that it comes to the
    /// peer's own port sooner or later.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn port_without_listener_is_refused_however_often_it_is_tried() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let bounds: Vec<u16> = range
            .split_whitespace()
            .map(|bound| bound.parse().unwrap())
            .collect();
        let middle = bounds[0] + (bounds[1] - bounds[0]) / 4 * 2;
        let mut candidates = (middle..bounds[1])
            .step_by(2)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let addr = candidates
            .find(|addr| TcpListener::bind(addr).is_ok())
            .unwrap();
        // It skips some ports at random, so that one pass in four or five comes to this one.
        for _ in 0..20 * u32::from(bounds[1] - bounds[0]) {
            let error = connect(addr, None).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
            if SelfConnection::is_in(&error) {
                return;
            }
        }
        panic!("no attempt got the port of {addr}: the test shows nothing");
    }
}

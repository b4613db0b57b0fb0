//! Endpoint to peers that call: the door in.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    task::{Context, Poll, ready},
    time::Duration,
};

use echoic_core::endpoint::{Endpoint, Host, HostPort};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    explain::{Call, Explain},
    link::Link,
    resolve::{ResolveError, resolve},
};

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Connections the kernel may hold ready for us. A hint: the system caps it (`net.core.somaxconn`), and past
    /// it Linux drops the caller's SYN, so that the caller waits and is not refused (listen(2)).
    pub backlog: u32,
    /// Kernel send buffer of each connection in bytes; none leaves it to the kernel's autotuning.
    pub send_buffer: Option<usize>,
    /// Told of every socket call.
    pub explain: Option<Explain>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 1024,
            send_buffer: None,
            explain: None,
        }
    }
}

/// A socket that peers can call.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
    explain: Option<Explain>,
}

/// A peer that has called. Cheap to accept; what is slow (a handshake) is in [`Incoming::open`], in the
/// conversation's own task.
#[derive(Debug)]
pub struct Incoming {
    stream: Caller,
    /// Who called.
    pub peer: SocketAddr,
    /// Where it was reached.
    pub local: SocketAddr,
    explain: Option<Explain>,
}

#[derive(Debug)]
enum Caller {
    Here(TcpStream),
    Moving(std::net::TcpStream),
}

/// Why an endpoint cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Its name led nowhere.
    #[error("cannot listen on {endpoint}: {source}")]
    Resolve {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the resolver said.
        source: ResolveError,
    },
    /// Somebody else listens there.
    #[error(
        "cannot listen on {addr}: the address is in use; stop the program that holds it, or take another port (0 picks a free one)"
    )]
    InUse {
        /// The address.
        addr: SocketAddr,
    },
    /// Ports below 1024 belong to root, or to whom it gave `CAP_NET_BIND_SERVICE`.
    #[error(
        "cannot listen on {addr}: not permitted; ports below 1024 need the right to them, a higher one does not"
    )]
    Denied {
        /// The address.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {addr}: {source}")]
    Failed {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// How often a free port is looked for that is free in both families.
const SAME_PORT_TRIES: u32 = 16;

/// Time for the name of an endpoint that is to be listened on.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);

/// Listens on every address of `endpoint`. When this returns, callers are being queued.
///
/// Where the endpoint stands for both families and the machine has only one, that one is enough; the caller can
/// tell from the list. With port 0 all addresses get the same port.
pub async fn listen(
    endpoint: &Endpoint,
    options: &ListenOptions,
) -> Result<Vec<Listener>, ListenError> {
    let Endpoint::Tcp(at) = endpoint;
    let addrs = resolve(at, RESOLVE_WITHIN)
        .await
        .map_err(|source| ListenError::Resolve {
            endpoint: endpoint.clone(),
            source,
        })?;
    let mut tries = 0;
    loop {
        tries += 1;
        match listen_on_all(at, &addrs, options) {
            Err(ListenError::InUse { .. }) if at.port == 0 && tries < SAME_PORT_TRIES => {}
            done => return done,
        }
    }
}

fn listen_on_all(
    at: &HostPort,
    addrs: &[SocketAddr],
    options: &ListenOptions,
) -> Result<Vec<Listener>, ListenError> {
    let may_lack_family = matches!(at.host, Host::Loopback | Host::Any);
    let mut listeners: Vec<Listener> = Vec::new();
    let mut lacking = None;
    for &addr in addrs {
        let port = listeners.first().map_or(addr, |first| first.addr).port();
        let addr = SocketAddr::new(addr.ip(), port);
        match Listener::bind(addr, options) {
            Ok(listener) => listeners.push(listener),
            Err(error) if may_lack_family && lacks_family(&error) => lacking = Some((addr, error)),
            Err(error) => return Err(refused(addr, error)),
        }
    }
    match lacking {
        Some((addr, error)) if listeners.is_empty() => Err(refused(addr, error)),
        _ => Ok(listeners),
    }
}

/// The machine has no such address family, or no address in it.
fn lacks_family(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error
        .raw_os_error()
        .is_some_and(|code| code == AF_UNSUPPORTED)
}

/// `EAFNOSUPPORT` on Linux; std has no kind for it.
const AF_UNSUPPORTED: i32 = 97;

fn refused(addr: SocketAddr, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { addr },
        io::ErrorKind::PermissionDenied => ListenError::Denied { addr },
        _ => ListenError::Failed { addr, source },
    }
}

impl Listener {
    fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        let tell = |call: Call<'_>| {
            if let Some(explain) = &options.explain {
                explain.tell(call);
            }
        };
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP));
        tell(Call::Socket {
            addr,
            result: socket.as_ref().map(|_| ()),
        });
        let socket = socket?;
        socket.set_nonblocking(true)?;
        // Set before the first bind of the port: only then can a restart bind it while old connections are in
        // TIME_WAIT (socket(7)). On Windows the option means something else and would let others in.
        if cfg!(unix) {
            socket.set_reuse_address(true)?;
        }
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if let Some(bytes) = options.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        let bound = socket.bind(&addr.into());
        tell(Call::Bind {
            addr,
            result: bound.as_ref().copied(),
        });
        bound?;
        let listening = socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX));
        tell(Call::Listen {
            backlog: options.backlog,
            result: listening.as_ref().copied(),
        });
        listening?;
        let socket = TcpListener::from_std(socket.into())?;
        let addr = socket.local_addr()?;
        Ok(Self {
            socket,
            addr,
            explain: options.explain.clone(),
        })
    }

    /// Where it listens, with the port that was really taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next caller. Cancel safe. Errors are the system's and pass: the listener stays as it is.
    pub async fn accept(&self) -> io::Result<Incoming> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`Self::accept`], for one task that listens at several doors.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let accepted = ready!(self.socket.poll_accept(cx));
        if let Some(explain) = &self.explain {
            explain.tell(Call::Accept {
                result: accepted.as_ref().map(|(_, peer)| *peer),
            });
        }
        Poll::Ready(accepted.map(|(stream, peer)| self.incoming(stream, peer)))
    }

    fn incoming(&self, stream: TcpStream, peer: SocketAddr) -> Incoming {
        // Bound to everything: only the connection knows which address was called.
        let local = if self.addr.ip().is_unspecified() {
            stream.local_addr().unwrap_or(self.addr)
        } else {
            self.addr
        };
        let explain = self.explain.as_ref().map(|explain| explain.of(peer));
        Incoming {
            stream: Caller::Here(stream),
            peer,
            local,
            explain,
        }
    }
}

impl Incoming {
    /// Makes it ready to be opened on another runtime than the one that accepted it.
    pub fn detach(self) -> io::Result<Self> {
        let stream = match self.stream {
            Caller::Here(stream) => Caller::Moving(stream.into_std()?),
            moving @ Caller::Moving(_) => moving,
        };
        Ok(Self { stream, ..self })
    }

    /// The link to the peer, on the runtime this is called on.
    pub fn open(self) -> io::Result<Link> {
        let stream = match self.stream {
            Caller::Here(stream) => stream,
            Caller::Moving(stream) => TcpStream::from_std(stream)?,
        };
        Ok(Link::tcp(stream, self.explain))
    }
}

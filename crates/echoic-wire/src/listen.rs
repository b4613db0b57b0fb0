//! Listening sockets: from an endpoint to accepted connections.

use std::{
    fmt::Debug,
    fs,
    future::poll_fn,
    io,
    net::{Shutdown, SocketAddr},
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::FileTypeExt,
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use echoic_core::{
    endpoint::{Endpoint, Host, HostPort, UnixName},
    event::Address,
};
use socket2::SockRef;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::{
    explain::{Call, CloseReporter, Explain, report},
    inherited::{self, Inherited},
    link::Link,
    options::ListenOptions,
    owner::{self, Owner},
    resolve::{ResolveError, resolve_with_timers},
    socket, tcp,
    unix::{self, SocketFile},
};

/// A listening socket that is bound to one address.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    address: Address,
    /// The socket was inherited: other processes may hold it too.
    shared: bool,
    /// [`Self::stop_accepting`] was called.
    stopped: bool,
    explain: Option<Explain>,
    #[expect(dead_code, reason = "dropped with the socket")]
    close_reporter: CloseReporter,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "dropped with the socket")] Option<SocketFile>,
    ),
    Other(Box<dyn Accept>),
}

/// A source of connections beside the sockets of this crate: a pipe in memory, vsock.
pub trait Accept: Send + Sync + Debug {
    /// Returns the next connection and the peer's address. Errors are transient: the server polls again. The link may
    /// be used on another runtime than the one that polls here.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Link, Address)>>;

    /// Stops queueing new connections. Those that are queued can still be accepted.
    fn stop(&self);
}

/// An accepted connection, not opened yet. Accepting is cheap; handshakes are slow and belong to a
/// [`ServerLayer`](crate::ServerLayer), which runs in the conversation's own task.
#[derive(Debug)]
pub struct Incoming {
    stream: AcceptedStream,
    /// The peer's address.
    pub peer: Address,
    /// The local address that the peer connected to.
    pub local: Address,
    explain: Option<Explain>,
}

#[derive(Debug)]
enum AcceptedStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    DetachedTcp(std::net::TcpStream),
    DetachedUnix(std::os::unix::net::UnixStream),
    /// Boxed to keep the enum small.
    Other(Box<Link>),
}

/// Reasons why an endpoint cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The host name was not resolved.
    #[error("cannot listen on {endpoint}: {source}")]
    Resolve {
        /// The endpoint.
        endpoint: Endpoint,
        /// The resolver's error.
        source: ResolveError,
    },
    /// The address is in use.
    #[error("cannot listen on {address}: the address is in use{}; {}, or take another{}",
        owner.as_ref().map_or(String::new(), |owner| format!(" by {owner}")),
        owner.as_ref().map_or("stop the program that holds it", Owner::remedy),
        if address.port().is_some() { " port (0 picks a free one)" } else { " name" })]
    InUse {
        /// The address.
        address: Address,
        /// What holds it, where /proc shows it.
        owner: Option<Owner>,
    },
    /// The path exists and is not a socket. The file is left as it is.
    #[error(
        "cannot listen on {address}: a file of that name exists and is not a socket; move it away, or take another name"
    )]
    NotASocket {
        /// The path.
        address: Address,
    },
    /// Permission denied. Ports below 1024 need root or `CAP_NET_BIND_SERVICE` (ip(7)); a socket file needs a writable
    /// directory.
    #[error("cannot listen on {address}: not permitted{}",
        if address.port().is_some() { "; ports below 1024 need root or CAP_NET_BIND_SERVICE, higher ports do not" } else { "" })]
    Denied {
        /// The address.
        address: Address,
    },
    /// No local interface has the address.
    #[error(
        "cannot listen on {address}: no interface of this machine has that address; `ip address` lists them, \
         `*` means all"
    )]
    AddressNotAvailable {
        /// The address.
        address: Address,
    },
    /// The directory of a Unix socket's file does not exist.
    #[error("cannot listen on {address}: no such directory; create it, or take another name")]
    NoDirectory {
        /// The path.
        address: Address,
    },
    /// Any other error.
    #[error("cannot listen on {endpoint}: {source}")]
    Failed {
        /// The endpoint.
        endpoint: Endpoint,
        /// The system's error.
        source: io::Error,
    },
}

/// Attempts to find a port that is free in both address families.
const SAME_PORT_ATTEMPTS_MAX: u32 = 16;

/// Limit for resolving the host name of an endpoint.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens on every address of `endpoint`, which has to be one of streams. When this returns, the kernel queues
/// connections.
///
/// An endpoint for both address families is bound in one if the machine has only one; the list shows which. With port
/// 0 all addresses get the same port.
pub async fn listen(
    endpoint: &Endpoint,
    options: &ListenOptions,
) -> Result<Vec<Listener>, ListenError> {
    let failed = |source| ListenError::Failed {
        endpoint: endpoint.clone(),
        source,
    };
    match endpoint {
        Endpoint::Tcp(at) | Endpoint::Tls(at) => listen_tcp(endpoint, at, options).await,
        Endpoint::Unix(name) => {
            let address = || Address::Unix(Some(name.clone()));
            let (socket, file) = unix::bind(name, options)
                .map_err(|error| listen_error(endpoint, address(), error))?;
            let socket = Bound::Unix(socket, file);
            Ok(vec![Listener::new(socket, address(), false, options)])
        }
        Endpoint::Fd(number) => {
            let inherited = inherited::duplicate(*number).map_err(failed)?;
            Ok(vec![
                Listener::inherited(inherited, options).map_err(failed)?,
            ])
        }
        Endpoint::Udp(_) | Endpoint::Unixgram(_) => Err(failed(io::Error::other(
            "a datagram endpoint has no listener",
        ))),
    }
}

async fn listen_tcp(
    endpoint: &Endpoint,
    at: &HostPort,
    options: &ListenOptions,
) -> Result<Vec<Listener>, ListenError> {
    bind_all(endpoint, at, options, |addr| {
        let socket = tcp::bind(addr, options)?;
        let address = socket.local_addr()?.into();
        Ok(Listener::new(Bound::Tcp(socket), address, false, options))
    })
    .await
}

/// Calls `open` for every address of `at`: with one port for all, and in the address families that the machine has.
pub(crate) async fn bind_all<T: HasAddress>(
    endpoint: &Endpoint,
    at: &HostPort,
    options: &ListenOptions,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, ListenError> {
    let addrs = resolve_with_timers(options.timers.as_ref(), at, RESOLVE_TIMEOUT)
        .await
        .map_err(|source| ListenError::Resolve {
            endpoint: endpoint.clone(),
            source,
        })?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match bind_all_once(endpoint, at, &addrs, options.explain.as_ref(), &open) {
            Err(ListenError::InUse { .. }) if at.port == 0 && attempts < SAME_PORT_ATTEMPTS_MAX => {
                report(options.explain.as_ref(), || {
                    Call::Remark("the port is free in one family only: all over with another port")
                });
            }
            done => return done,
        }
    }
}

/// Something that is bound to an address.
pub(crate) trait HasAddress {
    fn address(&self) -> &Address;
}

impl HasAddress for Listener {
    fn address(&self) -> &Address {
        &self.address
    }
}

fn bind_all_once<T: HasAddress>(
    endpoint: &Endpoint,
    at: &HostPort,
    addrs: &[SocketAddr],
    explain: Option<&Explain>,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, ListenError> {
    let may_skip_family = matches!(at.host, Host::Loopback | Host::Any);
    let mut opened: Vec<T> = Vec::new();
    let mut unsupported = None;
    for &(mut addr) in addrs {
        if let Some(first) = opened.first() {
            addr.set_port(first.address().port().unwrap_or_else(|| addr.port()));
            report(explain, || Call::Remark(why_another(&at.host)));
        }
        match open(addr) {
            Ok(one) => opened.push(one),
            Err(error) if may_skip_family && lacks_family(&error) => {
                unsupported = Some((addr, error));
            }
            Err(error) => return Err(listen_error(endpoint, addr.into(), error)),
        }
    }
    match unsupported {
        Some((addr, error)) if opened.is_empty() => Err(listen_error(endpoint, addr.into(), error)),
        _ => Ok(opened),
    }
}

/// Returns why an endpoint has more than one socket.
fn why_another(host: &Host) -> &'static str {
    match host {
        Host::Loopback => {
            "no host means this machine, which has an address in IPv4 and in IPv6: one socket each"
        }
        Host::Any => "* means every interface, in IPv4 and in IPv6: one socket each",
        _ => "the name has several addresses: one socket each",
    }
}

/// Whether the machine lacks the address family, or has no address in it.
fn lacks_family(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error
        .raw_os_error()
        .is_some_and(|code| code == EAFNOSUPPORT)
}

/// Address family not supported, on Linux; std has no kind for it.
const EAFNOSUPPORT: i32 = 97;

/// Whether the address is the path of an existing file that is not a socket.
fn is_blocked_by_file(address: &Address) -> bool {
    let Address::Unix(Some(UnixName::Path(path))) = address else {
        return false;
    };
    let is_socket = fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
    !is_socket && fs::symlink_metadata(path).is_ok()
}

pub(crate) fn listen_error(
    endpoint: &Endpoint,
    address: Address,
    source: io::Error,
) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse if is_blocked_by_file(&address) => {
            ListenError::NotASocket { address }
        }
        io::ErrorKind::AddrInUse => {
            let owner = owner::find(endpoint, &address);
            ListenError::InUse { address, owner }
        }
        io::ErrorKind::PermissionDenied => ListenError::Denied { address },
        io::ErrorKind::AddrNotAvailable => ListenError::AddressNotAvailable { address },
        io::ErrorKind::NotFound if address.port().is_none() => ListenError::NoDirectory { address },
        _ => ListenError::Failed {
            endpoint: endpoint.clone(),
            source,
        },
    }
}

impl Listener {
    fn new(socket: Bound, address: Address, shared: bool, options: &ListenOptions) -> Self {
        if let Bound::Tcp(socket) = &socket {
            // Accepted connections inherit the option, which saves one call for each.
            let _ = socket::set_option(options.explain.as_ref(), "TCP_NODELAY", 1, || {
                SockRef::from(socket).set_tcp_nodelay(true)
            });
        }
        Self {
            close_reporter: CloseReporter::new(&address, options.explain.as_ref()),
            socket,
            address,
            shared,
            stopped: false,
            explain: options.explain.clone(),
        }
    }

    fn inherited(inherited: Inherited, options: &ListenOptions) -> io::Result<Self> {
        let (socket, address) = match inherited {
            Inherited::Tcp(socket) => {
                let address = socket.local_addr()?.into();
                (Bound::Tcp(TcpListener::from_std(socket)?), address)
            }
            Inherited::Unix(socket) => {
                let address = unix::address(&socket.local_addr()?);
                (Bound::Unix(UnixListener::from_std(socket)?, None), address)
            }
            Inherited::Datagrams(_) => {
                return Err(io::Error::other(
                    "it is a datagram socket, expected a listening one",
                ));
            }
        };
        Ok(Self::new(socket, address, true, options))
    }

    /// Stops queueing new connections; those that are queued can still be accepted.
    ///
    /// A peer that connects from now on is refused once the listener is dropped, or served by the next process that
    /// listens. Without this, a peer that connects between the last accept and the close would be reset. Does nothing
    /// for an inherited socket, whose queue belongs to other processes too.
    ///
    /// # Errors
    ///
    /// Those of the system; for TCP, `Unsupported` on other systems than Linux.
    pub fn stop_accepting(&mut self) -> io::Result<()> {
        if self.shared || self.stopped {
            return Ok(());
        }
        match &self.socket {
            Bound::Tcp(socket) => tcp::stop_accepting(socket, self.explain.as_ref())?,
            Bound::Unix(socket, _) => {
                let result = SockRef::from(socket).shutdown(Shutdown::Read);
                report(self.explain.as_ref(), || Call::ShutdownRead {
                    result: result.as_ref().copied(),
                });
                result?;
            }
            Bound::Other(source) => source.stop(),
        }
        self.stopped = true;
        Ok(())
    }

    /// Returns a listener for the connections of `source`, with `address` as its own.
    pub fn from_source(source: Box<dyn Accept>, address: Address) -> Self {
        let options = ListenOptions::default();
        Self::new(Bound::Other(source), address, false, &options)
    }

    /// Returns the bound address, with the real port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the socket's file descriptor, if it is a socket.
    pub fn raw_fd(&self) -> Option<RawFd> {
        match &self.socket {
            Bound::Tcp(socket) => Some(socket.as_raw_fd()),
            Bound::Unix(socket, _) => Some(socket.as_raw_fd()),
            Bound::Other(_) => None,
        }
    }

    /// Accepts the next connection. Cancel safe. After an error the listener is still usable.
    pub async fn accept(&self) -> io::Result<Incoming> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`Self::accept`], for a task with several listeners.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let accepted = ready!(match &self.socket {
            Bound::Tcp(socket) => socket.poll_accept(cx).map_ok(|(stream, peer)| {
                // Only the connection knows the local address if the listener has the unspecified one.
                let unspecified =
                    matches!(&self.address, Address::Net(addr) if addr.ip().is_unspecified());
                let local = unspecified.then(|| stream.local_addr().ok()).flatten();
                (
                    AcceptedStream::Tcp(stream),
                    Address::from(peer),
                    local.map(Address::from),
                )
            }),
            Bound::Unix(socket, _) => unix::poll_accept(socket, cx, self.stopped)
                .map_ok(|(stream, peer)| (AcceptedStream::Unix(stream), peer, None)),
            Bound::Other(source) => source.poll_accept(cx).map_ok(|(link, peer)| (
                AcceptedStream::Other(Box::new(link)),
                peer,
                None
            )),
        });
        if let Some(explain) = &self.explain {
            explain.report(Call::Accept {
                result: accepted.as_ref().map(|(_, peer, _)| peer.clone()),
            });
        }
        Poll::Ready(accepted.map(|(stream, peer, local)| {
            Incoming {
                stream,
                explain: self
                    .explain
                    .as_ref()
                    .map(|explain| explain.for_peer(peer.clone())),
                peer,
                local: local.unwrap_or_else(|| self.address.clone()),
            }
        }))
    }
}

impl Incoming {
    /// Returns the file descriptor of the connection, if it is a socket.
    pub fn raw_fd(&self) -> Option<RawFd> {
        match &self.stream {
            AcceptedStream::Tcp(stream) => Some(stream.as_raw_fd()),
            AcceptedStream::Unix(stream) => Some(stream.as_raw_fd()),
            AcceptedStream::DetachedTcp(stream) => Some(stream.as_raw_fd()),
            AcceptedStream::DetachedUnix(stream) => Some(stream.as_raw_fd()),
            AcceptedStream::Other(link) => link.raw_fd(),
        }
    }

    /// Has the calls of this connection also reported to `explain`.
    pub fn explain_also(&mut self, explain: Explain) {
        if let AcceptedStream::Other(link) = &mut self.stream {
            link.explain_also(explain);
        } else {
            self.explain = Some(match self.explain.take() {
                Some(first) => first.and(explain),
                None => explain,
            });
        }
    }

    /// Detaches the connection from the runtime that accepted it, so that it can be opened on another one.
    pub fn detach(self) -> io::Result<Self> {
        let stream = match self.stream {
            AcceptedStream::Tcp(stream) => AcceptedStream::DetachedTcp(stream.into_std()?),
            AcceptedStream::Unix(stream) => AcceptedStream::DetachedUnix(stream.into_std()?),
            detached => detached,
        };
        Ok(Self { stream, ..self })
    }

    /// Opens the link to the peer on the current runtime.
    pub fn open(self) -> io::Result<Link> {
        Ok(match self.stream {
            AcceptedStream::Tcp(stream) => Link::accepted(stream, self.explain),
            AcceptedStream::DetachedTcp(stream) => {
                Link::accepted(TcpStream::from_std(stream)?, self.explain)
            }
            AcceptedStream::Unix(stream) => Link::unix(stream, self.explain),
            AcceptedStream::DetachedUnix(stream) => {
                Link::unix(UnixStream::from_std(stream)?, self.explain)
            }
            AcceptedStream::Other(link) => *link,
        })
    }
}

//! Endpoint to peers that call: the door in.

use std::{
    fmt::Debug,
    fs,
    future::poll_fn,
    io,
    net::{Shutdown, SocketAddr},
    os::unix::fs::FileTypeExt,
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
    explain::{Call, CloseReporter, Explain},
    inherited::{self, Inherited},
    link::Link,
    options::ListenOptions,
    owner,
    resolve::{ResolveError, resolve_with_timers},
    tcp,
    unix::{self, SocketFile},
};

/// A socket that peers can call.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    address: Address,
    /// Others hold it too, or will: whoever handed it over.
    shared: bool,
    /// It takes no new calls.
    hushed: bool,
    explain: Option<Explain>,
    #[expect(dead_code, reason = "held for its end")]
    close_reporter: CloseReporter,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "held for its end")] Option<SocketFile>,
    ),
    Other(Box<dyn Accept>),
}

/// Accepts connections of any other kind than the sockets of this crate: a pipe in memory, vsock.
pub trait Accept: Send + Sync + Debug {
    /// The next connection, and where it comes from. Errors pass: it is asked again. The link may be used on another
    /// runtime than the one this is called on.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Link, Address)>>;

    /// Takes no new connections: those that wait can still be accepted.
    fn stop(&self);
}

/// A peer that has called. Cheap to accept; what is slow (a handshake) is a [`ServerLayer`](crate::ServerLayer)'s, in
/// the conversation's own task.
#[derive(Debug)]
pub struct Incoming {
    stream: Caller,
    /// Who called.
    pub peer: Address,
    /// Where it was reached.
    pub local: Address,
    explain: Option<Explain>,
}

#[derive(Debug)]
enum Caller {
    Tcp(TcpStream),
    Unix(UnixStream),
    MovingTcp(std::net::TcpStream),
    MovingUnix(std::os::unix::net::UnixStream),
    /// In a box, so that the other kinds are no larger for it.
    Other(Box<Link>),
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
    #[error("cannot listen on {address}: the address is in use{}; {}, or take another{}",
        owner.as_ref().map_or(String::new(), |owner| format!(" by {owner}")),
        if owner.as_ref().is_some_and(|owner| owner.starts_with(owner::OURS)) { "leave one of the two out" }
        else { "stop the program that holds it" },
        if address.port().is_some() { " port (0 picks a free one)" } else { " name" })]
    InUse {
        /// The address.
        address: Address,
        /// The program that holds it, where that can be found out.
        owner: Option<String>,
    },
    /// A file of that name is there, and is no socket. It is left as it is.
    #[error(
        "cannot listen on {address}: there is a file that is no socket; move it away, or take another name"
    )]
    NoSocket {
        /// Its name.
        address: Address,
    },
    /// Ports below 1024 belong to root, or to whom it gave `CAP_NET_BIND_SERVICE`; files to who may write the folder.
    #[error("cannot listen on {address}: not permitted{}",
        if address.port().is_some() { "; ports below 1024 need the right to them, a higher one does not" } else { "" })]
    Denied {
        /// The address.
        address: Address,
    },
    /// It is an address of somebody else, or of nobody.
    #[error(
        "cannot listen on {address}: no interface of this machine has that address; `ip address` lists those there are, \
         `*` stands for all"
    )]
    NotOurs {
        /// The address.
        address: Address,
    },
    /// The folder of a Unix socket's file.
    #[error("cannot listen on {address}: there is no such folder; make it, or take another name")]
    NoFolder {
        /// The name in it.
        address: Address,
    },
    /// Anything else.
    #[error("cannot listen on {endpoint}: {source}")]
    Failed {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
}

/// How often a free port is looked for that is free in both families.
const SAME_PORT_TRIES: u32 = 16;

/// Time for the name of an endpoint that is to be listened on.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens on every address of `endpoint`, which is one of streams. When this returns, callers are being queued.
///
/// Where the endpoint stands for both families and the machine has only one, that one is enough; the caller can
/// tell from the list. With port 0 all addresses get the same port.
pub async fn listen(
    endpoint: &Endpoint,
    options: &ListenOptions,
) -> Result<Vec<Listener>, ListenError> {
    let failed = |source| ListenError::Failed {
        endpoint: endpoint.clone(),
        source,
    };
    match endpoint {
        Endpoint::Tcp(at) => listen_tcp(endpoint, at, options).await,
        Endpoint::Unix(name) => {
            let address = || Address::Unix(Some(name.clone()));
            let (socket, file) =
                unix::bind(name, options).map_err(|error| refused(endpoint, address(), error))?;
            let socket = Bound::Unix(socket, file);
            Ok(vec![Listener::new(socket, address(), false, options)])
        }
        Endpoint::Fd(number) => {
            let taken = inherited::take(*number).map_err(failed)?;
            Ok(vec![Listener::inherited(taken, options).map_err(failed)?])
        }
        Endpoint::Udp(_) | Endpoint::Unixgram(_) => {
            Err(failed(io::Error::other("datagrams have no listener")))
        }
    }
}

async fn listen_tcp(
    endpoint: &Endpoint,
    at: &HostPort,
    options: &ListenOptions,
) -> Result<Vec<Listener>, ListenError> {
    on_all(endpoint, at, options, |addr| {
        let socket = tcp::bind(addr, options)?;
        let address = socket.local_addr()?.into();
        Ok(Listener::new(Bound::Tcp(socket), address, false, options))
    })
    .await
}

/// Opens something on every address of `at`: at one port, in the families there are.
pub(crate) async fn on_all<T: At>(
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
    let mut tries = 0;
    loop {
        tries += 1;
        match on_all_once(endpoint, at, &addrs, &open) {
            Err(ListenError::InUse { .. }) if at.port == 0 && tries < SAME_PORT_TRIES => {}
            done => return done,
        }
    }
}

/// Something open at a place.
pub(crate) trait At {
    fn address(&self) -> &Address;
}

impl At for Listener {
    fn address(&self) -> &Address {
        &self.address
    }
}

fn on_all_once<T: At>(
    endpoint: &Endpoint,
    at: &HostPort,
    addrs: &[SocketAddr],
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, ListenError> {
    let may_lack_family = matches!(at.host, Host::Loopback | Host::Any);
    let mut opened: Vec<T> = Vec::new();
    let mut lacking = None;
    for &addr in addrs {
        let port = opened
            .first()
            .and_then(|first| first.address().port())
            .unwrap_or_else(|| addr.port());
        let addr = SocketAddr::new(addr.ip(), port);
        match open(addr) {
            Ok(one) => opened.push(one),
            Err(error) if may_lack_family && lacks_family(&error) => lacking = Some((addr, error)),
            Err(error) => return Err(refused(endpoint, addr.into(), error)),
        }
    }
    match lacking {
        Some((addr, error)) if opened.is_empty() => Err(refused(endpoint, addr.into(), error)),
        _ => Ok(opened),
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

/// Whether a file is in the way that no server has left there.
fn is_other_file(address: &Address) -> bool {
    let Address::Unix(Some(UnixName::Path(path))) = address else {
        return false;
    };
    let is_socket = fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
    !is_socket && fs::symlink_metadata(path).is_ok()
}

pub(crate) fn refused(endpoint: &Endpoint, address: Address, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse if is_other_file(&address) => ListenError::NoSocket { address },
        io::ErrorKind::AddrInUse => {
            let owner = owner::of(endpoint, &address);
            ListenError::InUse { address, owner }
        }
        io::ErrorKind::PermissionDenied => ListenError::Denied { address },
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { address },
        io::ErrorKind::NotFound if address.port().is_none() => ListenError::NoFolder { address },
        _ => ListenError::Failed {
            endpoint: endpoint.clone(),
            source,
        },
    }
}

impl Listener {
    fn new(socket: Bound, address: Address, shared: bool, options: &ListenOptions) -> Self {
        if let Bound::Tcp(socket) = &socket {
            // Each connection has it from here, which saves a call for each.
            let _ = SockRef::from(socket).set_tcp_nodelay(true);
        }
        Self {
            close_reporter: CloseReporter::new(&address, options.explain.as_ref()),
            socket,
            address,
            shared,
            hushed: false,
            explain: options.explain.clone(),
        }
    }

    fn inherited(taken: Inherited, options: &ListenOptions) -> io::Result<Self> {
        let (socket, address) = match taken {
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
                    "it is a socket of datagrams, not one that listens",
                ));
            }
        };
        Ok(Self::new(socket, address, true, options))
    }

    /// Takes no new calls from here on; those that wait can still be accepted. Who calls now is refused once the
    /// listener is dropped, or served by whoever listens next: without this a caller that comes between the last
    /// accept and the close is connected, and then reset. A listener that others hold too is left as it is, since its
    /// queue stays theirs.
    ///
    /// # Errors
    ///
    /// What the system says. Elsewhere than on Linux, TCP callers cannot be kept out.
    pub fn stop_accepting(&mut self) -> io::Result<()> {
        if self.shared || self.hushed {
            return Ok(());
        }
        match &self.socket {
            Bound::Tcp(socket) => tcp::stop_accepting(socket)?,
            Bound::Unix(socket, _) => SockRef::from(socket).shutdown(Shutdown::Read)?,
            Bound::Other(source) => source.stop(),
        }
        self.hushed = true;
        Ok(())
    }

    /// A listener over `source`, as if bound at `address`.
    pub fn from_source(source: Box<dyn Accept>, address: Address) -> Self {
        let options = ListenOptions::default();
        Self::new(Bound::Other(source), address, false, &options)
    }

    /// Where it listens, with the port that was really taken.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next caller. Cancel safe. Errors are the system's and pass: the listener stays as it is.
    pub async fn accept(&self) -> io::Result<Incoming> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`Self::accept`], for one task that listens at several doors.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let accepted = ready!(match &self.socket {
            Bound::Tcp(socket) => socket.poll_accept(cx).map_ok(|(stream, peer)| {
                // Bound to everything: only the connection knows which address was called.
                let everywhere =
                    matches!(&self.address, Address::Net(addr) if addr.ip().is_unspecified());
                let called = everywhere.then(|| stream.local_addr().ok()).flatten();
                (
                    Caller::Tcp(stream),
                    Address::from(peer),
                    called.map(Address::from),
                )
            }),
            Bound::Unix(socket, _) => socket.poll_accept(cx).map_ok(|(stream, peer)| (
                Caller::Unix(stream),
                unix::address(&peer.into()),
                None
            )),
            Bound::Other(source) => source.poll_accept(cx).map_ok(|(link, peer)| (
                Caller::Other(Box::new(link)),
                peer,
                None
            )),
        });
        if let Err(error) = &accepted
            && self.hushed
            && error.kind() == io::ErrorKind::InvalidInput
        {
            return Poll::Pending; // a Unix socket says so when nobody is left
        }
        if let Some(explain) = &self.explain {
            explain.report(Call::Accept {
                result: accepted.as_ref().map(|(_, peer, _)| peer.clone()),
            });
        }
        Poll::Ready(accepted.map(|(stream, peer, called)| {
            Incoming {
                stream,
                explain: self
                    .explain
                    .as_ref()
                    .map(|explain| explain.for_peer(peer.clone())),
                peer,
                local: called.unwrap_or_else(|| self.address.clone()),
            }
        }))
    }
}

impl Incoming {
    /// Makes it ready to be opened on another runtime than the one that accepted it.
    pub fn detach(self) -> io::Result<Self> {
        let stream = match self.stream {
            Caller::Tcp(stream) => Caller::MovingTcp(stream.into_std()?),
            Caller::Unix(stream) => Caller::MovingUnix(stream.into_std()?),
            moving => moving,
        };
        Ok(Self { stream, ..self })
    }

    /// The link to the peer, on the runtime this is called on.
    pub fn open(self) -> io::Result<Link> {
        Ok(match self.stream {
            Caller::Tcp(stream) => Link::accepted(stream, self.explain),
            Caller::MovingTcp(stream) => Link::accepted(TcpStream::from_std(stream)?, self.explain),
            Caller::Unix(stream) => Link::unix(stream, self.explain),
            Caller::MovingUnix(stream) => Link::unix(UnixStream::from_std(stream)?, self.explain),
            Caller::Other(link) => *link,
        })
    }
}

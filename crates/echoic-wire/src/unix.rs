//! Unix stream sockets of servers and clients (unix(7)).

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net as std_unix,
    },
    path::{Path, PathBuf},
    task::{Context, Poll},
    time::Duration,
};

use echoic_core::{
    endpoint::{Endpoint, Shape, UnixName},
    event::Address,
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::{
    net::{UnixListener, UnixStream},
    time::sleep,
};

use crate::{
    explain::{Call, CloseReporter, Explain, report},
    options::{ListenOptions, PRIVATE_MODE},
    socket,
};

/// The file of a bound Unix socket. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file. A file that replaced ours is not removed.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).ok() == Some(self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns a socket that listens at `name`, and its file unless the name is abstract.
pub(crate) fn bind(
    name: &UnixName,
    options: &ListenOptions,
) -> io::Result<(UnixListener, Option<SocketFile>)> {
    let (socket, file) = bind_as(name, Type::STREAM, options)?;
    let explain = options.explain.as_ref();
    let listening = socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX));
    report(explain, || Call::Listen {
        backlog: options.backlog,
        result: listening.as_ref().copied(),
    });
    listening?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// Returns a socket of type `kind` bound to `name`, and its file unless the name is abstract.
///
/// Removes a stale file, which a crashed server leaves behind: a socket that refuses connections. A file that is not a
/// socket, or whose socket accepts, is an error.
pub(crate) fn bind_as(
    name: &UnixName,
    kind: Type,
    options: &ListenOptions,
) -> io::Result<(Socket, Option<SocketFile>)> {
    let explain = options.explain.as_ref();
    let address = Address::Unix(Some(name.clone()));
    let socket = Socket::new(Domain::UNIX, kind, None);
    report(explain, || Call::Socket {
        address: address.clone(),
        shape: socket::shape(kind),
        result: socket.as_ref().map(|_| ()),
    });
    let socket = socket?;
    socket.set_nonblocking(true)?;
    let sockaddr = sockaddr(name)?;
    let mut bound = bind_private(&socket, &sockaddr, name);
    if let (Err(error), UnixName::Path(path)) = (&bound, name)
        && error.kind() == io::ErrorKind::AddrInUse
        && is_stale(path, kind)
    {
        report(explain, || Call::Bind {
            address: address.clone(),
            result: bound.as_ref().copied(),
        });
        report(explain, || {
            Call::Remark("nobody listens at this file, which a server left behind: it is removed")
        });
        fs::remove_file(path)?;
        bound = bind_private(&socket, &sockaddr, name);
    }
    report(explain, || Call::Bind {
        address: address.clone(),
        result: bound.as_ref().copied(),
    });
    bound?;
    let UnixName::Path(path) = name else {
        return Ok((socket, None));
    };
    let file = SocketFile {
        identity: identity(path)?,
        path: path.clone(),
    };
    if options.unix_mode != PRIVATE_MODE {
        fs::set_permissions(path, fs::Permissions::from_mode(options.unix_mode))?;
    }
    Ok((socket, Some(file)))
}

/// Connects a stream to `name`. Waits without limit while the listener's backlog is full.
pub(crate) async fn connect(name: &UnixName, explain: Option<&Explain>) -> io::Result<UnixStream> {
    let address = Address::Unix(Some(name.clone()));
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None);
    report(explain, || Call::Socket {
        address: address.clone(),
        shape: Shape::Stream,
        result: socket.as_ref().map(|_| ()),
    });
    let (socket, sockaddr) = (socket?, sockaddr(name)?);
    let closes = CloseReporter::new(&address, explain);
    socket.set_nonblocking(true)?;
    let mut pause = FULL_PAUSE_MIN;
    loop {
        let connected = socket.connect(&sockaddr);
        let is_full = matches!(&connected, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if !is_full || pause == FULL_PAUSE_MIN {
            report(explain, || Call::Connect {
                address: address.clone(),
                result: connected.as_ref().copied(),
            });
        }
        if !is_full {
            connected?;
            closes.hand_over();
            return UnixStream::from_std(std_unix::UnixStream::from(socket));
        }
        sleep(pause).await;
        pause = (pause * 2).min(FULL_PAUSE_MAX);
    }
}

/// Accepts the next connection of a listener; pending for ever once it has `stopped` and its queue is empty.
///
/// After shutdown(2) epoll reports the socket as ended, tokio then calls it readable for good, and its `poll_accept`
/// would try again and again. So the queue of a stopped listener is read without asking tokio.
pub(crate) fn poll_accept(
    listener: &UnixListener,
    cx: &mut Context<'_>,
    stopped: bool,
) -> Poll<io::Result<(UnixStream, Address)>> {
    if !stopped {
        return listener
            .poll_accept(cx)
            .map_ok(|(stream, peer)| (stream, address(&peer.into())));
    }
    match SockRef::from(listener).accept() {
        // EAGAIN, or EINVAL after shutdown(2), depending on the kernel: nothing is queued.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput
            ) =>
        {
            Poll::Pending
        }
        accepted => Poll::Ready(accepted.and_then(|(socket, peer)| {
            socket.set_nonblocking(true)?;
            let peer = peer
                .as_unix()
                .map_or(Address::Unix(None), |peer| address(&peer));
            Ok((UnixStream::from_std(socket.into())?, peer))
        })),
    }
}
/// The pauses between attempts to connect while the listener's backlog is full. The kernel says EAGAIN and tells nobody
/// when there is room again (connect(2)); a blocking connect would hold a thread and know no deadline.
const FULL_PAUSE_MIN: Duration = Duration::from_millis(1);
const FULL_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Converts a socket address of the standard library.
pub(crate) fn address(sockaddr: &std_unix::SocketAddr) -> Address {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        if let Some(name) = sockaddr.as_abstract_name() {
            return Address::Unix(Some(UnixName::Abstract(
                String::from_utf8_lossy(name).into_owned(),
            )));
        }
    }
    Address::Unix(
        sockaddr
            .as_pathname()
            .map(|path| UnixName::Path(path.to_owned())),
    )
}

/// Binds under a umask that creates the file with mode 0600, so that it is never open to others, not even for a moment.
/// The umask is the process's: files that other threads create meanwhile get fewer permissions, never more.
fn bind_private(socket: &Socket, sockaddr: &SockAddr, name: &UnixName) -> io::Result<()> {
    if matches!(name, UnixName::Abstract(_)) {
        return socket.bind(sockaddr);
    }
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = socket.bind(sockaddr);
    rustix::process::umask(mask);
    bound
}

/// Returns the socket address of `name`; an abstract one begins with a zero byte.
pub(crate) fn sockaddr(name: &UnixName) -> io::Result<SockAddr> {
    match name {
        UnixName::Path(path) => SockAddr::unix(path),
        UnixName::Abstract(name) => SockAddr::unix(format!("\0{name}")),
    }
}

/// Returns whether `endpoint` names a Unix socket of its type.
pub(crate) fn has_type_of(endpoint: &Endpoint) -> bool {
    let (name, kind) = match endpoint {
        Endpoint::Unix(name) => (name, Type::STREAM),
        Endpoint::Unixgram(name) => (name, Type::DGRAM),
        _ => return false,
    };
    let connect = || {
        let socket = Socket::new(Domain::UNIX, kind, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&sockaddr(name)?)
    };
    // The type is checked before anything else can fail but the name.
    connect().map_or_else(
        |error| error.raw_os_error() != Some(rustix::io::Errno::PROTOTYPE.raw_os_error()),
        |()| true,
    )
}

/// Whether `path` is a socket without a listener.
fn is_stale(path: &Path, kind: Type) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |connected: io::Result<()>| {
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    let connect = || {
        let socket = Socket::new(Domain::UNIX, kind, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    is_socket && refused(connect())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

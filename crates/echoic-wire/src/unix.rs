//! Unix sockets that are streams, both their ends (unix(7)).

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net as std_unix,
    },
    path::{Path, PathBuf},
};

use echoic_core::{
    endpoint::{Shape, UnixName},
    event::Address,
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::{
    explain::{Call, Explain, report},
    options::{ListenOptions, PRIVATE},
    socket,
};

/// A file in the way of a new socket, removed with the listener: it and no other.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: if somebody else has put another one there since, it is theirs.
    made: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).ok() == Some(self.made) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A listening socket called `name`, and the file to be removed after it.
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

/// A socket of either kind, bound.
///
/// A file that a dead server left behind is in the way of the next one. Who is called and does not answer is dead: its
/// file is removed. A file that is no socket, or one that answers, is not touched.
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
        made: identity(path)?,
        path: path.clone(),
    };
    if options.unix_mode != PRIVATE {
        fs::set_permissions(path, fs::Permissions::from_mode(options.unix_mode))?;
    }
    Ok((socket, Some(file)))
}

/// A stream to `name`.
pub(crate) async fn connect(name: &UnixName, explain: Option<&Explain>) -> io::Result<UnixStream> {
    let address = Address::Unix(Some(name.clone()));
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None);
    report(explain, || Call::Socket {
        address: address.clone(),
        shape: Shape::Stream,
        result: socket.as_ref().map(|_| ()),
    });
    // A Unix socket's connect waits only while the queue is full, which this leaves to the thread that may wait.
    let (socket, sockaddr) = (socket?, sockaddr(name)?);
    let connected = tokio::task::spawn_blocking(move || {
        socket.connect(&sockaddr)?;
        socket.set_nonblocking(true)?;
        Ok::<_, io::Error>(std_unix::UnixStream::from(socket))
    });
    let connected = connected.await.map_err(io::Error::other)?;
    report(explain, || Call::Connect {
        address: address.clone(),
        result: connected.as_ref().map(|_| ()),
    });
    UnixStream::from_std(connected?)
}

/// The place of a peer, or of ourselves.
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

/// Binds under a mask that makes the file private at once; widening it afterwards leaves no moment in which it was
/// open to all. The mask is the process's: for that moment other new files are private too, never wider.
fn bind_private(socket: &Socket, sockaddr: &SockAddr, name: &UnixName) -> io::Result<()> {
    if matches!(name, UnixName::Abstract(_)) {
        return socket.bind(sockaddr);
    }
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = socket.bind(sockaddr);
    rustix::process::umask(mask);
    bound
}

/// The address of `name`; an abstract one begins with a zero byte.
pub(crate) fn sockaddr(name: &UnixName) -> io::Result<SockAddr> {
    match name {
        UnixName::Path(path) => SockAddr::unix(path),
        UnixName::Abstract(name) => SockAddr::unix(format!("\0{name}")),
    }
}

/// Whether `path` is a socket that nobody listens at.
fn is_stale(path: &Path, kind: Type) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |connected: io::Result<()>| {
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    let call = || {
        let socket = Socket::new(Domain::UNIX, kind, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    is_socket && refused(call())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

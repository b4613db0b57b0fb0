//! Inherited sockets (`fd:N`): passed to this process by systemd, a test harness or a shell.

use std::{
    io,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use rustix::{
    io::Errno,
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};
use socket2::{Domain, Socket, Type};

/// An inherited socket, by type.
#[derive(Debug)]
pub(crate) enum Inherited {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// UDP or Unix datagrams.
    Datagrams(Socket),
}

/// Duplicates descriptor `number`.
///
/// Taking ownership of a descriptor by its number needs `unsafe` in Rust. A process may however ask the kernel for a
/// duplicate of any of its own descriptors (`pidfd_getfd(2)`, Linux 5.6): the duplicate is ours, and a number that is
/// not open is an error.
pub(crate) fn duplicate(number: u32) -> io::Result<Inherited> {
    // No descriptor has a number this large.
    let number = i32::try_from(number).map_err(|_| duplicate_error(Errno::BADF))?;
    let this = pidfd_open(getpid(), PidfdFlags::empty()).map_err(duplicate_error)?;
    let copy = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).map_err(duplicate_error)?;
    let socket = Socket::from(copy);
    let domain = socket
        .domain()
        .map_err(|error| Errno::from_io_error(&error).map_or(error, duplicate_error))?;
    let kind = socket.r#type()?;
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    let net = domain == Domain::IPV4 || domain == Domain::IPV6;
    match kind {
        Type::DGRAM if net || domain == Domain::UNIX => Ok(Inherited::Datagrams(socket)),
        Type::STREAM if !socket.is_listener()? && socket.peer_addr().is_ok() => {
            Err(io::Error::other(
                "it is a connection and not a listening socket; pass one that listens (in a systemd unit, Accept=no)",
            ))
        }
        Type::STREAM if !socket.is_listener()? => Err(io::Error::other(
            "it is a stream socket that does not listen; call listen() before passing it on",
        )),
        Type::STREAM if net => Ok(Inherited::Tcp(socket.into())),
        Type::STREAM if domain == Domain::UNIX => Ok(Inherited::Unix(OwnedFd::from(socket).into())),
        _ => Err(io::Error::other(
            "unsupported type of socket: expected a stream or datagram socket, IP or Unix",
        )),
    }
}

/// Explains why a descriptor cannot be duplicated, and what to do.
fn duplicate_error(errno: Errno) -> io::Error {
    let text = match errno {
        Errno::BADF => {
            "no descriptor of that number is open; the program that starts this one has to open a socket there and \
             let it be inherited (`pass_fds` in Python, not close-on-exec in C)"
        }
        Errno::NOTSOCK => "the descriptor is not a socket; pass a listening or a datagram socket",
        Errno::NOSYS | Errno::PERM => {
            "the system does not let a process duplicate its own descriptors (pidfd_getfd, Linux 5.6; some sandboxes \
             forbid it); use an address instead"
        }
        _ => return errno.into(),
    };
    io::Error::new(io::Error::from(errno).kind(), text)
}

/// Returns the descriptors passed by systemd's protocol (`sd_listen_fds(3)`): 3 and up, if `LISTEN_PID` is ours.
pub fn inherited_fds() -> Vec<u32> {
    let variable = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match (variable("LISTEN_PID"), variable("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => {
            (3..).take(count.min(64) as usize).collect()
        }
        _ => Vec::new(),
    }
}

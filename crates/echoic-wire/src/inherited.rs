//! Sockets that were handed to this process: by systemd, by a test harness, by a shell.

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

/// A socket that came from outside, by what it is.
#[derive(Debug)]
pub(crate) enum Inherited {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// Datagrams, over the internet or not.
    Datagrams(Socket),
}

/// A copy of descriptor `number`.
///
/// To own a descriptor by its number is something only its maker can promise to be right, so the language asks for
/// `unsafe` there. A process may however ask the system for a copy of any of its own (`pidfd_getfd(2)`, Linux 5.6):
/// what comes back is surely ours, and a number that is no descriptor is an error.
pub(crate) fn take(number: u32) -> io::Result<Inherited> {
    // A number beyond what the system counts with is open as little as any other that is not.
    let number = i32::try_from(number).map_err(|_| not_taken(Errno::BADF))?;
    let this = pidfd_open(getpid(), PidfdFlags::empty()).map_err(not_taken)?;
    let copy = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).map_err(not_taken)?;
    let socket = Socket::from(copy);
    let domain = socket
        .domain()
        .map_err(|error| Errno::from_io_error(&error).map_or(error, not_taken))?;
    let kind = socket.r#type()?;
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    let net = domain == Domain::IPV4 || domain == Domain::IPV6;
    match kind {
        Type::DGRAM if net || domain == Domain::UNIX => Ok(Inherited::Datagrams(socket)),
        Type::STREAM if !socket.is_listener()? => Err(io::Error::other(
            "it is a stream that does not listen; listen() comes before handing it over",
        )),
        Type::STREAM if net => Ok(Inherited::Tcp(socket.into())),
        Type::STREAM if domain == Domain::UNIX => Ok(Inherited::Unix(OwnedFd::from(socket).into())),
        _ => Err(io::Error::other(
            "it is a socket of a kind that is not spoken here; streams and datagrams are, over IP and Unix",
        )),
    }
}

/// The system's reason in words, with what to do.
fn not_taken(why: Errno) -> io::Error {
    let text = match why {
        Errno::BADF => {
            "nothing is open at that number; who starts this program has to open a socket there and let it be \
             inherited (`pass_fds` in Python, not close-on-exec in C)"
        }
        Errno::NOTSOCK => {
            "what is open at that number is no socket; hand over one that listens, or one of datagrams"
        }
        Errno::NOSYS | Errno::PERM => {
            "the system does not let a process copy its own descriptors (pidfd_getfd, Linux 5.6; some sandboxes \
             forbid it); name an address instead"
        }
        _ => return why.into(),
    };
    io::Error::new(io::Error::from(why).kind(), text)
}

/// The descriptors that systemd's protocol says were handed over (`sd_listen_fds(3)`): 3 and up, if they are for us.
pub fn inherited_fds() -> Vec<u32> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => {
            (3..).take(count.min(64) as usize).collect()
        }
        _ => Vec::new(),
    }
}

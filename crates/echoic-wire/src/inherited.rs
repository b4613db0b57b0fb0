//! Sockets that were handed to this process: by systemd, by a test harness, by a shell.

use std::{
    io,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
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
    let number = i32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = Socket::from(pidfd_getfd(&this, number, PidfdGetfdFlags::empty())?);
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    let (domain, kind) = (socket.domain()?, socket.r#type()?);
    let net = domain == Domain::IPV4 || domain == Domain::IPV6;
    match kind {
        Type::DGRAM if net || domain == Domain::UNIX => Ok(Inherited::Datagrams(socket)),
        Type::STREAM if !socket.is_listener()? => Err(io::Error::other(
            "it is a stream that does not listen; listen() comes before handing it over",
        )),
        Type::STREAM if net => Ok(Inherited::Tcp(socket.into())),
        Type::STREAM if domain == Domain::UNIX => Ok(Inherited::Unix(OwnedFd::from(socket).into())),
        _ => Err(io::Error::other(
            "it is a socket of a kind that is not spoken here",
        )),
    }
}

/// The descriptors that systemd's protocol says were handed over (`sd_listen_fds(3)`): 3 and up, if they are for us.
pub fn handed_over() -> Vec<u32> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => {
            (3..).take(count.min(64) as usize).collect()
        }
        _ => Vec::new(),
    }
}

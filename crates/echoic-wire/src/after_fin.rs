//! What the kernel knows of a peer that has ended its half of a stream: whether it can still read ours.
//!
//! A FIN does not tell whether the peer has shut down one half (and reads on) or has closed the connection. The next bytes
//! that we send would tell, since a closed peer answers them with a reset, but they would be lost. A Unix socket knows. Of a
//! TCP peer on this machine the kernel's socket monitor tells. Of one elsewhere only a reset does, for which the kernel
//! can probe: a closed peer answers probes with a reset once its own FIN-WAIT-2 is over, a minute later on Linux.

use std::{io, os::fd::AsFd, time::Duration};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use crate::sock_diag::{FIN_WAIT1, FIN_WAIT2, Monitor};

/// What is known of a peer after its FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAfterFin {
    /// It reads on, or nothing is known to the contrary.
    MayRead,
    /// It has closed the connection.
    Closed,
    /// It has closed the connection before it had read everything, or its machine has forgotten the connection.
    Reset,
}

/// Time without traffic after which the kernel probes whether the peer still knows the connection.
const PROBE_AFTER: Duration = Duration::from_mins(1);

/// Time between two probes without an answer; the ninth ends the connection (`tcp_keepalive_probes`, tcp(7)).
const PROBE_EVERY: Duration = Duration::from_secs(10);

pub(crate) fn tcp(stream: &TcpStream) -> PeerAfterFin {
    if stream.take_error().is_ok_and(|error| error.is_some()) {
        return PeerAfterFin::Reset;
    }
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        // The kernel no longer has a connection.
        return PeerAfterFin::Closed;
    };
    let theirs = Monitor::open().and_then(|mut monitor| monitor.tcp(peer, local));
    match theirs {
        // It has sent its FIN before it has received one, and no process has the socket: it was closed.
        Some(socket) if matches!(socket.state, FIN_WAIT1 | FIN_WAIT2) && socket.inode == 0 => {
            PeerAfterFin::Closed
        }
        _ => PeerAfterFin::MayRead,
    }
}

pub(crate) fn unix(stream: &UnixStream) -> PeerAfterFin {
    if stream.take_error().is_ok_and(|error| error.is_some()) {
        return PeerAfterFin::Reset;
    }
    if has_hung_up(stream) {
        PeerAfterFin::Closed
    } else {
        PeerAfterFin::MayRead
    }
}

/// Returns whether both halves are closed: poll(2) reports POLLHUP without being asked.
fn has_hung_up(socket: &impl AsFd) -> bool {
    let mut socket = [PollFd::new(socket, PollFlags::empty())];
    let polled = poll(&mut socket, Some(&Timespec::default()));
    polled.is_ok() && socket[0].revents().contains(PollFlags::HUP)
}

/// Has the kernel probe an idle connection, so that a peer elsewhere that has closed it is noticed.
pub(crate) fn probe_tcp(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Shutdown, SocketAddr},
        thread,
        time::Instant,
    };

    use tokio::net::TcpListener;

    use super::*;

    /// Waits until `state` is what is known of the peer.
    fn becomes(state: PeerAfterFin, mut known: impl FnMut() -> PeerAfterFin) {
        let started = Instant::now();
        while known() != state {
            assert!(started.elapsed() < Duration::from_secs(20), "{:?}", known());
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[tokio::test]
    async fn half_close_of_a_tcp_peer_differs_from_its_close() {
        for listening in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(listening).await.unwrap();
            let mut at = listener.local_addr().unwrap();
            if at.ip().is_unspecified() {
                at = SocketAddr::from(([127, 0, 0, 1], at.port()));
            }
            let ours = TcpStream::connect(at).await.unwrap();
            let peer = listener.accept().await.unwrap().0.into_std().unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(tcp(&ours), PeerAfterFin::MayRead, "{listening}");
            drop(peer);
            becomes(PeerAfterFin::Closed, || tcp(&ours));
            assert_eq!(ours.try_write(b"lost").unwrap(), 4);
            becomes(PeerAfterFin::Reset, || tcp(&ours));
        }
    }

    #[tokio::test]
    async fn half_close_of_a_unix_peer_differs_from_its_close() {
        for reads in [true, false] {
            let (ours, peer) = UnixStream::pair().unwrap();
            let peer = peer.into_std().unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(unix(&ours), PeerAfterFin::MayRead);
            assert_eq!(ours.try_write(b"hi").unwrap(), 2);
            if reads {
                io::Read::read_exact(&mut &peer, &mut [0; 2]).unwrap();
            }
            drop(peer);
            let end = if reads {
                PeerAfterFin::Closed
            } else {
                PeerAfterFin::Reset
            };
            assert_eq!(unix(&ours), end);
        }
    }
}

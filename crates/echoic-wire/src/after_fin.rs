//! What the kernel knows of a peer that has ended its half of a stream: whether it can still read ours.
//!
//! A FIN does not tell whether the peer has shut down one half (and reads on) or has closed the connection. The next bytes
//! that we send would tell, since a closed peer answers them with a reset, but they would be lost. A Unix socket knows. Of a
//! TCP peer on this machine the kernel's table of sockets tells. Of one elsewhere only a reset does, for which the kernel
//! can probe: a closed peer answers probes with a reset once its own FIN-WAIT-2 is over, a minute later on Linux.

use std::{fmt::Write, fs, io, net::SocketAddr, os::fd::AsFd, time::Duration};

use memchr::memmem;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

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

/// States in which a socket has sent its FIN before it has received one (`include/net/tcp_states.h`).
const FIN_WAIT_1: u8 = 4;
const FIN_WAIT_2: u8 = 5;

pub(crate) fn tcp(stream: &TcpStream) -> PeerAfterFin {
    if stream.take_error().is_ok_and(|error| error.is_some()) {
        return PeerAfterFin::Reset;
    }
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        // The kernel no longer has a connection.
        return PeerAfterFin::Closed;
    };
    match row(peer, local) {
        // No process has the socket: it was closed.
        Some(row) if matches!(row.state, FIN_WAIT_1 | FIN_WAIT_2) && row.inode == 0 => {
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

/// Returns the number of bytes that the peer's kernel has not acknowledged; our FIN counts as one. `None` if unknown.
pub(crate) fn unacknowledged(stream: &TcpStream) -> Option<u64> {
    row(stream.local_addr().ok()?, stream.peer_addr().ok()?).map(|row| row.send_queue)
}

/// A row of the kernel's table of TCP sockets.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    state: u8,
    send_queue: u64,
    /// 0 if no process has the socket.
    inode: u64,
}

/// Finds a socket of this machine by its two addresses, in `/proc/net/tcp` or `tcp6` (proc(5)).
fn row(local: SocketAddr, peer: SocketAddr) -> Option<Row> {
    let (local, peer) = (unmapped(local), unmapped(peer));
    if let (SocketAddr::V4(_), SocketAddr::V4(_)) = (local, peer)
        && let found @ Some(_) = row_in("/proc/net/tcp", local, peer)
    {
        return found;
    }
    // A listener on [::] has sockets with mapped addresses.
    row_in("/proc/net/tcp6", mapped(local), mapped(peer))
}

fn row_in(table: &str, local: SocketAddr, peer: SocketAddr) -> Option<Row> {
    parse(&fs::read(table).ok()?, local, peer)
}

fn parse(table: &[u8], local: SocketAddr, peer: SocketAddr) -> Option<Row> {
    let addresses = format!(" {} {} ", in_table(local), in_table(peer));
    let at = memmem::find(table, addresses.as_bytes())? + addresses.len();
    let line = table[at..].split(|byte| *byte == b'\n').next()?;
    let mut fields = str::from_utf8(line).ok()?.split_ascii_whitespace();
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (send_queue, _) = fields.next()?.split_once(':')?;
    Some(Row {
        state,
        send_queue: u64::from_str_radix(send_queue, 16).ok()?,
        // After the timer, the retransmits, the user and the probes.
        inode: fields.nth(4)?.parse().ok()?,
    })
}

/// Formats an address as the table does: words in the byte order of the machine.
fn in_table(addr: SocketAddr) -> String {
    let octets = match addr {
        SocketAddr::V4(addr) => addr.ip().octets().to_vec(),
        SocketAddr::V6(addr) => addr.ip().octets().to_vec(),
    };
    let mut text = String::new();
    for word in octets.as_chunks::<4>().0 {
        let _ = write!(text, "{:08X}", u32::from_ne_bytes(*word));
    }
    let _ = write!(text, ":{:04X}", addr.port());
    text
}

fn unmapped(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Shutdown, thread, time::Instant};

    use tokio::net::TcpListener;

    use super::*;

    #[cfg(target_endian = "little")]
    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0
   1: 0100007F:1388 0100007F:C350 05 00000000:00000000 00:00000000 00000000  1000        0 3333 1 0
   2: 0100007F:1388 0100007F:C351 05 00000000:00000000 03:00001753 00000000     0        0 0 3 0
   3: 0100007F:C351 0100007F:1388 08 0000000B:00000000 00:00000000 00000000  1000        0 4444 1 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn row_of_the_table_is_found_by_both_addresses() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let row = |state, send_queue, inode| Row {
            state,
            send_queue,
            inode,
        };
        let found = |local, peer| parse(TABLE.as_bytes(), at(local), at(peer));
        assert_eq!(found(5000, 50000), Some(row(5, 0, 3333)));
        assert_eq!(found(5000, 50001), Some(row(5, 0, 0)));
        assert_eq!(found(50001, 5000), Some(row(8, 11, 4444)));
        assert_eq!(found(5000, 50002), None);
        let v6 = mapped(at(5000));
        assert_eq!(in_table(v6), "0000000000000000FFFF00000100007F:1388");
    }

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
            assert_eq!(unacknowledged(&ours), Some(0));
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

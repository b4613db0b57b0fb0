//! The bytes that a peer has not taken yet, as the kernel's socket monitor counts them ([`crate::sock_diag`]).
//! Linux only.
//!
//! epoll reports a TCP socket as writable when a third of its send buffer is free, and a Unix socket when three quarters
//! of it are. With buffers of megabytes a slow reader causes no event for a long time; these counts fall with each byte.

use std::{net::SocketAddr, os::fd::AsFd};

use rustix::fs::fstat;

use crate::sock_diag::{CLOSE_WAIT, CLOSING, FIN_WAIT1, LAST_ACK, Monitor, TIME_WAIT};

/// Bytes that the kernel has taken from us and the peer has not. The end of the stream (FIN) is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendQueue {
    /// Bytes that the peer's system has not acknowledged. If we close now, they are lost should the peer send anything.
    pub unacknowledged: u64,
    /// Bytes that the peer's program has not read; `None` if its socket is not on this host, or hidden from us.
    pub unread: Option<u64>,
}

impl SendQueue {
    /// Returns all bytes that the peer has not taken, as far as that is visible from here.
    pub fn total(&self) -> u64 {
        self.unacknowledged + self.unread.unwrap_or(0)
    }
}

/// Returns the queue of our TCP socket between these addresses. If the peer's socket is on this host, what it holds
/// unread is known too.
pub(crate) fn of_tcp(local: SocketAddr, remote: SocketAddr) -> Option<SendQueue> {
    let mut monitor = Monitor::open()?;
    let ours = monitor.tcp(local, remote)?;
    // The queues count a FIN as one byte: unacknowledged in ours, unread in theirs.
    let our_fin = matches!(ours.state, FIN_WAIT1 | CLOSING | LAST_ACK);
    let unread = monitor.tcp(remote, local).map(|theirs| {
        let fin = matches!(theirs.state, CLOSE_WAIT | LAST_ACK | CLOSING | TIME_WAIT);
        theirs.receive_queue.saturating_sub(fin.into())
    });
    Some(SendQueue {
        unacknowledged: ours.send_queue.saturating_sub(our_fin.into()),
        unread,
    })
}

/// Returns the queue of our Unix stream: what is written to it lies in the peer's queue at once.
pub(crate) fn of_unix(socket: impl AsFd) -> Option<SendQueue> {
    let mut monitor = Monitor::open()?;
    let inode = u32::try_from(fstat(socket).ok()?.st_ino).ok()?;
    let ours = monitor.unix(inode)?;
    let theirs = ours.peer.and_then(|peer| monitor.unix(peer));
    Some(match theirs.and_then(|theirs| theirs.queues) {
        Some([unread, _]) => SendQueue {
            unacknowledged: 0,
            unread: Some(unread.into()),
        },
        // The peer is in another network namespace. This counts memory, and falls by whole buffers.
        None => SendQueue {
            unacknowledged: ours.queues?[1].into(),
            unread: None,
        },
    })
}

//! The kernel's socket monitor (`sock_diag(7)`): what it knows of single sockets, also of those of other processes.
//!
//! The requests and replies are those of `linux/sock_diag.h`, `linux/inet_diag.h` and `linux/unix_diag.h`. The kernel answers
//! while it takes the request, so nothing here waits. No privilege is needed.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
};

use rustix::net::AddressFamily;
use socket2::{Domain, Protocol, Socket, Type};

const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
const ANY_STATE: u32 = u32::MAX;
/// `INET_DIAG_NOCOOKIE`: the addresses or the inode are enough to find the socket.
const NO_COOKIE: [u32; 2] = [u32::MAX; 2];

/// A TCP socket in the kernel's table.
pub(crate) struct TcpSocket {
    /// One of the constants below.
    pub(crate) state: u8,
    /// Bytes that the program has not read.
    pub(crate) receive_queue: u64,
    /// Bytes that the peer has not acknowledged.
    pub(crate) send_queue: u64,
    /// Its inode; 0 if no process has the socket.
    pub(crate) inode: u32,
}

// States of a TCP socket (`include/net/tcp_states.h`).
pub(crate) const FIN_WAIT1: u8 = 4;
pub(crate) const FIN_WAIT2: u8 = 5;
pub(crate) const TIME_WAIT: u8 = 6;
pub(crate) const CLOSE_WAIT: u8 = 8;
pub(crate) const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
pub(crate) const CLOSING: u8 = 11;

/// A Unix socket in the kernel's table.
pub(crate) struct UnixSocket {
    /// The inode of the socket at the other end.
    pub(crate) peer: Option<u32>,
    /// Lengths of its receive and send queues.
    pub(crate) queues: Option<[u32; 2]>,
}

/// A socket of the kernel's socket monitor.
pub(crate) struct Monitor(Socket);

impl Monitor {
    /// Opens it; `None` where the system has none, or forbids it.
    pub(crate) fn open() -> Option<Self> {
        if cfg!(not(target_os = "linux")) {
            return None;
        }
        let socket = Socket::new(
            Domain::from(AF_NETLINK),
            Type::DGRAM,
            Some(Protocol::from(NETLINK_SOCK_DIAG)),
        );
        let socket = socket.ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self(socket))
    }

    /// Asks for one socket with `struct inet_diag_req_v2`; the reply is `struct inet_diag_msg`.
    pub(crate) fn tcp(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<TcpSocket> {
        let scope = match local {
            SocketAddr::V6(addr) => addr.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let (local_ip, remote_ip) = (local.ip().to_canonical(), remote.ip().to_canonical());
        let family = match local_ip {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let protocol = 6; // IPPROTO_TCP
        let mut request = vec![family.as_raw() as u8, protocol, 0, 0];
        request.extend(ANY_STATE.to_ne_bytes());
        request.extend(local.port().to_be_bytes());
        request.extend(remote.port().to_be_bytes());
        request.extend(padded(local_ip));
        request.extend(padded(remote_ip));
        request.extend(scope.to_ne_bytes());
        request.extend(NO_COOKIE.iter().flat_map(|word| word.to_ne_bytes()));
        let reply = self.ask(&request)?;
        let state = *reply.get(1)?;
        (state != LISTEN).then_some(TcpSocket {
            state,
            receive_queue: word(&reply, 56)?.into(),
            send_queue: word(&reply, 60)?.into(),
            inode: word(&reply, 68)?,
        })
    }

    /// Asks for one socket with `struct unix_diag_req`; the reply is `struct unix_diag_msg` and attributes.
    pub(crate) fn unix(&mut self, inode: u32) -> Option<UnixSocket> {
        const SHOW_PEER_AND_QUEUES: u32 = 0x4 | 0x10;
        const ATTRIBUTES_AT: usize = 16;
        const PEER: u16 = 2;
        const QUEUES: u16 = 4;
        let mut request = vec![AddressFamily::UNIX.as_raw() as u8, 0, 0, 0];
        let words = [ANY_STATE, inode, SHOW_PEER_AND_QUEUES]
            .into_iter()
            .chain(NO_COOKIE);
        request.extend(words.flat_map(u32::to_ne_bytes));
        let reply = self.ask(&request)?;
        let mut found = UnixSocket {
            peer: None,
            queues: None,
        };
        let mut at = ATTRIBUTES_AT;
        while let Some(header) = word(&reply, at) {
            // `struct nlattr`: length and type, 16 bits each.
            let [length, kind] = halves(header);
            match kind {
                PEER => found.peer = word(&reply, at + 4),
                QUEUES => {
                    found.queues = word(&reply, at + 4)
                        .zip(word(&reply, at + 8))
                        .map(<[u32; 2]>::from);
                }
                _ => {}
            }
            at += usize::from(length).next_multiple_of(4).max(4);
        }
        Some(found)
    }

    /// Sends a request and returns the reply without its header; `None` if there is no such socket.
    fn ask(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        let length = (HEADER + body.len()) as u32;
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        request.extend(NLM_F_REQUEST.to_ne_bytes());
        request.extend([0; 8]); // sequence number and sender
        request.extend(body);
        self.0.write_all(&request).ok()?;
        let mut reply = vec![0; 1024];
        let read = self.0.read(&mut reply).ok()?;
        let [kind, _] = halves(word(&reply, 4)?);
        reply.truncate(read);
        (kind == SOCK_DIAG_BY_FAMILY && read > HEADER).then(|| reply.split_off(HEADER))
    }
}

/// An address in 16 bytes, as the requests have it.
fn padded(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The two 16-bit numbers that lie in these four bytes.
fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_ne_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

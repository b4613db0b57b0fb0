//! The bytes that a peer has not taken yet, as the kernel's socket monitor counts them (`sock_diag(7)`). Linux only.
//!
//! epoll reports a TCP socket as writable when a third of its send buffer is free, and a Unix socket when three quarters
//! of it are. With buffers of megabytes a slow reader causes no event for a long time; these counts fall with each byte.

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

#[cfg(not(target_os = "linux"))]
pub(crate) use other::{of_tcp, of_unix};
#[cfg(target_os = "linux")]
pub(crate) use sock_diag::{of_tcp, of_unix};

#[cfg(not(target_os = "linux"))]
mod other {
    use std::{net::SocketAddr, os::fd::AsFd};

    use super::SendQueue;

    pub(crate) fn of_tcp(_: SocketAddr, _: SocketAddr) -> Option<SendQueue> {
        None
    }

    pub(crate) fn of_unix(_: impl AsFd) -> Option<SendQueue> {
        None
    }
}

/// The requests and replies of `linux/sock_diag.h`, `inet_diag.h` and `unix_diag.h`. The kernel answers while it
/// takes the request, so nothing here waits. No privilege is needed.
#[cfg(target_os = "linux")]
mod sock_diag {
    use std::{
        io::{Read, Write},
        net::{IpAddr, SocketAddr},
        os::fd::AsFd,
    };

    use rustix::{fs::fstat, net::AddressFamily};
    use socket2::{Domain, Protocol, Socket, Type};

    use super::SendQueue;

    const NETLINK_SOCK_DIAG: i32 = 4;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    /// Length of `struct nlmsghdr`.
    const HEADER: usize = 16;
    const ANY_STATE: u32 = u32::MAX;
    /// `INET_DIAG_NOCOOKIE`: the addresses or the inode are enough to find the socket.
    const NO_COOKIE: [u32; 2] = [u32::MAX; 2];

    /// A socket in the kernel's table.
    struct TcpSocket {
        state: u8,
        receive_queue: u64,
        send_queue: u64,
    }

    /// States of `net/tcp_states.h`.
    const FIN_WAIT1: u8 = 4;
    const TIME_WAIT: u8 = 6;
    const CLOSE_WAIT: u8 = 8;
    const LAST_ACK: u8 = 9;
    const LISTEN: u8 = 10;
    const CLOSING: u8 = 11;

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

    /// A Unix socket in the kernel's table.
    struct UnixSocket {
        /// The inode of the socket at the other end.
        peer: Option<u32>,
        /// Lengths of its receive and send queues.
        queues: Option<[u32; 2]>,
    }

    /// A socket of the kernel's socket monitor.
    struct Monitor(Socket);

    impl Monitor {
        fn open() -> Option<Self> {
            let socket = Socket::new(
                Domain::from(i32::from(AddressFamily::NETLINK.as_raw())),
                Type::DGRAM,
                Some(Protocol::from(NETLINK_SOCK_DIAG)),
            );
            let socket = socket.ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(Self(socket))
        }

        /// Asks for one socket with `struct inet_diag_req_v2`; the reply is `struct inet_diag_msg`.
        fn tcp(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<TcpSocket> {
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
            })
        }

        /// Asks for one socket with `struct unix_diag_req`; the reply is `struct unix_diag_msg` and attributes.
        fn unix(&mut self, inode: u32) -> Option<UnixSocket> {
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
}

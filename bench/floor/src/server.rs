//! The floor server: one thread and epoll, and nothing else.
//!
//! One `recv` and one `send` for each readable socket, level-triggered, one 64 KiB buffer for
//! all connections. Its CPU time per message is the 1.0 of every ratio.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Context as _;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Size of the shared read buffer, and the longest line that [`Answer::Lines`] holds.
const BUFFER: usize = 64 * 1024;
/// Backlog: enough for a thousand connections that arrive before the first is accepted.
const BACKLOG: i32 = 4096;
/// Events taken by one `epoll_wait`.
const EVENTS: usize = 1024;

/// When received bytes are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As soon as it is read.
    Chunks,
    /// When the newline of its line has been read.
    Lines,
}

/// The listening socket, its connections and their one buffer.
#[derive(Debug)]
pub(crate) struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    answer: Answer,
    /// Indexed by file descriptor, which the kernel keeps small and dense.
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// An incomplete line, at most [`BUFFER`] bytes.
    held: Vec<u8>,
    /// Replies that the socket did not take, at most two buffers. While there are any, nothing is read.
    unsent: Vec<u8>,
}

/// What remains to be done for a connection after an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Go,
    Close,
}

impl Server {
    /// Listens on 127.0.0.1; port 0 picks a free one.
    pub(crate) fn bind(port: u16, answer: Answer) -> anyhow::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        rustix::net::bind(&listener, &address).with_context(|| {
            format!("cannot listen on {address}; choose another port, or 0 for a free one")
        })?;
        rustix::net::listen(&listener, BACKLOG)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, key(&listener), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            answer,
            connections: Vec::new(),
            buffer: vec![0; BUFFER],
        })
    }

    /// The address in use, after port 0 too.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        let address = rustix::net::getsockname(&self.listener)?;
        Ok(address.try_into()?)
    }

    /// Serves until the process is killed, or until accept fails.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let listening = slot(&self.listener);
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let slot = event.data.u64() as usize;
                if slot == listening {
                    self.accept().context(
                        "cannot accept; is the limit of open files reached? (ulimit -n)",
                    )?;
                } else {
                    self.serve(slot);
                }
            }
        }
    }

    fn accept(&mut self) -> rustix::io::Result<()> {
        loop {
            let socket = match rustix::net::accept_with(
                &self.listener,
                SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            ) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            sockopt::set_tcp_nodelay(&socket, true)?;
            epoll::add(&self.epoll, &socket, key(&socket), EventFlags::IN)?;
            let slot = slot(&socket);
            if self.connections.len() <= slot {
                self.connections.resize_with(slot + 1, || None);
            }
            self.connections[slot] = Some(Connection {
                stream: socket.into(),
                held: Vec::new(),
                unsent: Vec::new(),
            });
        }
    }

    fn serve(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let blocked = !connection.unsent.is_empty();
        let then = if blocked {
            connection.flush()
        } else {
            connection.exchange(&mut self.buffer, self.answer)
        };
        let blocks = !connection.unsent.is_empty();
        let watched = if blocked == blocks {
            Ok(())
        } else {
            let interest = if blocks {
                EventFlags::OUT
            } else {
                EventFlags::IN
            };
            epoll::modify(
                &self.epoll,
                &connection.stream,
                key(&connection.stream),
                interest,
            )
        };
        if then == Then::Close || watched.is_err() {
            self.connections[slot] = None;
        }
    }
}

impl Connection {
    fn exchange(&mut self, buffer: &mut [u8], answer: Answer) -> Then {
        let read = match self.stream.read(buffer) {
            Ok(0) => return Then::Close,
            Ok(read) => read,
            Err(error) => return after(&error),
        };
        let received = &mut buffer[..read];
        received.make_ascii_uppercase();
        let complete = match answer {
            Answer::Chunks => read,
            Answer::Lines => memchr::memrchr(b'\n', received).map_or(0, |newline| newline + 1),
        };
        let (reply, rest) = received.split_at(complete);
        let then = if self.held.is_empty() {
            self.send(reply)
        } else if complete > 0 {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(reply);
            self.send(&joined)
        } else {
            Then::Go
        };
        self.held.extend_from_slice(rest);
        if self.held.len() > BUFFER {
            Then::Close
        } else {
            then
        }
    }

    fn send(&mut self, reply: &[u8]) -> Then {
        if reply.is_empty() {
            return Then::Go;
        }
        let sent = match self.stream.write(reply) {
            Ok(sent) => sent,
            Err(error) if after(&error) == Then::Go => 0,
            Err(_) => return Then::Close,
        };
        self.unsent.extend_from_slice(&reply[sent..]);
        Then::Go
    }

    fn flush(&mut self) -> Then {
        match self.stream.write(&self.unsent) {
            Ok(sent) => {
                self.unsent.drain(..sent);
                Then::Go
            }
            Err(error) => after(&error),
        }
    }
}

fn after(error: &io::Error) -> Then {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Then::Go,
        _ => Then::Close,
    }
}

fn key(socket: &impl AsRawFd) -> EventData {
    EventData::new_u64(slot(socket) as u64)
}

fn slot(socket: &impl AsRawFd) -> usize {
    socket.as_raw_fd().unsigned_abs() as usize
}

//! Good and bad peers.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::server::SOON;

/// Connects to `at`.
pub fn call(at: SocketAddr) -> TcpStream {
    try_call(at).unwrap_or_else(|why| panic!("{at}: {why}"))
}

/// Connects to `at`.
///
/// # Errors
///
/// The system's error.
pub fn try_call(at: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&at, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects from `source`, which has 28,232 ports of its own.
///
/// # Errors
///
/// The system's error.
pub fn call_from(source: Ipv4Addr, at: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&at.into(), SOON)?;
    socket.set_tcp_nodelay(true)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

/// Opens this many connections, from as many local addresses as that takes, and sends nothing.
pub fn calls(at: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|i| {
            let source = Ipv4Addr::new(127, 0, 0, 2 + (i % 4) as u8);
            call_from(source, at).unwrap_or_else(|why| panic!("call {i}: {why}"))
        })
        .collect()
}

/// Sends a request and expects a reply.
///
/// # Errors
///
/// The system's error, or what was received instead.
pub fn ask(stream: &mut TcpStream, request: &[u8], reply: &[u8]) -> io::Result<()> {
    stream.write_all(request)?;
    let mut received = vec![0; reply.len()];
    stream.read_exact(&mut received)?;
    if received == reply {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "received {}",
            received.escape_ascii()
        )))
    }
}

/// How a conversation ended for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// In order.
    End,
    /// By a reset.
    Reset,
    /// It is still open.
    Open,
}

/// Returns the state of the other end now, skipping received bytes.
pub fn look(stream: &mut TcpStream) -> Seen {
    stream.set_nonblocking(true).unwrap();
    let mut room = [0; 4096];
    loop {
        match stream.read(&mut room) {
            Ok(0) => return Seen::End,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Seen::Open,
            Err(_) => return Seen::Reset,
        }
    }
}

/// Reads to the end; returns the bytes and how the stream ended.
pub fn rest(stream: &mut TcpStream) -> (Vec<u8>, Seen) {
    stream.set_nonblocking(false).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, Seen::End),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            (bytes, Seen::Open)
        }
        Err(_) => (bytes, Seen::Reset),
    }
}

/// Writes what the kernel takes now; returns how much.
pub fn push(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_nonblocking(true).unwrap();
    let mut pushed = 0;
    while pushed < bytes.len() {
        match stream.write(&bytes[pushed..]) {
            Ok(n) => pushed += n,
            Err(_) => break,
        }
    }
    pushed
}

/// Makes the kernel reset the connection when it is dropped.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

/// Shuts down our half of the stream.
pub fn finish(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
}

/// Good peers: each sends a line every few milliseconds and measures the time to its reply.
#[derive(Debug)]
pub struct GoodPeers {
    stop: Arc<AtomicBool>,
    peers: Vec<JoinHandle<io::Result<Vec<Duration>>>>,
}

impl GoodPeers {
    /// Starts this many, at a server that answers in upper case.
    pub fn start(at: SocketAddr, count: usize, pause: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let peers = (0..count).map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut stream = try_call(at)?;
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let since = Instant::now();
                    ask(&mut stream, b"hello\n", b"HELLO\n")?;
                    times.push(since.elapsed());
                    thread::sleep(pause);
                }
                Ok(times)
            })
        });
        let peers = peers.collect();
        Self { stop, peers }
    }

    /// Stops them and returns all latencies.
    ///
    /// # Errors
    ///
    /// The first error of one of them.
    pub fn stop(self) -> io::Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for peer in self.peers {
            all.extend(peer.join().unwrap()?);
        }
        Ok(all)
    }

    /// Measures this many for a while.
    ///
    /// # Errors
    ///
    /// The first error of one of them.
    pub fn during(at: SocketAddr, count: usize, span: Duration) -> io::Result<Vec<Duration>> {
        let peers = Self::start(at, count, Duration::from_millis(5));
        thread::sleep(span);
        peers.stop()
    }
}

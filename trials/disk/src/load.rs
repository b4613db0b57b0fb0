//! Peers that send continuously, and log every reply.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use trials_crash::{message, program::SOON};

/// Running peers.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    replies: Arc<AtomicU64>,
    peers: Vec<JoinHandle<LoadResult>>,
}

/// The results of the peers.
#[derive(Clone, Debug, Default)]
pub struct LoadResult {
    /// Right replies.
    pub answered: u64,
    /// Conversations that broke off, or had a wrong reply.
    pub failed: u64,
    /// Latencies of the replies, ascending.
    pub took: Vec<Duration>,
}

impl Load {
    /// Starts `peers` of them. Each sends at least one message of about this many bytes, and pauses after each reply.
    pub fn start(at: SocketAddr, peers: usize, bytes: usize, pause: Duration) -> Self {
        let (stop, replies) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let peers = (0..peers).map(|peer| {
            let (stop, replies) = (Arc::clone(&stop), Arc::clone(&replies));
            thread::spawn(move || talk(at, peer, bytes, pause, &stop, &replies))
        });
        let peers = peers.collect();
        Self {
            stop,
            replies,
            peers,
        }
    }

    /// Returns the number of replies so far.
    pub fn replies(&self) -> u64 {
        self.replies.load(Ordering::Relaxed)
    }

    /// Stops them, and returns their results.
    pub fn end(self) -> LoadResult {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = LoadResult::default();
        for peer in self.peers {
            let result = peer.join().unwrap_or_default();
            all.answered += result.answered;
            all.failed += result.failed;
            all.took.extend(result.took);
        }
        all.took.sort_unstable();
        all
    }
}

impl LoadResult {
    /// Returns the time within which 99 of 100 replies came.
    pub fn p99(&self) -> Duration {
        let at = self.took.len() * 99 / 100;
        self.took.get(at).copied().unwrap_or_default()
    }
}

fn talk(
    at: SocketAddr,
    peer: usize,
    bytes: usize,
    pause: Duration,
    stop: &AtomicBool,
    replies: &AtomicU64,
) -> LoadResult {
    let mut result = LoadResult::default();
    let name = format!("k0p{peer}");
    let mut conversation = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let request = message(&name, result.answered, bytes);
            let since = Instant::now();
            stream.write_all(request.as_bytes())?;
            let mut reply = String::new();
            reader.read_line(&mut reply)?;
            if reply != request.to_uppercase() {
                result.failed += 1;
                return Ok(());
            }
            result.took.push(since.elapsed());
            result.answered += 1;
            replies.fetch_add(1, Ordering::Relaxed);
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            thread::sleep(pause);
        }
    };
    if conversation().is_err() {
        result.failed += 1;
    }
    result
}

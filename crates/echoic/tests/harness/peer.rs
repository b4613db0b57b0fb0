//! Peers: one for single exchanges, and one that sends as fast as it can and logs every reply.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::SOON;

/// A conversation over TCP.
#[derive(Debug)]
pub(crate) struct Talk(pub(crate) TcpStream);

impl Talk {
    #[track_caller]
    pub(crate) fn to(at: SocketAddr) -> Self {
        Self::to_result(at).unwrap()
    }

    /// Connects; returns an error if nothing listens.
    pub(crate) fn to_result(at: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&at, SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Expects exactly these bytes next.
    #[track_caller]
    pub(crate) fn expect_reply(&mut self, bytes: impl AsRef<[u8]>) {
        let mut received = vec![0; bytes.as_ref().len()];
        self.0.read_exact(&mut received).unwrap();
        assert_eq!(
            received.escape_ascii().to_string(),
            bytes.as_ref().escape_ascii().to_string()
        );
    }

    /// Sends a request and expects a reply.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) {
        self.send(request);
        self.expect_reply(reply);
    }

    /// Sends lines and reads no reply until nothing more is taken: all buffers are full, and the server has replies to send.
    #[track_caller]
    pub(crate) fn fill(&self) {
        self.0.set_write_timeout(Some(FULL_AFTER)).unwrap();
        fill(&self.0);
    }

    /// Shuts down our half, and reads the rest to a clean end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.shutdown(Shutdown::Write).unwrap();
        self.rest()
    }

    /// Reads to a clean end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }
}

/// Time after which a write has been refused once.
pub(crate) const FULL_AFTER: Duration = Duration::from_millis(200);

/// Writes lines to a stream, which has [`FULL_AFTER`] as its write timeout, until nothing more is taken. A server that is only slow
/// takes some of it meanwhile, so several refusals in a row are wanted.
#[track_caller]
pub(crate) fn fill(mut stream: impl Write) {
    let block = b"0123456789abcde\n".repeat(4096);
    let (mut at, mut refused) = (0, 0);
    while refused < 3 {
        match stream.write(&block[at..]) {
            Ok(taken) => (at, refused) = ((at + taken) % block.len(), 0),
            Err(error) => {
                let is_full = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(is_full, "{error}");
                refused += 1;
            }
        }
    }
}

/// Peers that keep lines in flight until the server ends the conversation.
#[derive(Debug)]
pub(crate) struct Load {
    replies: Arc<AtomicUsize>,
    peers: Vec<JoinHandle<Loaded>>,
}

/// The result of one peer of a load.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) name: String,
    /// Lines sent, or attempted.
    pub(crate) sent: usize,
    /// Complete lines received.
    pub(crate) received: Vec<String>,
    /// Bytes received after the last complete line.
    pub(crate) left: Vec<u8>,
    /// How the stream ended: in order, or with this error.
    pub(crate) end: io::Result<()>,
}

impl Load {
    /// Starts one peer for each of `depths`, which is the number of its lines in flight. `name` should be in lower
    /// case.
    pub(crate) fn start(at: SocketAddr, name: &str, depths: &[usize]) -> Self {
        let replies = Arc::<AtomicUsize>::default();
        let peers = depths.iter().enumerate().map(|(i, depth)| {
            let (name, depth, replies) = (format!("{name}-{i}"), *depth, Arc::clone(&replies));
            let talk = Talk::to(at);
            thread::spawn(move || load(talk, name, depth, &replies))
        });
        let peers = peers.collect();
        Self { replies, peers }
    }

    /// Returns how many replies all peers together have received.
    pub(crate) fn received(&self) -> usize {
        self.replies.load(Ordering::Relaxed)
    }

    /// Waits until this many replies have been received by all peers together.
    #[track_caller]
    pub(crate) fn wait_for(&self, replies: usize) {
        assert!(self.reaches(replies), "the load has ended");
    }

    /// The same; returns false if the server has ended all of the conversations before.
    #[track_caller]
    pub(crate) fn reaches(&self, replies: usize) -> bool {
        let deadline = Instant::now() + SOON;
        while self.received() < replies {
            assert!(Instant::now() < deadline, "too few replies");
            if self.peers.iter().all(JoinHandle::is_finished) {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Returns the result of each peer, once the server has gone.
    pub(crate) fn ends(self) -> Vec<Loaded> {
        self.peers
            .into_iter()
            .map(|peer| peer.join().unwrap())
            .collect()
    }
}

impl Loaded {
    /// Asserts that the replies are those to the first lines, in order: none missing, duplicated or foreign.
    #[track_caller]
    pub(crate) fn assert_prefix(&self) {
        let Self {
            name,
            sent,
            received,
            ..
        } = self;
        for (number, reply) in received.iter().enumerate() {
            assert_eq!(
                *reply,
                format!("{name}-{number}\n"),
                "{name}: reply {number}"
            );
        }
        assert!(
            received.len() <= *sent,
            "{name} received more replies than it sent lines"
        );
    }
}

fn load(talk: Talk, name: String, depth: usize, replies: &AtomicUsize) -> Loaded {
    let Talk(mut stream) = talk;
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut loaded = Loaded {
        name,
        sent: 0,
        received: Vec::new(),
        left: Vec::new(),
        end: Ok(()),
    };
    loop {
        // A failed write does not matter: the received replies count.
        let mut batch = String::new();
        for number in loaded.sent..loaded.sent + depth {
            batch += &format!("{}-{number}\n", loaded.name);
        }
        let _ = stream.write_all(batch.as_bytes());
        loaded.sent += depth;
        for _ in 0..depth {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(_) if line.last() == Some(&b'\n') => {
                    loaded.received.push(String::from_utf8(line).unwrap());
                    replies.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {
                    loaded.left = line;
                    return loaded;
                }
                Err(error) => {
                    loaded.end = Err(error);
                    return loaded;
                }
            }
        }
    }
}

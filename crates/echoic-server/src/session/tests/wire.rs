//! An in-memory transport: the test decides what each read returns, how much each write may take, and when.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use echoic_wire::{Link, SendQueue, Transport};
use tokio::time::{Instant, timeout};

/// The peer's side.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<Mutex<Line>>);

/// The server's side.
#[derive(Debug)]
struct Ours(Arc<Mutex<Line>>);

/// State of the transport: the bytes under way, and counts of the calls.
#[derive(Debug, Default)]
pub(super) struct Line {
    incoming: VecDeque<Incoming>,
    /// Bytes the peer would still take.
    window: usize,
    broken: Option<io::ErrorKind>,
    /// The next write finds the connection reset.
    resets_writes: bool,
    /// The end of the peer's half was read.
    ended: bool,
    /// The end of our half stays pending, as with a TLS peer that reads nothing.
    finish_blocked: bool,
    /// Reads and writes count against the task's budget, as those of real sockets do.
    cooperative: bool,
    /// What the peer has not taken of the bytes under way, if the system tells.
    queue: Option<SendQueue>,
    /// Bytes that the peer took.
    pub(super) taken: Vec<u8>,
    /// Calls that read or wrote something.
    pub(super) reads: usize,
    pub(super) writes: usize,
    /// Reads that were tried while the last write was not taken in full.
    pub(super) reads_while_owing: usize,
    owing: bool,
    /// When the session ended its half, and when it dropped the link.
    pub(super) finished: Option<Instant>,
    pub(super) closed: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    peer: Option<Waker>,
}

#[derive(Debug)]
enum Incoming {
    Bytes(Vec<u8>),
    Fin,
}

/// A wire over which the peer takes `window` bytes until it grants more.
pub(super) fn wire(window: usize) -> (Link, Peer) {
    let line = Line {
        window,
        ..Line::default()
    };
    let line = Arc::new(Mutex::new(line));
    let ours = Ours(Arc::clone(&line));
    (Link::layered(Box::new(ours)), Peer(line))
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    /// Sends bytes that one read will return, or several reads if the buffer is smaller.
    pub(super) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.push(Incoming::Bytes(bytes.as_ref().to_vec()));
    }

    pub(super) fn finish(&self) {
        self.push(Incoming::Fin);
    }

    fn push(&self, incoming: Incoming) {
        let mut line = lock(&self.0);
        line.incoming.push_back(incoming);
        line.reader.take().into_iter().for_each(Waker::wake);
    }

    /// Resets the connection.
    pub(super) fn reset(&self) {
        self.break_with(io::ErrorKind::ConnectionReset);
    }

    /// Makes every later call fail with this error.
    pub(super) fn break_with(&self, kind: io::ErrorKind) {
        let mut line = lock(&self.0);
        line.broken = Some(kind);
        line.reader.take().into_iter().for_each(Waker::wake);
        line.writer.take().into_iter().for_each(Waker::wake);
    }

    /// Takes this many more bytes.
    pub(super) fn grant(&self, bytes: usize) {
        let mut line = lock(&self.0);
        line.window = line.window.saturating_add(bytes);
        line.writer.take().into_iter().for_each(Waker::wake);
    }

    /// Resets the connection in a way that the session sees only when it writes.
    pub(super) fn reset_on_write(&self) {
        lock(&self.0).resets_writes = true;
    }

    /// Makes the end of our half stay pending for ever.
    pub(super) fn block_finish(&self) {
        lock(&self.0).finish_blocked = true;
    }

    /// Has the system tell that these bytes are unacknowledged, and how many the peer's program has not read.
    pub(super) fn set_queue(&self, unacknowledged: u64, unread: Option<u64>) {
        lock(&self.0).queue = Some(SendQueue {
            unacknowledged,
            unread,
        });
    }

    pub(super) fn use_coop_budget(&self) {
        lock(&self.0).cooperative = true;
    }

    /// Wakes the reading task although there are no bytes.
    pub(super) fn nudge(&self) {
        let mut line = lock(&self.0);
        line.reader.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Line) -> T) -> T {
        look(&lock(&self.0))
    }

    pub(super) fn taken(&self) -> Vec<u8> {
        self.look(|line| line.taken.clone())
    }

    /// Waits until `condition` holds, up to a day of paused time.
    pub(super) async fn until(&self, what: &str, mut condition: impl FnMut(&Line) -> bool) {
        let held = poll_fn(|cx| {
            let mut line = lock(&self.0);
            if condition(&line) {
                return Poll::Ready(());
            }
            line.peer = Some(cx.waker().clone());
            Poll::Pending
        });
        let held = timeout(Duration::from_hours(24), held).await;
        assert!(held.is_ok(), "never: {what}; {:?}", lock(&self.0));
    }

    /// Waits until the peer has taken exactly these bytes.
    pub(super) async fn receives(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.until(&String::from_utf8_lossy(bytes), |line| line.taken == bytes)
            .await;
    }
}

impl Line {
    /// Whether everything sent has been read.
    pub(super) fn incoming_is_empty(&self) -> bool {
        self.incoming.is_empty()
    }

    /// Bytes that are not read yet.
    pub(super) fn incoming_bytes(&self) -> usize {
        let bytes = self.incoming.iter().map(|incoming| match incoming {
            Incoming::Bytes(bytes) => bytes.len(),
            Incoming::Fin => 0,
        });
        bytes.sum()
    }

    fn wake_peer(&mut self) {
        self.peer.take().into_iter().for_each(Waker::wake);
    }

    fn within_budget(&self, cx: &mut Context<'_>) -> bool {
        !self.cooperative || pin!(tokio::task::consume_budget()).poll(cx).is_ready()
    }
}

impl Transport for Ours {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut line = lock(&self.0);
        if let Some(kind) = line.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if !line.incoming.is_empty() && !line.within_budget(cx) {
            return Poll::Pending;
        }
        line.reads_while_owing += usize::from(line.owing);
        let n = match line.incoming.front_mut() {
            None => {
                line.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Some(Incoming::Fin) => {
                assert!(!line.ended, "read after the end");
                line.ended = true;
                return Poll::Ready(Ok(0));
            }
            Some(Incoming::Bytes(bytes)) => {
                let n = bytes.len().min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[..n]);
                bytes.drain(..n);
                if bytes.is_empty() {
                    line.incoming.pop_front();
                }
                n
            }
        };
        line.reads += 1;
        line.wake_peer();
        Poll::Ready(Ok(n))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut line = lock(&self.0);
        if let Some(kind) = line.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if line.resets_writes {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        assert!(line.finished.is_none(), "written after the end");
        assert!(!bytes.is_empty(), "nothing written");
        if !line.within_budget(cx) {
            return Poll::Pending;
        }
        let n = bytes.len().min(line.window);
        line.owing = n < bytes.len();
        if n == 0 {
            line.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        line.window -= n;
        line.taken.extend_from_slice(&bytes[..n]);
        line.writes += 1;
        line.wake_peer();
        Poll::Ready(Ok(n))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = lock(&self.0);
        if let Some(kind) = line.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if line.finish_blocked {
            return Poll::Pending;
        }
        line.finished = Some(Instant::now());
        line.owing = false;
        line.wake_peer();
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}

    fn send_queue(&self) -> Option<SendQueue> {
        lock(&self.0).queue
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let mut line = lock(&self.0);
        line.closed = Some(Instant::now());
        line.wake_peer();
    }
}

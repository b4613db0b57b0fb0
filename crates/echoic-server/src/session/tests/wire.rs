//! A wire in memory: the test decides what each read returns, how much each write may take, and when.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use echoic_wire::{Link, Transport};
use tokio::time::{Instant, timeout};

/// The peer's end.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<Mutex<Line>>);

/// Our end.
#[derive(Debug)]
struct Ours(Arc<Mutex<Line>>);

/// What goes over the wire, and what was asked of it.
#[derive(Debug, Default)]
pub(super) struct Line {
    coming: VecDeque<Coming>,
    /// Bytes the peer would still take.
    window: usize,
    broken: Option<io::ErrorKind>,
    /// Whoever writes to it meets a reset.
    deaf: bool,
    /// The peer's end has been read.
    ended: bool,
    /// The end of our half is never taken, as by a TLS peer that reads nothing.
    endless: bool,
    /// Reads and writes count against the task's budget, as those of real sockets do.
    cooperative: bool,
    /// What the peer has got.
    pub(super) taken: Vec<u8>,
    /// Calls that read or wrote something.
    pub(super) reads: usize,
    pub(super) writes: usize,
    /// Reads that were tried while the last write had not been taken in full.
    pub(super) reads_while_owing: usize,
    owing: bool,
    /// When our half was ended, and when the link was dropped.
    pub(super) finished: Option<Instant>,
    pub(super) closed: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    peer: Option<Waker>,
}

#[derive(Debug)]
enum Coming {
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
    /// Sends what one read will return (or several, if it is longer than their room).
    pub(super) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.comes(Coming::Bytes(bytes.as_ref().to_vec()));
    }

    pub(super) fn finish(&self) {
        self.comes(Coming::Fin);
    }

    fn comes(&self, coming: Coming) {
        let mut line = lock(&self.0);
        line.coming.push_back(coming);
        line.reader.take().into_iter().for_each(Waker::wake);
    }

    /// Resets the connection.
    pub(super) fn reset(&self) {
        self.break_with(io::ErrorKind::ConnectionReset);
    }

    /// From now on every call fails like this.
    pub(super) fn break_with(&self, kind: io::ErrorKind) {
        let mut line = lock(&self.0);
        line.broken = Some(kind);
        line.reader.take().into_iter().for_each(Waker::wake);
        line.writer.take().into_iter().for_each(Waker::wake);
    }

    /// Takes so many bytes more.
    pub(super) fn grant(&self, bytes: usize) {
        let mut line = lock(&self.0);
        line.window = line.window.saturating_add(bytes);
        line.writer.take().into_iter().for_each(Waker::wake);
    }

    /// Resets the connection, which we shall see no sooner than we write.
    pub(super) fn be_deaf(&self) {
        lock(&self.0).deaf = true;
    }

    /// Has the end of our half wait for ever.
    pub(super) fn be_endless(&self) {
        lock(&self.0).endless = true;
    }

    pub(super) fn be_cooperative(&self) {
        lock(&self.0).cooperative = true;
    }

    /// Wakes whoever waits for bytes, with none to give.
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

    /// Waits until `condition` holds; a day of paused time is nothing.
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

    pub(super) async fn hears(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.until(&String::from_utf8_lossy(bytes), |line| line.taken == bytes)
            .await;
    }
}

impl Line {
    /// Whether everything sent has been read.
    pub(super) fn coming_is_empty(&self) -> bool {
        self.coming.is_empty()
    }

    /// Bytes that nobody has read yet.
    pub(super) fn coming_bytes(&self) -> usize {
        let bytes = self.coming.iter().map(|coming| match coming {
            Coming::Bytes(bytes) => bytes.len(),
            Coming::Fin => 0,
        });
        bytes.sum()
    }

    fn tell_peer(&mut self) {
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
        if !line.coming.is_empty() && !line.within_budget(cx) {
            return Poll::Pending;
        }
        line.reads_while_owing += usize::from(line.owing);
        let n = match line.coming.front_mut() {
            None => {
                line.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Some(Coming::Fin) => {
                assert!(!line.ended, "read after the end");
                line.ended = true;
                return Poll::Ready(Ok(0));
            }
            Some(Coming::Bytes(bytes)) => {
                let n = bytes.len().min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[..n]);
                bytes.drain(..n);
                if bytes.is_empty() {
                    line.coming.pop_front();
                }
                n
            }
        };
        line.reads += 1;
        line.tell_peer();
        Poll::Ready(Ok(n))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut line = lock(&self.0);
        if let Some(kind) = line.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if line.deaf {
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
        line.tell_peer();
        Poll::Ready(Ok(n))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = lock(&self.0);
        if let Some(kind) = line.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if line.endless {
            return Poll::Pending;
        }
        line.finished = Some(Instant::now());
        line.owing = false;
        line.tell_peer();
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}
}

impl Drop for Ours {
    fn drop(&mut self) {
        let mut line = lock(&self.0);
        line.closed = Some(Instant::now());
        line.tell_peer();
    }
}

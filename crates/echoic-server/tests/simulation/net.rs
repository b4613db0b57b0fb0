//! An in-memory network that behaves as TCP may: bytes arrive late and in pieces, buffers are small, writes are taken in
//! part, a reset overtakes data, and closing with unread data resets.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use echoic_wire::Transport;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{chance::Chance, steps::Steps};

/// How a connection behaves.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// Limit of bytes in flight and unread, per direction.
    pub(super) buffer: usize,
    /// The longest delay.
    pub(super) delay_ms: usize,
    /// Reads and writes are often shorter than they could be.
    pub(super) ragged: bool,
    /// The error of a broken connection, instead of a reset.
    pub(super) breaks_as: io::ErrorKind,
}

/// The two ends of a connection, by which half they read.
pub(super) const SERVER: usize = 0;
pub(super) const PEER: usize = 1;

/// A connection.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<State>>);

struct State {
    /// The two directions, by the end that reads.
    halves: [Half; 2],
    weather: Weather,
    chance: Chance,
    steps: Steps,
    facts: Facts,
    polls: u32,
}

#[derive(Default)]
struct Half {
    flying: VecDeque<(Instant, Piece)>,
    arrived: VecDeque<u8>,
    total_arrived: usize,
    ended: bool,
    /// The writer has ended it.
    finished: bool,
    /// A reset that goes to the reader of this half.
    reset_at: Option<Instant>,
    reset_reported: bool,
    /// Its reader has closed.
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Piece {
    Bytes(Vec<u8>),
    Fin,
}

/// What happened at the server's end, and what the peer received.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// All bytes that the server read, and the time of each read with the count so far.
    pub(super) read: Vec<u8>,
    pub(super) reads: Vec<(usize, Instant)>,
    /// Whether it read the end of the stream before it ended its half.
    pub(super) read_end: bool,
    /// All bytes that it wrote, and the step and time of each write with the count so far.
    pub(super) written: Vec<u8>,
    pub(super) writes: Vec<(usize, u64, Instant)>,
    /// A read or a write failed, before the server ended its half.
    pub(super) failed: Option<io::ErrorKind>,
    /// Whether it saw a reset after it had ended its half.
    pub(super) reset_afterwards: bool,
    /// Whether a write had to wait for the peer.
    pub(super) held_up: bool,
    pub(super) accepted: Option<Instant>,
    pub(super) finished: Option<Instant>,
    pub(super) closed: Option<Instant>,
    /// Whether the server was at its connection limit when it accepted this one.
    pub(super) one_too_many: bool,
    /// Bytes that had arrived at the server when it was stopped.
    pub(super) arrived_at_stop: usize,
    /// Whether it was in the backlog then.
    pub(super) called_at_stop: bool,
    /// What the peer read; whether it read the end, saw a reset, or caused one.
    pub(super) got: Vec<u8>,
    pub(super) got_end: bool,
    pub(super) got_reset: bool,
    pub(super) peer_reset: bool,
    /// Whether the peer closed before it had read the end.
    pub(super) peer_left: bool,
    /// The end of the peer's stream was sent.
    pub(super) peer_finished: bool,
    /// Bytes that the peer has written.
    pub(super) peer_wrote: usize,
}

/// More polls than a connection can need: a task is polled in a loop while time stands still.
const POLLS_MAX: u32 = 2_000_000;

impl Wire {
    pub(super) fn new(weather: Weather, chance: Chance, steps: Steps) -> Self {
        Self(Arc::new(Mutex::new(State {
            halves: Default::default(),
            weather,
            chance,
            steps,
            facts: Facts::default(),
            polls: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn facts<T>(&self, look: impl FnOnce(&mut Facts) -> T) -> T {
        look(&mut self.lock().facts)
    }

    /// Returns an end, which closes when dropped.
    pub(super) fn end(&self, side: usize) -> Socket {
        let mut end = self.view(side);
        end.closes = true;
        end
    }

    /// Returns a view of an end, which does not close when dropped.
    pub(super) fn view(&self, side: usize) -> Socket {
        Socket {
            wire: self.clone(),
            side,
            alarm: None,
            closes: false,
            aborts: false,
        }
    }

    /// Notes what has arrived so far.
    pub(super) fn note_stop(&self) {
        let mut state = self.lock();
        state.halves[SERVER].settle();
        state.facts.arrived_at_stop = state.halves[SERVER].total_arrived;
    }
}

impl Half {
    /// Delivers everything whose delay is over.
    fn settle(&mut self) {
        let now = Instant::now();
        let end = self.reset_at.unwrap_or(now).min(now);
        while self.flying.front().is_some_and(|(at, _)| *at <= end) {
            match self.flying.pop_front() {
                Some((_, Piece::Bytes(bytes))) => {
                    self.total_arrived += bytes.len();
                    self.arrived.extend(bytes);
                }
                Some((_, Piece::Fin)) => self.ended = true,
                None => {}
            }
        }
        if self.is_reset() {
            self.flying.clear();
        }
    }

    fn is_reset(&self) -> bool {
        self.reset_at.is_some_and(|at| at <= Instant::now())
    }

    /// The next time at which something changes for the reader.
    fn next(&self) -> Option<Instant> {
        let arrival = self.flying.front().map(|(at, _)| *at);
        let reset = self.reset_at.filter(|_| !self.reset_reported);
        arrival.into_iter().chain(reset).min()
    }

    fn held(&self) -> usize {
        let flying = self.flying.iter().map(|(_, piece)| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Fin => 0,
        });
        flying.sum::<usize>() + self.arrived.len()
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn delay(&mut self) -> Duration {
        let most = self.weather.delay_ms;
        self.chance.ms(0..=most)
    }

    /// Returns a part of `n` if reads and writes are ragged.
    fn part(&mut self, n: usize) -> usize {
        if self.weather.ragged && n > 1 && self.chance.once_in(2) {
            self.chance.within(1..=n)
        } else {
            n
        }
    }

    fn launch(&mut self, to: usize, piece: Piece) {
        let at = Instant::now() + self.delay();
        let half = &mut self.halves[to];
        let last = half.flying.back().map_or(at, |(last, _)| *last);
        half.flying.push_back((at.max(last), piece));
        half.reader.take().into_iter().for_each(Waker::wake);
    }

    /// Sends a reset to `to`, at the earliest at `from`.
    fn reset(&mut self, to: usize, from: Instant) {
        let at = from + self.delay();
        let half = &mut self.halves[to];
        half.reset_at.get_or_insert(at);
        half.wake();
        // Its writer waits at the other half.
        self.halves[1 - to].wake();
    }

    /// The error that the end `side` gets, if any: a reset once, after that the end of the stream.
    fn broken(&mut self, side: usize) -> Option<io::Error> {
        let half = &mut self.halves[side];
        if !half.is_reset() {
            return None;
        }
        let first = !std::mem::replace(&mut half.reset_reported, true);
        let kind = if first {
            self.weather.breaks_as
        } else {
            io::ErrorKind::BrokenPipe
        };
        if side == SERVER {
            match self.facts.finished {
                None => _ = self.facts.failed.get_or_insert(kind),
                Some(_) => self.facts.reset_afterwards |= is_reset(kind),
            }
        }
        if side == PEER {
            self.facts.got_reset = true;
        }
        Some(kind.into())
    }

    fn count_polls(&mut self) {
        self.polls += 1;
        assert!(self.polls < POLLS_MAX, "a connection polled in circles");
    }

    fn poll_read(&mut self, side: usize, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.count_polls();
        if self.halves[side].closed {
            return Poll::Ready(Ok(0));
        }
        self.halves[side].settle();
        let there = self.halves[side].arrived.len().min(buffer.len());
        if there == 0 {
            let half = &self.halves[side];
            if half.is_reset() {
                if half.reset_reported {
                    return Poll::Ready(Ok(0));
                }
                return Poll::Ready(Err(self.broken(side).unwrap_or_else(unreachable)));
            }
            if !half.ended {
                return Poll::Pending;
            }
            match side {
                SERVER => self.facts.read_end |= self.facts.finished.is_none(),
                _ => self.facts.got_end = true,
            }
            return Poll::Ready(Ok(0));
        }
        let n = self.part(there);
        let half = &mut self.halves[side];
        for (to, byte) in buffer.iter_mut().zip(half.arrived.drain(..n)) {
            *to = byte;
        }
        half.writer.take().into_iter().for_each(Waker::wake);
        let now = Instant::now();
        if side == SERVER {
            self.facts.read.extend_from_slice(&buffer[..n]);
            let upto = self.facts.read.len();
            self.facts.reads.push((upto, now));
        } else {
            self.facts.got.extend_from_slice(&buffer[..n]);
        }
        self.steps
            .log(|| format!("{side} reads {n} of {there}: {:?}", show(&buffer[..n])));
        Poll::Ready(Ok(n))
    }

    fn poll_write(&mut self, side: usize, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.count_polls();
        assert!(!bytes.is_empty(), "nothing written");
        let to = 1 - side;
        assert!(!self.halves[to].finished, "written after the end");
        if let Some(error) = self.broken(side) {
            return Poll::Ready(Err(error));
        }
        let room = self.weather.buffer.saturating_sub(self.halves[to].held());
        if room == 0 {
            self.facts.held_up |= side == SERVER;
            return Poll::Pending;
        }
        let n = self.part(bytes.len().min(room));
        if self.halves[to].closed {
            self.reset(side, Instant::now());
        } else {
            self.launch(to, Piece::Bytes(bytes[..n].to_vec()));
        }
        let step = self.steps.next();
        if side == PEER {
            self.facts.peer_wrote += n;
        }
        if side == SERVER {
            self.facts.written.extend_from_slice(&bytes[..n]);
            let upto = self.facts.written.len();
            self.facts.writes.push((upto, step, Instant::now()));
        }
        self.steps.log(|| {
            format!(
                "{side} writes {n} of {}: {:?}",
                bytes.len(),
                show(&bytes[..n])
            )
        });
        Poll::Ready(Ok(n))
    }

    fn finish(&mut self, side: usize) {
        let to = 1 - side;
        if std::mem::replace(&mut self.halves[to].finished, true) {
            return;
        }
        if side == PEER {
            self.facts.peer_finished = true;
        }
        self.steps.log(|| format!("{side} ends its stream"));
        self.launch(to, Piece::Fin);
    }

    fn close(&mut self, side: usize, aborts: bool) {
        if self.halves[side].closed {
            return;
        }
        self.steps.log(|| format!("{side} closes, aborts {aborts}"));
        let now = Instant::now();
        let half = &mut self.halves[side];
        half.settle();
        half.closed = true;
        half.wake();
        let unread = !half.arrived.is_empty();
        let coming = half.flying.iter().find_map(|(at, piece)| match piece {
            Piece::Bytes(_) => Some(*at),
            Piece::Fin => None,
        });
        if side == PEER {
            self.facts.peer_left = !self.facts.got_end && !self.facts.got_reset;
            self.facts.peer_reset |= aborts || unread || coming.is_some();
        } else {
            self.facts.closed.get_or_insert(now);
        }
        if aborts || unread {
            self.reset(1 - side, now);
        } else if let Some(at) = coming {
            self.finish(side);
            self.reset(1 - side, at);
        } else {
            self.finish(side);
        }
    }
}

fn is_reset(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn unreachable() -> io::Error {
    io::Error::other("a reset that was reported already")
}

/// Formats bytes for the story.
fn show(bytes: &[u8]) -> String {
    let few = &bytes[..bytes.len().min(40)];
    few.escape_ascii().to_string()
}

/// One end of a connection.
pub(super) struct Socket {
    wire: Wire,
    side: usize,
    alarm: Option<Pin<Box<Sleep>>>,
    closes: bool,
    aborts: bool,
}

impl Socket {
    /// Registers the waker for a change at this end and for a time.
    fn wait(&mut self, cx: &mut Context<'_>, to_write: bool) {
        let next = {
            let mut state = self.wire.lock();
            if to_write {
                state.halves[1 - self.side].writer = Some(cx.waker().clone());
            } else {
                state.halves[self.side].reader = Some(cx.waker().clone());
            }
            let half = &state.halves[self.side];
            if to_write {
                half.reset_at.filter(|_| !half.reset_reported)
            } else {
                half.next()
            }
        };
        if let Some(at) = next {
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if alarm.deadline() != at {
                alarm.as_mut().reset(at);
            }
            if alarm.as_mut().poll(cx).is_ready() {
                self.alarm = None;
                cx.waker().wake_by_ref();
            }
        }
    }

    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = poll_fn(|cx| Transport::poll_write(self, cx, bytes)).await?;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Closes the end, with a reset if `aborts` or if data is unread.
    pub(super) fn close(&self, aborts: bool) {
        self.wire.lock().close(self.side, aborts);
    }

    pub(super) fn finish(&self) {
        self.wire.lock().finish(self.side);
    }
}

/// Reads and writes count against the task's budget, as those of real sockets do.
pub(super) fn poll_budget(cx: &mut Context<'_>) -> Poll<()> {
    pin!(tokio::task::consume_budget()).poll(cx)
}

impl Transport for Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(poll_budget(cx));
        let read = self.wire.lock().poll_read(self.side, buffer);
        if read.is_pending() {
            self.wait(cx, false);
        }
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(poll_budget(cx));
        let written = self.wire.lock().poll_write(self.side, bytes);
        if written.is_pending() {
            self.wait(cx, true);
        }
        written
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.wire.lock();
        if self.side == SERVER {
            state.facts.finished.get_or_insert_with(Instant::now);
        }
        if state.halves[self.side].is_reset() {
            state.facts.reset_afterwards |= self.side == SERVER;
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        state.finish(self.side);
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.aborts = true;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.closes {
            self.close(self.aborts);
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a wire")
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "end {} of a wire", self.side)
    }
}

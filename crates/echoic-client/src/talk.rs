//! The conversation itself: one loop that reads and writes at once.
//!
//! Writing everything and then reading blocks for good against a peer that echoes: it stops reading when its
//! own replies are not read (both socket buffers are full). So the loop waits for both, and for what is to be
//! said, and for every deadline. What it holds is bounded: one thing that is being sent, one that was read and
//! not yet taken; while either is there, no more is asked for.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use echoic_core::{endpoint::Shape, framing::FramingPair};
use echoic_wire::Link;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    counts::{Counts, Tally},
    ending::{Ending, Phase, Talked},
    watch::{Happened, Watch},
};

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// These bytes, as they are; to a socket of datagrams, as one of them, however few.
    Bytes(Vec<u8>),
    /// From here on messages are counted so, in both directions.
    FramingPair(FramingPair),
    /// The end of our stream (FIN); what follows is not sent. Dropping the sender says the same.
    Fin,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Something said was taken by the kernel as a whole.
    Sent {
        /// When its last byte was.
        at: Instant,
        /// How many messages it was; one that its framing has not seen the end of is one too.
        messages: u64,
        /// What went each way up to here.
        so_far: Counts,
    },
    /// These bytes came, in one read.
    Heard {
        /// When.
        at: Instant,
        /// At most [`READ_BYTES_MAX`] of them.
        bytes: Vec<u8>,
        /// What went each way up to here.
        so_far: Counts,
    },
}

/// How to leave before the conversation ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Send what has been said (for at most a second), then FIN and close.
    Quit,
    /// Reset.
    Abort,
}

/// How long to wait for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// After our end of the stream: silence of the peer before we leave. None waits for its end.
    pub linger_timeout: Option<Duration>,
    /// Silence in both directions. None waits for ever, as a person at a prompt does.
    pub idle_timeout: Option<Duration>,
    /// Time without progress while the peer is to be sent something. Does not run while we are not reading
    /// ourselves.
    pub write_timeout: Duration,
    /// After the peer's end of the stream: how long we wait for something to say to it. A peer may end its own
    /// stream first and still read ours (an upload), and a pipe that is being filled is empty for a moment. Once
    /// it has taken something after its end, [`Self::linger_timeout`] is waited instead.
    pub after_fin: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            linger_timeout: Some(Duration::from_secs(5)),
            idle_timeout: None,
            write_timeout: Duration::from_secs(10),
            after_fin: Duration::from_millis(100),
        }
    }
}

/// Most bytes taken by one read.
pub const READ_BYTES_MAX: usize = 64 << 10;

/// Time to send what was said before [`Leave::Quit`], and to read what came before a reset.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Holds the conversation until it ends: by the peer, by `leave`, by a wait that took too long, or because
/// nobody takes the news any more. `frames` is what is counted as a message in each direction, and no more.
pub async fn talk(
    link: Link,
    frames: FramingPair,
    say: mpsc::Receiver<Say>,
    news: mpsc::Sender<ClientEvent>,
    leave: impl Future<Output = Leave>,
    waits: Timeouts,
) -> Talked {
    talk_watched(link, frames, say, news, leave, waits, ()).await
}

/// The same, with somebody who is told of everything that goes over the wire.
pub async fn talk_watched(
    link: Link,
    frames: FramingPair,
    mut say: mpsc::Receiver<Say>,
    news: mpsc::Sender<ClientEvent>,
    leave: impl Future<Output = Leave>,
    waits: Timeouts,
    mut watch: impl Watch,
) -> Talked {
    let started = Instant::now();
    let mut leave = pin!(leave);
    let mut talk = Talk::new(link, frames, waits, started);
    let ending = loop {
        if let Some(ending) = talk.ended() {
            break ending;
        }
        talk.behind = poll_fn(|cx| Poll::Ready(watch.poll_room(cx).is_pending())).await;
        let deadline = talk.deadline();
        let has_news = !talk.news.is_empty();
        // In this order: who wants to leave is not kept by what is left to do, and a deadline is not outrun by a link
        // that always has something. A link that is ready waits for none of the others longer than a moment.
        tokio::select! {
            biased;
            how = &mut leave, if talk.leaving.is_none() => match how {
                Leave::Quit => {
                    say.close();
                    talk.leaving = Some(Instant::now());
                }
                Leave::Abort => {
                    talk.link.abort();
                    break Ending::Aborted;
                }
            },
            room = news.reserve(), if has_news => match room {
                Ok(room) => talk.deliver(|news| room.send(news)),
                Err(_) => break Ending::Unheard,
            },
            () = news.closed(), if !has_news => break Ending::Unheard,
            said = say.recv(), if talk.takes_more() => talk.said(said, &mut watch),
            () = poll_fn(|cx| watch.poll_room(cx)), if talk.behind => talk.stood_still(),
            () = sleep_until(deadline.map_or(started, |(at, _)| at)), if deadline.is_some() => {
                if let Some((_, after)) = deadline {
                    break talk.overdue(after);
                }
            }
            done = talk.link_does(), if !talk.behind => talk.done(done, &mut watch),
        }
    };
    Talked {
        ending,
        counts: talk.tally.counts,
        unsent: talk.unsent().len() as u64 + left_over(&mut say),
        upload_cut: talk.uploads && talk.ours == Half::Open,
        took: started.elapsed(),
    }
}

/// Bytes that were handed to us and never begun.
fn left_over(say: &mut mpsc::Receiver<Say>) -> u64 {
    let mut bytes = 0;
    while let Ok(said) = say.try_recv() {
        if let Say::Bytes(said) = said {
            bytes += said.len() as u64;
        }
    }
    bytes
}

/// Where a conversation stands.
struct Talk {
    link: Link,
    waits: Timeouts,
    tally: Tally,
    /// Each write is a message and each read too, one of no bytes among them; there is no end.
    datagrams: bool,
    /// A message of no bytes is being sent.
    sending_nothing: bool,
    /// What is being sent, and how much of it the kernel has taken.
    sending: Vec<u8>,
    taken: usize,
    said_before: u64,
    /// What the other side of the queue has not taken yet: at most one of each kind.
    news: VecDeque<ClientEvent>,
    /// Whoever looks on has no room for more.
    behind: bool,
    ours: Half,
    /// The peer's end of the stream.
    peer_ended: Option<Instant>,
    /// The kernel took something of ours since.
    uploads: bool,
    /// A write failed; what the peer had said before may still be there to read.
    broken: Option<(Instant, io::Error)>,
    read_failed: Option<io::Error>,
    leaving: Option<Instant>,
    /// Last time the kernel took something, or had nothing to take.
    moved: Instant,
    /// Last time anything happened in either direction, by somebody else than us.
    stirred: Instant,
    read_first: bool,
    buffer: Vec<u8>,
}

/// Our half of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Open,
    /// FIN is to be sent once everything before it is.
    Ending,
    Ended,
}

/// What the link did.
enum Done {
    Wrote(io::Result<usize>),
    Finished,
    Read(io::Result<usize>),
}

/// Whose patience ends at a deadline.
#[derive(Clone, Copy)]
enum After {
    Phase(Phase),
    PeerEnded,
    LastWords,
}

impl Talk {
    fn new(link: Link, frames: FramingPair, waits: Timeouts, now: Instant) -> Self {
        Self {
            datagrams: link.shape() == Shape::Datagrams,
            sending_nothing: false,
            link,
            waits,
            tally: Tally::new(frames),
            sending: Vec::new(),
            taken: 0,
            said_before: 0,
            news: VecDeque::with_capacity(2),
            behind: false,
            ours: Half::Open,
            peer_ended: None,
            uploads: false,
            broken: None,
            read_failed: None,
            leaving: None,
            moved: now,
            stirred: now,
            read_first: false,
            buffer: vec![0; READ_BYTES_MAX],
        }
    }

    fn unsent(&self) -> &[u8] {
        &self.sending[self.taken..]
    }

    fn is_sending(&self) -> bool {
        self.sending_nothing || !self.unsent().is_empty()
    }

    fn takes_more(&self) -> bool {
        !self.is_sending()
            && self.news.is_empty()
            && self.ours == Half::Open
            && self.broken.is_none()
    }

    /// The ending, once there is nothing left to wait for.
    fn ended(&mut self) -> Option<Ending> {
        if !self.news.is_empty() {
            return None;
        }
        if let Some(error) = self.read_failed.take() {
            return Some(self.failed(error));
        }
        if self.peer_ended.is_some() {
            // A write that failed after the peer's FIN: it has closed, and took nothing more.
            if self.broken.is_some() || self.ours == Half::Ended {
                return Some(Ending::PeerClosed);
            }
        }
        (self.leaving.is_some() && self.ours == Half::Ended).then_some(Ending::Quit)
    }

    fn failed(&self, error: io::Error) -> Ending {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Ending::PeerReset {
                after: self.tally.counts.heard.bytes,
            },
            _ => Ending::Failed(error),
        }
    }

    /// The nearest deadline. None runs while news waits to be taken, or whoever looks on is behind: then it is us who
    /// stand still.
    fn deadline(&self) -> Option<(Instant, After)> {
        let last_words = self.broken.as_ref().map(|(at, _)| *at).or(self.leaving);
        let last_words = last_words.map(|at| (at + LAST_WORDS, After::LastWords));
        if !self.news.is_empty() || self.behind {
            return last_words.filter(|_| self.leaving.is_some());
        }
        let idle = self
            .waits
            .idle_timeout
            .map(|idle| (self.stirred + idle, Phase::Idle));
        let linger = self
            .waits
            .linger_timeout
            .filter(|_| self.ours == Half::Ended)
            .map(|linger| (self.stirred + linger, Phase::Linger));
        let stall = self
            .is_sending()
            .then(|| (self.moved + self.waits.write_timeout, Phase::WriteStall));
        let phases = [idle, linger, stall].into_iter().flatten();
        let after_fin = self.peer_ended.filter(|_| self.unsent().is_empty());
        let after_fin = after_fin.map(|ended| {
            let upload = self.waits.linger_timeout.filter(|_| self.uploads);
            let patience = upload.unwrap_or(self.waits.after_fin);
            (ended.max(self.moved) + patience, After::PeerEnded)
        });
        phases
            .map(|(at, phase)| (at, After::Phase(phase)))
            .chain(after_fin)
            .chain(last_words)
            .min_by_key(|(at, _)| *at)
    }

    fn overdue(&mut self, after: After) -> Ending {
        match (after, self.broken.take()) {
            (After::LastWords, Some((_, error))) => self.failed(error),
            (After::LastWords, None) => Ending::Quit,
            (After::PeerEnded, _) => Ending::PeerClosed,
            (After::Phase(phase), _) => Ending::TimedOut(phase),
        }
    }

    /// What the other side of the queue says next; nothing is its end.
    fn said(&mut self, said: Option<Say>, watch: &mut impl Watch) {
        match said {
            Some(Say::Bytes(bytes)) => {
                self.sending_nothing = self.datagrams && bytes.is_empty();
                self.sending = bytes;
                self.taken = 0;
                self.said_before = self.tally.said();
                self.moved = Instant::now();
            }
            Some(Say::FramingPair(frames)) => {
                self.tally.reframe(frames);
                watch.happened(Happened::Framed(frames));
            }
            Some(Say::Fin) | None => self.ours = Half::Ending,
        }
    }

    fn deliver(&mut self, send: impl FnOnce(ClientEvent)) {
        if let Some(news) = self.news.pop_front() {
            send(news);
            self.stood_still();
        }
    }

    /// The time until now was ours, and is held against nobody.
    fn stood_still(&mut self) {
        let now = Instant::now();
        (self.moved, self.stirred) = (now, now);
    }

    /// Waits for the link to write or to read, whichever it can first; each is asked first every other time, so
    /// that neither starves. Pending while there is neither to do.
    async fn link_does(&mut self) -> Done {
        self.read_first = !self.read_first;
        poll_fn(|cx| {
            let first = if self.read_first {
                self.poll_read(cx)
            } else {
                self.poll_write(cx)
            };
            match first {
                Poll::Ready(done) => Poll::Ready(done),
                Poll::Pending if self.read_first => self.poll_write(cx),
                Poll::Pending => self.poll_read(cx),
            }
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        if !self.news.is_empty() || self.peer_ended.is_some() {
            return Poll::Pending;
        }
        self.link.poll_read(cx, &mut self.buffer).map(Done::Read)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        if self.broken.is_some() {
            Poll::Pending
        } else if self.is_sending() {
            let unsent = &self.sending[self.taken..];
            self.link.poll_write(cx, unsent).map(Done::Wrote)
        } else if self.ours == Half::Ending {
            // It fails only where the peer has already reset the connection; the next read will tell.
            self.link.poll_finish(cx).map(|_| Done::Finished)
        } else {
            Poll::Pending
        }
    }

    fn done(&mut self, done: Done, watch: &mut impl Watch) {
        let now = Instant::now();
        self.stirred = now;
        match done {
            Done::Read(Ok(0)) if !self.datagrams => match self.broken.take() {
                // The kernel tells of a reset once; whoever asks next is told of an end.
                Some((_, error)) => self.read_failed = Some(error),
                None => {
                    self.peer_ended = Some(now);
                    if self.ours != Half::Ended {
                        watch.happened(Happened::HalfClosed { at: now });
                    }
                }
            },
            Done::Read(Ok(n)) => {
                let bytes = self.buffer[..n].to_vec();
                watch.happened(Happened::Heard {
                    at: now,
                    bytes: &bytes,
                });
                self.tally.heard(&bytes);
                self.news.push_back(ClientEvent::Heard {
                    at: now,
                    bytes,
                    so_far: self.tally.counts,
                });
            }
            Done::Read(Err(error)) => self.read_failed = Some(error),
            Done::Wrote(Ok(n)) => self.wrote(n, now, watch),
            Done::Wrote(Err(error)) => self.broken = Some((now, error)),
            Done::Finished => self.ours = Half::Ended,
        }
    }

    fn wrote(&mut self, n: usize, now: Instant, watch: &mut impl Watch) {
        self.moved = now;
        self.uploads |= self.peer_ended.is_some();
        let upto = self.taken + n;
        let whole = upto == self.sending.len();
        let taken = &self.sending[self.taken..upto];
        self.tally.sent(taken, whole);
        watch.happened(Happened::Sent {
            at: now,
            bytes: taken,
            whole,
        });
        self.taken = upto;
        self.sending_nothing = false;
        if whole {
            self.news.push_back(ClientEvent::Sent {
                at: now,
                messages: (self.tally.said() - self.said_before).max(1),
                so_far: self.tally.counts,
            });
        }
    }
}

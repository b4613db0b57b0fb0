//! Runs one conversation: a single loop that reads and writes at the same time.
//!
//! A client that writes everything before it reads deadlocks against a peer that echoes: the peer stops reading
//! when its replies are not read, because both socket buffers are full. So the loop waits at the same time for reads,
//! writes, commands and deadlines. Its memory is bounded: one buffer being sent, and one buffer received that the
//! caller has not taken yet; while either exists, no more input of that kind is read.

mod progress;

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use echoic_core::{endpoint::Shape, framing::FramingPair};
use echoic_wire::{Link, SendProgress};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    after_fin::AfterFin,
    counts::{Counts, Tally},
    ending::{ConversationSummary, Ending, TimeoutKind},
    observer::{Observer, WireEvent},
    tls_alert::FirstBytes,
};

/// A deadline noticed this late means that this process did not run when it passed: the delay is ours.
pub const DEADLINE_LATE: Duration = Duration::from_millis(100);

/// An instruction to a running conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCommand {
    /// Sends these bytes unchanged. On a datagram socket they are one datagram, even if there are none.
    Send(Vec<u8>),
    /// Counts messages by this pair of framings from here on.
    SetFraming(FramingPair),
    /// No input is expected any more, but our half stays open until the peer ends its own.
    Hold,
    /// Ends our half of the stream (FIN); later commands are not executed. Dropping the sender has the same effect.
    Finish,
}

/// An event of a running conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The kernel accepted all bytes of one [`ClientCommand::Send`].
    Sent {
        /// When it accepted the last byte.
        at: Instant,
        /// Number of messages in the bytes, at least 1; a message that is still incomplete counts as one.
        messages: u64,
        /// Totals in both directions up to here.
        counts: Counts,
    },
    /// One read returned these bytes.
    Received {
        /// When the read returned.
        at: Instant,
        /// At most [`READ_BYTES_MAX`] bytes.
        bytes: Vec<u8>,
        /// Totals in both directions up to here.
        counts: Counts,
    },
    /// The peer has ended its half of the stream and may still read ours. Not sent if the peer closes at once.
    HalfClosed,
}

/// How to close a conversation that has not ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// Send the commands already queued (for at most a second), then FIN, then close.
    Graceful,
    /// Send RST.
    Reset,
}

/// Time limits of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Time after our FIN in which the peer neither sends nor takes bytes. `None` waits for it to end its stream.
    pub linger_timeout: Option<Duration>,
    /// Time without received bytes after our FIN, once the peer's system has acknowledged everything. `None` waits for
    /// [`Self::linger_timeout`].
    pub settle: Option<Duration>,
    /// Time without any bytes in either direction. `None` waits without limit, as a prompt does.
    pub idle_timeout: Option<Duration>,
    /// Time in which the peer takes nothing while there is data to send. Does not run while we do not read ourselves.
    pub write_timeout: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            linger_timeout: Some(Duration::from_secs(5)),
            settle: None,
            idle_timeout: None,
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// Maximum number of bytes returned by one read.
pub const READ_BYTES_MAX: usize = 64 << 10;

/// Time to send queued data after [`CloseMode::Graceful`], and to read the remaining data after a write failed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a conversation until it ends: by the peer, by `close`, by a timeout, or because the receiver of `events` was
/// dropped. `framings` only determines how messages are counted in each direction.
pub async fn converse(
    link: Link,
    framings: FramingPair,
    commands: mpsc::Receiver<ClientCommand>,
    events: mpsc::Sender<ClientEvent>,
    close: impl Future<Output = CloseMode>,
    timeouts: Timeouts,
) -> ConversationSummary {
    converse_observed(link, framings, commands, events, close, timeouts, ()).await
}

/// Runs a conversation like [`converse`], and reports everything that is sent or received to `observer`.
pub async fn converse_observed(
    link: Link,
    framings: FramingPair,
    mut commands: mpsc::Receiver<ClientCommand>,
    events: mpsc::Sender<ClientEvent>,
    close: impl Future<Output = CloseMode>,
    timeouts: Timeouts,
    mut observer: impl Observer,
) -> ConversationSummary {
    let started = Instant::now();
    let mut close = pin!(close);
    let mut conversation = Conversation::new(link, framings, timeouts, started);
    let ending = loop {
        if let Some(ending) = conversation.finished() {
            break ending;
        }
        conversation.finish_if_held(commands.is_empty());
        conversation.observer_busy =
            poll_fn(|cx| Poll::Ready(observer.poll_ready(cx).is_pending())).await;
        let deadline = conversation.deadline();
        let has_event = !conversation.events.is_empty();
        // The order matters: a request to close precedes all other work, and a link that is always ready cannot outrun a
        // deadline. The branches before the link never delay a ready link for long.
        tokio::select! {
            biased;
            mode = &mut close, if conversation.closing_since.is_none() => match mode {
                CloseMode::Graceful => {
                    commands.close();
                    conversation.closing_since = Some(Instant::now());
                }
                CloseMode::Reset => {
                    conversation.link.abort();
                    break Ending::ResetByUs;
                }
            },
            permit = events.reserve(), if has_event => match permit {
                Ok(permit) => conversation.deliver_event(|event| permit.send(event)),
                Err(_) => break Ending::OutputClosed,
            },
            () = events.closed(), if !has_event => break Ending::OutputClosed,
            command = commands.recv(), if conversation.may_take_command() => {
                conversation.execute(command, &mut observer);
            }
            () = poll_fn(|cx| observer.poll_ready(cx)), if conversation.observer_busy => {
                conversation.restart_timeouts();
            }
            () = sleep_until(deadline.map_or(started, |(at, _)| at)), if deadline.is_some() => {
                if conversation.was_stopped(deadline) {
                    continue;
                }
                if let Some((_, deadline)) = deadline
                    && let Some(ending) = conversation.expire(deadline, &mut observer)
                {
                    break ending;
                }
            }
            event = conversation.next_link_event(), if !conversation.observer_busy => {
                conversation.handle_link_event(event, &mut observer);
            }
        }
    };
    let queued = drain_unsent(&mut commands).await;
    conversation.into_summary(ending, queued, started)
}

/// Number of bytes in commands that were queued and never started. Closing the queue first makes the number exact: a command
/// is either counted here, or its sender learns that it was not accepted.
async fn drain_unsent(commands: &mut mpsc::Receiver<ClientCommand>) -> u64 {
    commands.close();
    let mut unsent = 0;
    while let Some(command) = commands.recv().await {
        if let ClientCommand::Send(bytes) = command {
            unsent += bytes.len() as u64;
        }
    }
    unsent
}

/// State of a running conversation.
struct Conversation {
    link: Link,
    timeouts: Timeouts,
    tally: Tally,
    first_bytes: FirstBytes,
    /// The link is a datagram socket: each write and each read is one message, which may be empty, and there is no end
    /// of stream.
    datagrams: bool,
    /// The message being sent is an empty datagram.
    sending_empty_datagram: bool,
    /// The data being sent, of which the kernel has accepted the first `written` bytes.
    sending: Vec<u8>,
    written: usize,
    /// Messages sent before the current [`ClientCommand::Send`].
    messages_before: u64,
    /// Events that the caller has not taken yet: at most one of each kind.
    events: VecDeque<ClientEvent>,
    observer_busy: bool,
    write_half: WriteHalf,
    /// [`ClientCommand::Hold`] was executed.
    holds: bool,
    /// Set once the peer's FIN was read.
    after_fin: Option<AfterFin>,
    /// See [`ConversationSummary::upload_cut`].
    upload_cut: bool,
    /// A write failed; data that the peer sent earlier may still be readable.
    write_error: Option<(Instant, io::Error)>,
    read_error: Option<io::Error>,
    /// When [`CloseMode::Graceful`] was requested.
    closing_since: Option<Instant>,
    /// Last time the kernel accepted bytes, or had none to accept, or the peer was seen to take some.
    last_write: Instant,
    /// Last time the link read or wrote anything, or the peer was seen to take bytes.
    last_activity: Instant,
    progress: SendProgress,
    /// There may be bytes that the peer has not taken.
    looks: bool,
    read_first: bool,
    buffer: Vec<u8>,
}

/// State of our half of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteHalf {
    Open,
    /// FIN follows once all data before it is sent.
    Finishing,
    Finished,
}

/// A completed operation of the link.
enum LinkEvent {
    Wrote(io::Result<usize>),
    Finished,
    Read(io::Result<usize>),
}

/// What ends the conversation at a deadline.
#[derive(Clone, Copy)]
enum Deadline {
    Timeout(TimeoutKind),
    /// It is time to look at what the peer has not taken.
    Look,
    /// Everything has arrived, and the peer sends nothing: [`Timeouts::settle`].
    Settled,
    /// It is time to look whether the peer, which has sent its FIN, is still there.
    LookAtPeer,
    /// [`CLOSE_TIMEOUT`] expired.
    Close,
}

impl Conversation {
    fn new(link: Link, framings: FramingPair, timeouts: Timeouts, now: Instant) -> Self {
        Self {
            datagrams: link.shape() == Shape::Datagrams,
            sending_empty_datagram: false,
            link,
            timeouts,
            tally: Tally::new(framings),
            first_bytes: FirstBytes::default(),
            sending: Vec::new(),
            written: 0,
            messages_before: 0,
            events: VecDeque::with_capacity(2),
            observer_busy: false,
            write_half: WriteHalf::Open,
            holds: false,
            after_fin: None,
            upload_cut: false,
            write_error: None,
            read_error: None,
            closing_since: None,
            last_write: now,
            last_activity: now,
            progress: SendProgress::default(),
            looks: false,
            read_first: false,
            buffer: vec![0; READ_BYTES_MAX],
        }
    }

    /// Returns the summary of an ended conversation; `queued` bytes were never begun.
    fn into_summary(self, ending: Ending, queued: u64, started: Instant) -> ConversationSummary {
        let unacknowledged = match ending {
            Ending::TimedOut(_) => self.unacknowledged(),
            _ => 0,
        };
        ConversationSummary {
            ending,
            unacknowledged,
            unsent: self.unsent_bytes() + queued,
            upload_cut: self.upload_cut,
            tls_alert: !self.datagrams && self.first_bytes.is_tls_alert(),
            elapsed: started.elapsed(),
            counts: self.tally.counts,
        }
    }

    fn unsent(&self) -> &[u8] {
        &self.sending[self.written..]
    }

    /// Bytes that the kernel did not accept, or that the peer did not acknowledge after both FINs.
    fn unsent_bytes(&self) -> u64 {
        let after_fin = self.after_fin.as_ref();
        self.unsent().len() as u64 + after_fin.map_or(0, |after_fin| after_fin.unacknowledged)
    }

    fn is_sending(&self) -> bool {
        self.sending_empty_datagram || !self.unsent().is_empty()
    }

    fn may_take_command(&self) -> bool {
        !self.is_sending()
            && self.events.is_empty()
            && self.write_half == WriteHalf::Open
            && self.write_error.is_none()
    }

    /// Returns the ending once there is nothing left to wait for.
    fn finished(&mut self) -> Option<Ending> {
        if !self.events.is_empty() {
            return None;
        }
        if let Some(error) = self.read_error.take() {
            return Some(self.ending_of(error));
        }
        if self.after_fin.is_some() && self.write_error.is_some() {
            // A write that failed after the peer's FIN: the peer has closed and accepted nothing more.
            self.upload_cut = true;
            return Some(Ending::PeerClosed);
        }
        (self.closing_since.is_some() && self.write_half == WriteHalf::Finished)
            .then_some(Ending::ClosedByUs)
    }

    fn ending_of(&self, error: io::Error) -> Ending {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Ending::PeerReset {
                after: self.tally.counts.received.bytes,
            },
            _ => Ending::Failed(error),
        }
    }

    /// Returns the nearest deadline. While an event is not taken yet or the observer is busy, the delay is ours, so no
    /// deadline runs except the one of a requested close.
    fn deadline(&self) -> Option<(Instant, Deadline)> {
        let close = self
            .write_error
            .as_ref()
            .map(|(at, _)| *at)
            .or(self.closing_since);
        let close = close.map(|at| (at + CLOSE_TIMEOUT, Deadline::Close));
        if !self.events.is_empty() || self.observer_busy {
            return close.filter(|_| self.closing_since.is_some());
        }
        let idle = self
            .timeouts
            .idle_timeout
            .map(|idle| (self.last_activity + idle, TimeoutKind::Idle));
        let finished = self.write_half == WriteHalf::Finished;
        let linger = self
            .timeouts
            .linger_timeout
            .filter(|_| finished && self.after_fin.is_none())
            .map(|linger| (self.last_activity + linger, TimeoutKind::Linger));
        // After both FINs only acknowledgements are awaited.
        let awaits_acks = finished && self.after_fin.is_some();
        let write = (self.is_sending() || awaits_acks).then(|| {
            (
                self.last_write + self.timeouts.write_timeout,
                TimeoutKind::Write,
            )
        });
        let settled = self
            .timeouts
            .settle
            .filter(|_| self.write_half == WriteHalf::Finished && self.unacknowledged() == 0);
        let settled = settled.map(|settle| (self.last_activity + settle, Deadline::Settled));
        let timeouts = [idle, linger, write].into_iter().flatten();
        let look = self.after_fin.as_ref();
        let look = look.map(|after_fin| (after_fin.next_look(), Deadline::LookAtPeer));
        timeouts
            .map(|(at, kind)| (at, Deadline::Timeout(kind)))
            .chain(settled)
            .chain(look)
            .chain(close)
            .chain(self.next_look())
            .min_by_key(|(at, _)| *at)
    }

    /// Returns the ending for a deadline that has passed, unless the peer is still taking bytes.
    fn expire(&mut self, deadline: Deadline, observer: &mut impl Observer) -> Option<Ending> {
        Some(match deadline {
            Deadline::Close => match self.write_error.take() {
                Some((_, error)) => self.ending_of(error),
                None => Ending::ClosedByUs,
            },
            Deadline::Look => {
                self.look();
                return None;
            }
            Deadline::LookAtPeer => return self.look_at_peer(),
            Deadline::Settled => Ending::TimedOut(TimeoutKind::Linger),
            Deadline::Timeout(kind) if self.has_progressed(kind, observer) => return None,
            Deadline::Timeout(kind) => Ending::TimedOut(kind),
        })
    }

    /// Starts one command; `None` means that the sender was dropped.
    fn execute(&mut self, command: Option<ClientCommand>, observer: &mut impl Observer) {
        match command {
            Some(ClientCommand::Send(bytes)) => {
                self.sending_empty_datagram = self.datagrams && bytes.is_empty();
                self.sending = bytes;
                self.written = 0;
                self.messages_before = self.tally.sent_messages();
                self.last_write = Instant::now();
            }
            Some(ClientCommand::SetFraming(framings)) => {
                self.tally.set_framing(framings);
                observer.observe(WireEvent::FramingChanged(framings));
            }
            Some(ClientCommand::Hold) => self.holds = true,
            Some(ClientCommand::Finish) | None => self.write_half = WriteHalf::Finishing,
        }
    }

    fn deliver_event(&mut self, send: impl FnOnce(ClientEvent)) {
        if let Some(event) = self.events.pop_front() {
            send(event);
            self.restart_timeouts();
        }
    }

    /// Restarts the timeouts after a delay on our side, which must not count against the peer.
    fn restart_timeouts(&mut self) {
        let now = Instant::now();
        (self.last_write, self.last_activity) = (now, now);
    }

    /// Waits until the link has written or read, whichever is possible first. Read and write take turns at being polled
    /// first, so that neither starves. Stays pending while there is nothing to read or write.
    async fn next_link_event(&mut self) -> LinkEvent {
        self.read_first = !self.read_first;
        poll_fn(|cx| {
            let first = if self.read_first {
                self.poll_read(cx)
            } else {
                self.poll_write(cx)
            };
            match first {
                Poll::Ready(event) => Poll::Ready(event),
                Poll::Pending if self.read_first => self.poll_write(cx),
                Poll::Pending => self.poll_read(cx),
            }
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent> {
        if !self.events.is_empty() || self.after_fin.is_some() {
            return Poll::Pending;
        }
        self.link
            .poll_read(cx, &mut self.buffer)
            .map(LinkEvent::Read)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent> {
        if self.write_error.is_some() {
            Poll::Pending
        } else if self.is_sending() {
            let unsent = &self.sending[self.written..];
            self.link.poll_write(cx, unsent).map(LinkEvent::Wrote)
        } else if self.write_half == WriteHalf::Finishing {
            // Fails only if the peer has already reset the connection, which the next read reports.
            self.link.poll_finish(cx).map(|_| LinkEvent::Finished)
        } else {
            Poll::Pending
        }
    }

    fn handle_link_event(&mut self, event: LinkEvent, observer: &mut impl Observer) {
        let now = Instant::now();
        self.last_activity = now;
        match event {
            LinkEvent::Read(Ok(0)) if !self.datagrams => match self.write_error.take() {
                // The kernel reports a reset once; the next call returns end of stream.
                Some((_, error)) => self.read_error = Some(error),
                None => {
                    self.after_fin = Some(AfterFin::new(&self.link, now));
                    if self.write_half == WriteHalf::Finished {
                        self.last_write = now;
                    } else {
                        observer.observe(WireEvent::HalfClosed { at: now });
                    }
                }
            },
            LinkEvent::Read(Ok(n)) => {
                let bytes = self.buffer[..n].to_vec();
                observer.observe(WireEvent::Received {
                    at: now,
                    bytes: &bytes,
                });
                self.tally.add_received(&bytes);
                self.first_bytes.note_received(&bytes);
                self.events.push_back(ClientEvent::Received {
                    at: now,
                    bytes,
                    counts: self.tally.counts,
                });
            }
            LinkEvent::Read(Err(error)) => self.read_error = Some(error),
            LinkEvent::Wrote(Ok(n)) => self.handle_write(n, now, observer),
            LinkEvent::Wrote(Err(error)) => self.write_error = Some((now, error)),
            LinkEvent::Finished => {
                self.write_half = WriteHalf::Finished;
                self.last_write = now;
                self.look();
                if let Some(after_fin) = &mut self.after_fin {
                    after_fin.note_finish(now);
                }
            }
        }
    }

    fn handle_write(&mut self, n: usize, now: Instant, observer: &mut impl Observer) {
        self.last_write = now;
        self.looks = !self.datagrams;
        if let Some(after_fin) = &mut self.after_fin {
            after_fin.note_write(now);
        }
        let end = self.written + n;
        let complete = end == self.sending.len();
        let bytes = &self.sending[self.written..end];
        self.tally.add_sent(bytes, complete);
        self.first_bytes.note_sent(bytes);
        observer.observe(WireEvent::Sent {
            at: now,
            bytes,
            complete,
        });
        self.written = end;
        self.sending_empty_datagram = false;
        if complete {
            self.events.push_back(ClientEvent::Sent {
                at: now,
                messages: (self.tally.sent_messages() - self.messages_before).max(1),
                counts: self.tally.counts,
            });
        }
    }
}

//! A conversation: the path of a message.
//!
//! One task per conversation, one function for the whole path ([`Session::poll_receive`]): read, divide, answer, send, record.
//! For an inline handler that is one step without waiting, allocating or locking anything that another worker wants. What
//! cannot be done in one step (a reply that the peer does not take, a spawned handler, a store that is behind) is held in
//! the conversation until its next turn.
//!
//! While a reply is unsent nothing more is read: that is all of back-pressure, since the peer's window fills and the peer
//! waits. A peer that never reads is closed after `--write-timeout`.
//!
//! Beside it: [`waiting`], waits and deadlines; [`spawned`], replies of spawned handlers; [`commands`], what an operator does;
//! [`closing`], the end.

mod closing;
mod commands;
mod spawned;
mod waiting;

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use echoic_core::{
    ending::CloseReason,
    event::{ConversationId, Marked, Opened, RunMeta},
    framing::{Counted, FramingPair, ReplyTooLong, Span, Split, Splitter, Violation},
    limits::Limits,
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer},
};
use echoic_recorder::{Clock, Journal};
use echoic_wire::Link;
use tokio::{runtime::Handle, task::coop::has_budget_remaining, time::Instant};

use self::waiting::{CommitGate, Timestamps};
use crate::{
    control::{Mailbox, MailboxOwner, Registration, ServedEndpoint},
    drain::{Drain, poll_sockets_once_more},
    handler_task::{HalfState, HandlerTask},
    inbox::{Inbox, Reading, Scratch},
    outbox::Outbox,
    polling::note_read,
    sources::SourcePermit,
    tally::{Tally, Totals},
    timers::Timers,
    wait::Wait,
};

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Bytes read after the stop signal from a peer that goes on sending: more than a kernel holds for one connection by
/// default (Linux: `tcp_rmem`, 6 MiB).
const DRAIN_BYTES_MAX: u64 = 8 << 20;

/// One conversation, from its opening to its end.
pub(crate) struct Session {
    conversation: ConversationId,
    phase: Phase,
    link: Link,
    handler: ActiveHandler,
    splitter: Splitter,
    framing: FramingPair,
    /// Requests may be overwritten: neither the record nor a rate limit looks at them.
    may_overwrite_requests: bool,
    inbox: Inbox,
    outbox: Outbox,
    journal: Journal,
    /// Its place among the conversations of its source, if that has limits.
    permit: Option<SourcePermit>,
    totals: Arc<Totals>,
    limits: Arc<Limits>,
    wait: Wait,
    timers: Timers,
    drain: Drain,
    mailbox: MailboxOwner,
    _registration: Registration,
    clock: Clock,
    tally: Tally,
    timestamps: Timestamps,
    commit_gate: CommitGate,
}

/// How far a conversation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Both sides may send.
    Open,
    /// The stop signal was seen when `from` bytes had been received; what the kernel holds is still read.
    Draining { from: u64 },
    /// All that had arrived at the stop signal is read; nothing more is.
    InputDrained,
    /// The peer ended its half of the stream; inside a message if `incomplete`.
    HalfClosed { incomplete: bool },
    /// It ends for this reason.
    Closing(CloseReason),
}

impl Phase {
    /// Whether nothing more is read for the handler.
    fn input_is_over(self) -> bool {
        !matches!(self, Self::Open | Self::Draining { .. })
    }

    fn is_draining(self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// The reason once the peer has ended its half and everything is answered.
    fn reason_after_half_close(self) -> CloseReason {
        match self {
            Self::HalfClosed { incomplete: true } => CloseReason::Incomplete,
            _ => CloseReason::PeerClosed,
        }
    }

    fn reason(self) -> Option<CloseReason> {
        match self {
            Self::Closing(reason) => Some(reason),
            _ => None,
        }
    }
}

/// One read, as the steps that follow it need it.
struct Received {
    at: Instant,
    /// Reads that its first message took.
    reads: u32,
    /// It was the end of the peer's stream.
    ended: bool,
    /// Its source sent more than its rate limit allows.
    is_over_rate: bool,
    /// Bytes produced before the replies to it.
    reply_offset: u64,
}

enum ActiveHandler {
    Inline(Box<dyn InlineHandler>),
    Spawned(Box<HandlerTask>),
    /// An operator ended our half of the stream: messages are recorded without a reply.
    Dismissed(HalfState),
}

/// What a conversation shares with others, or is given by the acceptor.
pub(crate) struct SessionContext {
    pub(crate) limits: Arc<Limits>,
    pub(crate) endpoint: Arc<ServedEndpoint>,
    /// That of the endpoint when the connection was accepted.
    pub(crate) drain: Drain,
    pub(crate) journal: Journal,
    pub(crate) permit: Option<SourcePermit>,
    pub(crate) totals: Arc<Totals>,
    /// The runtime of spawned handlers and of timers.
    pub(crate) control: Handle,
}

/// The outcome of one turn: go on, or end for a reason.
type Turn = ControlFlow<CloseReason>;

impl Session {
    /// In a box: moving the session itself would copy it, and the futures around it would hold it twice.
    pub(crate) fn new(
        link: Link,
        handler: Handler,
        peer: &Peer,
        opened: Opened,
        context: SessionContext,
    ) -> Box<Self> {
        let SessionContext {
            limits,
            endpoint,
            drain,
            mut journal,
            permit,
            totals,
            control,
        } = context;
        let mailbox = Mailbox::open(Some(drain.clone()));
        let clock = Clock::start();
        let (now, timers) = (Instant::now(), Timers::of(&control));
        journal.record_opened(opened);
        let framing = peer.framing;
        let is_recorded = journal.is_active();
        let has_rate_limit = permit.as_ref().is_some_and(SourcePermit::has_rate_limit);
        let is_transformable = framing.inbound == framing.outbound && !framing.inbound.has_length();
        Box::new(Self {
            conversation: peer.conversation,
            phase: Phase::Open,
            link,
            totals,
            handler: match handler {
                Handler::Inline(handler) => ActiveHandler::Inline(handler),
                Handler::Spawned(handler) => ActiveHandler::Spawned(HandlerTask::start(
                    handler,
                    &control,
                    limits.linger_timeout,
                    is_recorded.then_some(framing),
                )),
            },
            splitter: Splitter::new(framing.inbound, limits.message_bytes_max),
            framing,
            may_overwrite_requests: is_transformable && !is_recorded && !has_rate_limit,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            journal,
            permit,
            wait: Wait::new(&drain, now + limits.idle_timeout, &timers),
            timers,
            limits,
            drain,
            _registration: endpoint.register(peer.conversation, &mailbox),
            mailbox,
            clock,
            tally: Tally::default(),
            timestamps: Timestamps::start(now),
            commit_gate: CommitGate::default(),
        })
    }

    /// Serves the conversation until there is a reason to end it, then closes it in order.
    pub(crate) async fn run(mut self: Box<Self>) {
        let reason = self.serve().await;
        // In a box, so that an open conversation does not hold what its end needs.
        Box::pin(self.end(reason)).await;
    }

    /// Closes the connection at once, in order: there are too many, or the peer is not allowed.
    pub(crate) async fn reject(mut self: Box<Self>, reason: CloseReason) {
        Box::pin(self.end(reason)).await;
    }

    async fn serve(&mut self) -> CloseReason {
        self.mailbox.register_task().await;
        let mut turn = poll_fn(|cx| Poll::Ready(self.open(cx))).await;
        loop {
            match turn {
                ControlFlow::Continue(())
                    if self.drain.has_started() && self.phase == Phase::Open =>
                {
                    let from = self.tally.received;
                    self.phase = Phase::Draining { from };
                    // What the kernel has already received is still to be read.
                    poll_sockets_once_more().await;
                }
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(reason) => return reason,
            }
            turn = poll_fn(|cx| self.poll_turn(cx)).await;
        }
    }

    /// Sends what is unsent; else reads or takes a spawned handler's replies; else waits for a deadline or the drain.
    ///
    /// A part that returns `Pending` either waits, and has registered the waker, or has nothing to do until another part
    /// makes progress.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let progress = match (self.poll_send(cx), &self.handler) {
            (Poll::Ready(turn), _) => Poll::Ready(turn),
            (Poll::Pending, ActiveHandler::Spawned(_)) => self.poll_receive_or_handler_output(cx),
            (Poll::Pending, _) => self.poll_receive(cx),
        };
        if progress.is_pending() {
            return self.poll_wakeup(cx);
        }
        self.wait.note_progress();
        progress
    }

    /// The path of a message: read, divide, answer, send, record.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let new_max = ready!(self.poll_read_limit(cx));
        SCRATCH.with_borrow_mut(
            |Scratch {
                 read_buffer,
                 spans,
                 replies,
             }| {
                let read = self
                    .inbox
                    .poll_read(cx, &mut self.link, read_buffer, new_max);
                let mut reading = match read {
                    Poll::Ready(Ok(reading)) => reading,
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(ControlFlow::Break(socket_failed(&error)));
                    }
                    Poll::Pending => {
                        self.nothing_received(cx);
                        return Poll::Pending;
                    }
                };
                let mut received = self.note_received(&reading);
                if let Some(split) = self.answer_in_place(&mut reading) {
                    let sent = self.send(cx, &reading.bytes()[..split.consumed]);
                    self.inbox.hold(reading, split.consumed);
                    let answered = Ok(ControlFlow::Continue(()));
                    return Poll::Ready(self.turn_after_read(&received, &split, answered, sent));
                }
                let split = self.divide(&reading, spans);
                received.is_over_rate = self.remove_over_rate(&received, reading.new, spans);
                let run = Run::new(reading.bytes(), spans, self.tally.messages);
                let flow = self.answer(&run, &received, replies);
                let sent = self.send(cx, replies.bytes());
                self.record(&run, replies, &received);
                self.inbox.hold(reading, split.consumed);
                let answered = replies.too_long().map_or(Ok(flow), Err);
                Poll::Ready(self.turn_after_read(&received, &split, answered, sent))
            },
        )
    }

    /// Nothing is there to read. After the stop signal that was all, unless only this task's turn is used up.
    fn nothing_received(&mut self, cx: &Context<'_>) {
        if !self.phase.is_draining() {
            return;
        }
        if !has_budget_remaining() {
            cx.waker().wake_by_ref();
            return;
        }
        self.phase = Phase::InputDrained;
        if let ActiveHandler::Spawned(handler) = &mut self.handler {
            handler.end_input();
        }
    }

    fn note_received(&mut self, reading: &Reading<'_>) -> Received {
        self.tally.received += reading.new as u64;
        note_read();
        self.timestamps.received_at = Instant::now();
        Received {
            at: self.timestamps.received_at,
            reads: reading.reads,
            ended: reading.new == 0,
            is_over_rate: false,
            reply_offset: self.tally.produced,
        }
    }

    fn divide(&mut self, reading: &Reading<'_>, spans: &mut Vec<Span>) -> Split {
        spans.clear();
        if reading.new > 0 {
            return self.splitter.split(reading.bytes(), spans);
        }
        let incomplete = self.splitter.end_of_input(reading.bytes(), spans);
        self.phase = Phase::HalfClosed { incomplete };
        Split {
            consumed: reading.bytes().len() * usize::from(!incomplete),
            violation: None,
        }
    }

    /// Removes the messages beyond the rate limit of the source; returns whether the read exceeded it.
    fn remove_over_rate(&self, received: &Received, bytes: usize, spans: &mut Vec<Span>) -> bool {
        match &self.permit {
            Some(permit) => permit.remove_over_rate(received.at, bytes, spans),
            None => false,
        }
    }

    /// Fast path: turns the messages into their replies in the read buffer. `None` if the handler cannot, or if the
    /// requests are still needed.
    fn answer_in_place(&mut self, reading: &mut Reading<'_>) -> Option<Split> {
        let ActiveHandler::Inline(handler) = &self.handler else {
            return None;
        };
        if !self.may_overwrite_requests || reading.new == 0 {
            return None;
        }
        let transform = handler.in_place()?;
        let mut splitter = self.splitter.clone();
        let Counted { messages, consumed } = splitter.count(reading.bytes())?;
        if !transform(&mut reading.bytes_mut()[..consumed]) {
            return None;
        }
        self.splitter = splitter;
        self.tally.messages += messages as u64;
        self.tally.exchanges += messages as u64;
        Some(Split {
            consumed,
            violation: None,
        })
    }

    /// Has the handler answer. A spawned one only takes the requests: [`Self::poll_receive_or_handler_output`].
    fn answer(
        &mut self,
        run: &Run<'_>,
        received: &Received,
        replies: &mut Replies,
    ) -> ControlFlow<()> {
        replies.clear(self.framing);
        self.tally.messages += run.len() as u64;
        let ActiveHandler::Inline(handler) = &mut self.handler else {
            self.push_requests(run, received);
            return ControlFlow::Continue(());
        };
        let mut flow = ControlFlow::Continue(());
        if !run.is_empty() {
            // Where the requests may be overwritten, `answer_in_place` has tried the fast path already.
            flow = match handler.in_place().filter(|_| !self.may_overwrite_requests) {
                Some(transform) if replies.transform(run, transform) => ControlFlow::Continue(()),
                _ => handler.answer(run, replies),
            };
        }
        if flow == ControlFlow::Continue(()) {
            replies.fill_empty(run.len());
            if received.ended {
                handler.input_ended(replies);
            }
        }
        flow
    }

    /// Sends what the kernel takes now. The rest waits in the outbox, and all of it if it must be committed first.
    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        self.tally.produced += bytes.len() as u64;
        let mut rest = bytes;
        if self.outbox.is_empty()
            && !rest.is_empty()
            && !self.journal.holds_replies()
            && let Poll::Ready(sent) = self.link.poll_write(cx, rest)
        {
            let sent = sent?;
            self.tally.sent += sent as u64;
            rest = &rest[sent..];
        }
        if !rest.is_empty() {
            if self.outbox.is_empty() {
                self.timestamps.sent_at = Instant::now();
            }
            self.outbox.push(rest);
        }
        Ok(())
    }

    fn record(&mut self, run: &Run<'_>, replies: &Replies, received: &Received) {
        if matches!(self.handler, ActiveHandler::Spawned(_)) {
            return; // recorded when it is answered
        }
        let exchanges = replies.exchanges(run);
        if self.journal.is_active() && exchanges > 0 {
            let meta = RunMeta {
                conversation: self.conversation,
                n: self.tally.exchanges + 1,
                at: self.clock.wall_time_at(received.at),
                latency_ns: received.at.elapsed().as_nanos() as u64,
                reads: received.reads,
                reply_offset: received.reply_offset,
            };
            self.journal.record_run(meta, run, replies);
        }
        self.tally.exchanges += exchanges;
    }

    /// Decides whether the conversation goes on after a read, or why it ends.
    fn turn_after_read(
        &mut self,
        received: &Received,
        split: &Split,
        answered: Result<ControlFlow<()>, ReplyTooLong>,
        sent: io::Result<()>,
    ) -> Turn {
        match (sent, answered) {
            (Err(error), _) => return ControlFlow::Break(socket_failed(&error)),
            (_, Err(ReplyTooLong { .. })) => return ControlFlow::Break(CloseReason::ReplyTooLong),
            (_, Ok(ControlFlow::Break(()))) => {
                return ControlFlow::Break(CloseReason::ServiceClosed);
            }
            (_, Ok(ControlFlow::Continue(()))) => {}
        }
        if received.is_over_rate {
            return ControlFlow::Break(CloseReason::RateLimited);
        }
        if received.ended {
            return self.peer_finished(received.at);
        }
        match split.violation {
            Some(Violation::TooLong) => return ControlFlow::Break(CloseReason::MessageTooLong),
            Some(Violation::Malformed) => return ControlFlow::Break(CloseReason::Malformed),
            None => {}
        }
        let since = &mut self.timestamps.message_since;
        *since = match *since {
            _ if self.inbox.is_empty() => None,
            Some(since) if split.consumed == 0 => Some(since),
            _ => Some(received.at),
        };
        if since.is_some_and(|since| received.at >= since + self.limits.message_timeout) {
            return ControlFlow::Break(CloseReason::MessageTimeout);
        }
        if let Phase::Draining { from } = self.phase
            && self.tally.received - from > DRAIN_BYTES_MAX
        {
            self.phase = Phase::InputDrained;
        }
        ControlFlow::Continue(())
    }

    /// The peer has ended its half. All it sent is answered, unless the handler is spawned.
    fn peer_finished(&mut self, at: Instant) -> Turn {
        self.timestamps.message_since = None; // what was unfinished was its last message
        let is_spawned = matches!(self.handler, ActiveHandler::Spawned(_));
        if is_spawned || !self.outbox.is_empty() {
            let received = self.tally.received;
            let half_closed = Marked::HalfClosed { received };
            self.journal
                .record_mark(self.clock.wall_time_at(at), half_closed);
        }
        if is_spawned {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(self.reason_after_half_close())
        }
    }

    /// Lets an inline handler send first.
    fn open(&mut self, cx: &mut Context<'_>) -> Turn {
        SCRATCH.with_borrow_mut(|Scratch { replies, .. }| {
            replies.clear(self.framing);
            let flow = match &mut self.handler {
                ActiveHandler::Inline(handler) => handler.open(replies),
                _ => ControlFlow::Continue(()),
            };
            let opened = Received {
                at: self.timestamps.received_at,
                reads: 0,
                ended: false,
                is_over_rate: false,
                reply_offset: 0,
            };
            let sent = self.send(cx, replies.bytes());
            self.record(&Run::new(&[], &[], 0), replies, &opened);
            match (sent, flow) {
                (Err(error), _) => ControlFlow::Break(socket_failed(&error)),
                (Ok(()), ControlFlow::Break(())) => ControlFlow::Break(CloseReason::ServiceClosed),
                (Ok(()), ControlFlow::Continue(())) => ControlFlow::Continue(()),
            }
        })
    }
}

impl Drop for Session {
    /// Records the end, however it came: in order, by a panic, or because the task was aborted.
    fn drop(&mut self) {
        let ending = self.ending();
        self.close_handler(ending.reason);
        self.totals
            .served
            .fetch_add(self.tally.exchanges, Ordering::Relaxed);
        self.totals
            .cut
            .fetch_add(u64::from(ending.reason.is_cut()), Ordering::Relaxed);
        self.journal
            .record_ended(self.clock.wall_time_at(Instant::now()), ending);
    }
}

/// The reason of a conversation whose socket failed.
fn socket_failed(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected => CloseReason::PeerReset,
        io::ErrorKind::UnexpectedEof => CloseReason::Truncated,
        io::ErrorKind::InvalidData => CloseReason::Malformed,
        _ => CloseReason::SystemError,
    }
}

#[cfg(test)]
mod tests;

//! The way of a message. This is the file to read first.
//!
//! One task a conversation, one function a message ([`Session::poll_receive`]): read, divide, answer, send, record.
//! For an inline service that is one go without waiting, allocating or locking anything another worker wants; what
//! cannot be done in one go (a reply the peer does not take, a service apart, a store that is behind) is kept in the
//! conversation and taken up at its next turn.
//!
//! While a reply is unsent nothing more is heard: that is the whole of back-pressure, since the peer's window fills
//! and the peer waits. A peer that never reads is ended after `--write-timeout`.
//!
//! Beside it: [`waiting`], what has to be waited for in between; [`spawned`], services apart; [`closing`], the end.

mod closing;
mod spawned;
mod waiting;

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use echoic_core::{
    ending::CloseReason,
    event::{ConversationId, Marked, Opened, Outcome, RunMeta},
    framing::{Counted, FramingPair, ReplyTooLong, Span, Split, Splitter, Violation},
    limits::Limits,
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer},
};
use echoic_recorder::{Clock, Journal};
use echoic_wire::Link;
use tokio::{runtime::Handle, task::coop::has_budget_remaining, time::Instant};

use crate::{
    apart::{Pending, SpawnedSession},
    drain::{Drain, look_once_more},
    inbox::{Inbox, Reading, Scratch},
    outbox::Outbox,
    polling::note_read,
    sources::SourcePermit,
    tally::Tally,
    timers::Timers,
    wait::Wait,
};

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What is still heard after the stop signal if the peer goes on and on, in bytes: more than a kernel has received for
/// one connection unless told otherwise (Linux: `tcp_rmem`, 6 MiB).
const DRAIN_BYTES_MAX: u64 = 8 << 20;

/// One conversation, from its opening to its ending.
pub(crate) struct Session {
    conversation: ConversationId,
    link: Link,
    handler: ActiveHandler,
    splitter: Splitter,
    frames: FramingPair,
    /// Nothing has to know what was heard beside the service: neither the record nor a pace.
    may_answer_in_place: bool,
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
    clock: Clock,
    tally: Tally,
    /// When the peer was last heard, and last took something it was sent.
    received_at: Instant,
    sent_at: Instant,
    /// What waits for the record with strict durability, as an epoch and the offset in all that was said up to which
    /// it lets go; and up to which offset all is kept.
    awaited: Option<(u64, u64)>,
    kept: u64,
    /// Since when a message has been unfinished, not counting the time in which we did not listen.
    message_since: Option<Instant>,
    /// Since when we have not been listening: a reply is unsent, or the service or the record is behind.
    read_paused_since: Option<Instant>,
    half_closed: bool,
    /// The peer ended its stream inside a message.
    incomplete: bool,
    /// What had been received when the stop signal was seen.
    draining_from: Option<u64>,
    /// All that the kernel had received by then has been heard.
    input_drained: bool,
    /// Something moved since the task last slept.
    busy: bool,
    /// Whose turn it is, where the service and the peer both have something: neither may starve the other.
    receive_first: bool,
    /// How it ends, once that is known.
    reason: Option<CloseReason>,
}

/// One read, as the steps that follow it need to know it.
struct Received {
    at: Instant,
    /// Reads that its first message took.
    reads: u32,
    /// It was the end of the peer's stream.
    ended: bool,
    /// It was more than its source may say in a second.
    too_fast: bool,
    /// Bytes said before the replies to it.
    reply_offset: u64,
}

enum ActiveHandler {
    Inline(Box<dyn InlineHandler>),
    Spawned(Box<SpawnedSession>),
}

/// What all conversations that have ended have come to.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Their exchanges.
    pub(crate) served: AtomicU64,
    /// Those among them that were cut before they were done.
    pub(crate) cut: AtomicU64,
}

/// What a conversation is given to live on.
pub(crate) struct SessionContext {
    pub(crate) limits: Arc<Limits>,
    pub(crate) drain: Drain,
    pub(crate) journal: Journal,
    pub(crate) permit: Option<SourcePermit>,
    pub(crate) totals: Arc<Totals>,
    /// Where services that run apart run, and deadlines are watched.
    pub(crate) control: Handle,
}

/// The outcome of one turn: go on, or how it ends.
type Turn = ControlFlow<CloseReason>;

impl Session {
    /// In a box, which is moved where the conversation itself would be copied, and held twice by the futures around it.
    pub(crate) fn new(
        link: Link,
        handler: Handler,
        peer: &Peer,
        opened: Opened,
        context: SessionContext,
    ) -> Box<Self> {
        let SessionContext {
            limits,
            drain,
            mut journal,
            permit,
            totals,
            control,
        } = context;
        let clock = Clock::start();
        let (now, timers) = (Instant::now(), Timers::of(&control));
        journal.opened(opened);
        let FramingPair { inbound, outbound } = peer.framing;
        let has_pace = permit.as_ref().is_some_and(SourcePermit::has_pace);
        Box::new(Self {
            conversation: peer.conversation,
            link,
            totals,
            handler: match handler {
                Handler::Inline(handler) => ActiveHandler::Inline(handler),
                Handler::Spawned(handler) => {
                    let handler = SpawnedSession::start(handler, &control, peer.framing);
                    ActiveHandler::Spawned(Box::new(handler))
                }
            },
            splitter: Splitter::new(peer.framing.inbound, limits.message_bytes_max),
            frames: peer.framing,
            may_answer_in_place: inbound == outbound
                && !inbound.has_length()
                && !journal.is_active()
                && !has_pace,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            journal,
            permit,
            wait: Wait::new(&drain, now + limits.idle_timeout, &timers),
            timers,
            limits,
            drain,
            clock,
            tally: Tally::default(),
            received_at: now,
            sent_at: now,
            awaited: None,
            kept: 0,
            message_since: None,
            read_paused_since: None,
            half_closed: false,
            incomplete: false,
            draining_from: None,
            input_drained: false,
            busy: true,
            receive_first: true,
            reason: None,
        })
    }

    /// Talks until there is a reason to stop, then parts in order.
    pub(crate) async fn run(mut self: Box<Self>) {
        let reason = self.talk().await;
        self.part(reason).await;
    }

    /// Parts at once: there are too many, or it may not call.
    pub(crate) async fn reject(mut self: Box<Self>, reason: CloseReason) {
        self.part(reason).await;
    }

    /// A voice for those who are turned away.
    pub(crate) fn silent_handler() -> Box<dyn InlineHandler> {
        struct SilentHandler;
        impl InlineHandler for SilentHandler {
            fn answer(&mut self, _: &Run<'_>, _: &mut Replies) -> ControlFlow<()> {
                ControlFlow::Break(())
            }
        }
        Box::new(SilentHandler)
    }

    async fn talk(&mut self) -> CloseReason {
        let mut turn = poll_fn(|cx| Poll::Ready(self.open(cx))).await;
        loop {
            match turn {
                ControlFlow::Continue(())
                    if self.drain.has_started() && self.draining_from.is_none() =>
                {
                    self.draining_from = Some(self.tally.received);
                    // What the kernel has already received shall be heard.
                    look_once_more().await;
                }
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(reason) => return reason,
            }
            turn = poll_fn(|cx| self.poll_turn(cx)).await;
        }
    }

    /// Whatever comes first: sending what is unsent, hearing the service, hearing the peer, or a bell.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let moved = match (self.poll_send(cx), &self.handler) {
            (Poll::Ready(turn), _) => Poll::Ready(turn),
            (Poll::Pending, ActiveHandler::Inline(_)) => self.poll_receive(cx),
            (Poll::Pending, ActiveHandler::Spawned(_)) => self.poll_receive_or_handler_output(cx),
        };
        if moved.is_pending() {
            return self.poll_wakeup(cx);
        }
        self.busy = true;
        moved
    }

    /// The way of a message: bytes, messages, replies, bytes, record.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let new_max = ready!(self.poll_may_receive(cx));
        SCRATCH.with_borrow_mut(
            |Scratch {
                 room,
                 spans,
                 replies,
             }| {
                let read = self.inbox.poll_read(cx, &mut self.link, room, new_max);
                let mut reading = match read {
                    Poll::Ready(Ok(reading)) => reading,
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(ControlFlow::Break(broken(&error)));
                    }
                    Poll::Pending => {
                        self.nothing_received(cx);
                        return Poll::Pending;
                    }
                };
                let mut heard = self.hear(&reading);
                if let Some(split) = self.answer_in_place(&mut reading) {
                    let sent = self.say(cx, &reading.bytes()[..split.consumed]);
                    self.inbox.keep(reading, split.consumed);
                    return Poll::Ready(self.judge(
                        &heard,
                        &split,
                        Ok(ControlFlow::Continue(())),
                        sent,
                    ));
                }
                let split = self.split(&reading, spans);
                heard.too_fast = !self.keep_pace(&heard, reading.new, spans);
                let run = Run::new(reading.bytes(), spans, self.tally.messages);
                let then = self.answer(&run, &heard, replies);
                let sent = self.say(cx, replies.bytes());
                self.record(&run, replies, &heard);
                self.inbox.keep(reading, split.consumed);
                let said = replies.too_long().map_or(Ok(then), Err);
                Poll::Ready(self.judge(&heard, &split, said, sent))
            },
        )
    }

    /// Nothing has come. After the stop signal that was all, unless it is only this task's turn that is used up.
    fn nothing_received(&mut self, cx: &Context<'_>) {
        if self.draining_from.is_none() {
            return;
        }
        if !has_budget_remaining() {
            cx.waker().wake_by_ref();
            return;
        }
        self.input_drained = true;
        if let ActiveHandler::Spawned(handler) = &mut self.handler {
            handler.close_input();
        }
    }

    fn hear(&mut self, reading: &Reading<'_>) -> Received {
        self.tally.received += reading.new as u64;
        note_read();
        self.received_at = Instant::now();
        Received {
            at: self.received_at,
            reads: reading.reads,
            ended: reading.new == 0,
            too_fast: false,
            reply_offset: self.tally.said,
        }
    }

    fn split(&mut self, reading: &Reading<'_>, spans: &mut Vec<Span>) -> Split {
        spans.clear();
        if reading.new > 0 {
            return self.splitter.split(reading.bytes(), spans);
        }
        self.incomplete = self.splitter.finish(reading.bytes(), spans);
        Split {
            consumed: reading.bytes().len(),
            violation: None,
        }
    }

    /// Leaves of the messages those that keep to the pace of their source; whether all did.
    fn keep_pace(&self, heard: &Received, bytes: usize, spans: &mut Vec<Span>) -> bool {
        match &self.permit {
            Some(permit) => permit.keep_pace(heard.at, bytes, spans),
            None => true,
        }
    }

    /// The short way to the replies: they come to lie where the messages were, and nobody looks at each. None where
    /// somebody has to, or the service cannot.
    fn answer_in_place(&mut self, reading: &mut Reading<'_>) -> Option<Split> {
        let ActiveHandler::Inline(handler) = &self.handler else {
            return None;
        };
        if !self.may_answer_in_place || reading.new == 0 {
            return None;
        }
        let answer = handler.in_place()?;
        let mut splitter = self.splitter.clone();
        let Counted { messages, consumed } = splitter.count(reading.bytes())?;
        if !answer(&mut reading.bytes_mut()[..consumed]) {
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

    /// The service's turn. One that runs apart only takes note here; what it says comes by [`Self::poll_handler_output`].
    fn answer(
        &mut self,
        run: &Run<'_>,
        heard: &Received,
        replies: &mut Replies,
    ) -> ControlFlow<()> {
        replies.clear(self.frames);
        self.tally.messages += run.len() as u64;
        match &mut self.handler {
            ActiveHandler::Inline(handler) => {
                let mut then = ControlFlow::Continue(());
                if !run.is_empty() {
                    then = handler.answer(run, replies);
                }
                if then == ControlFlow::Continue(()) {
                    replies.fill_empty(run.len());
                    if heard.ended {
                        handler.finish(replies);
                    }
                }
                then
            }
            ActiveHandler::Spawned(handler) => {
                for silent in handler.hear(run, heard.at, heard.reads) {
                    self.record_one(Some(&silent), Outcome::Ok, &[], self.tally.said);
                }
                ControlFlow::Continue(())
            }
        }
    }

    /// Sends what the kernel takes now; the rest waits in the outbox, and all of it if it must be kept first.
    fn say(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        self.tally.said += bytes.len() as u64;
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
                self.sent_at = Instant::now();
            }
            self.outbox.push(rest);
        }
        Ok(())
    }

    fn record(&mut self, run: &Run<'_>, replies: &Replies, heard: &Received) {
        if matches!(self.handler, ActiveHandler::Spawned(_)) {
            return;
        }
        let exchanges = replies.exchanges(run);
        if self.journal.is_active() && exchanges > 0 {
            let told = RunMeta {
                conversation: self.conversation,
                n: self.tally.exchanges + 1,
                at: self.clock.wall(heard.at),
                latency_ns: heard.at.elapsed().as_nanos() as u64,
                reads: heard.reads,
                reply_offset: heard.reply_offset,
            };
            self.journal.run(told, run, replies);
        }
        self.tally.exchanges += exchanges;
    }

    /// What follows from a read beside its replies: an end, a limit, a deadline.
    fn judge(
        &mut self,
        heard: &Received,
        split: &Split,
        then: Result<ControlFlow<()>, ReplyTooLong>,
        sent: io::Result<()>,
    ) -> Turn {
        match (sent, then) {
            (Err(error), _) => return ControlFlow::Break(broken(&error)),
            (_, Err(ReplyTooLong { .. })) => return ControlFlow::Break(CloseReason::ReplyTooLong),
            (_, Ok(ControlFlow::Break(()))) => {
                return ControlFlow::Break(CloseReason::ServiceClosed);
            }
            (_, Ok(ControlFlow::Continue(()))) => {}
        }
        if heard.too_fast {
            return ControlFlow::Break(CloseReason::RateLimited);
        }
        if heard.ended {
            return self.peer_finished(heard.at);
        }
        match split.violation {
            Some(Violation::TooLong) => return ControlFlow::Break(CloseReason::MessageTooLong),
            Some(Violation::Malformed) => return ControlFlow::Break(CloseReason::Malformed),
            None => {}
        }
        self.message_since = match self.message_since {
            _ if self.inbox.is_empty() => None,
            Some(since) if split.consumed == 0 => Some(since),
            _ => Some(heard.at),
        };
        if self
            .message_since
            .is_some_and(|since| heard.at >= since + self.limits.message_timeout)
        {
            return ControlFlow::Break(CloseReason::MessageTimeout);
        }
        self.input_drained |= self
            .draining_from
            .is_some_and(|from| self.tally.received - from > DRAIN_BYTES_MAX);
        ControlFlow::Continue(())
    }

    /// The peer has ended its half. All it said is answered by now, unless the service runs apart.
    fn peer_finished(&mut self, at: Instant) -> Turn {
        self.half_closed = true;
        self.message_since = None; // what was unfinished was its last message
        let apart = matches!(self.handler, ActiveHandler::Spawned(_));
        if apart || !self.outbox.is_empty() {
            let received = self.tally.received;
            self.journal
                .mark(self.clock.wall(at), Marked::HalfClosed { received });
        }
        if apart {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(self.closed())
        }
    }

    /// How a conversation ends whose peer has ended its half.
    fn closed(&self) -> CloseReason {
        if self.incomplete {
            CloseReason::Incomplete
        } else {
            CloseReason::PeerClosed
        }
    }

    /// Lets the service speak first.
    fn open(&mut self, cx: &mut Context<'_>) -> Turn {
        SCRATCH.with_borrow_mut(|Scratch { replies, .. }| {
            replies.clear(self.frames);
            let then = match &mut self.handler {
                ActiveHandler::Inline(handler) => handler.open(replies),
                ActiveHandler::Spawned(_) => ControlFlow::Continue(()),
            };
            let opened = Received {
                at: self.received_at,
                reads: 0,
                ended: false,
                too_fast: false,
                reply_offset: 0,
            };
            let sent = self.say(cx, replies.bytes());
            self.record(&Run::new(&[], &[], 0), replies, &opened);
            match (sent, then) {
                (Err(error), _) => ControlFlow::Break(broken(&error)),
                (Ok(()), ControlFlow::Break(())) => ControlFlow::Break(CloseReason::ServiceClosed),
                (Ok(()), ControlFlow::Continue(())) => ControlFlow::Continue(()),
            }
        })
    }
}

impl Drop for Session {
    /// However it came to this, by parting in order, by a panic, or by being cut: the ending is told.
    fn drop(&mut self) {
        let ending = self.tally.ending(self.reason);
        if let ActiveHandler::Spawned(handler) = &mut self.handler {
            let unanswered: Vec<Pending> = std::iter::from_fn(|| handler.pop()).collect();
            for message in &unanswered {
                self.record_one(Some(message), Outcome::Unanswered, &[], self.tally.said);
            }
        }
        self.totals
            .served
            .fetch_add(self.tally.exchanges, Ordering::Relaxed);
        self.totals.cut.fetch_add(
            u64::from(ending.reason == CloseReason::DrainTimeout),
            Ordering::Relaxed,
        );
        self.journal.ended(self.clock.wall(Instant::now()), ending);
    }
}

/// How a conversation ends whose socket failed.
fn broken(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected => CloseReason::PeerReset,
        _ => CloseReason::SystemError,
    }
}

#[cfg(test)]
mod tests;

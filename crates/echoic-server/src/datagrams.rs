//! Datagrams: one task a socket, one conversation a peer.
//!
//! A datagram is a whole message, its answer is one datagram, and nothing connects the two but addresses. So there is no
//! end to wait for (a peer that is silent for a while has gone), nothing to hold back (who is not taken in time is
//! dropped by the kernel, and counted), and no way to know that who seems to ask has asked: [`guard`] is for that.

mod counts;
mod guard;
mod outgoing;
mod peers;
mod talk;

use std::ops::ControlFlow;
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use echoic_core::{
    access::AccessList,
    ending::CloseReason,
    endpoint::Shape,
    event::{Address, EndpointInfo, Marked, Opened, Outcome, Role},
    limits::Limits,
    message::Replies,
    service::{Handler, Peer, Service},
};
use echoic_recorder::{Journal, NotKept, Recorder, wall};
use echoic_wire::{Datagrams, Received, Route, UnopenedDatagrams};
use tokio::time::Instant;

pub(crate) use self::counts::Counts;
pub use self::counts::DatagramCounts;
#[doc(hidden)]
pub use self::guard::oracle::check_breaker;
use self::{
    counts::add,
    guard::{Breaker, SILENCE},
    outgoing::{Outgoing, Unsent},
    peers::Peers,
    talk::{Answer, Standing, Talk},
};
use crate::{
    drain::Drain,
    polling::heard,
    session::Session,
    session::Totals,
    timers::Timers,
    wait::{Wait, Wakeup},
};

/// Datagrams taken in one go before others on the worker have their turn.
const BATCH: usize = 32;

/// Room for a datagram: 65,507 bytes are the most that UDP carries over IPv4. One over a Unix socket may be longer, and
/// is then not answered.
const ROOM: usize = 64 << 10;

/// After a failed receive, the pause before the next, so that a socket that only fails costs no core.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the kernel is asked what it has dropped, while datagrams come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The least memory that a datagram takes in the kernel's receive buffer, in bytes: so many can be waiting there.
const LEAST_IN_KERNEL: usize = 256;

/// A timer that has nothing to ring for is set this far off.
const FAR: Duration = Duration::from_hours(1);

/// What holds for all sockets of one address.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) endpoint_info: Arc<EndpointInfo>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) access: Arc<AccessList>,
    /// Answers may be longer than what they answer.
    pub(crate) may_amplify: bool,
    /// A peer silent for this long has gone.
    pub(crate) gap: Duration,
}

/// What a socket's task is given to live on.
pub(crate) struct DatagramContext {
    pub(crate) rules: Arc<Rules>,
    /// All addresses of this server that datagrams arrive at.
    pub(crate) ours: Arc<[SocketAddr]>,
    pub(crate) recorder: Recorder,
    /// The worker it runs on, by number.
    pub(crate) worker: usize,
    pub(crate) drain: Drain,
    pub(crate) totals: Arc<Totals>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) timers: Timers,
}

/// One socket at work.
pub(crate) struct DatagramTask {
    socket: Datagrams,
    context: DatagramContext,
    /// For what concerns no conversation, and to ask what is kept.
    journal: Journal,
    peers: Peers,
    breaker: Breaker,
    room: Box<[u8]>,
    replies: Replies,
    outgoing: Outgoing,
    /// Who was heard last, if the record may be behind with it.
    ahead: Option<Route>,
    wait: Wait,
    busy: bool,
    paused_until: Option<Instant>,
    /// When somebody will have been silent for too long, at the earliest.
    idle_at: Option<Instant>,
    /// When to look what was dropped.
    look_at: Option<Instant>,
    /// Dropped datagrams that have been told of.
    told_dropped: u32,
}

/// What a turn of the task came to.
enum Turn {
    Again,
    Drain,
}

impl DatagramTask {
    /// Opens the socket on the runtime this is called on.
    pub(crate) fn open(socket: UnopenedDatagrams, context: DatagramContext) -> io::Result<Self> {
        let socket = socket.open()?;
        let now = Instant::now();
        Ok(Self {
            socket,
            journal: context.recorder.journal_of_all(context.worker),
            peers: Peers::default(),
            breaker: Breaker::new(now),
            room: vec![0; ROOM].into(),
            replies: Replies::default(),
            outgoing: Outgoing::default(),
            ahead: None,
            wait: Wait::new(&context.drain, now + FAR, &context.timers),
            context,
            busy: true,
            paused_until: None,
            idle_at: None,
            look_at: None,
            told_dropped: 0,
        })
    }

    /// Answers until the stop signal; then what has arrived by then.
    pub(crate) async fn run(mut self) {
        while let Turn::Again = poll_fn(|cx| self.poll_turn(cx)).await {}
        self.finish().await;
        self.look_for_drops();
        self.peers.end_all(CloseReason::ServerStopped);
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        for _ in 0..BATCH {
            if self.poll_receive(cx).is_pending() {
                return self.poll_wakeup(cx);
            }
            self.busy = true;
        }
        if self.context.drain.has_started() {
            return Poll::Ready(Turn::Drain);
        }
        self.tend(Instant::now());
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The way of a datagram.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_send_unsent(cx).is_pending() && !self.may_hear_on() {
            return Poll::Pending;
        }
        ready!(self.poll_record_room(cx));
        if self.paused_until.is_some() {
            return Poll::Pending;
        }
        match ready!(self.socket.poll_recv(cx, &mut self.room)) {
            Ok(received) => self.hear(cx, received),
            // Told of something sent earlier that came back (ICMP): who sent it is gone, which is nobody else's affair.
            Err(error) if is_of_one_peer(&error) => {}
            Err(error) => {
                tracing::warn!("datagrams cannot be received for now: {error}");
                self.paused_until = Some(Instant::now() + PAUSE);
            }
        }
        Poll::Ready(())
    }

    /// While answers wait for the record, more may be heard: they are then kept together.
    fn may_hear_on(&self) -> bool {
        self.journal.holds_replies() && self.outgoing.has_room()
    }

    /// Whether the record is not behind by more than it may be. There is no way to have one peer wait: while this does,
    /// the kernel keeps what arrives, and drops what it has no room for.
    fn poll_record_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(talk) = self.ahead.as_ref().and_then(|route| self.peers.get(route)) {
            ready!(talk.journal.poll_room(cx));
        }
        self.ahead = None;
        self.journal.poll_room_for_all(cx)
    }

    fn hear(&mut self, cx: &mut Context<'_>, received: Received) {
        heard();
        let at = Instant::now();
        let Received { len, whole, route } = received;
        add(&self.context.counts.received, 1);
        self.look_at = self.look_at.or(Some(at + LOOK_EVERY));
        if self.peers.get(&route).is_none() {
            let talk = self.handler(&route, at);
            self.peers.insert(route.clone(), talk);
            self.idle_at = self.idle_at.or(Some(at + self.context.rules.gap));
        }
        let silent = self.breaker.is_silent(&route.peer, at);
        let Some(talk) = self.peers.get(&route) else {
            return;
        };
        talk.received_at = at;
        let bytes = &self.room[..len];
        if talk.standing == Standing::Denied {
            talk.not_heard(whole);
            return;
        }
        if whole > len {
            talk.not_heard(whole - len);
            talk.record(at, Outcome::Unanswered, bytes, &[]);
            self.peers.end(&route, CloseReason::MessageTooLong);
            return;
        }
        if silent || talk.standing == Standing::Unanswerable {
            add(&self.context.counts.withheld, 1);
            talk.record(at, Outcome::Withheld, bytes, &[]);
            return;
        }
        let Some((answer, then)) = talk.answer(bytes, &mut self.replies) else {
            tracing::error!(
                conversation = talk.conversation,
                "a conversation ended by a bug"
            );
            add(&self.context.counts.panicked, 1);
            talk.record(at, Outcome::Unanswered, bytes, &[]);
            self.peers.end(&route, CloseReason::Panicked);
            return;
        };
        let conversation = talk.conversation;
        match answer {
            Answer::Silence => talk.record(at, Outcome::Ok, bytes, &[]),
            Answer::Reply => self.reply(cx, &route, len, at),
        }
        match then {
            ControlFlow::Continue(()) => self.ahead = Some(route),
            ControlFlow::Break(()) if self.outgoing.is_of(conversation) => self.peers.leave(&route),
            ControlFlow::Break(()) => self.peers.end(&route, CloseReason::ServiceClosed),
        }
    }

    /// Sends what is in the replies, unless a rule forbids it, and puts it down. (`len` bytes of the room are what it
    /// answers.)
    fn reply(&mut self, cx: &mut Context<'_>, route: &Route, len: usize, at: Instant) {
        let counts = &self.context.counts;
        let (heard, said) = (&self.room[..len], self.replies.bytes());
        let Some(talk) = self.peers.get(route) else {
            return;
        };
        let grew = said.len() > len
            && matches!(route.peer, Address::Net(_))
            && !self.context.rules.may_amplify;
        let circles = !grew && self.breaker.trips(&route.peer, heard, at);
        if circles {
            let for_us = SILENCE.as_micros() as u64;
            talk.mark(at, Marked::Silenced { for_us });
            tracing::warn!(
                conversation = talk.conversation,
                "the same datagram came from {} again and again: it is not answered for {SILENCE:?}",
                route.peer
            );
        }
        if grew || circles {
            add(&counts.withheld, 1);
            talk.record(at, Outcome::Withheld, heard, &[]);
            return;
        }
        let sent = if self.journal.holds_replies() || !self.outgoing.is_empty() {
            Poll::Pending
        } else {
            self.socket.poll_send(cx, said, route)
        };
        match sent {
            Poll::Ready(Ok(())) => {
                add(&counts.sent, 1);
                talk.record(at, Outcome::Ok, heard, said);
                talk.sent(said.len());
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(
                    conversation = talk.conversation,
                    "an answer could not be sent: {error}"
                );
                add(&counts.unsent, 1);
                talk.record(at, Outcome::Unsent, heard, &[]);
            }
            Poll::Pending => {
                talk.record(at, Outcome::Ok, heard, said);
                let answer = Unsent {
                    route: route.clone(),
                    conversation: talk.conversation,
                    bytes: said.to_vec(),
                    epoch: talk.journal.epoch(),
                };
                self.outgoing.push(answer);
            }
        }
    }

    /// Sends what is unsent, once it is kept if that was asked for.
    fn poll_send_unsent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(unsent) = self.outgoing.front() {
            let (route, conversation) = (unsent.route.clone(), unsent.conversation);
            let fails = ready!(self.poll_send_first(cx));
            self.outgoing.pop();
            // It is recorded as said already. What a conversation said beyond what it had sent when it ended counts as
            // unsent, so it ends here; if its peer goes on, that is another one.
            let over = match fails {
                Ok(()) => (self.peers.is_leaving(conversation)
                    && !self.outgoing.is_of(conversation))
                .then_some(CloseReason::ServiceClosed),
                Err(reason) => reason,
            };
            if let Some(reason) = over {
                self.peers.end_owed(&route, conversation, reason);
            }
            let counts = &self.context.counts;
            let count = if fails.is_ok() {
                &counts.sent
            } else {
                &counts.unsent
            };
            add(count, 1);
        }
        Poll::Ready(())
    }

    /// Sends the first of what is unsent; if that fails, how its conversation ends, unless it has ended already and has
    /// told what it sent.
    fn poll_send_first(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Option<CloseReason>>> {
        let Some(Unsent {
            route,
            conversation,
            bytes,
            epoch,
        }) = self.outgoing.front()
        else {
            return Poll::Ready(Ok(()));
        };
        let Some(talk) = self.peers.owed(route, *conversation) else {
            return Poll::Ready(Err(None));
        };
        if talk.journal.holds_replies()
            && let Err(NotKept) = ready!(talk.journal.poll_kept(cx, *epoch))
        {
            return Poll::Ready(Err(Some(CloseReason::StoreFailed)));
        }
        match self.socket.poll_send(cx, bytes, route) {
            Poll::Pending => {
                self.outgoing.stall(Instant::now());
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                talk.sent(bytes.len());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(conversation, "an answer could not be sent: {error}");
                Poll::Ready(Err(Some(CloseReason::SystemError)))
            }
        }
    }

    /// A conversation with somebody who was not heard before, or not for long.
    fn handler(&self, route: &Route, at: Instant) -> Talk {
        let DatagramContext {
            rules,
            ours,
            recorder,
            worker,
            totals,
            ..
        } = &self.context;
        let Route {
            peer: remote,
            local,
            ..
        } = route;
        let (conversation, journal) = recorder.journal(*worker);
        let standing = if !rules.access.admits(remote) {
            Standing::Denied
        } else if guard::may_answer(route, ours) {
            Standing::Welcome
        } else {
            tracing::warn!(
                conversation,
                "what seems to come from {remote} is not answered: nobody asks from there"
            );
            Standing::Unanswerable
        };
        let peer = Peer {
            conversation,
            remote: remote.clone(),
            local: local.clone(),
            framing: rules.endpoint_info.framing,
            shape: Shape::Datagrams,
        };
        let handler = match rules.service.handler(&peer) {
            Handler::Inline(handler) => handler,
            Handler::Spawned(_) => Session::silent_handler(), // refused when the endpoint was opened
        };
        let opened = Opened {
            conversation,
            at: wall(),
            remote: remote.clone(),
            local: local.clone(),
            role: Role::Server,
            endpoint_info: Arc::clone(&rules.endpoint_info),
        };
        Talk::begin(opened, handler, standing, journal, Arc::clone(totals), at)
    }

    /// Nothing moves: waits for a deadline or the stop signal.
    fn poll_wakeup(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let now = Instant::now();
        let stall = self.context.rules.limits.write_timeout;
        let stalled_at = self.outgoing.stalled_since().map(|since| since + stall);
        let next = [self.idle_at, self.look_at, self.paused_until, stalled_at];
        let deadline = next.into_iter().flatten().min().unwrap_or(now + FAR);
        let idle = !std::mem::take(&mut self.busy);
        Poll::Ready(match ready!(self.wait.poll(cx, deadline, idle)) {
            Wakeup::Drain => Turn::Drain,
            Wakeup::Deadline => {
                self.tend(Instant::now());
                self.busy = true;
                Turn::Again
            }
        })
    }

    /// Does what is due.
    fn tend(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|at| at <= now) {
            self.paused_until = None;
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            self.idle_at = self.peers.end_idle(now, self.context.rules.gap);
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.look_for_drops();
        }
        let stall = self.context.rules.limits.write_timeout;
        let stalled = self.outgoing.stalled_since();
        if stalled.is_some_and(|since| since + stall <= now) {
            self.give_up_unsent();
        }
    }

    /// What has not left will not: its conversations tell.
    fn give_up_unsent(&mut self) {
        for unsent in self.outgoing.drain() {
            add(&self.context.counts.unsent, 1);
            self.peers.end_owed(
                &unsent.route,
                unsent.conversation,
                CloseReason::WriteTimeout,
            );
        }
    }

    /// Tells what the kernel has dropped since it was last told.
    fn look_for_drops(&mut self) {
        let dropped = self.socket.ask_dropped();
        let datagrams = u64::from(dropped.wrapping_sub(self.told_dropped));
        self.told_dropped = dropped;
        if datagrams > 0 {
            add(&self.context.counts.dropped, datagrams);
            self.journal.mark(wall(), Marked::Dropped { datagrams });
            tracing::warn!(
                "{datagrams} datagrams to {} came too fast and were dropped",
                self.socket.address()
            );
        }
    }

    /// Answers what the kernel has received by now, and sends what is unsent.
    async fn finish(&mut self) {
        // No more than can have been waiting when the signal came: who goes on and on is not waited for.
        for _ in 0..=self.socket.room() / LEAST_IN_KERNEL {
            match self.socket.recv_now(&mut self.room) {
                Ok(received) => {
                    let mut received = Some(received);
                    poll_fn(|cx| {
                        received
                            .take()
                            .into_iter()
                            .for_each(|received| self.hear(cx, received));
                        Poll::Ready(())
                    })
                    .await;
                    if !self.outgoing.is_empty() && !self.may_hear_on() {
                        self.flush().await;
                    }
                }
                Err(error) if is_of_one_peer(&error) => {}
                Err(_) => break,
            }
        }
        self.flush().await;
    }

    /// Sends what is unsent, as long as some of it leaves within `--write-timeout`. For the record it waits until that has
    /// failed, or the stop is over.
    async fn flush(&mut self) {
        let stall = self.context.rules.limits.write_timeout;
        let timers = self.context.timers.clone();
        loop {
            let since = self.outgoing.stalled_since();
            let until = since.unwrap_or_else(Instant::now) + stall;
            let flushed = timers.timeout_at(until, poll_fn(|cx| self.poll_send_unsent(cx)));
            if flushed.await.is_ok() {
                return;
            }
            let stalled = self.outgoing.stalled_since();
            if stalled.is_some_and(|since| since + stall <= Instant::now()) {
                return self.give_up_unsent();
            }
        }
    }
}

/// The system tells of one peer, not of the socket.
fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}

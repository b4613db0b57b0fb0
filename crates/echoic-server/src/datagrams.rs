//! Datagrams: one task per socket, one conversation per peer.
//!
//! A datagram is a message, and its reply is one datagram; only addresses relate the two. So a conversation has no end of
//! stream (a silent peer's conversation times out), there is no back-pressure (the kernel drops what is not read in time,
//! and counts it), and source addresses can be forged: [`guard`] decides what is answered.

mod commands;
mod conversation;
mod counts;
mod draining;
mod guard;
mod outgoing;
mod peers;

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
    event::{Address, Marked, Opened, Outcome, Role},
    limits::Limits,
    message::Replies,
    service::{Handler, Peer, Service},
    units::counted,
};
use echoic_recorder::{Journal, NotCommitted, Recorder, wall_clock_now};
use echoic_wire::{BoundDatagrams, Call, DatagramSocket, Received, Route};
use tokio::time::Instant;

pub(crate) use self::counts::Counts;
pub use self::counts::DatagramCounts;
#[doc(hidden)]
pub use self::guard::oracle::check_breaker;
use self::{
    commands::send_call,
    conversation::{Admission, Answer, DatagramConversation, Known},
    counts::add,
    guard::{Breaker, SILENCE},
    outgoing::{Outgoing, Unsent},
    peers::Peers,
};
use crate::{
    accepted::silent_handler,
    control::{MailboxOwner, ServedEndpoint, Shared},
    drain::Drain,
    polling::note_read,
    timers::Timers,
    wait::{Wait, Wakeup},
};

/// Datagrams received before the task yields to other tasks of its worker.
const BATCH: usize = 32;

/// Receive buffer, in bytes. UDP over IPv4 carries 65,507 at most. A longer datagram over a Unix socket is not answered.
const BUFFER_BYTES: usize = 64 << 10;

/// Pause after a failed receive, so that a socket that always fails uses no CPU.
const PAUSE: Duration = Duration::from_millis(100);

/// Interval of asking the kernel for its drop count, while datagrams arrive.
const DROPS_EVERY: Duration = Duration::from_secs(1);

/// Deadline of a task that waits for nothing in particular.
const FAR: Duration = Duration::from_hours(1);

/// Configuration shared by the sockets of one endpoint.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) endpoint: Arc<ServedEndpoint>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) access: Arc<AccessList>,
    /// Whether replies may be longer than their requests.
    pub(crate) may_amplify: bool,
    /// Silence after which a peer's conversation ends.
    pub(crate) idle_timeout: Duration,
}

/// What a socket's task shares with the server.
pub(crate) struct DatagramContext {
    pub(crate) rules: Arc<Rules>,
    /// The datagram addresses of this server, which are never answered.
    pub(crate) own_addresses: Arc<[SocketAddr]>,
    pub(crate) recorder: Recorder,
    /// Index of the worker it runs on.
    pub(crate) worker: usize,
    pub(crate) drain: Drain,
    /// The longest time that a drain of the endpoint alone takes.
    pub(crate) drain_timeout: Duration,
    pub(crate) shared: Arc<Shared>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) timers: Timers,
}

/// Receives and answers on one socket.
pub(crate) struct DatagramTask {
    socket: DatagramSocket,
    context: DatagramContext,
    mailbox: MailboxOwner,
    /// An operator paused or drained the endpoint: datagrams wait in the kernel.
    is_paused: bool,
    /// It is drained.
    is_drained: bool,
    /// Journal of the server as a whole: records drops, and reports how far the recorder has committed.
    journal: Journal,
    peers: Peers,
    breaker: Breaker,
    read_buffer: Box<[u8]>,
    replies: Replies,
    outgoing: Outgoing,
    /// The peer that was answered last: reading waits if its conversation is too far ahead of the recorder.
    last_peer: Option<Route>,
    wait: Wait,
    paused_until: Option<Instant>,
    /// When the next conversation times out, at the earliest.
    idle_at: Option<Instant>,
    /// When to ask for the kernel's drop count.
    drops_at: Option<Instant>,
    /// The drop count that was reported last.
    reported_drops: u32,
}

/// What the task does next.
enum Turn {
    Continue,
    /// An operator drains the endpoint.
    DrainEndpoint,
    /// The server stops.
    Drain,
}

impl DatagramTask {
    /// Opens the socket on the runtime this is called on.
    pub(crate) fn open(
        socket: BoundDatagrams,
        context: DatagramContext,
        mailbox: MailboxOwner,
    ) -> io::Result<Self> {
        let socket = socket.open()?;
        let now = Instant::now();
        Ok(Self {
            socket,
            journal: context.recorder.journal_of_all(context.worker),
            peers: Peers::default(),
            breaker: Breaker::new(now),
            read_buffer: vec![0; BUFFER_BYTES].into(),
            replies: Replies::default(),
            outgoing: Outgoing::default(),
            last_peer: None,
            wait: Wait::new(&context.drain, now + FAR, &context.timers),
            is_paused: !context.rules.endpoint.is_open(),
            is_drained: context.rules.endpoint.is_drained(),
            mailbox,
            context,
            paused_until: None,
            idle_at: None,
            drops_at: None,
            reported_drops: 0,
        })
    }

    /// Answers until the server drains, then answers what has arrived by then.
    pub(crate) async fn run(mut self) {
        self.mailbox.register_task().await;
        loop {
            match poll_fn(|cx| self.poll_turn(cx)).await {
                Turn::Continue => {}
                Turn::DrainEndpoint => self.drain_endpoint().await,
                Turn::Drain => break,
            }
        }
        self.finish().await;
        self.report_drops();
        self.peers.end_all(CloseReason::ServerStopped);
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.mailbox.is_pending() {
            return Poll::Ready(self.run_commands(cx));
        }
        for _ in 0..BATCH {
            if self.poll_receive(cx).is_pending() {
                return self.poll_wakeup(cx);
            }
            self.wait.note_progress();
        }
        if self.context.drain.has_started() {
            return Poll::Ready(Turn::Drain);
        }
        self.run_due(Instant::now());
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Receives one datagram and answers it.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_send_unsent(cx).is_pending() && !self.may_receive_while_sending() {
            return Poll::Pending;
        }
        ready!(self.poll_record_budget(cx));
        if self.is_paused || self.paused_until.is_some() {
            return Poll::Pending;
        }
        match ready!(self.socket.poll_recv(cx, &mut self.read_buffer)) {
            Ok(received) => self.receive(cx, received),
            // An earlier reply was refused (ICMP): that peer is gone, the others are not affected.
            Err(error) if concerns_one_peer(&error) => {}
            Err(error) => {
                let address = self.socket.address();
                tracing::warn!("cannot receive datagrams at {address}: {error}");
                self.paused_until = Some(Instant::now() + PAUSE);
            }
        }
        Poll::Ready(())
    }

    /// Whether more may be received while replies wait: under strict durability replies share a commit.
    fn may_receive_while_sending(&self) -> bool {
        self.journal.holds_replies() && self.outgoing.has_room()
    }

    /// Ready unless the recorder is too far behind. A single peer cannot be made to wait: meanwhile the kernel queues what
    /// arrives for all, and drops what does not fit.
    fn poll_record_budget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(conversation) = self
            .last_peer
            .as_ref()
            .and_then(|route| self.peers.get(route))
        {
            ready!(conversation.journal.poll_read_budget(cx));
        }
        self.last_peer = None;
        self.journal.poll_shard_budget(cx)
    }

    fn receive(&mut self, cx: &mut Context<'_>, received: Received) {
        note_read();
        let at = Instant::now();
        let Received {
            len,
            full_len,
            route,
        } = received;
        add(&self.context.counts.received, 1);
        self.drops_at = self.drops_at.or(Some(at + DROPS_EVERY));
        if self.peers.get(&route).is_none() {
            let conversation = self.open_conversation(&route, at);
            self.peers.insert(route.clone(), conversation);
            self.idle_at = self.idle_at.or(Some(at + self.context.rules.idle_timeout));
        }
        let silent = self.breaker.is_silent(&route.peer, at);
        let Some(conversation) = self.peers.get(&route) else {
            return;
        };
        conversation.received_at = at;
        let bytes = &self.read_buffer[..len];
        if let Some(notes) = &conversation.known.notes {
            let (from, capacity) = (route.peer.clone(), self.read_buffer.len());
            notes.note(
                self.socket.raw_fd(),
                &Call::RecvFrom {
                    from,
                    capacity,
                    bytes,
                },
            );
        }
        if conversation.admission == Admission::Denied {
            conversation.discard(full_len);
            return;
        }
        if full_len > len {
            conversation.discard(full_len - len);
            conversation.record(at, Outcome::Unanswered, bytes, &[]);
            self.peers.end(&route, CloseReason::MessageTooLong);
            return;
        }
        if silent || conversation.admission == Admission::Unanswerable {
            add(&self.context.counts.withheld, 1);
            conversation.record(at, Outcome::Withheld, bytes, &[]);
            return;
        }
        let Some((answer, then)) = conversation.answer(bytes, &mut self.replies) else {
            tracing::error!(conversation = conversation.id, "a conversation panicked");
            add(&self.context.counts.panicked, 1);
            conversation.record(at, Outcome::Unanswered, bytes, &[]);
            self.peers.end(&route, CloseReason::Panicked);
            return;
        };
        let id = conversation.id;
        match answer {
            Answer::Silence => conversation.record(at, Outcome::Ok, bytes, &[]),
            Answer::Reply => self.reply(cx, &route, len, at),
        }
        match then {
            ControlFlow::Continue(()) => self.last_peer = Some(route),
            ControlFlow::Break(()) if self.outgoing.is_of(id) => {
                self.peers
                    .close_after_replies(&route, CloseReason::ServiceClosed);
            }
            ControlFlow::Break(()) => self.peers.end(&route, CloseReason::ServiceClosed),
        }
    }

    /// Sends the reply unless a rule forbids it, and records the exchange. The request is the first `len` bytes of the
    /// buffer.
    fn reply(&mut self, cx: &mut Context<'_>, route: &Route, len: usize, at: Instant) {
        let counts = &self.context.counts;
        let (request, reply) = (&self.read_buffer[..len], self.replies.bytes());
        let Some(conversation) = self.peers.get(route) else {
            return;
        };
        let amplifies = reply.len() > len
            && matches!(route.peer, Address::Net(_))
            && !self.context.rules.may_amplify;
        let loops = !amplifies && self.breaker.trips(&route.peer, request, at);
        if loops {
            let for_us = SILENCE.as_micros() as u64;
            conversation.mark(at, Marked::Silenced { for_us });
            tracing::warn!(
                conversation = conversation.id,
                "{} sent the same datagram over and over, as in a loop: it is not answered for {SILENCE:?}",
                route.peer
            );
        }
        if amplifies || loops {
            add(&counts.withheld, 1);
            conversation.record(at, Outcome::Withheld, request, &[]);
            return;
        }
        let sent = if self.journal.holds_replies() || !self.outgoing.is_empty() {
            Poll::Pending
        } else {
            self.socket.poll_send(cx, reply, route)
        };
        if let (Poll::Ready(sent), Some(notes)) = (&sent, &conversation.known.notes) {
            notes.note(self.socket.raw_fd(), &send_call(route, reply, sent));
        }
        match sent {
            Poll::Ready(Ok(())) => {
                add(&counts.sent, 1);
                conversation.record(at, Outcome::Ok, request, reply);
                conversation.sent(reply.len());
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(
                    conversation = conversation.id,
                    "cannot send a reply: {error}"
                );
                add(&counts.unsent, 1);
                conversation.record(at, Outcome::Unsent, request, &[]);
            }
            Poll::Pending => {
                conversation.record(at, Outcome::Ok, request, reply);
                let unsent = Unsent {
                    route: route.clone(),
                    conversation: conversation.id,
                    bytes: reply.to_vec(),
                    epoch: conversation.journal.epoch(),
                };
                self.outgoing.push(unsent);
            }
        }
    }

    /// Sends queued replies in order, each after its commit where durability is strict.
    fn poll_send_unsent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(unsent) = self.outgoing.front() {
            let (route, id) = (unsent.route.clone(), unsent.conversation);
            let sent = ready!(self.poll_send_first(cx));
            self.outgoing.pop();
            // The reply is already recorded. Replies beyond the bytes sent at the end of a conversation count as unsent, so
            // the conversation ends here; the peer's next datagram opens another one.
            let ended = match sent {
                Ok(()) if self.outgoing.is_of(id) => None,
                Ok(()) => self.peers.closing_reason(id),
                Err(reason) => reason,
            };
            if let Some(reason) = ended {
                self.peers.end_conversation_of(&route, id, reason);
            }
            let counts = &self.context.counts;
            let count = if sent.is_ok() {
                &counts.sent
            } else {
                &counts.unsent
            };
            add(count, 1);
        }
        Poll::Ready(())
    }

    /// Sends the first queued reply. An error is the close reason of its conversation, or `None` if that has ended
    /// already.
    fn poll_send_first(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Option<CloseReason>>> {
        let Some(Unsent {
            route,
            conversation: id,
            bytes,
            epoch,
        }) = self.outgoing.front()
        else {
            return Poll::Ready(Ok(()));
        };
        let Some(conversation) = self.peers.conversation_of(route, *id) else {
            return Poll::Ready(Err(None));
        };
        if conversation.journal.holds_replies()
            && let Err(NotCommitted) = ready!(conversation.journal.poll_committed(cx, *epoch))
        {
            return Poll::Ready(Err(Some(CloseReason::StoreFailed)));
        }
        let sent = self.socket.poll_send(cx, bytes, route);
        if let (Poll::Ready(sent), Some(notes)) = (&sent, &conversation.known.notes) {
            notes.note(self.socket.raw_fd(), &send_call(route, bytes, sent));
        }
        match sent {
            Poll::Pending => {
                self.outgoing.stall(Instant::now());
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                conversation.sent(bytes.len());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(conversation = id, "cannot send a reply: {error}");
                Poll::Ready(Err(Some(CloseReason::SystemError)))
            }
        }
    }

    /// Opens a conversation with a peer that has none.
    fn open_conversation(&self, route: &Route, at: Instant) -> DatagramConversation {
        let DatagramContext {
            rules,
            own_addresses,
            recorder,
            worker,
            shared,
            ..
        } = &self.context;
        let Route {
            peer: remote,
            local,
            ..
        } = route;
        let (conversation, journal) = recorder.journal(*worker);
        let admission = if !rules.access.admits(remote) {
            Admission::Denied
        } else if guard::may_answer(route, own_addresses) {
            Admission::Admitted
        } else {
            tracing::warn!(
                conversation,
                "datagrams from {remote} are not answered: the address cannot be a real client's"
            );
            Admission::Unanswerable
        };
        let peer = Peer {
            conversation,
            remote: remote.clone(),
            local: local.clone(),
            framing: rules.endpoint.info.framing,
            shape: Shape::Datagrams,
        };
        let handler = match rules.service.handler(&peer) {
            Handler::Inline(handler) => handler,
            Handler::Spawned(_) => silent_handler(), // rejected when the endpoint was opened
        };
        let opened = Opened {
            conversation,
            at: wall_clock_now(),
            remote: remote.clone(),
            local: local.clone(),
            role: Role::Server,
            endpoint_info: Arc::clone(&rules.endpoint.info),
            tls: None,
        };
        let endpoint = &rules.endpoint;
        let known = Known {
            _open: endpoint.count(admission != Admission::Denied),
            _registration: endpoint.register(conversation, &self.mailbox),
            notes: shared.explained.open(conversation),
            totals: Arc::clone(&shared.totals),
        };
        DatagramConversation::begin(opened, handler, admission, journal, known, at)
    }

    /// Waits for the next deadline or the drain.
    fn poll_wakeup(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let now = Instant::now();
        let limit = self.context.rules.limits.write_timeout;
        let stalled_at = self.outgoing.stalled_since().map(|since| since + limit);
        let next = [self.idle_at, self.drops_at, self.paused_until, stalled_at];
        let deadline = next.into_iter().flatten().min().unwrap_or(now + FAR);
        Poll::Ready(match ready!(self.wait.poll(cx, deadline)) {
            Wakeup::Drain => Turn::Drain,
            Wakeup::Deadline => {
                self.run_due(Instant::now());
                self.wait.note_progress();
                Turn::Continue
            }
        })
    }

    /// Runs what is due at `now`.
    fn run_due(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|at| at <= now) {
            self.paused_until = None;
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            self.idle_at = self.peers.end_idle(now, self.context.rules.idle_timeout);
        }
        if self.drops_at.is_some_and(|at| at <= now) {
            self.drops_at = None;
            self.report_drops();
        }
        let limit = self.context.rules.limits.write_timeout;
        let stalled = self.outgoing.stalled_since();
        if stalled.is_some_and(|since| since + limit <= now) {
            self.abandon_unsent(CloseReason::WriteTimeout);
        }
    }

    /// Records and warns about datagrams the kernel has dropped since the last report.
    fn report_drops(&mut self) {
        let dropped = self.socket.query_dropped();
        let datagrams = u64::from(dropped.wrapping_sub(self.reported_drops));
        self.reported_drops = dropped;
        if datagrams > 0 {
            add(&self.context.counts.dropped, datagrams);
            self.journal
                .record_mark(wall_clock_now(), Marked::Dropped { datagrams });
            tracing::warn!(
                "the kernel dropped {} to {}: too many came at once",
                counted(datagrams, "datagram"),
                self.socket.address()
            );
        }
    }
}

/// Whether the error concerns one peer, not the socket.
fn concerns_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}

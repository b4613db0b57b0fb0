//! Accepts connections: each goes to the worker with the fewest conversations, up to the limits.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use echoic_core::{
    ending::CloseReason,
    event::{Address, Opened, Role},
};
use echoic_recorder::wall_clock_now;
use echoic_wire::Incoming;
use tokio::{
    pin,
    runtime::Handle,
    select,
    task::{JoinError, JoinSet, coop::has_budget_remaining, yield_now},
    time::Instant,
};

use crate::{
    accepted::Accepted,
    datagrams::{self, Counts, DatagramTask},
    drain::poll_sockets_once_more,
    server::{Drained, Server},
    session::{SessionContext, Totals},
    sources::{SourcePermit, Sources},
    timers::Timers,
};

/// Pause after a failed accept: starts at the first value and doubles up to the second while failures continue. Without
/// a pause, a full table of open files would turn into a full core.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Time between two warnings about failed accepts.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Connections waiting in the kernel's queues when the stop signal comes are still accepted, up to this many.
const LAST_ACCEPTS_MAX: usize = 4096;

/// Conversations open on each worker, and connections that are being rejected.
#[derive(Debug)]
struct Load {
    open: Vec<AtomicUsize>,
    rejecting: AtomicUsize,
}

/// The running server: accepts, starts conversations and waits for their ends.
struct Acceptor {
    server: Server,
    own_runtime: Handle,
    load: Arc<Load>,
    totals: Arc<Totals>,
    sources: Sources,
    sessions: JoinSet<()>,
    /// How many tasks in `sessions` serve datagram sockets; those run until the drain.
    datagram_tasks: usize,
    datagrams: Arc<Counts>,
    admitted: u64,
    /// Listener to poll first. It rotates, so that a busy listener does not starve the others.
    next_listener: usize,
    shortage: Shortage,
    panicked: u64,
}

/// State while accept fails for lack of open files (EMFILE, ENFILE) or memory (ENOBUFS, ENOMEM). Connections then wait in
/// the kernel's queue: accepting and closing them would lose those that could be served a moment later.
#[derive(Debug, Default)]
struct Shortage {
    /// The current pause; reset by the next success.
    pause: Option<Duration>,
    /// Failures since the last warning, and the time of that warning.
    unreported: u64,
    warned_at: Option<Instant>,
}

/// What the acceptor waits for.
enum AcceptEvent {
    /// A connection arrived at the listener with this index.
    Peer(usize, Incoming),
    /// Accept failed.
    Failed(io::Error),
    /// A conversation, or the task of a datagram socket, ended.
    Ended(Result<(), JoinError>),
}

impl Server {
    /// Serves until `shutdown` completes, then drains: accepts no new connections, answers every message already
    /// received, and aborts conversations that are not done by the drain timeout.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        pin!(shutdown);
        let own_runtime = Handle::current();
        let mut acceptor = Acceptor::new(self, own_runtime);
        let timers = acceptor.timers();
        let mut paused_until = None;
        loop {
            if acceptor.is_done() {
                break;
            }
            select! {
                biased;
                () = &mut shutdown => break,
                () = timers.sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => paused_until = None,
                event = poll_fn(|cx| acceptor.poll_event(cx, paused_until.is_none())) => {
                    paused_until = acceptor.on_event(event, paused_until);
                }
            }
        }
        acceptor.drain().await
    }
}

impl Acceptor {
    fn new(mut server: Server, own_runtime: Handle) -> Self {
        if server.workers.is_empty() {
            server.workers.push(own_runtime.clone());
        }
        let open = server.workers.iter().map(|_| AtomicUsize::new(0)).collect();
        let load = Load {
            open,
            rejecting: AtomicUsize::new(0),
        };
        let sources = Sources::new(server.source_limits.clone());
        let mut acceptor = Self {
            server,
            sources,
            own_runtime,
            load: Arc::new(load),
            totals: Arc::default(),
            sessions: JoinSet::new(),
            datagram_tasks: 0,
            datagrams: Arc::default(),
            admitted: 0,
            next_listener: 0,
            shortage: Shortage::default(),
            panicked: 0,
        };
        acceptor.spawn_datagram_tasks();
        acceptor
    }

    /// Spawns a task for each datagram socket, spread over the workers.
    fn spawn_datagram_tasks(&mut self) {
        let bindings = std::mem::take(&mut self.server.bindings);
        let own_addresses = bindings
            .iter()
            .filter_map(|binding| match &binding.address {
                Address::Net(addr) => Some(*addr),
                Address::Unix(_) => None,
            });
        let own_addresses: Arc<[SocketAddr]> = own_addresses.collect();
        for binding in bindings {
            for (i, socket) in binding.sockets.into_iter().enumerate() {
                let worker = i % self.server.workers.len();
                let context = datagrams::DatagramContext {
                    rules: Arc::clone(&binding.rules),
                    own_addresses: Arc::clone(&own_addresses),
                    recorder: self.server.recorder.clone(),
                    worker,
                    drain: self.server.drain.clone(),
                    totals: Arc::clone(&self.totals),
                    counts: Arc::clone(&self.datagrams),
                    timers: self.timers(),
                };
                let address = binding.address.clone();
                let task = async move {
                    match DatagramTask::open(socket, context) {
                        Ok(task) => task.run().await,
                        Err(error) => {
                            tracing::error!("cannot serve datagrams at {address}: {error}");
                        }
                    }
                };
                self.datagram_tasks += 1;
                self.sessions.spawn_on(task, &self.server.workers[worker]);
            }
        }
    }

    /// The runtime of the control plane: timers and spawned handlers.
    fn control(&self) -> Handle {
        self.server
            .control
            .as_ref()
            .unwrap_or(&self.own_runtime)
            .clone()
    }

    fn timers(&self) -> Timers {
        Timers::of(&self.control())
    }

    /// Whether [`Server::stop_after`] conversations have been served.
    fn is_done(&self) -> bool {
        self.has_admitted_all() && self.sessions.len() <= self.datagram_tasks
    }

    /// Whether [`Server::stop_after`] conversations have been admitted.
    fn has_admitted_all(&self) -> bool {
        self.server
            .stop_after
            .is_some_and(|max| self.admitted >= max)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, accepting: bool) -> Poll<AcceptEvent> {
        if let Poll::Ready(Some(ended)) = self.sessions.poll_join_next(cx) {
            return Poll::Ready(AcceptEvent::Ended(ended));
        }
        let listeners = if accepting && !self.has_admitted_all() {
            self.server.listeners.len()
        } else {
            0
        };
        for i in 0..listeners {
            let at = (self.next_listener + i) % listeners;
            if let Poll::Ready(accepted) = self.server.listeners[at].listener.poll_accept(cx) {
                self.next_listener = at + 1;
                return Poll::Ready(match accepted {
                    Ok(incoming) => AcceptEvent::Peer(at, incoming),
                    Err(error) => AcceptEvent::Failed(error),
                });
            }
        }
        Poll::Pending
    }

    /// Starts a conversation, or notes an end or a failure. Returns until when accepting is paused.
    fn on_event(&mut self, event: AcceptEvent, paused_until: Option<Instant>) -> Option<Instant> {
        match event {
            AcceptEvent::Peer(listener, incoming) => {
                self.shortage.pause = None;
                self.admitted += 1;
                self.spawn_session(listener, incoming);
                paused_until
            }
            AcceptEvent::Ended(ended) => {
                self.note_end(ended);
                paused_until
            }
            AcceptEvent::Failed(error) if concerns_one_connection(&error) => paused_until,
            AcceptEvent::Failed(error) => Some(self.shortage.on_failure(Instant::now(), &error)),
        }
    }

    /// Starts a conversation on the worker with the fewest, or rejects the connection.
    fn spawn_session(&mut self, listener: usize, incoming: Incoming) {
        let Some((worker, total)) = self.load.least_loaded() else {
            return;
        };
        let admitted = self.admit(listener, &incoming.peer, total);
        let (permit, rejection) = match admitted {
            Ok(permit) => (permit, None),
            Err(reason) => (None, Some(reason)),
        };
        let is_rejected = rejection.is_some();
        let Some(session_count) = self.count_session(worker, is_rejected) else {
            return;
        };
        let (conversation, journal) = self.server.recorder.journal(worker);
        let listener = &self.server.listeners[listener];
        let opened = Opened {
            conversation,
            at: wall_clock_now(),
            remote: incoming.peer.clone(),
            local: incoming.local.clone(),
            role: Role::Server,
            endpoint_info: Arc::clone(&listener.endpoint_info),
        };
        let context = SessionContext {
            limits: Arc::clone(&listener.limits),
            drain: self.server.drain.clone(),
            journal,
            permit,
            totals: Arc::clone(&self.totals),
            control: self.control(),
        };
        let runtime = &self.server.workers[worker];
        let incoming = if runtime.id() == self.own_runtime.id() {
            Ok(incoming)
        } else {
            incoming.detach()
        };
        let accepted = Box::new(Accepted {
            incoming,
            rejection,
            layers: Arc::clone(&listener.layers),
            service: Arc::clone(&listener.service),
            opened,
            context,
        });
        let conversation = async move {
            let _session_count = session_count;
            accepted.run().await;
        };
        self.sessions.spawn_on(conversation, runtime);
    }

    /// Applies the limits and the access list to a connection from `peer`. `total` conversations are open.
    fn admit(
        &mut self,
        listener: usize,
        peer: &Address,
        total: usize,
    ) -> Result<Option<SourcePermit>, CloseReason> {
        if total >= self.server.limits.connections_max {
            Err(CloseReason::TooManyConnections)
        } else if self.server.listeners[listener].access.admits(peer) {
            self.sources.admit(peer)
        } else {
            Err(CloseReason::Denied)
        }
    }

    /// Counts a conversation on `worker`. `None` if it is to be rejected and too many are being rejected already: it is
    /// then just closed.
    fn count_session(&self, worker: usize, is_rejected: bool) -> Option<SessionCount> {
        let (count, max) = if is_rejected {
            (&self.load.rejecting, self.server.max_rejecting)
        } else {
            (&self.load.open[worker], usize::MAX)
        };
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(SessionCount {
            load: Arc::clone(&self.load),
            worker,
            is_rejected,
        })
    }

    fn note_end(&mut self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            self.panicked += 1;
            tracing::error!("a conversation panicked: {error}");
        }
    }

    /// Accepts the connections in the kernel's backlogs, signals all conversations to drain, and waits for them.
    async fn drain(mut self) -> Drained {
        for listener in &mut self.server.listeners {
            if let Err(error) = listener.listener.stop_accepting() {
                tracing::debug!("connections that arrive now may be reset: {error}");
            }
        }
        poll_sockets_once_more().await;
        for _ in 0..LAST_ACCEPTS_MAX {
            match poll_fn(|cx| Poll::Ready(self.poll_event(cx, true))).await {
                Poll::Ready(event) => _ = self.on_event(event, None),
                // The task's budget is used up; the queue may hold more.
                Poll::Pending if !has_budget_remaining() => yield_now().await,
                Poll::Pending => break,
            }
        }
        self.server.drain.start();
        self.server.listeners.clear();
        let deadline = Instant::now() + self.server.limits.drain_timeout;
        let deadline = self.timers().sleep_until(deadline);
        pin!(deadline);
        loop {
            select! {
                biased;
                ended = self.sessions.join_next() => match ended {
                    Some(ended) => self.note_end(ended),
                    None => break,
                },
                () = &mut deadline => {
                    self.sessions.abort_all();
                    while let Some(ended) = self.sessions.join_next().await {
                        self.note_end(ended);
                    }
                    break;
                }
            }
        }
        Drained {
            served: self.totals.served.load(Ordering::Relaxed),
            cut: self.totals.cut.load(Ordering::Relaxed),
            panicked: self.panicked + self.datagrams.panicked.load(Ordering::Relaxed),
            datagrams: self.datagrams.sum(),
        }
    }
}

impl Shortage {
    /// Warns, at most every [`WARN_EVERY`]. Returns when to try again.
    fn on_failure(&mut self, now: Instant, error: &io::Error) -> Instant {
        self.unreported += 1;
        if self
            .warned_at
            .is_none_or(|warned| now >= warned + WARN_EVERY)
        {
            let times = self.unreported;
            tracing::warn!(times, "cannot accept, connections wait: {error}");
            (self.unreported, self.warned_at) = (0, Some(now));
        }
        let doubled = |last: Duration| (last * 2).min(PAUSE_MAX);
        let pause = self.pause.map_or(PAUSE_MIN, doubled);
        self.pause = Some(pause);
        now + pause
    }
}

/// Whether the failure concerns one connection only, which was closed or forbidden before it was accepted. The next one
/// can be accepted at once (accept(2), "Error handling").
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}

impl Load {
    /// The worker with the fewest conversations, and how many are open on all of them.
    fn least_loaded(&self) -> Option<(usize, usize)> {
        let counts = self.open.iter().map(|open| open.load(Ordering::Relaxed));
        let total = counts.clone().sum();
        let (worker, _) = counts.enumerate().min_by_key(|(_, open)| *open)?;
        Some((worker, total))
    }
}

/// Counts a conversation in [`Load`] until it is dropped.
struct SessionCount {
    load: Arc<Load>,
    worker: usize,
    is_rejected: bool,
}

impl Drop for SessionCount {
    fn drop(&mut self) {
        let count = if self.is_rejected {
            &self.load.rejecting
        } else {
            &self.load.open[self.worker]
        };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

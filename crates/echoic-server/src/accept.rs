//! Accepts connections: each goes to the worker with the fewest conversations, up to the limits.

mod load;
mod shortage;
#[cfg(test)]
mod tests;

use std::{
    future::{Future, pending, poll_fn},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
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

use self::{
    load::{Load, SessionCount},
    shortage::{Shortage, concerns_one_connection},
};
use crate::{
    accepted::Accepted,
    control::{Mailbox, MailboxOwner, Shared},
    datagrams::{self, Counts, DatagramTask},
    drain::poll_sockets_once_more,
    server::{Drained, Server},
    session::SessionContext,
    sources::{SourcePermit, Sources},
    tally::Totals,
    timers::Timers,
};

/// Connections waiting in the kernel's queues when the stop signal comes are still accepted, up to this many.
const LAST_ACCEPTS_MAX: usize = 4096;

/// The running server: accepts, starts conversations and waits for their ends.
struct Acceptor {
    server: Server,
    own_runtime: Handle,
    load: Arc<Load>,
    shared: Arc<Shared>,
    /// Tells that the state of an endpoint has changed.
    mailbox: MailboxOwner,
    /// The waker that the mailbox has.
    registered: Option<Waker>,
    /// The server stops: what waits at paused endpoints is accepted too.
    is_stopping: bool,
    totals: Arc<Totals>,
    sources: Sources,
    /// Dropped before `sessions`.
    _abort: AbortNote,
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

/// Notes at its drop that the server's future is dropped: what is not done is cut.
struct AbortNote(Arc<Totals>);

impl Drop for AbortNote {
    fn drop(&mut self) {
        self.0.stop_at_once();
    }
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
        self.run_until(shutdown, pending()).await
    }

    /// Like [`Self::run`]; the drain also ends when `at_once` completes, which aborts what is not done. Returns once the
    /// journals of all conversations have their ends. Dropping the future instead would leave conversations on other
    /// workers open: they would be dropped at some later time.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()>,
        at_once: impl Future<Output = ()>,
    ) -> Drained {
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
        acceptor.drain(at_once).await
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
        let shared = Arc::clone(server.control.shared());
        let totals = Arc::clone(&shared.totals);
        let mut acceptor = Self {
            shared,
            mailbox: Mailbox::open(None),
            registered: None,
            is_stopping: false,
            server,
            sources,
            own_runtime,
            load: Arc::new(load),
            _abort: AbortNote(Arc::clone(&totals)),
            totals,
            sessions: JoinSet::new(),
            datagram_tasks: 0,
            datagrams: Arc::default(),
            admitted: 0,
            next_listener: 0,
            shortage: Shortage::default(),
            panicked: 0,
        };
        acceptor.spawn_datagram_tasks();
        let drain_timeout = acceptor.server.limits.drain_timeout;
        let (mailbox, control) = (acceptor.mailbox.share(), acceptor.control());
        acceptor.shared.set_running(mailbox, control, drain_timeout);
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
                    drain_timeout: self.server.limits.drain_timeout,
                    shared: Arc::clone(&self.shared),
                    counts: Arc::clone(&self.datagrams),
                    timers: self.timers(),
                };
                let address = binding.address.clone();
                let mailbox = Mailbox::open(None);
                binding.rules.endpoint.add_task(mailbox.share());
                let task = async move {
                    match DatagramTask::open(socket, context, mailbox) {
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
            .control_runtime
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
        self.take_commands(cx);
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
            let listener = &self.server.listeners[at];
            if !listener.endpoint.is_open() && !self.is_stopping {
                continue; // its connections wait in the kernel's queue
            }
            if let Poll::Ready(accepted) = listener.listener.poll_accept(cx) {
                self.next_listener = at + 1;
                return Poll::Ready(match accepted {
                    Ok(incoming) => AcceptEvent::Peer(at, incoming),
                    Err(error) => AcceptEvent::Failed(error),
                });
            }
        }
        Poll::Pending
    }

    /// Confirms that the states of endpoints, which are read before each accept, are those of now.
    fn take_commands(&mut self, cx: &Context<'_>) {
        let waker = cx.waker();
        if !(self.registered.as_ref()).is_some_and(|registered| registered.will_wake(waker)) {
            self.mailbox.register(waker);
            self.registered = Some(waker.clone());
        }
        if self.mailbox.is_pending() {
            for mut command in self.mailbox.take() {
                command.reply(Ok(()));
            }
        }
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
    fn spawn_session(&mut self, listener: usize, mut incoming: Incoming) {
        let Some((worker, total)) = self.load.least_loaded() else {
            return;
        };
        let admitted = self.admit(listener, &incoming.peer, total);
        let (permit, rejection) = match admitted {
            Ok(permit) => (permit, None),
            Err(reason) => (None, Some(reason)),
        };
        let is_rejected = rejection.is_some();
        let Some(session_count) = self.count_session(listener, worker, is_rejected) else {
            return;
        };
        let (conversation, journal) = self.server.recorder.journal(worker);
        let listener = &self.server.listeners[listener];
        let notes = (!is_rejected).then(|| self.shared.explained.open(conversation));
        if let Some(notes) = notes.flatten() {
            let fd = incoming.raw_fd();
            notes.note_accept(listener.listener.raw_fd(), fd);
            incoming.explain_also(notes.explain(fd));
        }
        let opened = Opened {
            conversation,
            at: wall_clock_now(),
            remote: incoming.peer.clone(),
            local: incoming.local.clone(),
            role: Role::Server,
            endpoint_info: Arc::clone(&listener.endpoint.info),
            tls: None,
        };
        let context = SessionContext {
            limits: Arc::clone(&listener.limits),
            drain: listener.endpoint.drain(),
            endpoint: Arc::clone(&listener.endpoint),
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
    fn count_session(
        &self,
        listener: usize,
        worker: usize,
        is_rejected: bool,
    ) -> Option<SessionCount> {
        let (count, max) = if is_rejected {
            (&self.load.rejecting, self.server.max_rejecting)
        } else {
            (&self.load.open[worker], usize::MAX)
        };
        let open = self.server.listeners[listener].endpoint.count(!is_rejected);
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(SessionCount {
            load: Arc::clone(&self.load),
            worker,
            open,
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

    /// Waits until all conversations have ended.
    async fn ends(&mut self) {
        while let Some(ended) = self.sessions.join_next().await {
            self.note_end(ended);
        }
    }

    /// Accepts the connections in the kernel's backlogs, signals all conversations to drain, and waits for them.
    async fn drain(mut self, at_once: impl Future<Output = ()>) -> Drained {
        self.mailbox.close();
        self.is_stopping = true;
        self.shared.renew_drains();
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
        self.shared.stop();
        self.server.listeners.clear();
        let deadline = Instant::now() + self.server.limits.drain_timeout;
        let deadline = self.timers().sleep_until(deadline);
        select! {
            biased;
            () = self.ends() => {}
            () = deadline => {}
            () = at_once => self.totals.stop_at_once(),
        }
        self.sessions.abort_all();
        self.ends().await;
        Drained {
            served: self.totals.served.load(Ordering::Relaxed),
            cut: self.totals.cut.load(Ordering::Relaxed),
            panicked: self.panicked + self.datagrams.panicked.load(Ordering::Relaxed),
            datagrams: self.datagrams.sum(),
        }
    }
}

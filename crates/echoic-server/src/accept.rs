//! Callers let in: each on the worker with the fewest conversations, up to the limit.

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
    endpoint::Shape,
    event::{Address, Opened, Role},
    framing::FramingPair,
    service::{Handler, Peer},
};
use echoic_recorder::wall;
use echoic_wire::{Incoming, Link};
use tokio::{
    pin,
    runtime::Handle,
    select,
    task::{JoinError, JoinSet, coop::has_budget_remaining, yield_now},
    time::Instant,
};

use crate::{
    datagrams::{self, Counts, DatagramTask},
    drain::look_once_more,
    handshake::{self, NotOpened},
    server::{BoundListener, Drained, Server},
    session::{Session, SessionContext, Totals},
    sources::Sources,
    timers::Timers,
};

/// After a failed accept, the pause before the next: doubled up to the second while failures go on. A loop without
/// one turns a full table of open files into a full core.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// From one word about failed accepts to the next.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Calls that wait when the stop signal comes are still taken, up to this many.
const LAST_CALLS_MAX: usize = 4096;

/// Conversations open on each worker, and those that are being turned away.
#[derive(Debug)]
struct Load {
    open: Vec<AtomicUsize>,
    rejecting: AtomicUsize,
}

/// The server at work.
struct Acceptor {
    server: Server,
    here: Handle,
    load: Arc<Load>,
    totals: Arc<Totals>,
    sources: Sources,
    sessions: JoinSet<()>,
    /// How many of them are sockets of datagrams, which are at work until the end.
    datagram_tasks: usize,
    datagrams: Arc<Counts>,
    admitted: u64,
    /// Which door is asked first: a busy one must not starve the others.
    first: usize,
    shortage: Shortage,
    panicked: u64,
}

/// What there is to say and to wait for while the system has no room for callers: no more open files (EMFILE, ENFILE),
/// no memory (ENOBUFS, ENOMEM). They wait in the kernel's queue meanwhile: closing them to have them told would lose
/// those that could be served a moment later.
#[derive(Debug, Default)]
struct Shortage {
    /// The last pause, while there was no success since.
    pause: Option<Duration>,
    /// Failures since something was said about them, and when that was.
    unsaid: u64,
    said_at: Option<Instant>,
}

/// What the hall hears of.
enum AcceptEvent {
    /// Somebody calls at a door.
    Peer(usize, Incoming),
    /// A door could not be opened: files, memory.
    Failed(io::Error),
    /// A conversation is over.
    Over(Result<(), JoinError>),
}

impl Server {
    /// Serves until `shutdown` is ready, then drains: no new calls, every message already received is answered, and
    /// whoever is not done by the deadline is cut.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        pin!(shutdown);
        let here = Handle::current();
        let mut acceptor = Acceptor::new(self, here);
        let timers = acceptor.timers();
        let mut pause = None;
        loop {
            if acceptor.is_done() {
                break;
            }
            select! {
                biased;
                () = &mut shutdown => break,
                () = timers.sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => pause = None,
                called = poll_fn(|cx| acceptor.poll_event(cx, pause.is_none())) => {
                    pause = acceptor.admit(called, pause);
                }
            }
        }
        acceptor.drain().await
    }
}

impl Acceptor {
    fn new(mut server: Server, here: Handle) -> Self {
        if server.workers.is_empty() {
            server.workers.push(here.clone());
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
            here,
            load: Arc::new(load),
            totals: Arc::default(),
            sessions: JoinSet::new(),
            datagram_tasks: 0,
            datagrams: Arc::default(),
            admitted: 0,
            first: 0,
            shortage: Shortage::default(),
            panicked: 0,
        };
        acceptor.spawn_datagram_tasks();
        acceptor
    }

    /// Sets each socket of datagrams to work, on a worker of its own if there are enough.
    fn spawn_datagram_tasks(&mut self) {
        let bindings = std::mem::take(&mut self.server.bindings);
        let ours = bindings
            .iter()
            .filter_map(|binding| match &binding.address {
                Address::Net(addr) => Some(*addr),
                Address::Unix(_) => None,
            });
        let ours: Arc<[SocketAddr]> = ours.collect();
        for binding in bindings {
            for (i, socket) in binding.sockets.into_iter().enumerate() {
                let worker = i % self.server.workers.len();
                let context = datagrams::DatagramContext {
                    rules: Arc::clone(&binding.rules),
                    ours: Arc::clone(&ours),
                    recorder: self.server.recorder.clone(),
                    worker,
                    drain: self.server.drain.clone(),
                    totals: Arc::clone(&self.totals),
                    counts: Arc::clone(&self.datagrams),
                    timers: self.timers(),
                };
                let task = async move {
                    match DatagramTask::open(socket, context) {
                        Ok(task) => task.run().await,
                        Err(error) => tracing::error!("a socket cannot be served: {error}"),
                    }
                };
                self.datagram_tasks += 1;
                self.sessions.spawn_on(task, &self.server.workers[worker]);
            }
        }
    }

    /// Where everything runs that is not the wire.
    fn control(&self) -> Handle {
        self.server.control.as_ref().unwrap_or(&self.here).clone()
    }

    /// What is waited for by time.
    fn timers(&self) -> Timers {
        Timers::of(&self.control())
    }

    /// Whether as many conversations as were asked for have been had.
    fn is_done(&self) -> bool {
        self.is_full_up() && self.sessions.len() <= self.datagram_tasks
    }

    /// Whether as many conversations as were asked for have been let in.
    fn is_full_up(&self) -> bool {
        self.server
            .conversations_max
            .is_some_and(|max| self.admitted >= max)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, accepting: bool) -> Poll<AcceptEvent> {
        if let Poll::Ready(Some(over)) = self.sessions.poll_join_next(cx) {
            return Poll::Ready(AcceptEvent::Over(over));
        }
        let listeners = if accepting && !self.is_full_up() {
            self.server.listeners.len()
        } else {
            0
        };
        for i in 0..listeners {
            let at = (self.first + i) % listeners;
            if let Poll::Ready(accepted) = self.server.listeners[at].listener.poll_accept(cx) {
                self.first = at + 1;
                return Poll::Ready(match accepted {
                    Ok(incoming) => AcceptEvent::Peer(at, incoming),
                    Err(error) => AcceptEvent::Failed(error),
                });
            }
        }
        Poll::Pending
    }

    /// Lets a caller in, or takes note of an end or a failure; returns until when no further call is taken.
    fn admit(&mut self, called: AcceptEvent, pause: Option<Instant>) -> Option<Instant> {
        match called {
            AcceptEvent::Peer(listener, incoming) => {
                self.shortage.pause = None;
                self.admitted += 1;
                self.spawn_session(listener, incoming);
                pause
            }
            AcceptEvent::Over(over) => {
                self.note(over);
                pause
            }
            AcceptEvent::Failed(error) if is_the_callers(&error) => pause,
            AcceptEvent::Failed(error) => Some(self.shortage.met(Instant::now(), &error)),
        }
    }

    /// Starts the conversation on the worker with the fewest.
    fn spawn_session(&mut self, listener: usize, incoming: Incoming) {
        let BoundListener {
            endpoint_info,
            service,
            limits,
            access,
            layers,
            ..
        } = &self.server.listeners[listener];
        let counts = self
            .load
            .open
            .iter()
            .map(|open| open.load(Ordering::Relaxed));
        let total: usize = counts.clone().sum();
        let Some((worker, _)) = counts.enumerate().min_by_key(|(_, open)| *open) else {
            return;
        };
        let admitted = if total >= self.server.limits.connections_max {
            Err(CloseReason::TooManyConnections)
        } else if access.admits(&incoming.peer) {
            self.sources.admit(&incoming.peer)
        } else {
            Err(CloseReason::Denied)
        };
        let (permit, refusal) = match admitted {
            Ok(permit) => (permit, None),
            Err(reason) => (None, Some(reason)),
        };
        if refusal.is_some() {
            if self.load.rejecting.fetch_add(1, Ordering::Relaxed) >= self.server.max_rejecting {
                self.load.rejecting.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        } else {
            self.load.open[worker].fetch_add(1, Ordering::Relaxed);
        }

        let (conversation, journal) = self.server.recorder.journal(worker);
        let opened = Opened {
            conversation,
            at: wall(),
            remote: incoming.peer.clone(),
            local: incoming.local.clone(),
            role: Role::Server,
            endpoint_info: Arc::clone(endpoint_info),
        };
        let context = SessionContext {
            limits: Arc::clone(limits),
            drain: self.server.drain.clone(),
            journal,
            permit,
            totals: Arc::clone(&self.totals),
            control: self.control(),
        };
        let (service, layers) = (Arc::clone(service), Arc::clone(layers));
        let load = Arc::clone(&self.load);
        let runtime = &self.server.workers[worker];
        let incoming = if runtime.id() == self.here.id() {
            Ok(incoming)
        } else {
            incoming.detach()
        };
        let conversation = async move {
            let _seat = SessionGuard {
                load,
                worker,
                rejecting: refusal.is_some(),
            };
            let link = match incoming.and_then(Incoming::open) {
                Ok(link) => link,
                Err(error) => {
                    tracing::warn!("a caller could not be let in: {error}");
                    return;
                }
            };
            let link = match refusal {
                Some(reason) => Err(NotOpened::refused(reason, link)),
                None if layers.is_empty() => Ok(link),
                // In a box, so that the task of a conversation without layers is no larger for it.
                None => {
                    let timers = Timers::of(&context.control);
                    let limit = context.limits.handshake_timeout;
                    Box::pin(handshake::open(
                        link,
                        &layers,
                        limit,
                        &timers,
                        &context.drain,
                    ))
                    .await
                }
            };
            match link {
                Ok(link) => {
                    let peer = peer(&link, &opened);
                    let handler = service.handler(&peer);
                    Session::new(link, handler, &peer, opened, context)
                        .run()
                        .await;
                }
                Err(NotOpened {
                    reason,
                    link: Some(link),
                }) => {
                    let peer = peer(&link, &opened);
                    let silent_handler = Handler::Inline(Session::silent_handler());
                    Session::new(link, silent_handler, &peer, opened, context)
                        .reject(reason)
                        .await;
                }
                Err(NotOpened { reason, link: None }) => {
                    handshake::record(context.journal, opened, reason)
                }
            }
        };
        self.sessions.spawn_on(conversation, runtime);
    }

    fn note(&mut self, over: Result<(), JoinError>) {
        if let Err(error) = over
            && error.is_panic()
        {
            self.panicked += 1;
            tracing::error!("a conversation ended by a bug: {error}");
        }
    }

    /// Takes the calls that wait, tells all conversations to come to an end, and waits for them.
    async fn drain(mut self) -> Drained {
        for listener in &mut self.server.listeners {
            if let Err(error) = listener.listener.stop_accepting() {
                tracing::debug!("callers of the last moment may be reset: {error}");
            }
        }
        look_once_more().await;
        for _ in 0..LAST_CALLS_MAX {
            match poll_fn(|cx| Poll::Ready(self.poll_event(cx, true))).await {
                Poll::Ready(called) => _ = self.admit(called, None),
                // Only this task's turn may be used up: that is not the end of the queue.
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
                over = self.sessions.join_next() => match over {
                    Some(over) => self.note(over),
                    None => break,
                },
                () = &mut deadline => {
                    self.sessions.abort_all();
                    while let Some(over) = self.sessions.join_next().await {
                        self.note(over);
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
    /// Says so, unless it was said lately; returns when to try again.
    fn met(&mut self, now: Instant, error: &io::Error) -> Instant {
        self.unsaid += 1;
        if self.said_at.is_none_or(|said| now >= said + SAY_EVERY) {
            let times = self.unsaid;
            tracing::warn!(times, "no room for callers, they wait: {error}");
            (self.unsaid, self.said_at) = (0, Some(now));
        }
        let longer = |last: Duration| (last * 2).min(PAUSE_MAX);
        let pause = self.pause.map_or(PAUSE_MIN, longer);
        self.pause = Some(pause);
        now + pause
    }
}

/// The peer of a conversation that begins over `link`, which alone knows how its bytes travel.
fn peer(link: &Link, opened: &Opened) -> Peer {
    let shape = link.shape();
    Peer {
        conversation: opened.conversation,
        remote: opened.remote.clone(),
        local: opened.local.clone(),
        framing: match shape {
            Shape::Stream => opened.endpoint_info.framing,
            Shape::Datagrams | Shape::Messages => FramingPair::default(),
        },
        shape,
    }
}

/// Whether the failure is that of one caller, who has gone or was forbidden before it was let in: the next one may be
/// taken at once (accept(2), Error handling).
fn is_the_callers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}

/// A conversation's place in the count; given back by dropping it.
struct SessionGuard {
    load: Arc<Load>,
    worker: usize,
    rejecting: bool,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let count = if self.rejecting {
            &self.load.rejecting
        } else {
            &self.load.open[self.worker]
        };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

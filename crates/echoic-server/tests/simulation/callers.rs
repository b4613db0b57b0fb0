//! The listener of a world: the backlog of connections, and those the server has accepted.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use echoic_core::event::Address;
use echoic_wire::{Accept, Link};
use tokio::time::Instant;

use super::{
    bug::Planted,
    net::{SERVER, Wire, poll_budget},
};

/// A backlog that peers connect to.
#[derive(Clone, Debug)]
pub(super) struct Callers(Arc<Mutex<Queue>>);

struct Queue {
    calls: VecDeque<(Wire, Address)>,
    server: Option<Waker>,
    /// Number of next accepts that fail with EMFILE.
    failures: usize,
    /// The connections that were accepted and are open.
    open: Vec<Wire>,
    connections_max: usize,
    closed: bool,
    planted: Planted,
}

/// The server's side of a [`Callers`].
#[derive(Debug)]
pub(super) struct TestListener(Callers);

/// `EMFILE`: too many open files.
const TOO_MANY_FILES: i32 = 24;

impl Callers {
    pub(super) fn new(connections_max: usize, planted: Planted) -> Self {
        Self(Arc::new(Mutex::new(Queue {
            calls: VecDeque::new(),
            server: None,
            failures: 0,
            open: Vec::new(),
            connections_max,
            closed: false,
            planted,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn listener(&self) -> TestListener {
        TestListener(self.clone())
    }

    pub(super) fn fail(&self, times: usize) {
        let mut queue = self.lock();
        queue.failures += times;
        queue.server.take().into_iter().for_each(Waker::wake);
    }

    /// Called at the stop.
    pub(super) fn note_stop(&self) {
        for (wire, _) in &self.lock().calls {
            wire.facts(|facts| facts.called_at_stop = true);
        }
    }

    /// Connects. Returns whether the server still listens.
    pub(super) fn call(&self, wire: &Wire, from: Address) -> bool {
        let mut queue = self.lock();
        if queue.closed {
            return false;
        }
        queue.calls.push_back((wire.clone(), from));
        queue.server.take().into_iter().for_each(Waker::wake);
        true
    }
}

impl Accept for TestListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Link, Address)>> {
        ready!(poll_budget(cx));
        let mut queue = self.0.lock();
        if queue.failures > 0 {
            queue.failures -= 1;
            return Poll::Ready(Err(io::Error::from_raw_os_error(TOO_MANY_FILES)));
        }
        let Some((wire, from)) = queue.calls.pop_front() else {
            queue.server = Some(cx.waker().clone());
            return Poll::Pending;
        };
        queue
            .open
            .retain(|wire| wire.facts(|facts| facts.closed.is_none()));
        let one_too_many = queue.open.len() >= queue.connections_max;
        wire.facts(|facts| {
            facts.accepted = Some(Instant::now());
            facts.one_too_many = one_too_many;
        });
        if !one_too_many {
            queue.open.push(wire.clone());
        }
        let transport = queue.planted.in_transport(Box::new(wire.end(SERVER)));
        Poll::Ready(Ok((Link::layered(transport), from)))
    }

    fn stop(&self) {
        self.0.lock().closed = true;
    }
}

impl Drop for TestListener {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        for (wire, _) in queue.calls.drain(..) {
            wire.view(SERVER).close(true);
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls", self.calls.len())
    }
}

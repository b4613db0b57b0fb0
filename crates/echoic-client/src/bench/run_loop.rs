//! The main loop of one thread of the load generator.
//!
//! Each iteration reads from the woken connections, queues the requests that are due, and writes the queued data, with one
//! write per connection. In a closed loop, a reply makes the next request due.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use echoic_wire::DialError;
use tokio::task::yield_now;

use super::{
    clock::Clock,
    connection::{Connection, IoContext},
    cpu,
    schedule::Schedule,
    stall::{StallTracker, StandstillTracker},
    tally::Tally,
    timer::TIMER_SLACK_NS,
    worker::Worker,
};

/// Maximum number of late requests queued before replies are read again.
const CATCH_UP_MAX: usize = 256;
/// Time after the window in which requests that were due within it and found no free connection may still be sent, in
/// nanoseconds.
const CATCH_UP_NS: u64 = 100_000_000;
/// Interval between checks of deadlines and the stop flag, in nanoseconds.
const CHECK_INTERVAL_NS: u64 = 10_000_000;
/// Time to wait for replies after the run was stopped, in nanoseconds, if the drain timeout is longer.
const STOPPED_DRAIN_NS: u64 = 2_000_000_000;
/// A time that is never reached.
const NEVER: u64 = u64::MAX;

/// Parameters of a run for one thread.
#[derive(Clone, Debug)]
pub(super) struct RunConfig {
    pub(super) clock: Clock,
    pub(super) schedule: Option<Schedule>,
    /// Start and end of the window.
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    /// Share of this thread in the request count.
    pub(super) count: Option<u64>,
    pub(super) drain_timeout_ns: u64,
    /// Time without any reply after which a run with a request count ends.
    pub(super) give_up_ns: u64,
    pub(super) stop: Arc<AtomicBool>,
}

/// Result of a run on one thread.
#[derive(Debug)]
pub(super) struct WorkerResult {
    pub(super) tally: Tally,
    /// Start and end of the longest stall.
    pub(super) stall_ns: (u64, u64),
    /// Start and end of the longest time in which the thread did not run.
    pub(super) standstill_ns: (u64, u64),
    /// Actual start and end of the window.
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    /// CPU time of this thread over the window including busy-waiting, and the time spent busy-waiting.
    pub(super) cpu: Duration,
    pub(super) spun_ns: u64,
    /// CPU time of the whole process over the window.
    pub(super) process: Duration,
}

/// Makes one run with a worker.
pub(super) async fn run(worker: &mut Worker, config: RunConfig) -> io::Result<WorkerResult> {
    let mut run_loop = RunLoop::new(worker, config);
    poll_fn(|cx| run_loop.poll(cx)).await?;
    Ok(run_loop.into_result())
}

/// State of a run.
struct RunLoop<'a> {
    worker: &'a mut Worker,
    config: RunConfig,
    tally: Tally,
    stall: StallTracker,
    standstill: StandstillTracker,
    phase: Phase,
    /// Next due time of the schedule.
    due_ns: Option<u64>,
    /// Number of requests that may still be queued.
    remaining: u64,
    /// Connections with free capacity, longest free first.
    free: VecDeque<u32>,
    /// Since when `free` has not been empty.
    free_since_ns: u64,
    touched: Vec<u32>,
    next_check_ns: u64,
    /// Sending ends before the window does: it was stopped, or the server does not answer.
    is_cut: bool,
    /// The common start time of all threads has passed.
    is_started: bool,
    /// Since when the loop has been busy-waiting.
    idle_since_ns: Option<u64>,
    spun_ns: u64,
    usage_at_start: Option<ResourceUsage>,
    usage_at_end: Option<ResourceUsage>,
}

/// CPU usage at a point in time.
#[derive(Clone, Copy, Debug)]
struct ResourceUsage {
    at_ns: u64,
    thread: Duration,
    process: Duration,
    spun_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requests are being sent, before or within the window.
    Sending,
    /// Replies are awaited until this time.
    Draining(u64),
}

impl<'a> RunLoop<'a> {
    /// Prepares a run over the connections of the worker.
    fn new(worker: &'a mut Worker, mut config: RunConfig) -> Self {
        let due = config.schedule.as_mut().and_then(Iterator::next);
        for connection in &worker.connections {
            debug_assert_eq!(connection.in_flight(), 0);
        }
        for at in 0..worker.connections.len() as u32 {
            worker.ready.wake(at);
        }
        Self {
            tally: Tally::new(config.from_ns, config.until_ns),
            stall: StallTracker::default(),
            standstill: StandstillTracker::default(),
            phase: Phase::Sending,
            due_ns: due,
            remaining: config.count.unwrap_or(NEVER),
            free: VecDeque::with_capacity(worker.connections.len()),
            free_since_ns: 0,
            touched: Vec::with_capacity(worker.connections.len()),
            next_check_ns: 0,
            is_cut: false,
            is_started: false,
            idle_since_ns: None,
            spun_ns: 0,
            usage_at_start: None,
            usage_at_end: None,
            worker,
            config,
        }
    }

    /// Returns `Ready` when the run has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_started {
            // Before the start the clock reads 0, so that latencies would be 0.
            while let ahead @ 1.. = self.config.clock.until_start() {
                ready!(self.worker.timer.poll_until(ahead, 0, cx))?;
            }
            self.is_started = true;
        }
        loop {
            let now = self.config.clock.now();
            let idle = self.idle_since_ns.take();
            let received = self.receive(cx);
            let queued = self.queue_due(now);
            self.flush();
            if let Some(since) = idle.filter(|_| !received && !queued && self.is_in_window()) {
                self.spun_ns += now.saturating_sub(since);
            }
            let now = self.config.clock.now();
            self.update_window(now);
            if now >= self.next_check_ns {
                self.next_check_ns = now + CHECK_INTERVAL_NS;
                self.check(now);
            }
            if self.is_over(now) {
                self.finish(now);
                return Poll::Ready(Ok(()));
            }
            match self.wait(now, cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
    }

    /// Reads from the woken connections; in a closed loop, queues new requests for the replies.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        let woken = self.worker.ready.take(cx);
        for at in &woken {
            self.receive_from(*at);
        }
        let any = !woken.is_empty();
        self.worker.ready.recycle(woken);
        any
    }

    fn receive_from(&mut self, index: u32) {
        match self.with_connection(index, Connection::receive) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => self.worker.ready.wake(index),
            Err(error) if lacks_port(&error) => self.tally.failures.no_port += 1,
            Err(_) => self.tally.failures.refused += 1,
        }
        if self.phase == Phase::Sending {
            self.redial(index);
            self.fill(index);
        }
        self.touch(index);
    }

    /// Reconnects a closed connection.
    fn redial(&mut self, at: u32) {
        let now = self.config.clock.now();
        let connection = &mut self.worker.connections[at as usize];
        if connection.is_ready_to_dial(now) {
            connection.dial(&self.worker.shared);
            self.tally.failures.reconnects += 1;
            self.worker.ready.wake(at);
        }
    }

    /// In a closed loop, queues as many requests as fit; in an open loop, adds the connection to the free ones.
    fn fill(&mut self, at: u32) {
        let connection = &mut self.worker.connections[at as usize];
        let room = connection.room(&self.worker.shared);
        if self.config.schedule.is_some() {
            if room > 0 && !connection.is_free {
                connection.is_free = true;
                if self.free.is_empty() {
                    self.free_since_ns = self.config.clock.now();
                }
                self.free.push_back(at);
            }
            return;
        }
        if room == 0 {
            return;
        }
        let now = self.config.clock.now();
        if now >= self.config.until_ns {
            return;
        }
        for _ in 0..room {
            if now >= self.config.from_ns {
                if self.remaining == 0 {
                    break;
                }
                self.remaining -= 1;
            }
            connection.queue(now, now, &self.config.clock, &self.worker.shared);
            self.tally.add_queued(now, 0);
        }
    }

    fn touch(&mut self, at: u32) {
        let connection = &mut self.worker.connections[at as usize];
        if !connection.is_touched {
            connection.is_touched = true;
            self.touched.push(at);
        }
    }

    /// Queues the due requests as far as connections are free.
    fn queue_due(&mut self, now: u64) -> bool {
        let mut queued = false;
        for _ in 0..CATCH_UP_MAX {
            let Some(due) = self.due_ns.filter(|due| self.may_queue(*due, now)) else {
                break;
            };
            let Some(at) = self.free.pop_front() else {
                break;
            };
            let connection = &mut self.worker.connections[at as usize];
            connection.is_free = false;
            if connection.room(&self.worker.shared) == 0 {
                continue;
            }
            connection.queue(due, now, &self.config.clock, &self.worker.shared);
            self.tally
                .add_queued(due, now.saturating_sub(due.max(self.free_since_ns)));
            if due >= self.config.from_ns {
                self.remaining -= 1;
            }
            if connection.room(&self.worker.shared) > 0 {
                connection.is_free = true;
                self.free.push_back(at);
            }
            self.touch(at);
            self.next_due();
            queued = true;
        }
        queued
    }

    fn may_queue(&self, due: u64, now: u64) -> bool {
        self.phase == Phase::Sending && due <= now && due < self.tally.until && self.remaining > 0
    }

    fn next_due(&mut self) {
        self.due_ns = self.config.schedule.as_mut().and_then(Iterator::next);
    }

    fn flush(&mut self) {
        while let Some(at) = self.touched.pop() {
            self.with_connection(at, |connection, io| {
                connection.is_touched = false;
                connection.flush(io);
            });
            let is_open = self.worker.connections[at as usize].is_open();
            if !is_open && self.phase == Phase::Sending {
                self.worker.ready.wake(at);
            }
        }
    }

    fn is_in_window(&self) -> bool {
        self.usage_at_start.is_some() && self.usage_at_end.is_none()
    }

    /// Opens and closes the window, and ends sending.
    fn update_window(&mut self, now: u64) {
        if self.usage_at_start.is_none() && now >= self.config.from_ns {
            self.usage_at_start = Some(self.usage(now));
        }
        let Phase::Sending = self.phase else {
            return;
        };
        let is_counted_out = self.remaining == 0;
        if now < self.config.until_ns && !is_counted_out {
            return;
        }
        if self.usage_at_end.is_none() {
            self.usage_at_end = Some(self.usage(now));
        }
        let is_behind = self
            .due_ns
            .is_some_and(|due| due < self.tally.until && due <= now);
        if is_counted_out || !is_behind || now >= self.config.until_ns.saturating_add(CATCH_UP_NS) {
            self.phase = Phase::Draining(now.saturating_add(self.config.drain_timeout_ns));
        }
    }

    fn usage(&self, at: u64) -> ResourceUsage {
        ResourceUsage {
            at_ns: at,
            thread: cpu::of_thread(),
            process: cpu::of_process(),
            spun_ns: self.spun_ns,
        }
    }

    /// Checks timeouts and the stop flag, and publishes the progress.
    fn check(&mut self, now: u64) {
        self.standstill.observe(now);
        if self.config.stop.load(Ordering::Relaxed) {
            self.cut(now);
        }
        for at in 0..self.worker.connections.len() as u32 {
            self.with_connection(at, |connection, io| connection.expire(now, io));
            if self.phase == Phase::Sending {
                self.redial(at);
            }
        }
        let in_flight = self
            .worker
            .connections
            .iter()
            .map(Connection::in_flight)
            .sum();
        self.worker.live.publish(now, &self.tally, in_flight);
        self.observe_stall(now, in_flight > 0);
    }

    /// Ends the window now, and bounds the wait for replies.
    fn cut(&mut self, now: u64) {
        if std::mem::replace(&mut self.is_cut, true) {
            return;
        }
        self.config.drain_timeout_ns = self.config.drain_timeout_ns.min(STOPPED_DRAIN_NS);
        if let Phase::Draining(until) = &mut self.phase {
            *until = (*until).min(now.saturating_add(STOPPED_DRAIN_NS));
        }
        if now < self.config.until_ns {
            self.config.until_ns = now;
            self.tally.until = now.max(self.config.from_ns);
        }
    }

    /// Looks for a stall. One that is too long ends a run that would wait for its request count.
    fn observe_stall(&mut self, now: u64, is_in_flight: bool) {
        if self.phase != Phase::Sending {
            return;
        }
        // In a closed loop, a connection that is not open keeps a request waiting.
        let is_due = self.config.schedule.is_none()
            || self.due_ns.is_some_and(|due| self.may_queue(due, now));
        self.stall
            .observe(now, self.tally.last, is_in_flight || is_due);
        if self.config.count.is_some() && self.stall.current(now) >= self.config.give_up_ns {
            self.cut(now);
        }
    }

    fn with_connection<T>(
        &mut self,
        at: u32,
        f: impl FnOnce(&mut Connection, &mut IoContext<'_, '_>) -> T,
    ) -> T {
        let Worker {
            shared,
            connections,
            ready,
            buffer,
            ..
        } = &mut *self.worker;
        let mut io = IoContext {
            cx: &mut Context::from_waker(ready.waker(at)),
            clock: &self.config.clock,
            shared,
            tally: &mut self.tally,
            buffer,
        };
        f(&mut connections[at as usize], &mut io)
    }

    fn is_over(&self, now: u64) -> bool {
        match self.phase {
            Phase::Sending => false,
            Phase::Draining(until) => {
                let connections = &self.worker.connections;
                now >= until
                    || connections
                        .iter()
                        .all(|connection| connection.awaited_replies() == 0)
            }
        }
    }

    /// Counts requests that were due and not queued as unsent, and unanswered ones as lost.
    fn finish(&mut self, now: u64) {
        while let Some(due) = self
            .due_ns
            .filter(|due| *due < self.tally.until && self.remaining > 0)
        {
            self.tally.add_unsent(due, now);
            if due >= self.config.from_ns {
                self.remaining -= 1;
            }
            self.next_due();
        }
        for at in 0..self.worker.connections.len() as u32 {
            self.with_connection(at, Connection::stop);
            let connection = &mut self.worker.connections[at as usize];
            connection.is_free = false;
            connection.is_touched = false;
        }
        self.worker.live.publish(now, &self.tally, 0);
    }

    /// Waits for the next event; `Ready` if there is work already.
    fn wait(&mut self, now: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let due = self.due_ns.filter(|due| {
            self.phase == Phase::Sending
                && !self.free.is_empty()
                && *due < self.tally.until
                && self.remaining > 0
        });
        let is_near = |due: u64| due <= now.saturating_add(TIMER_SLACK_NS);
        if due.is_some_and(|due| due <= now || self.worker.spin && is_near(due)) {
            self.idle_since_ns = Some(now);
            // Wakes again at once, after the I/O driver has polled the sockets.
            return pin!(yield_now()).poll(cx).map(Ok);
        }
        let slack = if self.worker.spin { TIMER_SLACK_NS } else { 0 };
        let edge = match self.phase {
            Phase::Sending if now < self.config.from_ns => self.config.from_ns,
            Phase::Sending if now < self.config.until_ns => self.config.until_ns,
            Phase::Sending => NEVER,
            Phase::Draining(until) => until,
        };
        let wake = due
            .map_or(NEVER, |due| due - slack)
            .min(self.next_check_ns)
            .min(edge);
        if wake <= now {
            return Poll::Ready(Ok(()));
        }
        self.worker.timer.poll_until(wake, now, cx)
    }

    /// Returns the result of the run.
    fn into_result(self) -> WorkerResult {
        let now = self.config.clock.now();
        let closed = self.usage_at_end.unwrap_or_else(|| self.usage(now));
        let opened = self.usage_at_start.unwrap_or(closed);
        WorkerResult {
            from_ns: self.config.from_ns,
            until_ns: closed.at_ns,
            cpu: closed.thread.saturating_sub(opened.thread),
            spun_ns: closed.spun_ns - opened.spun_ns,
            process: closed.process.saturating_sub(opened.process),
            stall_ns: self.stall.longest(),
            standstill_ns: self.standstill.longest(),
            tally: self.tally,
        }
    }
}

/// Whether this machine had no free local port for any of the addresses (connect(2), EADDRNOTAVAIL).
fn lacks_port(error: &DialError) -> bool {
    let DialError::Refused { attempts, .. } = error else {
        return false;
    };
    attempts
        .iter()
        .any(|attempt| attempt.error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests;

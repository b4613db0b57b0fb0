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

use tokio::task::yield_now;

use super::{
    clock::Clock,
    connection::{Connection, IoContext},
    cpu,
    schedule::Schedule,
    stall::StallTracker,
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
    pub(super) from: u64,
    pub(super) until: u64,
    /// Share of this thread in the request count.
    pub(super) count: Option<u64>,
    pub(super) drain_timeout: u64,
    /// Time without any reply after which a run with a request count ends.
    pub(super) give_up: u64,
    pub(super) stop: Arc<AtomicBool>,
}

/// Result of a run on one thread.
#[derive(Debug)]
pub(super) struct WorkerResult {
    pub(super) tally: Tally,
    /// Start and end of the longest stall.
    pub(super) stall: (u64, u64),
    /// Actual start and end of the window.
    pub(super) from: u64,
    pub(super) until: u64,
    /// CPU time of this thread over the window including busy-waiting, and the time spent busy-waiting.
    pub(super) cpu: Duration,
    pub(super) spun: u64,
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
    phase: Phase,
    /// Next due time of the schedule.
    due: Option<u64>,
    /// Number of requests that may still be queued.
    remaining: u64,
    /// Connections with free capacity, longest free first.
    free: VecDeque<u32>,
    /// Since when `free` has not been empty.
    free_since: u64,
    touched: Vec<u32>,
    next_check: u64,
    /// Sending ends before the window does: it was stopped, or the server does not answer.
    is_cut: bool,
    /// The common start time of all threads has passed.
    is_started: bool,
    /// Since when the loop has been busy-waiting.
    idle_since: Option<u64>,
    spun: u64,
    opened: Option<ResourceUsage>,
    closed: Option<ResourceUsage>,
}

/// CPU usage at a point in time.
#[derive(Clone, Copy, Debug)]
struct ResourceUsage {
    at: u64,
    thread: Duration,
    process: Duration,
    spun: u64,
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
            tally: Tally::new(config.from, config.until),
            stall: StallTracker::default(),
            phase: Phase::Sending,
            due,
            remaining: config.count.unwrap_or(NEVER),
            free: VecDeque::with_capacity(worker.connections.len()),
            free_since: 0,
            touched: Vec::with_capacity(worker.connections.len()),
            next_check: 0,
            is_cut: false,
            is_started: false,
            idle_since: None,
            spun: 0,
            opened: None,
            closed: None,
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
            let idle = self.idle_since.take();
            let received = self.receive(cx);
            let queued = self.queue_due(now);
            self.flush();
            if let Some(since) = idle.filter(|_| !received && !queued && self.is_in_window()) {
                self.spun += now.saturating_sub(since);
            }
            let now = self.config.clock.now();
            self.update_window(now);
            if now >= self.next_check {
                self.next_check = now + CHECK_INTERVAL_NS;
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

    fn receive_from(&mut self, at: u32) {
        match self.with_connection(at, Connection::receive) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => self.worker.ready.wake(at),
            Err(_) => self.tally.failures.refused += 1,
        }
        if self.phase == Phase::Sending {
            self.redial(at);
            self.fill(at);
        }
        self.touch(at);
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
                    self.free_since = self.config.clock.now();
                }
                self.free.push_back(at);
            }
            return;
        }
        if room == 0 {
            return;
        }
        let now = self.config.clock.now();
        if now >= self.config.until {
            return;
        }
        for _ in 0..room {
            if now >= self.config.from {
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
            let Some(due) = self.due.filter(|due| self.may_queue(*due, now)) else {
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
                .add_queued(due, now.saturating_sub(due.max(self.free_since)));
            if due >= self.config.from {
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
        self.due = self.config.schedule.as_mut().and_then(Iterator::next);
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
        self.opened.is_some() && self.closed.is_none()
    }

    /// Opens and closes the window, and ends sending.
    fn update_window(&mut self, now: u64) {
        if self.opened.is_none() && now >= self.config.from {
            self.opened = Some(self.usage(now));
        }
        let Phase::Sending = self.phase else {
            return;
        };
        let is_counted_out = self.remaining == 0;
        if now < self.config.until && !is_counted_out {
            return;
        }
        if self.closed.is_none() {
            self.closed = Some(self.usage(now));
        }
        let is_behind = self
            .due
            .is_some_and(|due| due < self.tally.until && due <= now);
        if is_counted_out || !is_behind || now >= self.config.until.saturating_add(CATCH_UP_NS) {
            self.phase = Phase::Draining(now.saturating_add(self.config.drain_timeout));
        }
    }

    fn usage(&self, at: u64) -> ResourceUsage {
        ResourceUsage {
            at,
            thread: cpu::of_thread(),
            process: cpu::of_process(),
            spun: self.spun,
        }
    }

    /// Checks timeouts and the stop flag, and publishes the progress.
    fn check(&mut self, now: u64) {
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
        self.config.drain_timeout = self.config.drain_timeout.min(STOPPED_DRAIN_NS);
        if let Phase::Draining(until) = &mut self.phase {
            *until = (*until).min(now.saturating_add(STOPPED_DRAIN_NS));
        }
        if now < self.config.until {
            self.config.until = now;
            self.tally.until = now.max(self.config.from);
        }
    }

    /// Looks for a stall. One that is too long ends a run that would wait for its request count.
    fn observe_stall(&mut self, now: u64, is_in_flight: bool) {
        if self.phase != Phase::Sending {
            return;
        }
        // In a closed loop, a connection that is not open keeps a request waiting.
        let is_due =
            self.config.schedule.is_none() || self.due.is_some_and(|due| self.may_queue(due, now));
        self.stall
            .observe(now, self.tally.last, is_in_flight || is_due);
        if self.config.count.is_some() && self.stall.current(now) >= self.config.give_up {
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
            .due
            .filter(|due| *due < self.tally.until && self.remaining > 0)
        {
            self.tally.add_unsent(due, now);
            if due >= self.config.from {
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
        let due = self.due.filter(|due| {
            self.phase == Phase::Sending
                && !self.free.is_empty()
                && *due < self.tally.until
                && self.remaining > 0
        });
        let is_near = |due: u64| due <= now.saturating_add(TIMER_SLACK_NS);
        if due.is_some_and(|due| due <= now || self.worker.spin && is_near(due)) {
            self.idle_since = Some(now);
            // Wakes again at once, after the I/O driver has polled the sockets.
            return pin!(yield_now()).poll(cx).map(Ok);
        }
        let slack = if self.worker.spin { TIMER_SLACK_NS } else { 0 };
        let edge = match self.phase {
            Phase::Sending if now < self.config.from => self.config.from,
            Phase::Sending if now < self.config.until => self.config.until,
            Phase::Sending => NEVER,
            Phase::Draining(until) => until,
        };
        let wake = due
            .map_or(NEVER, |due| due - slack)
            .min(self.next_check)
            .min(edge);
        if wake <= now {
            return Poll::Ready(Ok(()));
        }
        self.worker.timer.poll_until(wake, now, cx)
    }

    /// Returns the result of the run.
    fn into_result(self) -> WorkerResult {
        let now = self.config.clock.now();
        let closed = self.closed.unwrap_or_else(|| self.usage(now));
        let opened = self.opened.unwrap_or(closed);
        WorkerResult {
            from: self.config.from,
            until: closed.at,
            cpu: closed.thread.saturating_sub(opened.thread),
            spun: closed.spun - opened.spun,
            process: closed.process.saturating_sub(opened.process),
            stall: self.stall.longest(),
            tally: self.tally,
        }
    }
}

#[cfg(test)]
mod tests;

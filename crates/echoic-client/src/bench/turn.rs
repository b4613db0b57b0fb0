//! The loop: one thread's connections, whatever the load.
//!
//! Each turn hears those that have something to say, asks what is due, and writes what was queued: one write for all
//! that one connection says at a time. In a closed loop a reply is what makes the next request due.

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
    connection::{Connection, Look},
    cpu,
    pace::SLACK,
    schedule::Schedule,
    tally::Tally,
    worker::Worker,
};

/// Requests of a late schedule that are asked before replies are looked at again.
const CATCH_UP: usize = 256;
/// What was due within the window and found no free connection may still be asked for so long, in nanoseconds.
const GRACE: u64 = 100_000_000;
/// Deadlines and signals are looked at so often, in nanoseconds.
const TICK: u64 = 10_000_000;
/// Never.
const NEVER: u64 = u64::MAX;

/// What one thread is to do in a run.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) clock: Clock,
    pub(super) schedule: Option<Schedule>,
    /// When the window opens and closes.
    pub(super) from: u64,
    pub(super) until: u64,
    /// This thread's share of a counted run.
    pub(super) count: Option<u64>,
    pub(super) drain_timeout: u64,
    pub(super) stop: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) tally: Tally,
    /// The window as it was.
    pub(super) from: u64,
    pub(super) until: u64,
    /// CPU time of this thread over it, what it waited at full speed included, and that alone.
    pub(super) cpu: Duration,
    pub(super) spun: u64,
    /// CPU time of the whole process over it.
    pub(super) process: Duration,
}

/// Has a worker do as ordered.
pub(super) async fn run(worker: &mut Worker, order: Order) -> io::Result<Part> {
    let mut turn = Turn::new(worker, order);
    poll_fn(|cx| turn.poll(cx)).await?;
    Ok(turn.into_part())
}

/// A run under way.
struct Turn<'a> {
    worker: &'a mut Worker,
    order: Order,
    tally: Tally,
    phase: Phase,
    /// The next moment of the schedule.
    due: Option<u64>,
    /// Requests that may still be asked.
    left: u64,
    /// Connections with room, the one that has waited longest first.
    free: VecDeque<u32>,
    /// Since when there has been one.
    free_since: u64,
    touched: Vec<u32>,
    tick: u64,
    /// The start has come, which all threads wait for.
    is_started: bool,
    /// When the last turn found nothing to do and went on looking.
    idle_since: Option<u64>,
    spun: u64,
    opened: Option<Used>,
    closed: Option<Used>,
}

/// What had been used up at a moment.
#[derive(Clone, Copy, Debug)]
struct Used {
    at: u64,
    thread: Duration,
    process: Duration,
    spun: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the window, or in it.
    Asking,
    /// Replies are waited for until then.
    Draining(u64),
}

impl<'a> Turn<'a> {
    /// Of the worker's connections, under this order.
    fn new(worker: &'a mut Worker, mut order: Order) -> Self {
        let due = order.schedule.as_mut().and_then(Iterator::next);
        for connection in &worker.connections {
            debug_assert_eq!(connection.in_flight(), 0);
        }
        for at in 0..worker.connections.len() as u32 {
            worker.ready.wake(at);
        }
        Self {
            tally: Tally::new(order.from, order.until),
            phase: Phase::Asking,
            due,
            left: order.count.unwrap_or(NEVER),
            free: VecDeque::with_capacity(worker.connections.len()),
            free_since: 0,
            touched: Vec::with_capacity(worker.connections.len()),
            tick: 0,
            is_started: false,
            idle_since: None,
            spun: 0,
            opened: None,
            closed: None,
            worker,
            order,
        }
    }

    /// Ready once the run is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_started {
            // Before it every moment would be 0, and a reply as old as its request.
            while let ahead @ 1.. = self.order.clock.ahead() {
                ready!(self.worker.pace.poll_until(ahead, 0, cx))?;
            }
            self.is_started = true;
        }
        loop {
            let now = self.order.clock.now();
            let idle = self.idle_since.take();
            let heard = self.hear(cx);
            let asked = self.ask_due(now);
            self.flush();
            if let Some(since) = idle.filter(|_| !heard && !asked && self.is_in_window()) {
                self.spun += now.saturating_sub(since);
            }
            let now = self.order.clock.now();
            self.pass(now);
            if now >= self.tick {
                self.tick = now + TICK;
                self.check(now);
            }
            if self.is_over(now) {
                self.finish(now);
                return Poll::Ready(Ok(()));
            }
            match self.rest(now, cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
    }

    /// Those that were woken read; in a closed loop they are asked again for what was answered.
    fn hear(&mut self, cx: &mut Context<'_>) -> bool {
        let woken = self.worker.ready.take(cx);
        for at in &woken {
            self.hear_one(*at);
        }
        let any = !woken.is_empty();
        self.worker.ready.give_back(woken);
        any
    }

    fn hear_one(&mut self, at: u32) {
        match self.look(at, Connection::hear) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => self.worker.ready.wake(at),
            Err(_) => self.tally.failures.refused += 1,
        }
        if self.phase == Phase::Asking {
            self.replace(at);
            self.offer(at);
        }
        self.touch(at);
    }

    /// A connection that is over is followed by another.
    fn replace(&mut self, at: u32) {
        let now = self.order.clock.now();
        let connection = &mut self.worker.connections[at as usize];
        if connection.is_to_be_dialled(now) {
            connection.dial(&self.worker.shared);
            self.tally.failures.reconnects += 1;
            self.worker.ready.wake(at);
        }
    }

    /// In a closed loop, asks what there is room for; in an open one, a connection with room queues for the schedule.
    fn offer(&mut self, at: u32) {
        let connection = &mut self.worker.connections[at as usize];
        let room = connection.room(&self.worker.shared);
        if self.order.schedule.is_some() {
            if room > 0 && !connection.is_free {
                connection.is_free = true;
                if self.free.is_empty() {
                    self.free_since = self.order.clock.now();
                }
                self.free.push_back(at);
            }
            return;
        }
        if room == 0 {
            return;
        }
        let now = self.order.clock.now();
        if now >= self.order.until {
            return;
        }
        for _ in 0..room {
            if now >= self.order.from {
                if self.left == 0 {
                    break;
                }
                self.left -= 1;
            }
            connection.ask(now, now, &self.order.clock, &self.worker.shared);
            self.tally.asked(now, 0);
        }
    }

    fn touch(&mut self, at: u32) {
        let connection = &mut self.worker.connections[at as usize];
        if !connection.is_touched {
            connection.is_touched = true;
            self.touched.push(at);
        }
    }

    /// Asks what is due, as far as there are connections for it.
    fn ask_due(&mut self, now: u64) -> bool {
        let mut asked = false;
        for _ in 0..CATCH_UP {
            let Some(due) = self.due.filter(|due| self.may_ask(*due, now)) else {
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
            connection.ask(due, now, &self.order.clock, &self.worker.shared);
            self.tally
                .asked(due, now.saturating_sub(due.max(self.free_since)));
            if due >= self.order.from {
                self.left -= 1;
            }
            if connection.room(&self.worker.shared) > 0 {
                connection.is_free = true;
                self.free.push_back(at);
            }
            self.touch(at);
            self.next_due();
            asked = true;
        }
        asked
    }

    fn may_ask(&self, due: u64, now: u64) -> bool {
        self.phase == Phase::Asking && due <= now && due < self.tally.until && self.left > 0
    }

    fn next_due(&mut self) {
        self.due = self.order.schedule.as_mut().and_then(Iterator::next);
    }

    fn flush(&mut self) {
        while let Some(at) = self.touched.pop() {
            self.look(at, |connection, look| {
                connection.is_touched = false;
                connection.flush(look);
            });
            let is_open = self.worker.connections[at as usize].is_open();
            if !is_open && self.phase == Phase::Asking {
                self.worker.ready.wake(at);
            }
        }
    }
    fn is_in_window(&self) -> bool {
        self.opened.is_some() && self.closed.is_none()
    }

    /// The window opens and closes, and asking ends.
    fn pass(&mut self, now: u64) {
        if self.opened.is_none() && now >= self.order.from {
            self.opened = Some(self.used(now));
        }
        let Phase::Asking = self.phase else {
            return;
        };
        let is_counted_out = self.left == 0;
        if now < self.order.until && !is_counted_out {
            return;
        }
        if self.closed.is_none() {
            self.closed = Some(self.used(now));
        }
        let is_behind = self
            .due
            .is_some_and(|due| due < self.tally.until && due <= now);
        if is_counted_out || !is_behind || now >= self.order.until.saturating_add(GRACE) {
            self.phase = Phase::Draining(now.saturating_add(self.order.drain_timeout));
        }
    }

    fn used(&self, at: u64) -> Used {
        Used {
            at,
            thread: cpu::of_thread(),
            process: cpu::of_process(),
            spun: self.spun,
        }
    }

    /// Looks at deadlines and signals.
    fn check(&mut self, now: u64) {
        if self.order.stop.load(Ordering::Relaxed) && now < self.order.until {
            self.order.until = now;
            self.tally.until = now.max(self.order.from);
        }
        for at in 0..self.worker.connections.len() as u32 {
            self.look(at, |connection, look| connection.check(now, look));
            if self.phase == Phase::Asking {
                self.replace(at);
            }
        }
        let in_flight = self
            .worker
            .connections
            .iter()
            .map(Connection::in_flight)
            .sum();
        self.worker.live.tell(now, &self.tally, in_flight);
    }

    fn look<T>(
        &mut self,
        at: u32,
        what: impl FnOnce(&mut Connection, &mut Look<'_, '_>) -> T,
    ) -> T {
        let Worker {
            shared,
            connections,
            ready,
            buffer,
            ..
        } = &mut *self.worker;
        let mut look = Look {
            cx: &mut Context::from_waker(ready.waker(at)),
            clock: &self.order.clock,
            shared,
            tally: &mut self.tally,
            buffer,
        };
        what(&mut connections[at as usize], &mut look)
    }

    fn is_over(&self, now: u64) -> bool {
        match self.phase {
            Phase::Asking => false,
            Phase::Draining(until) => {
                let connections = &self.worker.connections;
                now >= until
                    || connections
                        .iter()
                        .all(|connection| connection.awaited() == 0)
            }
        }
    }

    /// What was due and not asked, and what was asked and not answered, is counted as that.
    fn finish(&mut self, now: u64) {
        while let Some(due) = self
            .due
            .filter(|due| *due < self.tally.until && self.left > 0)
        {
            self.tally.never_asked(due, now);
            if due >= self.order.from {
                self.left -= 1;
            }
            self.next_due();
        }
        for at in 0..self.worker.connections.len() as u32 {
            self.look(at, Connection::stop);
            let connection = &mut self.worker.connections[at as usize];
            connection.is_free = false;
            connection.is_touched = false;
        }
        self.worker.live.tell(now, &self.tally, 0);
    }

    /// Waits for the next thing to do: ready if there is something already.
    fn rest(&mut self, now: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let due = self.due.filter(|due| {
            self.phase == Phase::Asking
                && !self.free.is_empty()
                && *due < self.tally.until
                && self.left > 0
        });
        let is_near = |due: u64| due <= now.saturating_add(SLACK);
        if due.is_some_and(|due| due <= now || self.worker.spin && is_near(due)) {
            self.idle_since = Some(now);
            // Woken again at once, after the sockets have been looked at.
            return pin!(yield_now()).poll(cx).map(Ok);
        }
        let slack = if self.worker.spin { SLACK } else { 0 };
        let edge = match self.phase {
            Phase::Asking if now < self.order.from => self.order.from,
            Phase::Asking if now < self.order.until => self.order.until,
            Phase::Asking => NEVER,
            Phase::Draining(until) => until,
        };
        let wake = due
            .map_or(NEVER, |due| due - slack)
            .min(self.tick)
            .min(edge);
        if wake <= now {
            return Poll::Ready(Ok(()));
        }
        self.worker.pace.poll_until(wake, now, cx)
    }

    /// What the run has shown.
    fn into_part(self) -> Part {
        let now = self.order.clock.now();
        let closed = self.closed.unwrap_or_else(|| self.used(now));
        let opened = self.opened.unwrap_or(closed);
        Part {
            from: self.order.from,
            until: closed.at,
            cpu: closed.thread.saturating_sub(opened.thread),
            spun: closed.spun - opened.spun,
            process: closed.process.saturating_sub(opened.process),
            tally: self.tally,
        }
    }
}

#[cfg(test)]
mod tests;

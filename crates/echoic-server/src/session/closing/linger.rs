//! The wait after the end of our half: if the socket were closed while the peer still sends, the kernel would reset the
//! connection and discard what the peer has not read.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use echoic_core::ending::CloseReason;
use echoic_wire::{Look, SendQueue};
use tokio::time::Instant;

use crate::{
    session::{SCRATCH, Session},
    wait::Wakeup,
};

/// How many times `--linger-timeout` a peer that keeps sending can delay the close.
const LINGER_STRETCH: u32 = 10;

/// At the stop of the server: the silence after which a connection counts as idle, if the peer's program has read
/// everything we sent. A request that crosses the stop comes sooner.
const IDLE_READ: Duration = Duration::from_millis(100);

/// The same if only the peer's system is known to have everything. Some systems discard what their program has not read
/// when they get a reset, so a program that sends again within this time is given the full linger.
const IDLE_ACKNOWLEDGED: Duration = Duration::from_secs(1);

/// The state of a lingering close.
struct Linger {
    /// The longest silence of the peer.
    timeout: Duration,
    /// A peer that keeps sending is not waited for any longer.
    until: Instant,
    /// Since when the peer has neither sent nor taken anything.
    silent_since: Instant,
    /// When bytes last went either way.
    active_at: Instant,
    /// Whether to look at what the peer has not taken: it may still take some.
    looks: bool,
    /// What the peer has not taken, if known.
    queue: Option<SendQueue>,
    draining: bool,
}

/// The end of one wait.
enum LingerEvent {
    Read(io::Result<usize>),
    Woken(Wakeup),
}

impl Linger {
    /// The silence after which an idle connection is closed at the stop: nothing we sent can be lost any more.
    fn idle_timeout(&self) -> Option<Duration> {
        match self.queue? {
            _ if !self.draining => None,
            SendQueue {
                unacknowledged: 0,
                unread: Some(0),
            } => Some(IDLE_READ),
            SendQueue {
                unacknowledged: 0,
                unread: None,
            } => Some(IDLE_ACKNOWLEDGED),
            _ => None,
        }
    }

    /// When the wait is over unless something happens.
    fn end(&self) -> Instant {
        let end = self.until.min(self.silent_since + self.timeout);
        match self.idle_timeout() {
            Some(idle) => end.min(self.active_at + idle),
            None => end,
        }
    }

    fn start_drain(&mut self, now: Instant) {
        if !self.draining {
            self.draining = true;
            self.until = self.until.min(now + self.timeout);
        }
    }
}

impl Session {
    /// Reads and discards what the peer still sends, until it ends its half, or neither sends nor takes anything for
    /// `--linger-timeout`. When the server stops, an idle connection is closed at once. An error is how the connection
    /// ended.
    pub(super) async fn linger(&mut self, reason: CloseReason) -> io::Result<()> {
        let mut linger = self.start_linger(reason);
        loop {
            // At the stop an idle connection was over before it came here: that is no deadline noticed late.
            let mut deadline = linger.end().max(Instant::now());
            if linger.looks {
                let progress = &self.timestamps.progress;
                deadline = deadline.min(progress.next_look(linger.silent_since, linger.timeout));
            }
            match poll_fn(|cx| self.poll_linger(cx, deadline)).await {
                LingerEvent::Read(Ok(n)) if n > 0 => {
                    self.tally.discarded += n as u64;
                    linger.silent_since = Instant::now();
                    linger.active_at = linger.silent_since;
                }
                LingerEvent::Read(over) => return over.map(|_| ()),
                LingerEvent::Woken(wakeup) => {
                    if wakeup == Wakeup::Drain {
                        linger.start_drain(Instant::now());
                    }
                    if linger.looks {
                        self.look_while_lingering(&mut linger);
                    }
                }
            }
            if Instant::now() >= linger.end() {
                return Ok(());
            }
        }
    }

    fn start_linger(&mut self, reason: CloseReason) -> Linger {
        let (now, timeout) = (Instant::now(), self.limits.linger_timeout);
        // A peer that does not read gains nothing by a longer wait.
        let is_stalled = reason == CloseReason::WriteTimeout;
        let stretch = if is_stalled { 1 } else { LINGER_STRETCH };
        let is_sent = self.tally.sent > 0;
        let nothing = SendQueue {
            unacknowledged: 0,
            unread: Some(0),
        };
        let mut linger = Linger {
            timeout,
            until: now + timeout * stretch,
            silent_since: now,
            active_at: self.timestamps.received_at.max(self.timestamps.sent_at),
            looks: is_sent && !is_stalled,
            queue: (!is_sent).then_some(nothing),
            draining: false,
        };
        if self.drain.has_started() {
            linger.start_drain(now);
            if linger.looks {
                self.look_while_lingering(&mut linger);
            }
        }
        linger
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<LingerEvent> {
        let read =
            SCRATCH.with_borrow_mut(|scratch| self.link.poll_read(cx, &mut scratch.read_buffer));
        match read {
            Poll::Ready(read) => Poll::Ready(LingerEvent::Read(read)),
            Poll::Pending => self.wait.poll(cx, deadline).map(LingerEvent::Woken),
        }
    }

    /// A peer that takes what we sent is not silent, and may take as long as it needs: the queue is finite.
    fn look_while_lingering(&mut self, linger: &mut Linger) {
        let progress = &mut self.timestamps.progress;
        let look = progress.look(&self.link, &mut linger.silent_since);
        linger.queue = progress.queue();
        linger.looks = matches!(look, Look::Taken | Look::Unchanged);
        if look == Look::Taken {
            linger.until = linger.until.max(linger.silent_since + linger.timeout);
        }
    }
}

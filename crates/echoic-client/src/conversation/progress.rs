//! Whether the peer is there and takes what was sent: a slow reader is not a silent one.

use echoic_wire::Look;
use tokio::time::Instant;

use super::{ClientEvent, Conversation, DEADLINE_LATE, Deadline, LinkEvent, Observer, WriteHalf};
use crate::{
    after_fin,
    ending::{Ending, TimeoutKind},
};

impl Conversation {
    /// Returns when to look next at what the peer has not taken, while a timeout runs and there may be such bytes.
    pub(super) fn next_look(&self) -> Option<(Instant, Deadline)> {
        if !self.looks {
            return None;
        }
        let has_finished = self.write_half == WriteHalf::Finished;
        let timeouts = &self.timeouts;
        let timeout = [
            timeouts.idle_timeout,
            timeouts.linger_timeout.filter(|_| has_finished),
            timeouts.settle.filter(|_| has_finished),
            self.is_sending().then_some(timeouts.write_timeout),
        ];
        let timeout = timeout.into_iter().flatten().min()?;
        let at = self.progress.next_look(self.last_write, timeout);
        Some((at, Deadline::Look))
    }

    /// Looks at what the peer has not taken. If it may have taken some, timeouts start again.
    pub(super) fn look(&mut self) -> Look {
        let look = self.progress.look(&self.link, &mut self.last_write);
        self.looks = matches!(look, Look::Taken | Look::Unchanged);
        if look == Look::Taken {
            self.last_activity = self.last_activity.max(self.last_write);
        }
        look
    }

    /// Returns whether the conversation goes on although a timeout has expired: the peer is still taking what was sent, or
    /// the kernel takes more.
    pub(super) fn has_progressed(
        &mut self,
        kind: TimeoutKind,
        observer: &mut impl Observer,
    ) -> bool {
        if self.datagrams || self.tally.counts.sent.bytes == 0 {
            return false;
        }
        match (self.look(), kind) {
            (Look::Taken, _) => true,
            (Look::Unknown | Look::Empty, TimeoutKind::Write) => {
                let unsent = &self.sending[self.written..];
                let Ok(sent @ 1..) = self.link.try_write(unsent) else {
                    return false;
                };
                self.handle_link_event(LinkEvent::Wrote(Ok(sent)), observer);
                true
            }
            _ => false,
        }
    }

    /// Bytes that the kernel took and the peer's system has not acknowledged, at the last look; 0 if unknown.
    pub(super) fn unacknowledged(&self) -> u64 {
        let queue = self.progress.queue();
        queue.map_or(0, |queue| queue.unacknowledged)
    }

    /// Looks whether the peer, which has sent its FIN, is still there.
    pub(super) fn look_at_peer(&mut self) -> Option<Ending> {
        let after_fin = self.after_fin.as_mut()?;
        let (now, finished) = (Instant::now(), self.write_half == WriteHalf::Finished);
        let sent = self.tally.counts.sent.bytes;
        match after_fin.look(&self.link, finished, sent, now) {
            after_fin::Look::Over { cut } => {
                self.upload_cut = cut;
                return Some(Ending::PeerClosed);
            }
            after_fin::Look::Progress => self.last_write = now,
            after_fin::Look::Wait => {}
        }
        if after_fin.is_report_due(now) && self.write_half == WriteHalf::Open {
            after_fin.reported = true;
            self.events.push_back(ClientEvent::HalfClosed);
        }
        None
    }

    /// Ends our half after the peer's if it was open only for the peer ([`ClientCommand::Hold`]).
    pub(super) fn finish_if_held(&mut self, no_commands: bool) {
        let is_done = self.holds && self.after_fin.is_some() && !self.is_sending() && no_commands;
        if is_done && self.write_half == WriteHalf::Open {
            self.write_half = WriteHalf::Finishing;
        }
    }

    /// Restarts the timeouts if the deadline was noticed as late as if this process had been stopped, or the machine
    /// suspended. What arrived meanwhile is then read first.
    pub(super) fn was_stopped(&mut self, deadline: Option<(Instant, Deadline)>) -> bool {
        let was_stopped = deadline.is_some_and(|(at, kind)| {
            matches!(kind, Deadline::Timeout(_) | Deadline::Settled)
                && at.elapsed() >= DEADLINE_LATE
        });
        if was_stopped {
            self.restart_timeouts();
        }
        was_stopped
    }
}

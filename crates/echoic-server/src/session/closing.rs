//! How a conversation ends once there is a reason to: what is unsent is sent, our half of the stream is ended, and the
//! peer is given time to take it all.

mod linger;

use std::{
    future::poll_fn,
    io,
    ops::ControlFlow,
    task::{Context, Poll, ready},
};

use echoic_core::{
    ending::{CloseReason, Ending},
    left_over::LeftOver,
};
use echoic_wire::Look;
use tokio::time::error::Elapsed;

use super::{ActiveHandler, Phase, Session, Turn, socket_failed};
use crate::{handler_task::HalfState, wait::Wakeup};

impl Session {
    /// Sends what is unsent, ends our half of the stream, and gives the peer time to take it all: if the socket were
    /// closed while the peer still sends, the kernel would reset the connection and discard what the peer has not read.
    ///
    /// The reason is not final before everything is sent: a conversation that is cut until then ends as `drain-timeout`.
    /// That the kernel took all bytes does not mean that the peer has them: after `service-closed` a reset during the
    /// linger makes the reason `peer-reset`. Other reasons were true before.
    pub(super) async fn close(&mut self, mut reason: CloseReason) {
        let half_closed = matches!(self.phase, Phase::HalfClosed { .. });
        self.record_unfinished_reply();
        if !matches!(
            reason,
            CloseReason::PeerReset
                | CloseReason::SystemError
                | CloseReason::WriteTimeout
                | CloseReason::StoreFailed
                | CloseReason::ResetByUs
                | CloseReason::ResetByOperator
                | CloseReason::DrainTimeout
        ) {
            let flushed = poll_fn(|cx| self.poll_flush(cx)).await;
            if let ControlFlow::Break(otherwise) = flushed {
                reason = otherwise;
            }
        }
        self.phase = Phase::Closing(reason);
        let is_abrupt = matches!(
            reason,
            CloseReason::ResetByUs | CloseReason::ResetByOperator | CloseReason::DrainTimeout
        );
        if is_abrupt || (half_closed && self.link.closes_on_drop()) {
            return;
        }
        let gone = match self.finish(reason).await {
            Ok(Ok(())) if !half_closed => self.linger(reason).await,
            Ok(finished) => finished,
            Err(_) => Ok(()),
        };
        if let (CloseReason::ServiceClosed, Err(error)) = (reason, gone)
            && socket_failed(&error) == CloseReason::PeerReset
        {
            self.phase = Phase::Closing(CloseReason::PeerReset);
        }
    }

    /// The end of the conversation, with the bytes that made no message if it is recorded. Without a reason it is being
    /// dropped before its end.
    pub(super) fn ending(&self) -> Ending {
        let reason = self.phase.reason();
        let mut ending = self
            .tally
            .ending(reason.unwrap_or_else(|| self.totals.reason_of_drop()));
        if self.journal.is_active() {
            ending.left_over = LeftOver::new(self.framing.inbound, self.inbox.unfinished());
        }
        ending
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        while !self.outbox.is_empty() {
            let turn = match self.poll_send(cx) {
                Poll::Ready(turn) => turn,
                Poll::Pending => {
                    let (deadline, overdue) = self.deadline();
                    match ready!(self.wait.poll(cx, deadline)) {
                        Wakeup::Drain => ControlFlow::Continue(()),
                        Wakeup::Deadline => self.expire(overdue),
                    }
                }
            };
            if turn.is_break() {
                return Poll::Ready(turn);
            }
        }
        Poll::Ready(ControlFlow::Continue(()))
    }

    /// Ends our half of the stream. Only the close message of a layer may have to wait; it gets `--linger-timeout`, and
    /// again while the peer takes what was sent before it.
    async fn finish(&mut self, reason: CloseReason) -> Result<io::Result<()>, Elapsed> {
        let our_half = match &self.handler {
            ActiveHandler::Inline(_) => HalfState::Open,
            ActiveHandler::Spawned(handler) => handler.our_half,
            ActiveHandler::Dismissed(half) => *half,
        };
        if our_half == HalfState::Finished {
            return Ok(Ok(()));
        }
        loop {
            let finished = poll_fn(|cx| self.link.poll_finish(cx));
            let finished = self.timers.timeout(self.limits.linger_timeout, finished);
            match finished.await {
                Err(_) if reason != CloseReason::WriteTimeout && self.look() == Look::Taken => {}
                finished => return finished,
            }
        }
    }
}

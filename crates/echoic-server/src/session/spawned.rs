//! The replies of a spawned handler: they are polled beside the peer, and leave the same way as others.

use std::{
    ops::ControlFlow,
    task::{Context, Poll, ready},
};

use echoic_core::{
    ending::CloseReason,
    event::{ConversationId, Outcome, RunMeta},
    framing::ReplyTooLong,
    service::{Reply, ServiceError, WorkerLost},
};
use echoic_recorder::{Clock, Journal, Paired, Pairing};
use tokio::time::Instant;

use super::{ActiveHandler, Phase, Received, Run, Session, Turn, socket_failed};
use crate::{
    handler_task::{HalfState, HandlerOutput, HandlerTask},
    tally::Tally,
};

/// Bytes of replies that may be unsent because the peer does not read; then no more are taken from the handler.
const UNSENT_MAX: usize = 64 << 10;

impl Session {
    /// Polls the peer and a spawned handler, in alternating order.
    pub(super) fn poll_receive_or_handler_output(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let ActiveHandler::Spawned(handler) = &mut self.handler else {
            return Poll::Pending;
        };
        handler.receive_first = !handler.receive_first;
        let steps = if handler.receive_first {
            [Self::poll_receive, Self::poll_handler_output]
        } else {
            [Self::poll_handler_output, Self::poll_receive]
        };
        for step in steps {
            if let Poll::Ready(turn) = step(self, cx) {
                return Poll::Ready(turn);
            }
        }
        Poll::Pending
    }

    /// Takes what a spawned handler sends, unless too much of it is unsent.
    fn poll_handler_output(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let ActiveHandler::Spawned(handler) = &mut self.handler else {
            return Poll::Pending;
        };
        if handler.our_half == HalfState::FinRequested && self.outbox.is_empty() {
            match self.link.poll_finish(cx) {
                Poll::Ready(Ok(())) => handler.our_half = HalfState::Finished,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(ControlFlow::Break(socket_failed(&error)));
                }
                Poll::Pending => {}
            }
        }
        // With strict durability a reply leaves when it is recorded, so one that has begun must be completed.
        let is_incomplete = self.journal.holds_replies() && handler.has_unfinished_reply();
        if self.outbox.len() >= UNSENT_MAX && !is_incomplete {
            return Poll::Pending;
        }
        Poll::Ready(match ready!(handler.poll_output(cx)) {
            HandlerOutput::Reply(Reply::Reset) => {
                self.link.abort();
                ControlFlow::Break(CloseReason::ResetByUs)
            }
            HandlerOutput::Reply(_) if handler.our_half != HalfState::Open => {
                self.handler_failed(&ServiceError("it sent a reply after Finish".into()))
            }
            HandlerOutput::Reply(Reply::Finish) => {
                handler.our_half = HalfState::FinRequested;
                self.record_unfinished_reply();
                ControlFlow::Continue(())
            }
            HandlerOutput::Reply(Reply::Bytes { bytes, lengths }) => {
                self.send_reply(cx, &bytes, lengths.as_deref())
            }
            HandlerOutput::Returned(Err(error)) => self.handler_failed(&error),
            HandlerOutput::Returned(Ok(())) => {
                self.record_unfinished_reply();
                ControlFlow::Break(match self.phase {
                    Phase::HalfClosed { .. } => self.phase.reason_after_half_close(),
                    Phase::Draining { .. } | Phase::InputDrained => self.drain.close_reason(),
                    Phase::Open | Phase::Closing(_) => CloseReason::ServiceClosed,
                })
            }
        })
    }

    pub(super) fn send_reply(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        lengths: Option<&[u32]>,
    ) -> Turn {
        let sum = |lengths: &[u32]| lengths.iter().map(|len| *len as usize).sum::<usize>();
        if lengths.is_some_and(|lengths| sum(lengths) != bytes.len() && !lengths.is_empty()) {
            let error =
                ServiceError("the lengths of its replies do not add up to their bytes".into());
            return self.handler_failed(&error);
        }
        let sent = self.send(cx, bytes);
        self.record_reply(bytes, lengths);
        if self.outbox.is_empty() {
            self.timestamps.sent_at = Instant::now();
        }
        match sent {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(socket_failed(&error)),
        }
    }

    fn handler_failed(&mut self, error: &ServiceError) -> Turn {
        self.record_unfinished_reply();
        if error.0.is::<ReplyTooLong>() {
            return ControlFlow::Break(CloseReason::ReplyTooLong);
        }
        tracing::warn!(conversation = self.conversation, "{error}");
        if error.0.is::<WorkerLost>() {
            return ControlFlow::Break(CloseReason::WorkerLost);
        }
        ControlFlow::Break(CloseReason::ServiceFailed)
    }

    /// Hands the requests of a run to the handler and to the record.
    pub(super) fn push_requests(&mut self, run: &Run<'_>, received: &Received) {
        let Some((handler, mut record)) = self.handler_and_recorder() else {
            return;
        };
        handler.push(run);
        match &mut handler.pairing {
            Some(pairing) => {
                pairing.requests(received.at, received.reads, run, &mut |paired| {
                    record.record(&paired);
                });
            }
            None => record.tally.exchanges += run.len() as u64,
        }
    }

    fn record_reply(&mut self, bytes: &[u8], lengths: Option<&[u32]>) {
        let Some((handler, mut record)) = self.handler_and_recorder() else {
            return;
        };
        match &mut handler.pairing {
            Some(pairing) => {
                let now = Instant::now();
                pairing.reply(now, bytes, lengths, &mut |paired| record.record(&paired));
            }
            // Requests are counted as they are read.
            None => {
                let is_unasked = lengths.is_some_and(<[u32]>::is_empty);
                record.tally.exchanges += u64::from(is_unasked && !bytes.is_empty());
            }
        }
    }

    /// Records a reply whose end the handler has not sent: nothing follows it.
    pub(super) fn record_unfinished_reply(&mut self) {
        if let Some((handler, mut record)) = self.handler_and_recorder()
            && let Some(pairing) = &mut handler.pairing
        {
            pairing.flush(&mut |paired| record.record(&paired));
        }
    }

    /// The conversation is over: records what is left, and has the handler know.
    pub(super) fn close_handler(&mut self, reason: CloseReason) {
        if let Some((handler, mut record)) = self.handler_and_recorder() {
            if let Some(pairing) = &mut handler.pairing {
                pairing.end_of_input(false, &mut |paired| record.record(&paired));
            }
            handler.close(reason == CloseReason::PeerReset);
        }
    }

    /// Up to which offset of the produced bytes all is in the journal.
    pub(super) fn recorded_bytes(&self) -> u64 {
        let pairing = match &self.handler {
            ActiveHandler::Spawned(handler) => handler.pairing.as_ref(),
            ActiveHandler::Inline(_) | ActiveHandler::Dismissed(_) => None,
        };
        pairing.map_or(self.tally.produced, Pairing::recorded_bytes)
    }

    fn handler_and_recorder(&mut self) -> Option<(&mut HandlerTask, ExchangeRecorder<'_>)> {
        let ActiveHandler::Spawned(handler) = &mut self.handler else {
            return None;
        };
        let record = ExchangeRecorder {
            conversation: self.conversation,
            journal: &mut self.journal,
            tally: &mut self.tally,
            clock: &self.clock,
        };
        Some((handler, record))
    }
}

impl HandlerTask {
    pub(super) fn has_unfinished_reply(&self) -> bool {
        let pairing = self.pairing.as_ref();
        pairing.is_some_and(Pairing::has_unfinished_reply)
    }
}

/// Where the exchanges of a spawned handler are recorded.
struct ExchangeRecorder<'a> {
    conversation: ConversationId,
    journal: &'a mut Journal,
    tally: &'a mut Tally,
    clock: &'a Clock,
}

impl ExchangeRecorder<'_> {
    fn record(&mut self, paired: &Paired<'_>) {
        let meta = RunMeta {
            conversation: self.conversation,
            n: self.tally.exchanges + 1,
            at: self.clock.wall_time_at(paired.at),
            latency_ns: paired.latency.as_nanos() as u64,
            reads: paired.reads,
            reply_offset: paired.reply_offset,
        };
        let Paired {
            outcome,
            requests,
            replies,
            ..
        } = paired;
        let exchanges = replies.exchanges(requests);
        if exchanges == 0 {
            return;
        }
        self.tally.exchanges += exchanges;
        if *outcome == Outcome::Ok {
            self.journal.record_run(meta, requests, replies);
        } else {
            let (request, reply) = (requests.raw(), replies.bytes());
            self.journal.record_exchange(meta, *outcome, request, reply);
        }
    }
}

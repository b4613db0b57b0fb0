//! What an operator does with an open conversation: send into it, close it, end our half of it.
//!
//! Commands are looked at when nothing else is ready, which a conversation finds at each wake-up, also a busy one: the runtime
//! lets a task make so many calls and then finds none ready.

use std::{
    future::poll_fn,
    ops::ControlFlow,
    task::{Context, Poll},
};

use echoic_core::{
    control::{CloseHow, ControlError},
    ending::CloseReason,
    message::Run,
};
use tokio::time::Instant;

use super::{ActiveHandler, Phase, Received, SCRATCH, Session, Turn, socket_failed};
use crate::{
    control::{Action, Command, Mailbox, UNSENT_MAX},
    handler_task::HalfState,
    inbox::Scratch,
};

/// How a conversation is ended that is being closed already.
enum Abandoned {
    Reset,
    Cut,
}

impl Session {
    /// Closes the conversation in order, unless an operator resets it or the timeout of its drain passes meanwhile.
    pub(super) async fn end(&mut self, reason: CloseReason) {
        let (mailbox, can_reset) = (self.mailbox.share(), self.link.can_reset());
        mailbox.register_task().await;
        let abandoned = tokio::select! {
            biased;
            abandoned = poll_fn(|_| poll_abandoned(&mailbox, can_reset)) => abandoned,
            () = self.close(reason) => return,
        };
        if let Abandoned::Reset = abandoned {
            self.link.abort();
            self.phase = Phase::Closing(CloseReason::ResetByOperator);
        }
    }

    /// Whether there is something for [`Self::poll_commands`].
    #[inline]
    pub(super) fn has_commands(&self) -> bool {
        self.mailbox.is_pending()
            || matches!(
                self.handler,
                ActiveHandler::Dismissed(HalfState::FinRequested)
            )
    }

    /// Does what operators asked for since the last call. Pending if that was nothing, or our half cannot end yet.
    pub(super) fn poll_commands(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut turn = None;
        for mut command in self.mailbox.take() {
            if turn.is_some_and(|turn: Turn| turn.is_break()) {
                command.reply(Err(is_closing(&command)));
                continue;
            }
            let done = match &command.action {
                Action::Send(bytes) => self.send_command(cx, bytes),
                Action::Close(how) => self.close_command(*how),
                Action::Cut => Ok(ControlFlow::Break(CloseReason::DrainTimeout)),
                Action::Look => Ok(ControlFlow::Continue(())),
            };
            turn = Some(*done.as_ref().unwrap_or(&ControlFlow::Continue(())));
            command.reply(match (done, &command.action) {
                (Ok(ControlFlow::Break(reason)), Action::Send(_)) => Err(not_sent(reason)),
                (done, _) => done.map(|_| ()),
            });
        }
        match turn {
            Some(turn) => Poll::Ready(turn),
            None => self.poll_half_close(cx),
        }
    }

    /// Sends bytes to the peer behind what is unsent, and records them as a reply without a request.
    fn send_command(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<Turn, ControlError> {
        self.check_may_send(bytes.len())?;
        if self.journal.poll_read_budget(cx).is_pending() {
            return Err(ControlError::Busy(
                "the store is behind with this conversation; try again".to_owned(),
            ));
        }
        let turn = match &self.handler {
            ActiveHandler::Spawned(handler) if handler.our_half != HalfState::Open => {
                return Err(our_half_has_ended());
            }
            // Bytes between the pieces of a reply would be taken for a part of it.
            ActiveHandler::Spawned(handler) if handler.has_unfinished_reply() => {
                return Err(ControlError::Busy(
                    "the service is in the middle of a reply; try again".to_owned(),
                ));
            }
            ActiveHandler::Spawned(_) => self.send_reply(cx, bytes, Some(&[])),
            ActiveHandler::Inline(_) => self.send_unrequested(cx, bytes),
            ActiveHandler::Dismissed(_) => return Err(our_half_has_ended()),
        };
        Ok(turn)
    }

    fn check_may_send(&self, bytes: usize) -> Result<(), ControlError> {
        if bytes == 0 {
            return Err(ControlError::Invalid("there is nothing to send".to_owned()));
        }
        let unsent = self.outbox.len();
        if unsent + bytes > UNSENT_MAX {
            return Err(ControlError::Busy(format!(
                "{unsent} bytes are unsent because the peer does not read, and no more than {UNSENT_MAX} may be"
            )));
        }
        Ok(())
    }

    fn send_unrequested(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Turn {
        let unrequested = Received {
            at: Instant::now(),
            reads: 0,
            ended: false,
            is_over_rate: false,
            reply_offset: self.tally.produced,
        };
        let sent = self.send(cx, bytes);
        SCRATCH.with_borrow_mut(|Scratch { replies, .. }| {
            replies.set_framed(bytes, []);
            self.record(&Run::new(&[], &[], 0), replies, &unrequested);
        });
        if self.outbox.is_empty() {
            self.timestamps.sent_at = unrequested.at;
        }
        match sent {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(socket_failed(&error)),
        }
    }

    fn close_command(&mut self, how: CloseHow) -> Result<Turn, ControlError> {
        match how {
            CloseHow::Fin => Ok(ControlFlow::Break(CloseReason::ClosedByOperator)),
            CloseHow::Rst if self.link.can_reset() => {
                self.link.abort();
                Ok(ControlFlow::Break(CloseReason::ResetByOperator))
            }
            CloseHow::Rst => Err(has_no_reset()),
            CloseHow::Half => {
                self.dismiss_handler();
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// Lets nobody answer any more: what is received is recorded without a reply. Our half ends when nothing is unsent.
    fn dismiss_handler(&mut self) {
        let half = match &self.handler {
            ActiveHandler::Dismissed(_) => return,
            ActiveHandler::Spawned(handler) if handler.our_half == HalfState::Finished => {
                HalfState::Finished
            }
            ActiveHandler::Spawned(_) | ActiveHandler::Inline(_) => HalfState::FinRequested,
        };
        self.close_handler(CloseReason::ClosedByOperator);
        self.handler = ActiveHandler::Dismissed(half);
    }

    /// Ends our half once nothing is unsent.
    fn poll_half_close(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let ActiveHandler::Dismissed(half @ HalfState::FinRequested) = &mut self.handler else {
            return Poll::Pending;
        };
        if !self.outbox.is_empty() {
            return Poll::Pending;
        }
        self.link.poll_finish(cx).map(|finished| match finished {
            Ok(()) => {
                *half = HalfState::Finished;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(socket_failed(&error)),
        })
    }

    /// The reason once the peer has ended its half and everything is answered.
    pub(super) fn reason_after_half_close(&self) -> CloseReason {
        match (&self.handler, self.phase.reason_after_half_close()) {
            (ActiveHandler::Dismissed(_), CloseReason::PeerClosed) => CloseReason::ClosedByOperator,
            (_, reason) => reason,
        }
    }
}

/// Ready when a conversation that is being closed is to end at once. Other commands are refused.
fn poll_abandoned(mailbox: &Mailbox, can_reset: bool) -> Poll<Abandoned> {
    if !mailbox.is_pending() {
        return Poll::Pending;
    }
    let mut abandoned = Poll::Pending;
    for mut command in mailbox.take() {
        match command.action {
            Action::Cut => abandoned = Poll::Ready(Abandoned::Cut),
            Action::Close(CloseHow::Rst) if can_reset => {
                command.reply(Ok(()));
                abandoned = Poll::Ready(Abandoned::Reset);
            }
            Action::Close(CloseHow::Rst) => command.reply(Err(has_no_reset())),
            _ => command.reply(Err(is_closing(&command))),
        }
    }
    abandoned
}

fn is_closing(command: &Command) -> ControlError {
    ControlError::Invalid(format!(
        "conversation {} is being closed already",
        command.conversation
    ))
}

fn not_sent(reason: CloseReason) -> ControlError {
    ControlError::Failed(format!(
        "the conversation ended when the bytes were sent: {}",
        reason.word()
    ))
}

fn has_no_reset() -> ControlError {
    ControlError::Invalid(
        "only a TCP connection can be reset; close this conversation with a FIN".to_owned(),
    )
}

fn our_half_has_ended() -> ControlError {
    ControlError::Invalid("our half of the stream has ended: nothing can be sent".to_owned())
}

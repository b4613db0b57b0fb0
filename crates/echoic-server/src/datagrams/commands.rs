//! What an operator does with a datagram endpoint and its conversations: pause, drain, send to a peer, end a conversation.

use std::task::{Context, Poll};

use echoic_core::{
    control::{CloseHow, ControlError},
    ending::CloseReason,
    event::{Address, ConversationId},
};
use echoic_wire::{Call, Route};
use tokio::time::Instant;

use super::{Admission, DatagramTask, Turn, counts::add, outgoing::Unsent};
use crate::control::Action;

impl DatagramTask {
    /// Does what operators asked for since the last call.
    pub(super) fn run_commands(&mut self, cx: &mut Context<'_>) -> Turn {
        let mut turn = Turn::Continue;
        for mut command in self.mailbox.take() {
            let done = match &command.action {
                Action::Send(bytes) => self.send_command(cx, command.conversation, bytes),
                Action::Close(how) => self.close_command(command.conversation, *how),
                Action::Look => {
                    if self.look_at_endpoint() {
                        turn = Turn::DrainEndpoint;
                    }
                    Ok(())
                }
                Action::Cut => Ok(()), // `drain_endpoint` has its own deadline
            };
            command.reply(done);
        }
        turn
    }

    /// Pauses or resumes. Returns whether the endpoint is to be drained.
    fn look_at_endpoint(&mut self) -> bool {
        let endpoint = &self.context.rules.endpoint;
        let drains = endpoint.is_drained() && !self.is_drained;
        self.is_paused = !endpoint.is_open();
        self.is_drained = endpoint.is_drained();
        drains
    }

    /// Sends a datagram to the peer of a conversation, behind its queued replies, and records it as a reply without a request.
    fn send_command(
        &mut self,
        cx: &mut Context<'_>,
        id: ConversationId,
        bytes: &[u8],
    ) -> Result<(), ControlError> {
        let route = self.check_may_send(id, bytes.len())?;
        let at = Instant::now();
        let sent = if self.journal.holds_replies() || !self.outgoing.is_empty() {
            Poll::Pending
        } else {
            self.socket.poll_send(cx, bytes, &route)
        };
        let fd = self.socket.raw_fd();
        let conversation = self.peers.get(&route).ok_or_else(|| not_found(id))?;
        if let (Poll::Ready(sent), Some(notes)) = (&sent, &conversation.known.notes) {
            notes.note(fd, &send_call(&route, bytes, sent));
        }
        match sent {
            Poll::Ready(Err(error)) => {
                add(&self.context.counts.unsent, 1);
                Err(ControlError::Failed(format!(
                    "the datagram was not sent: {error}"
                )))
            }
            Poll::Ready(Ok(())) => {
                add(&self.context.counts.sent, 1);
                conversation.record_unrequested(at, bytes);
                conversation.sent(bytes.len());
                Ok(())
            }
            Poll::Pending => {
                conversation.record_unrequested(at, bytes);
                let unsent = Unsent {
                    route,
                    conversation: id,
                    bytes: bytes.to_vec(),
                    epoch: conversation.journal.epoch(),
                };
                self.outgoing.push(unsent);
                Ok(())
            }
        }
    }

    /// Returns the route to the peer, if a datagram of this length may be sent to it now.
    fn check_may_send(&mut self, id: ConversationId, len: usize) -> Result<Route, ControlError> {
        if !self.outgoing.has_room() {
            let text = "too many replies wait to be sent at this socket; try again";
            return Err(ControlError::Busy(text.to_owned()));
        }
        let may_amplify = self.context.rules.may_amplify;
        let (route, conversation) = self.peers.find(id).ok_or_else(|| not_found(id))?;
        let is_silent = self.breaker.is_silent(&route.peer, Instant::now());
        if conversation.admission != Admission::Admitted || is_silent {
            return Err(ControlError::Invalid(format!(
                "{} is not answered: it may not be, or answers in a loop",
                route.peer
            )));
        }
        let max = datagram_max(&route.peer);
        if len > max {
            return Err(ControlError::Invalid(format!(
                "{len} bytes are too many for one datagram to {}: at most {max}",
                route.peer
            )));
        }
        let is_udp = matches!(route.peer, Address::Net(_));
        if is_udp && !may_amplify && !conversation.has_received(len) {
            return Err(ControlError::Invalid(format!(
                "{} would be sent more bytes than came from it, and over UDP a forged source address could make this a \
                 flood; allow it with --udp-allow-amplification",
                route.peer
            )));
        }
        Ok(route.clone())
    }

    fn close_command(&mut self, id: ConversationId, how: CloseHow) -> Result<(), ControlError> {
        let (route, _) = self.peers.find(id).ok_or_else(|| not_found(id))?;
        let route = route.clone();
        if how != CloseHow::Fin {
            return Err(ControlError::Invalid(
                "datagrams have no connection to reset and no halves; this conversation can only be ended".to_owned(),
            ));
        }
        let reason = CloseReason::ClosedByOperator;
        if self.outgoing.is_of(id) {
            self.peers.close_after_replies(&route, reason);
        } else {
            self.peers.end(&route, reason);
        }
        Ok(())
    }
}

/// Returns the longest datagram that can be sent to a peer, so that one that is recorded before it is sent is not refused by the
/// system then. The limit of a Unix socket is only known to the system.
fn datagram_max(peer: &Address) -> usize {
    match peer {
        // The length of a packet has 16 bits: of IPv4 with its header (RFC 791), of IPv6 without (RFC 8200). UDP takes eight bytes.
        Address::Net(addr) if addr.ip().to_canonical().is_ipv4() => 65_535 - 20 - 8,
        Address::Net(_) => 65_535 - 8,
        Address::Unix(_) => usize::MAX,
    }
}

/// The call that sent a datagram, for [`crate::control::CallNotes`].
pub(super) fn send_call<'a>(
    route: &Route,
    bytes: &'a [u8],
    sent: &'a std::io::Result<()>,
) -> Call<'a> {
    Call::SendTo {
        to: route.peer.clone(),
        bytes,
        result: sent.as_ref().map(|()| bytes.len()),
    }
}

fn not_found(id: ConversationId) -> ControlError {
    ControlError::NotFound(format!("open conversation {id}"))
}

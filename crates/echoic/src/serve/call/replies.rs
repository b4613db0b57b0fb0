//! The replies of a call.

use echoic_client::{ClientExchange, Exchanges, WireEvent};
use echoic_core::{
    control::CallReply,
    endpoint::Shape,
    event::Outcome,
    framing::{Framing, FramingPair},
};

/// Most bytes that a call holds, of requests and replies together. A peer may send without end.
const BYTES_MAX: usize = 32 << 20;

/// Most replies of a call: the messages that it may have, and as many that answer nothing.
const REPLIES_MAX: usize = 20_000;

/// The messages of a call with their replies, paired as in the record of a client.
pub(super) struct CollectedReplies {
    exchanges: Exchanges,
    collected: Collected,
}

struct Collected {
    datagrams: bool,
    /// A reply may come in several reads: what follows one belongs to it.
    joins: bool,
    replies: Vec<CallReply>,
    answered: usize,
    bytes: usize,
}

impl CollectedReplies {
    pub(super) fn new(shape: Shape, framing: FramingPair) -> Self {
        let datagrams = shape == Shape::Datagrams;
        Self {
            exchanges: Exchanges::new(shape, framing),
            collected: Collected {
                datagrams,
                joins: framing.inbound == Framing::Chunk && !datagrams,
                replies: Vec::new(),
                answered: 0,
                bytes: 0,
            },
        }
    }

    /// Takes what went over the wire, unless it holds as much as a call takes: until the connection is reset, more may come.
    pub(super) fn observe(&mut self, event: WireEvent<'_>) {
        if self.is_full() {
            return;
        }
        let Self {
            exchanges,
            collected,
        } = self;
        exchanges.observe(event, &mut |exchanged| collected.add(&exchanged));
    }

    /// Takes the messages that were not answered: the conversation is over.
    pub(super) fn finish(&mut self) {
        let Self {
            exchanges,
            collected,
        } = self;
        exchanges.finish(&mut |exchanged| collected.add(&exchanged));
    }

    /// Returns the number of messages that were answered.
    pub(super) fn answered(&self) -> usize {
        self.collected.answered
    }

    /// Whether it holds as much as a call takes.
    pub(super) fn is_full(&self) -> bool {
        self.collected.bytes >= BYTES_MAX || self.collected.replies.len() >= REPLIES_MAX
    }

    pub(super) fn take(&mut self) -> Vec<CallReply> {
        std::mem::take(&mut self.collected.replies)
    }
}

impl Collected {
    fn add(&mut self, exchanged: &ClientExchange<'_>) {
        let ClientExchange {
            latency,
            outcome,
            request,
            reply,
            ..
        } = *exchanged;
        self.bytes += request.len() + reply.len();
        let is_request = !request.is_empty() || self.datagrams;
        if self.joins
            && !is_request
            && let Some(last) = self.replies.last_mut()
        {
            return last.reply.extend_from_slice(reply);
        }
        let is_answered = is_request && outcome == Outcome::Ok;
        self.answered += usize::from(is_answered);
        self.replies.push(CallReply {
            request: request.to_vec(),
            reply: reply.to_vec(),
            latency_ns: is_answered.then_some(latency.as_nanos() as u64),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn reply_in_several_reads_is_one_and_silence_is_none() {
        let mut replies = CollectedReplies::new(Shape::Stream, FramingPair::default());
        let at = Instant::now();
        let sent = |bytes| WireEvent::Sent {
            at,
            bytes,
            complete: true,
        };
        replies.observe(sent(b"hello"));
        assert_eq!(replies.answered(), 0);
        for (ms, bytes) in [(2, &b"HEL"[..]), (3, b"LO")] {
            let at = at + Duration::from_millis(ms);
            replies.observe(WireEvent::Received { at, bytes });
        }
        assert_eq!(replies.answered(), 1);
        replies.observe(sent(b"more"));
        replies.finish();
        let taken = replies.take();
        let [first, second] = &taken[..] else {
            panic!("{taken:?}");
        };
        assert_eq!(first.reply, b"HELLO");
        assert_eq!(first.latency_ns, Some(2_000_000));
        assert_eq!((&second.reply[..], second.latency_ns), (&b""[..], None));
    }
}

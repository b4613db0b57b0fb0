//! `upper`: each message in upper case, as the tutorial's server has it.

use echoic_core::{
    message::{Replies, Run, Then},
    service::{Inline, Peer, Service, Voice},
};

use crate::casing;

/// Answers in upper case.
#[derive(Debug)]
pub(crate) struct Upper;

/// A stream has no messages to stop at: a character that a read cut in two is answered when the rest of it comes.
#[derive(Debug, Default)]
struct OfStream(casing::Upper);

/// A declared message is whole: what is unfinished at its end is invalid, and passes unchanged.
#[derive(Debug)]
struct OfMessages;

impl Service for Upper {
    fn name(&self) -> &'static str {
        "upper"
    }

    fn meet(&self, peer: &Peer) -> Voice {
        if peer.speaks_in_messages() {
            Voice::Inline(Box::new(OfMessages))
        } else {
            Voice::Inline(Box::<OfStream>::default())
        }
    }
}

impl Inline for OfMessages {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> Then {
        for message in run.messages() {
            out.reply(&message, |bytes| casing::upper(message.body, bytes));
        }
        Then::Continue
    }
}

impl Inline for OfStream {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> Then {
        for message in run.messages() {
            out.reply(&message, |bytes| self.0.push(message.body, bytes));
        }
        Then::Continue
    }

    fn finish(&mut self, out: &mut Replies) {
        if !self.0.held().is_empty() {
            out.say_with(|bytes| self.0.finish(bytes));
        }
    }
}

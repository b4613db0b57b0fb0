//! `echo`: each message as it came (RFC 862).

use echoic_core::{
    message::{Replies, Run, Then},
    service::{InPlace, Inline, Peer, Service, Voice},
};

/// Answers each message with itself.
#[derive(Debug)]
pub(crate) struct Echo;

impl Service for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn meet(&self, _: &Peer) -> Voice {
        Voice::Inline(Box::new(Self))
    }
}

impl Inline for Echo {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> Then {
        for message in run.messages() {
            out.reply(&message, |bytes| bytes.extend_from_slice(message.body));
        }
        Then::Continue
    }

    fn in_place(&self) -> Option<InPlace> {
        Some(|_| true)
    }
}

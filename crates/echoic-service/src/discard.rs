//! `discard`: hears everything and says nothing (RFC 863).

use echoic_core::{
    message::{Replies, Run, Then},
    service::{Inline, Peer, Service, Voice},
};

/// Answers with silence.
#[derive(Debug)]
pub(crate) struct Discard;

impl Service for Discard {
    fn name(&self) -> &'static str {
        "discard"
    }

    fn meet(&self, _: &Peer) -> Voice {
        Voice::Inline(Box::new(Self))
    }
}

impl Inline for Discard {
    fn answer(&mut self, _: &Run<'_>, _: &mut Replies) -> Then {
        Then::Continue
    }
}

//! `discard`: reads everything and sends nothing (RFC 863).

use echoic_core::{
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
};
use std::ops::ControlFlow;

/// The service. It replies to no message.
#[derive(Debug)]
pub(crate) struct Discard;

impl Service for Discard {
    fn name(&self) -> &'static str {
        "discard"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Inline(Box::new(Self))
    }

    fn is_portable(&self) -> bool {
        true
    }
}

impl InlineHandler for Discard {
    fn answer(&mut self, _: &Run<'_>, _: &mut Replies) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

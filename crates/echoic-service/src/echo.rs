//! `echo`: sends each message back unchanged (RFC 862).

use echoic_core::{
    message::{Replies, Run},
    service::{Handler, InPlace, InlineHandler, Peer, Service},
};
use std::ops::ControlFlow;

/// The service, and its handler.
#[derive(Debug)]
pub(crate) struct Echo;

impl Service for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Inline(Box::new(Self))
    }

    fn is_portable(&self) -> bool {
        true
    }
}

impl InlineHandler for Echo {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            out.reply(&message, |bytes| bytes.extend_from_slice(message.body));
        }
        ControlFlow::Continue(())
    }

    fn in_place(&self) -> Option<InPlace> {
        Some(|_| true)
    }
}

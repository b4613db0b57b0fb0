//! `upper`: answers each message in upper case, like the tutorial's server.

use echoic_core::{
    message::{Replies, Run},
    service::{Handler, InPlace, InlineHandler, Peer, Service},
};
use std::ops::ControlFlow;

use crate::{ascii, casing};

/// The service.
#[derive(Debug)]
pub(crate) struct Upper;

/// Handler for framing `chunk`. A read may end within a character, which is answered when the rest of it arrives.
#[derive(Debug, Default)]
struct StreamHandler(casing::Upper);

/// Handler for declared framings. A message is complete, so an unfinished character at its end is invalid UTF-8, and
/// passes unchanged.
#[derive(Debug)]
struct MessageHandler {
    /// What ends a message is the same in upper case.
    keeps_terminator: bool,
}

impl Service for Upper {
    fn name(&self) -> &'static str {
        "upper"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        if peer.has_whole_messages() {
            let terminator = peer.framing.inbound.terminator().unwrap_or_default();
            let keeps_terminator = !terminator.iter().any(u8::is_ascii_lowercase);
            Handler::Inline(Box::new(MessageHandler { keeps_terminator }))
        } else {
            Handler::Inline(Box::<StreamHandler>::default())
        }
    }

    fn is_portable(&self) -> bool {
        true
    }
}

impl InlineHandler for MessageHandler {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            out.reply(&message, |bytes| casing::upper(message.body, bytes));
        }
        ControlFlow::Continue(())
    }

    fn in_place(&self) -> Option<InPlace> {
        self.keeps_terminator.then_some(ascii::upper)
    }
}

impl InlineHandler for StreamHandler {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            out.reply(&message, |bytes| self.0.push(message.body, bytes));
        }
        ControlFlow::Continue(())
    }

    fn in_place(&self) -> Option<InPlace> {
        self.0.held().is_empty().then_some(ascii::upper)
    }

    fn input_ended(&mut self, out: &mut Replies) {
        if !self.0.held().is_empty() {
            out.push_with(|bytes| self.0.finish(bytes));
        }
    }

    fn state(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.held());
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        let Some(upper) = casing::Upper::with_held(state) else {
            return false;
        };
        self.0 = upper;
        true
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::framing::{FramingPair, Splitter};
    use proptest::prelude::*;

    use super::*;

    /// The replies to messages under a framing, all at once where that is possible, or one by one.
    fn replies(
        framing: FramingPair,
        bytes: &[u8],
        at_once: bool,
        keeps_terminator: bool,
    ) -> Vec<u8> {
        let (mut handler, mut spans) = (MessageHandler { keeps_terminator }, Vec::new());
        Splitter::new(framing.inbound, 1 << 20).split(bytes, &mut spans);
        let mut replies = Replies::default();
        replies.clear(framing);
        let run = Run::new(bytes, &spans, 0);
        let transform = handler.in_place().filter(|_| at_once);
        if !transform.is_some_and(|transform| replies.transform(&run, transform)) {
            let _ = handler.answer(&run, &mut replies);
        }
        replies.bytes().to_vec()
    }

    #[test]
    fn terminator_that_is_a_letter_is_not_uppercased() {
        let framing: FramingPair = "delim:61".parse().unwrap();
        assert_eq!(replies(framing, b"xyaxyzaa", true, false), b"XYaXYZaa");
        // The failing twin: at once it would have become a capital.
        assert_eq!(replies(framing, b"xyaxyzaa", true, true), b"XYAXYZAA");
    }

    proptest! {
        #[test]
        fn bulk_upper_equals_per_message_upper(
            text in "([a-zA-Zß\u{fb03} ]{0,6}[\n\0]?){0,12}",
            framing in prop::sample::select(vec!["line", "nul", "crlf", "fixed:3", "delim:61", "u8"]),
        ) {
            let framing: FramingPair = framing.parse().unwrap();
            let terminator = framing.inbound.terminator().unwrap_or_default();
            let keeps = !terminator.iter().any(u8::is_ascii_lowercase);
            let at_once = replies(framing, text.as_bytes(), true, keeps);
            prop_assert_eq!(at_once, replies(framing, text.as_bytes(), false, keeps));
        }
    }
}

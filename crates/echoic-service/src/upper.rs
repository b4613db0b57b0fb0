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
    /// The terminator is the same in upper case, so that whole runs can be mapped at once.
    bulk: bool,
}

impl Service for Upper {
    fn name(&self) -> &'static str {
        "upper"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        if peer.speaks_in_messages() {
            let terminator = peer.framing.inbound.terminator().unwrap_or_default();
            let bulk = !terminator.iter().any(u8::is_ascii_lowercase);
            Handler::Inline(Box::new(MessageHandler { bulk }))
        } else {
            Handler::Inline(Box::<StreamHandler>::default())
        }
    }
}

impl InlineHandler for MessageHandler {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        // Upper case keeps the length of ASCII messages.
        let bulk = self.bulk && run.len() > 1 && run.raw().is_ascii();
        if bulk && out.reply_in_place(run, casing::upper) {
            return ControlFlow::Continue(());
        }
        for message in run.messages() {
            out.reply(&message, |bytes| casing::upper(message.body, bytes));
        }
        ControlFlow::Continue(())
    }

    fn in_place(&self) -> Option<InPlace> {
        self.bulk.then_some(ascii::upper)
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

    fn finish(&mut self, out: &mut Replies) {
        if !self.0.held().is_empty() {
            out.push_with(|bytes| self.0.finish(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::framing::{FramingPair, Splitter};
    use proptest::prelude::*;

    use super::*;

    /// Returns the replies to `bytes` under a framing, mapped as one run or message by message.
    fn replies_to(frames: FramingPair, bytes: &[u8], bulk: bool) -> Vec<u8> {
        let (mut handler, mut spans) = (MessageHandler { bulk: false }, Vec::new());
        let terminator = frames.inbound.terminator().unwrap_or_default();
        handler.bulk = bulk && !terminator.iter().any(u8::is_ascii_lowercase);
        Splitter::new(frames.inbound, 1 << 20).split(bytes, &mut spans);
        let mut replies = Replies::default();
        replies.clear(frames);
        let _ = handler.answer(&Run::new(bytes, &spans, 0), &mut replies);
        replies.bytes().to_vec()
    }

    #[test]
    fn terminator_that_is_a_letter_is_not_uppercased() {
        let frames: FramingPair = "delim:61".parse().unwrap();
        assert_eq!(replies_to(frames, b"xyaxyzaa", true), b"XYaXYZaa");
        // Mapped at once, the terminator would change: this shows that the check above can fail.
        let (mut spans, mut replies) = (Vec::new(), Replies::default());
        Splitter::new(frames.inbound, 9).split(b"xyaxyzaa", &mut spans);
        replies.clear(frames);
        let run = Run::new(b"xyaxyzaa", &spans, 0);
        let _ = MessageHandler { bulk: true }.answer(&run, &mut replies);
        assert_eq!(replies.bytes(), b"XYAXYZAA");
    }

    proptest! {
        #[test]
        fn bulk_upper_equals_per_message_upper(
            text in "([a-zA-Zß\u{fb03} ]{0,6}[\n\0]?){0,12}",
            framing in prop::sample::select(vec!["line", "nul", "crlf", "fixed:3", "delim:61", "u8"]),
        ) {
            let frames: FramingPair = framing.parse().unwrap();
            prop_assert_eq!(replies_to(frames, text.as_bytes(), true), replies_to(frames, text.as_bytes(), false));
        }
    }
}

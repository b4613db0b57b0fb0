//! `upper`: each message in upper case, as the tutorial's server has it.

use echoic_core::{
    message::{Replies, Run},
    service::{Handler, InPlace, InlineHandler, Peer, Service},
};
use std::ops::ControlFlow;

use crate::{ascii, casing};

/// Answers in upper case.
#[derive(Debug)]
pub(crate) struct Upper;

/// A stream has no messages to stop at: a character that a read cut in two is answered when the rest of it comes.
#[derive(Debug, Default)]
struct OfStream(casing::Upper);

/// A declared message is whole: what is unfinished at its end is invalid, and passes unchanged.
#[derive(Debug)]
struct OfMessages {
    /// What ends a message is the same in upper case, so that many can be answered by one stroke.
    at_once: bool,
}

impl Service for Upper {
    fn name(&self) -> &'static str {
        "upper"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        if peer.speaks_in_messages() {
            let terminator = peer.framing.inbound.terminator().unwrap_or_default();
            let at_once = !terminator.iter().any(u8::is_ascii_lowercase);
            Handler::Inline(Box::new(OfMessages { at_once }))
        } else {
            Handler::Inline(Box::<OfStream>::default())
        }
    }
}

impl InlineHandler for OfMessages {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        // ASCII keeps its length.
        let at_once = self.at_once && run.len() > 1 && run.raw().is_ascii();
        if at_once && out.reply_in_place(run, casing::upper) {
            return ControlFlow::Continue(());
        }
        for message in run.messages() {
            out.reply(&message, |bytes| casing::upper(message.body, bytes));
        }
        ControlFlow::Continue(())
    }

    fn in_place(&self) -> Option<InPlace> {
        self.at_once.then_some(ascii::upper)
    }
}

impl InlineHandler for OfStream {
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

    /// What is said to messages under a framing, all in one run or each in its own.
    fn said(frames: FramingPair, bytes: &[u8], at_once: bool) -> Vec<u8> {
        let (mut handler, mut spans) = (OfMessages { at_once: false }, Vec::new());
        let terminator = frames.inbound.terminator().unwrap_or_default();
        handler.at_once = at_once && !terminator.iter().any(u8::is_ascii_lowercase);
        Splitter::new(frames.inbound, 1 << 20).split(bytes, &mut spans);
        let mut replies = Replies::default();
        replies.clear(frames);
        let _ = handler.answer(&Run::new(bytes, &spans, 0), &mut replies);
        replies.bytes().to_vec()
    }

    #[test]
    fn terminator_that_is_a_letter_is_not_uppercased() {
        let frames: FramingPair = "delim:61".parse().unwrap();
        assert_eq!(said(frames, b"xyaxyzaa", true), b"XYaXYZaa");
        // The failing twin: by one stroke it would have become a capital.
        let (mut spans, mut replies) = (Vec::new(), Replies::default());
        Splitter::new(frames.inbound, 9).split(b"xyaxyzaa", &mut spans);
        replies.clear(frames);
        let run = Run::new(b"xyaxyzaa", &spans, 0);
        let _ = OfMessages { at_once: true }.answer(&run, &mut replies);
        assert_eq!(replies.bytes(), b"XYAXYZAA");
    }

    proptest! {
        #[test]
        fn bulk_upper_equals_per_message_upper(
            text in "([a-zA-Zß\u{fb03} ]{0,6}[\n\0]?){0,12}",
            framing in prop::sample::select(vec!["line", "nul", "crlf", "fixed:3", "delim:61", "u8"]),
        ) {
            let frames: FramingPair = framing.parse().unwrap();
            prop_assert_eq!(said(frames, text.as_bytes(), true), said(frames, text.as_bytes(), false));
        }
    }
}

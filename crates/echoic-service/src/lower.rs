//! `lower`: answers each message in lower case.
//!
//! Unlike upper case, lower case depends on context: a capital sigma becomes `ς` at the end of a word and `σ` elsewhere
//! (the condition `Final_Sigma` of Unicode's `SpecialCasing`). The rule is applied to messages of declared framings,
//! which are complete. Under `chunk` every sigma becomes `σ`: the end of a read is not the end of a word, and the reply
//! must not depend on how the stream is cut into reads.

pub mod oracle;

use echoic_core::{
    message::{Replies, Run},
    service::{Handler, InPlace, InlineHandler, Peer, Service},
};
use std::ops::ControlFlow;

use crate::ascii;

/// The service.
#[derive(Debug)]
pub(crate) struct Lower;

/// The handler. Under `chunk` it holds up to three bytes of a character that a read has cut, until the rest arrives.
#[derive(Debug)]
struct LowerHandler {
    declared: bool,
    /// The terminator is the same in lower case.
    terminator_unchanged: bool,
    held: Vec<u8>,
}

impl Service for Lower {
    fn name(&self) -> &'static str {
        "lower"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        let terminator = peer.framing.inbound.terminator().unwrap_or_default();
        Handler::Inline(Box::new(LowerHandler {
            declared: peer.has_whole_messages(),
            terminator_unchanged: !terminator.iter().any(u8::is_ascii_uppercase),
            held: Vec::new(),
        }))
    }

    fn is_portable(&self) -> bool {
        true
    }
}

impl InlineHandler for LowerHandler {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            if self.declared {
                out.reply(&message, |bytes| lower(message.body, bytes));
                continue;
            }
            self.held.extend_from_slice(message.body);
            let complete = self.held.len() - unfinished(&self.held);
            out.reply(&message, |bytes| {
                lower_stream(&self.held[..complete], bytes);
            });
            self.held.drain(..complete);
        }
        ControlFlow::Continue(())
    }

    fn in_place(&self) -> Option<InPlace> {
        (self.terminator_unchanged && self.held.is_empty()).then_some(ascii::lower)
    }

    fn input_ended(&mut self, out: &mut Replies) {
        if !self.held.is_empty() {
            out.push(&self.held);
        }
    }

    fn state(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.held);
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        let is_state = unfinished(state) == state.len() && (state.is_empty() || !self.declared);
        if is_state {
            self.held = state.to_vec();
        }
        is_state
    }
}

/// Appends a whole message in lower case. Invalid UTF-8 passes unchanged.
fn lower(bytes: &[u8], out: &mut Vec<u8>) {
    map(bytes, out, |text, out| {
        out.extend_from_slice(text.to_lowercase().as_bytes());
    });
}

/// Appends a part of a stream in lower case, each character without its context.
fn lower_stream(bytes: &[u8], out: &mut Vec<u8>) {
    map(bytes, out, |text, out| {
        for lower in text.chars().flat_map(char::to_lowercase) {
            out.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
        }
    });
}

fn map(bytes: &[u8], out: &mut Vec<u8>, map_text: impl Fn(&str, &mut Vec<u8>)) {
    if bytes.is_ascii() {
        let start = out.len();
        out.extend_from_slice(bytes);
        out[start..].make_ascii_lowercase();
        return;
    }
    for chunk in bytes.utf8_chunks() {
        map_text(chunk.valid(), out);
        out.extend_from_slice(chunk.invalid());
    }
}

/// Returns the length of the unfinished character at the end of `bytes`, 0 to 3.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    match bytes.utf8_chunks().last().map(|chunk| chunk.invalid()) {
        Some(invalid) if tail.ends_with(invalid) => match str::from_utf8(invalid) {
            Err(error) if error.error_len().is_none() => invalid.len(),
            _ => 0,
        },
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lowered(text: &str) -> String {
        let mut out = Vec::new();
        lower(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sigma_is_final_within_its_message() {
        assert_eq!(lowered("ΟΔΟΣ ΣΟΦΟΣ"), "οδος σοφος");
        assert_eq!(lowered("İ"), "i\u{307}");
    }

    #[test]
    fn invalid_utf8_passes_unchanged() {
        let mut out = Vec::new();
        lower(b"A\xffB\xc3", &mut out);
        assert_eq!(out, b"a\xffb\xc3");
    }

    #[test]
    fn unfinished_character_is_held_back() {
        assert_eq!(unfinished("aß".as_bytes()), 0);
        assert_eq!(unfinished(b"a\xc3"), 1);
        assert_eq!(unfinished(b"\xf0\x90\x8d"), 3);
        assert_eq!(unfinished(b"\xff"), 0);
        assert_eq!(unfinished(b""), 0);
    }

    proptest! {
        #[test]
        fn whole_messages_lower_as_std_does(text in ".{0,40}") {
            prop_assert_eq!(lowered(&text), text.to_lowercase());
        }

        #[test]
        fn lower_does_not_depend_on_read_boundaries(
            text in ".{0,20}[ΑΣσς ]{0,9}.{0,9}",
            bytes in prop::collection::vec(any::<u8>(), 0..6),
            positions in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            oracle::check(text.as_bytes(), &positions);
            oracle::check(&[&bytes, text.as_bytes(), &bytes].concat(), &positions);
        }

        #[test]
        fn at_most_three_bytes_are_held_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(unfinished(&bytes) <= 3);
        }
    }
}

//! `lower`: each message in lower case.
//!
//! Unlike upper case, lower case looks around: a capital sigma at the end of a word is `ς`, elsewhere `σ` (the
//! `Final_Sigma` condition of Unicode's `SpecialCasing`). A declared message is whole, so there the rule is followed. A
//! stream has no ends to look at, and to guess at one where a read happened to stop would make the reply depend on how
//! the stream was cut: there every sigma becomes `σ`.

pub mod oracle;

use echoic_core::{
    message::{Replies, Run},
    service::{Handler, InPlace, InlineHandler, Peer, Service},
};
use std::ops::ControlFlow;

use crate::ascii;

/// Answers in lower case.
#[derive(Debug)]
pub(crate) struct Lower;

/// One conversation: under `chunk`, up to three bytes of a character that a read cut in two wait for the rest of it.
#[derive(Debug)]
struct Speaking {
    declared: bool,
    /// What ends a message is the same in lower case.
    keeps_terminator: bool,
    held: Vec<u8>,
}

impl Service for Lower {
    fn name(&self) -> &'static str {
        "lower"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        let terminator = peer.framing.inbound.terminator().unwrap_or_default();
        Handler::Inline(Box::new(Speaking {
            declared: peer.speaks_in_messages(),
            keeps_terminator: !terminator.iter().any(u8::is_ascii_uppercase),
            held: Vec::new(),
        }))
    }
}

impl InlineHandler for Speaking {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            if self.declared {
                out.reply(&message, |bytes| lower(message.body, bytes));
                continue;
            }
            self.held.extend_from_slice(message.body);
            let whole = self.held.len() - unfinished(&self.held);
            out.reply(&message, |bytes| lower_stream(&self.held[..whole], bytes));
            self.held.drain(..whole);
        }
        ControlFlow::Continue(())
    }

    fn in_place(&self) -> Option<InPlace> {
        (self.keeps_terminator && self.held.is_empty()).then_some(ascii::lower)
    }

    fn finish(&mut self, out: &mut Replies) {
        if !self.held.is_empty() {
            out.push(&self.held);
        }
    }
}

/// Appends a whole message in lower case; what is no UTF-8 passes unchanged.
fn lower(bytes: &[u8], out: &mut Vec<u8>) {
    map(bytes, out, |text, out| {
        out.extend_from_slice(text.to_lowercase().as_bytes());
    });
}

/// Appends a part of a stream in lower case, each character by itself.
fn lower_stream(bytes: &[u8], out: &mut Vec<u8>) {
    map(bytes, out, |text, out| {
        for lower in text.chars().flat_map(char::to_lowercase) {
            out.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
        }
    });
}

fn map(bytes: &[u8], out: &mut Vec<u8>, text: impl Fn(&str, &mut Vec<u8>)) {
    if bytes.is_ascii() {
        let start = out.len();
        out.extend_from_slice(bytes);
        out[start..].make_ascii_lowercase();
        return;
    }
    for chunk in bytes.utf8_chunks() {
        text(chunk.valid(), out);
        out.extend_from_slice(chunk.invalid());
    }
}

/// How many bytes at the end begin a character that may still be finished.
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

    fn of(text: &str) -> String {
        let mut out = Vec::new();
        lower(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sigma_is_final_within_its_message() {
        assert_eq!(of("ΟΔΟΣ ΣΟΦΟΣ"), "οδος σοφος");
        assert_eq!(of("İ"), "i\u{307}");
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
            prop_assert_eq!(of(&text), text.to_lowercase());
        }

        #[test]
        fn lower_does_not_depend_on_read_boundaries(
            text in ".{0,20}[ΑΣσς ]{0,9}.{0,9}",
            bytes in prop::collection::vec(any::<u8>(), 0..6),
            addresses in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            oracle::check(text.as_bytes(), &addresses);
            oracle::check(&[&bytes, text.as_bytes(), &bytes].concat(), &addresses);
        }

        #[test]
        fn at_most_three_bytes_are_held_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(unfinished(&bytes) <= 3);
        }
    }
}

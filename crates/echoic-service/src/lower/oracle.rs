//! The specification of lower-casing, shared by property tests and the fuzz target.

use echoic_core::{
    framing::{Framing, Splitter, oracle::cut},
    message::{Replies, Run},
    service::InlineHandler,
};

use super::{LowerHandler, lower};

/// Checks `text` as one message against [`str::to_lowercase`] of each valid part, and as a stream, cut at `positions`,
/// against [`char::to_lowercase`] of each character. Invalid UTF-8 passes unchanged.
///
/// # Panics
///
/// If a result differs.
pub fn check(text: &[u8], positions: &[usize]) {
    let map_valid = |part: &dyn Fn(&str) -> String| -> Vec<u8> {
        let chunks = text.utf8_chunks();
        chunks
            .flat_map(|chunk| [part(chunk.valid()).as_bytes(), chunk.invalid()].concat())
            .collect()
    };
    let mut message = Vec::new();
    lower(text, &mut message);
    assert_eq!(
        message,
        map_valid(&str::to_lowercase),
        "as a message: {text:x?}"
    );
    let by_char = |part: &str| part.chars().flat_map(char::to_lowercase).collect();
    let mut handler = LowerHandler {
        declared: false,
        terminator_unchanged: true,
        held: Vec::new(),
    };
    let (mut out, mut replies) = (Vec::new(), Replies::default());
    for piece in cut(text, positions) {
        let mut spans = Vec::new();
        Splitter::new(Framing::Chunk, 0).split(piece, &mut spans);
        replies.clear(Framing::Chunk.into());
        let _ = handler.answer(&Run::new(piece, &spans, 0), &mut replies);
        assert!(handler.held.len() < 4, "held of {text:x?}");
        out.extend_from_slice(replies.bytes());
    }
    replies.clear(Framing::Chunk.into());
    handler.input_ended(&mut replies);
    out.extend_from_slice(replies.bytes());
    assert_eq!(out, map_valid(&by_char), "as a stream: {text:x?}");
}

//! What lower-casing must do, said once for the property tests and the fuzz target.

use echoic_core::{
    framing::{Framing, Splitter, oracle::cut},
    message::{Replies, Run},
    service::InlineHandler,
};

use super::{Speaking, lower};

/// `text` in one piece is what std says of each
/// valid part, and a stream of it is what std says of each character, however it is cut. Bytes that are no text pass.
///
/// # Panics
/// When one of them differs.
pub fn check(text: &[u8], addresses: &[usize]) {
    let by_parts = |part: &dyn Fn(&str) -> String| -> Vec<u8> {
        let chunks = text.utf8_chunks();
        chunks
            .flat_map(|chunk| [part(chunk.valid()).as_bytes(), chunk.invalid()].concat())
            .collect()
    };
    let mut whole = Vec::new();
    lower(text, &mut whole);
    assert_eq!(
        whole,
        by_parts(&str::to_lowercase),
        "as a message: {text:x?}"
    );
    let each = |part: &str| part.chars().flat_map(char::to_lowercase).collect();
    let mut handler = Speaking {
        declared: false,
        keeps_terminator: true,
        held: Vec::new(),
    };
    let (mut out, mut replies) = (Vec::new(), Replies::default());
    for piece in cut(text, addresses) {
        let mut spans = Vec::new();
        Splitter::new(Framing::Chunk, 0).split(piece, &mut spans);
        replies.clear(Framing::Chunk.into());
        let _ = handler.answer(&Run::new(piece, &spans, 0), &mut replies);
        assert!(handler.held.len() < 4, "held of {text:x?}");
        out.extend_from_slice(replies.bytes());
    }
    replies.clear(Framing::Chunk.into());
    handler.finish(&mut replies);
    out.extend_from_slice(replies.bytes());
    assert_eq!(out, by_parts(&each), "as a stream: {text:x?}");
}

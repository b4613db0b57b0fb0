//! Invariants of the framings, checked by the property tests and the fuzzers.

use super::{Framing, ReplyEnd, Splitter};

/// Splits a stream that arrives as `pieces`, one per read. Returns the messages with header and terminator, and whether
/// the stream violated the framing or the limit.
pub fn messages(framing: Framing, max: usize, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let mut splitter = Splitter::new(framing, max);
    let (mut buffer, mut found, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let split = splitter.split(&buffer, &mut spans);
        found.extend(
            spans
                .drain(..)
                .map(|s| buffer[s.start as usize..s.end as usize].to_vec()),
        );
        buffer.drain(..split.consumed);
        if split.violation.is_some() {
            return (found, true);
        }
    }
    splitter.end_of_input(&buffer, &mut spans);
    found.extend(
        spans
            .drain(..)
            .map(|s| buffer[s.start as usize..s.end as usize].to_vec()),
    );
    (found, false)
}

/// Cuts `data` at the given offsets (modulo its length).
pub fn cut<'a>(data: &'a [u8], offsets: &[usize]) -> Vec<&'a [u8]> {
    let mut offsets: Vec<usize> = offsets.iter().map(|at| at % (data.len() + 1)).collect();
    offsets.sort_unstable();
    let mut from = 0;
    let mut pieces: Vec<&[u8]> = Vec::new();
    for offset in offsets {
        pieces.push(&data[from..offset]);
        from = offset;
    }
    pieces.push(&data[from..]);
    pieces
}

/// Checks that [`Splitter::count`], where it is supported, agrees with [`Splitter::split`]. Returns how often it was
/// supported.
pub fn check_count(framing: Framing, max: usize, pieces: &[&[u8]]) -> usize {
    let mut splitter = Splitter::new(framing, max);
    let (mut buffer, mut spans, mut counts) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        spans.clear();
        let mut counting = splitter.clone();
        let counted = counting.count(&buffer);
        let split = splitter.split(&buffer, &mut spans);
        if let Some(counted) = counted {
            assert_eq!(
                split.violation, None,
                "{framing}: counted despite a violation"
            );
            assert_eq!(
                (counted.messages, counted.consumed),
                (spans.len(), split.consumed)
            );
            // Go on with the splitter that counted: counting must leave the same state as splitting.
            splitter = counting;
            counts += 1;
        }
        buffer.drain(..split.consumed);
        if split.violation.is_some() {
            break;
        }
    }
    counts
}

/// Checks that the messages of a declared framing do not depend on how the stream is cut into reads, and that they
/// are a prefix of the stream.
pub fn check_cuts(framing: Framing, max: usize, data: &[u8], offsets: &[usize]) {
    let whole = messages(framing, max, &[data]);
    assert_eq!(
        messages(framing, max, &cut(data, offsets)),
        whole,
        "{framing} cut at {offsets:?}"
    );
    let (found, _) = whole;
    assert!(data.starts_with(&found.concat()), "{framing}");
}

/// Checks that bodies are unchanged after they were framed, cut and split. Returns without a check if a body contains
/// the terminator.
pub fn check_join_then_split(framing: Framing, bodies: &[Vec<u8>], offsets: &[usize]) {
    let has_terminator = |body: &Vec<u8>| match (framing, framing.terminator()) {
        (Framing::Netstring, _) | (_, None) => false,
        (_, Some(end)) => {
            [body.as_slice(), end]
                .concat()
                .windows(end.len())
                .position(|w| w == end)
                != Some(body.len())
        }
    };
    if bodies.iter().any(has_terminator) {
        return;
    }
    let mut stream = Vec::new();
    for body in bodies {
        let start = framing.open(&mut stream);
        stream.extend_from_slice(body);
        framing
            .close(&mut stream, start, ReplyEnd::Whole)
            .expect("invariant: the bodies are short");
    }
    let mut splitter = Splitter::new(framing, 1 << 20);
    let (mut buffer, mut found, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    for piece in cut(&stream, offsets) {
        buffer.extend_from_slice(piece);
        let split = splitter.split(&buffer, &mut spans);
        assert_eq!(split.violation, None, "{framing}");
        found.extend(
            spans
                .drain(..)
                .map(|s| buffer[s.body_start as usize..s.body_end as usize].to_vec()),
        );
        buffer.drain(..split.consumed);
    }
    assert_eq!(
        (found.as_slice(), buffer.as_slice()),
        (bodies, &b""[..]),
        "{framing}"
    );
}

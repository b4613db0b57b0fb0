//! What the property tests and the fuzzers hold against the framings.

use super::{End, Framing, Splitter};

/// The messages of `pieces` arriving one after the other, as they came, and whether the stream was refused.
pub fn messages(framing: Framing, max: usize, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let mut splitter = Splitter::new(framing, max);
    let (mut held, mut found, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let split = splitter.split(&held, &mut spans);
        found.extend(
            spans
                .drain(..)
                .map(|s| held[s.start as usize..s.end as usize].to_vec()),
        );
        held.drain(..split.consumed);
        if split.violation.is_some() {
            return (found, true);
        }
    }
    splitter.finish(&held, &mut spans);
    found.extend(
        spans
            .drain(..)
            .map(|s| held[s.start as usize..s.end as usize].to_vec()),
    );
    (found, false)
}

/// Cuts `data` at the given places (taken modulo its length).
pub fn cut<'a>(data: &'a [u8], addresses: &[usize]) -> Vec<&'a [u8]> {
    let mut addresses: Vec<usize> = addresses.iter().map(|p| p % (data.len() + 1)).collect();
    addresses.sort_unstable();
    let mut from = 0;
    let mut pieces: Vec<&[u8]> = Vec::new();
    for address in addresses {
        pieces.push(&data[from..address]);
        from = address;
    }
    pieces.push(&data[from..]);
    pieces
}

/// Counting the messages of `pieces` arriving one after the other comes to the same as dividing them, where it can be
/// done at all; how often it could.
pub fn counts_are_of_what_is_divided(framing: Framing, max: usize, pieces: &[&[u8]]) -> usize {
    let mut splitter = Splitter::new(framing, max);
    let (mut held, mut spans, mut counts) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        held.extend_from_slice(piece);
        spans.clear();
        let mut counting = splitter.clone();
        let counted = counting.count(&held);
        let split = splitter.split(&held, &mut spans);
        if let Some(counted) = counted {
            assert_eq!(split.violation, None, "{framing}: counted nevertheless");
            assert_eq!(
                (counted.messages, counted.consumed),
                (spans.len(), split.consumed)
            );
            // From here on as if it had been divided.
            splitter = counting;
            counts += 1;
        }
        held.drain(..split.consumed);
        if split.violation.is_some() {
            break;
        }
    }
    counts
}

/// However it is cut, a declared framing gives the same messages, and they are a prefix of the stream.
pub fn cuts_change_nothing(framing: Framing, max: usize, data: &[u8], addresses: &[usize]) {
    let whole = messages(framing, max, &[data]);
    assert_eq!(
        messages(framing, max, &cut(data, addresses)),
        whole,
        "{framing} cut at {addresses:?}"
    );
    let (found, _) = whole;
    assert!(data.starts_with(&found.concat()), "{framing}");
}

/// Bodies that are framed, sent, cut anywhere and divided again come out as they went in, if they do not hold what
/// ends them.
pub fn join_then_split(framing: Framing, bodies: &[Vec<u8>], addresses: &[usize]) {
    let holds = |body: &Vec<u8>| match (framing, framing.terminator()) {
        (Framing::Netstring, _) | (_, None) => false,
        (_, Some(end)) => {
            [body.as_slice(), end]
                .concat()
                .windows(end.len())
                .position(|w| w == end)
                != Some(body.len())
        }
    };
    if bodies.iter().any(holds) {
        return;
    }
    let mut stream = Vec::new();
    for body in bodies {
        let start = framing.open(&mut stream);
        stream.extend_from_slice(body);
        framing
            .close(&mut stream, start, End::Whole)
            .expect("invariant: the bodies are short");
    }
    let mut splitter = Splitter::new(framing, 1 << 20);
    let (mut held, mut found, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    for piece in cut(&stream, addresses) {
        held.extend_from_slice(piece);
        let split = splitter.split(&held, &mut spans);
        assert_eq!(split.violation, None, "{framing}");
        found.extend(
            spans
                .drain(..)
                .map(|s| held[s.body_start as usize..s.body_end as usize].to_vec()),
        );
        held.drain(..split.consumed);
    }
    assert_eq!(
        (found.as_slice(), held.as_slice()),
        (bodies, &b""[..]),
        "{framing}"
    );
}

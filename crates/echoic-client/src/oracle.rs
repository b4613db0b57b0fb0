//! What the property tests and the fuzz target hold against what is shown of a peer's stream.

use echoic_core::framing::{Framing, oracle::cut};
use tokio::time::Instant;

use crate::{Kind, Replies};

/// What is shown of `heard`, read in `pieces`, after `sent` messages: each as it came, its body, whether it was whole, and
/// whether it is a reply.
fn shown(
    framing: Framing,
    sent: u64,
    pieces: &[&[u8]],
    now: Instant,
) -> Vec<(Vec<u8>, Vec<u8>, bool, bool)> {
    let mut replies = Replies::new(framing);
    let mut all = Vec::new();
    let mut show = |heard: crate::Heard<'_>| {
        all.push((
            heard.bytes.to_vec(),
            heard.body.to_vec(),
            heard.whole,
            matches!(heard.kind, Kind::Reply(_)),
        ));
    };
    replies.sent(now, sent);
    for piece in pieces {
        replies.heard(now, piece, &mut show);
    }
    replies.flush(now, show);
    all
}

/// Nothing that is heard is lost or shown twice, however it is cut; the messages of a declared framing are the same; and
/// no more of them are replies than were asked for.
///
/// # Panics
/// When something else is shown.
pub fn check_replies(framing: Framing, sent: u8, heard: &[u8], addresses: &[usize]) {
    let (now, sent) = (Instant::now(), u64::from(sent));
    let pieces = cut(heard, addresses);
    let pieces: Vec<&[u8]> = pieces
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .collect();
    let divided = shown(framing, sent, &pieces, now);
    let bytes: Vec<u8> = divided.iter().flat_map(|shown| shown.0.clone()).collect();
    assert_eq!(bytes, heard, "{framing}");
    assert!(
        divided.iter().all(|(all, body, ..)| {
            all.windows(body.len().max(1)).any(|part| part == body) || body.is_empty()
        }),
        "{framing}: a body that did not come"
    );
    let replies = divided.iter().filter(|shown| shown.3).count() as u64;
    if framing == Framing::Chunk {
        assert_eq!(replies, u64::from(sent > 0 && !heard.is_empty()));
        return;
    }
    assert_eq!(replies, sent.min(divided.len() as u64), "{framing}");
    let at_once = shown(framing, sent, &[heard], now);
    let whole = |shown: &[(Vec<u8>, Vec<u8>, bool, bool)]| -> Vec<Vec<u8>> {
        let whole = shown.iter().take_while(|shown| shown.2);
        whole.map(|shown| shown.1.clone()).collect()
    };
    assert_eq!(whole(&divided), whole(&at_once), "{framing}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn replies_lose_no_bytes_for_any_cut(
            framing in prop::sample::select(vec![
                "chunk", "line", "crlf", "nul", "delim:0a0a", "fixed:3", "u8", "u16be", "varint", "netstring", "content-length",
            ]),
            sent in 0..5u8,
            heard in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), 0..5u8, b'0'..b'5', any::<u8>()], 0..80),
            addresses in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            check_replies(framing.parse().unwrap(), sent, &heard, &addresses);
        }
    }
}

//! Checks of [`Replies`] that the property tests and the fuzz target share.

use echoic_core::framing::{Framing, oracle::cut};
use tokio::time::Instant;

use crate::{Replies, ReplyKind};

/// Divides a stream read in `pieces`, after `sent` messages. Returns for each message its bytes, its body, whether it is
/// complete, and whether it is a reply.
fn divide(
    framing: Framing,
    sent: u64,
    pieces: &[&[u8]],
    now: Instant,
) -> Vec<(Vec<u8>, Vec<u8>, bool, bool)> {
    let mut replies = Replies::new(framing);
    let mut all = Vec::new();
    let mut show = |message: crate::ReceivedMessage<'_>| {
        all.push((
            message.bytes.to_vec(),
            message.body.to_vec(),
            message.complete,
            matches!(message.kind, ReplyKind::Reply(_)),
        ));
    };
    replies.add_sent(now, sent);
    for piece in pieces {
        replies.add_received(now, piece, &mut show);
    }
    replies.flush(now, show);
    all
}

/// Checks that no received byte is lost or duplicated, whatever the read boundaries are, that the messages of a declared
/// framing do not depend on them, and that there are at most `sent` replies.
///
/// # Panics
/// If a check fails.
pub fn check_replies(framing: Framing, sent: u8, received: &[u8], addresses: &[usize]) {
    let (now, sent) = (Instant::now(), u64::from(sent));
    let pieces = cut(received, addresses);
    let pieces: Vec<&[u8]> = pieces
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .collect();
    let divided = divide(framing, sent, &pieces, now);
    let bytes: Vec<u8> = divided
        .iter()
        .flat_map(|message| message.0.clone())
        .collect();
    assert_eq!(bytes, received, "{framing}");
    assert!(
        divided.iter().all(|(all, body, ..)| {
            all.windows(body.len().max(1)).any(|part| part == body) || body.is_empty()
        }),
        "{framing}: a body that was not received"
    );
    let replies = divided.iter().filter(|message| message.3).count() as u64;
    if framing == Framing::Chunk {
        assert_eq!(replies, u64::from(sent > 0 && !received.is_empty()));
        return;
    }
    assert_eq!(replies, sent.min(divided.len() as u64), "{framing}");
    let unsplit = divide(framing, sent, &[received], now);
    let complete = |messages: &[(Vec<u8>, Vec<u8>, bool, bool)]| -> Vec<Vec<u8>> {
        let complete = messages.iter().take_while(|message| message.2);
        complete.map(|message| message.1.clone()).collect()
    };
    assert_eq!(complete(&divided), complete(&unsplit), "{framing}");
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
            received in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), 0..5u8, b'0'..b'5', any::<u8>()], 0..80),
            addresses in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            check_replies(framing.parse().unwrap(), sent, &received, &addresses);
        }
    }
}

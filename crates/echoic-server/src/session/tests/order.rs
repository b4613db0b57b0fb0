//! Replies are sent in order, none is lost or doubled, whatever the read boundaries are and
//! however slowly the peer reads.

use echoic_core::event::Outcome;
use proptest::prelude::*;
use tokio::{runtime::Builder, task::yield_now};

use super::*;

/// What the peer does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Sends this many of the bytes that are left.
    Send(usize),
    /// Takes this many more bytes.
    Grant(usize),
    /// Lets other tasks run.
    Rest,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (1_usize..40).prop_map(Act::Send),
        (1_usize..9000).prop_map(Act::Send),
        (0_usize..60).prop_map(Act::Grant),
        (0_usize..9000).prop_map(Act::Grant),
        Just(Act::Rest),
    ];
    prop::collection::vec(act, 0..40)
}

/// Text with newlines, letters whose upper case is longer, and lines too long for the shared buffer.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z ßŉΐ\n]{0,12}",
        2 => Just("\n".to_owned()),
        1 => (0_usize..9000, "[a-zß]").prop_map(|(n, letter)| letter.repeat(n)),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Sends `data` to a service with `acts`; checks the record and returns the bytes the peer took.
fn play(service: &str, framing: Framing, strict: bool, data: &[u8], acts: &[Act]) -> Vec<u8> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut setup = Setup::new(framing);
        setup.window = 0;
        setup.options.hold_replies = strict;
        let talk = setup.talk(named(service, framing)).await;
        let mut left = data;
        for act in acts {
            match *act {
                Act::Send(n) => {
                    let (now, later) = left.split_at(n.min(left.len()));
                    if !now.is_empty() {
                        talk.peer.send(now);
                    }
                    left = later;
                }
                Act::Grant(n) => talk.peer.grant(n),
                Act::Rest => yield_now().await,
            }
        }
        if !left.is_empty() {
            talk.peer.send(left);
        }
        talk.peer.finish();
        talk.peer.grant(AMPLE);
        let reads_while_owing = talk.peer.look(|line| line.reads_while_owing);
        assert_eq!(reads_while_owing, 0, "read while a reply was unsent");
        let end = talk.end().await;

        let all = data.len() as u64;
        assert_eq!(
            (end.reason(), end.ending.received),
            (CloseReason::PeerClosed, all)
        );
        assert_eq!((end.ending.unsent, end.ending.discarded), (0, 0));
        assert_eq!(end.recorded_bytes(), (data.to_vec(), end.taken.clone()));
        let mut produced = 0;
        for (n, kept) in (1..).zip(&end.exchanges) {
            assert_eq!((kept.n, kept.reply_offset), (n, produced), "{kept:?}");
            assert_eq!(kept.outcome, Outcome::Ok);
            produced += kept.reply.len() as u64;
        }
        if framing == Framing::Line {
            let lines = data.split_inclusive(|byte| *byte == b'\n');
            let requests = end.exchanges.iter().map(|kept| &kept.request[..]);
            assert!(
                requests.eq(lines),
                "one exchange per line: {:?}",
                end.exchanges
            );
        }
        end.taken
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn upper_does_not_depend_on_read_boundaries(text in text(), acts in acts(), strict: bool) {
        let upper = text.to_uppercase();
        for framing in [Framing::Chunk, Framing::Line] {
            let taken = play("upper", framing, strict, text.as_bytes(), &acts);
            prop_assert_eq!(String::from_utf8_lossy(&taken), &upper[..], "{}", framing);
        }
    }

    #[test]
    fn echo_returns_any_bytes(
        data in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..3000),
        acts in acts(),
        strict: bool,
    ) {
        for framing in [Framing::Chunk, Framing::Line] {
            let taken = play("echo", framing, strict, &data, &acts);
            prop_assert!(taken == data, "{framing}");
        }
    }
}

/// The paths of the inbox: up to 4 KiB in the shared buffer, beyond that in a buffer of its own, up to the longest
/// message that is allowed.
#[test]
fn message_of_any_length_arrives_in_any_pieces() {
    for length in [
        4095,
        4096,
        4097,
        65_535,
        65_536,
        65_537,
        (1 << 20) - 1,
        1 << 20,
    ] {
        for piece in [1000, 4096, 61_440, 65_536, 1 << 20] {
            let mut data = b"first\n".to_vec();
            data.extend(
                std::iter::repeat_n(b"abcdefg", length)
                    .flatten()
                    .take(length),
            );
            data.extend(b"\nlast");
            let acts: Vec<Act> =
                std::iter::repeat_n([Act::Send(piece), Act::Rest], data.len() / piece)
                    .flatten()
                    .collect();
            let taken = play("upper", Framing::Line, false, &data, &acts);
            assert!(taken == data.to_ascii_uppercase(), "{length} by {piece}");
        }
    }
}

/// 65,536 empty lines are one read, one write and one event.
#[tokio::test(start_paused = true)]
async fn read_of_empty_lines_is_answered_by_one_write() {
    let talk = Setup::line().talk(echo()).await;
    talk.peer.send(vec![b'\n'; 65_536]);
    talk.peer.finish();
    let writes = talk.peer.clone();
    let end = talk.end().await;
    assert_eq!(end.taken, vec![b'\n'; 65_536]);
    assert_eq!(end.exchanges.len(), 65_536);
    assert_eq!(writes.look(|line| (line.reads, line.writes)), (1, 1));
}

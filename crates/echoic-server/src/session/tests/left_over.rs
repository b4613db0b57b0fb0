//! Bytes that made no message are in the ending.

use echoic_core::left_over::LeftOver;

use super::{spawned::echo_spawned, wire::Line, *};

fn framing(text: &str) -> Framing {
    text.parse().unwrap()
}

fn left_over(total: u64, claimed: Option<u64>, bytes: &[u8]) -> Option<Box<LeftOver>> {
    let bytes = bytes.to_vec();
    Some(Box::new(LeftOver {
        total,
        claimed,
        bytes,
    }))
}

type Case = (
    &'static str,
    &'static [u8],
    CloseReason,
    Option<u64>,
    &'static [u8],
);

const CASES: [Case; 6] = [
    (
        "u16be",
        b"\0\x01a\xff\xffbc",
        CloseReason::Incomplete,
        Some(65_535),
        b"\xff\xffbc",
    ),
    (
        "fixed:4",
        b"abcdef",
        CloseReason::Incomplete,
        Some(4),
        b"ef",
    ),
    (
        "netstring",
        b"1:a,99:b",
        CloseReason::Incomplete,
        Some(99),
        b"99:b",
    ),
    (
        "netstring",
        b"1:a,hello",
        CloseReason::Malformed,
        None,
        b"hello",
    ),
    (
        "u32be",
        b"hello",
        CloseReason::MessageTooLong,
        Some(0x6865_6c6c),
        b"hello",
    ),
    ("line", b"a\nb", CloseReason::PeerClosed, None, b""),
];

#[tokio::test(start_paused = true)]
async fn bytes_after_the_last_message_are_recorded() {
    for (declared, sent, reason, claimed, left) in CASES {
        let declared = framing(declared);
        for handler in [named("echo", declared), echo_spawned()] {
            let talk = Setup::new(declared).talk(handler).await;
            talk.peer.send(sent);
            talk.peer.finish();
            let end = talk.end().await;
            assert_eq!(end.reason(), reason);
            let expected = match left {
                b"" => None,
                _ => left_over(left.len() as u64, claimed, left),
            };
            assert_eq!(end.ending.left_over, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn message_that_is_not_finished_in_time_is_recorded() {
    let mut setup = Setup::line();
    setup.limits.message_timeout = Duration::from_secs(5);
    let talk = setup.talk(echo()).await;
    talk.peer.send("whole\nGET / HT");
    let peer = talk.peer.clone();
    peer.until("finished", |line| line.finished.is_some()).await;
    peer.finish();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::MessageTimeout);
    assert_eq!(end.ending.left_over, left_over(8, None, b"GET / HT"));
}

#[tokio::test(start_paused = true)]
async fn message_cut_by_a_reset_or_the_stop_signal_is_recorded() {
    for is_reset in [true, false] {
        let talk = Setup::line().talk(echo()).await;
        talk.peer.send("whole\npart");
        talk.peer.receives("whole\n").await;
        if is_reset {
            talk.peer.reset();
        } else {
            talk.drain.start();
            talk.peer.finish();
        }
        let end = talk.end().await;
        let expected = match end.reason() {
            CloseReason::PeerClosed => None, // the last line needs no terminator
            _ => left_over(4, None, b"part"),
        };
        assert_eq!(end.ending.left_over, expected, "{:?}", end.reason());
    }
}

#[tokio::test(start_paused = true)]
async fn first_4_kib_of_a_long_message_are_kept() {
    let mut setup = Setup::line();
    setup.limits.message_bytes_max = 10_000;
    let talk = setup.talk(echo()).await;
    talk.peer.send("x".repeat(20_000));
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::MessageTooLong);
    let left = end.ending.left_over.unwrap();
    assert_eq!((left.total, left.bytes.len()), (20_000, 4_096));
}

/// The two directions may have framings of their own.
#[tokio::test(start_paused = true)]
async fn header_is_read_by_the_framing_of_what_the_peer_sends() {
    for (framings, claimed) in [("u8/line", Some(9)), ("line/u8", None)] {
        let framings: FramingPair = framings.parse().unwrap();
        let talk = Setup::new(framings).talk(echo()).await;
        talk.peer.send(b"\x09ab");
        talk.peer.until("read", Line::incoming_is_empty).await;
        talk.peer.reset();
        let end = talk.end().await;
        assert_eq!(end.reason(), CloseReason::PeerReset);
        assert_eq!(end.ending.left_over, left_over(3, claimed, b"\x09ab"));
    }
}

//! The in-place path of a service gives the same replies as its per-message path.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};

use echoic_core::{
    endpoint::Shape,
    event::Address,
    framing::{Framing, Splitter, oracle::cut},
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer},
};
use echoic_service::NamedService;
use proptest::prelude::*;

fn handler(service: &str, framing: Framing) -> Box<dyn InlineHandler> {
    let address = Address::Net(SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)));
    let peer = Peer {
        conversation: 1,
        remote: address.clone(),
        local: address,
        framing: framing.into(),
        shape: Shape::Stream,
    };
    match service.parse::<NamedService>().unwrap().0.handler(&peer) {
        Handler::Inline(handler) => handler,
        Handler::Spawned(_) => unreachable!("{service} is inline"),
    }
}

/// Returns the replies of a service to `pieces`, and the number of pieces that were answered in place, which is allowed
/// by `in_place`.
fn replies_to(
    service: &str,
    framing: Framing,
    pieces: &[&[u8]],
    in_place: bool,
) -> (Vec<u8>, usize) {
    let mut handler = handler(service, framing);
    let mut splitter = Splitter::new(framing, 1 << 20);
    let (mut held, mut spans, mut replies) = (Vec::new(), Vec::new(), Replies::default());
    let (mut sent, mut count) = (Vec::new(), 0);
    for piece in pieces {
        held.extend_from_slice(piece);
        spans.clear();
        let consumed = splitter.split(&held, &mut spans).consumed;
        let before = held.clone();
        let answer = handler.in_place().filter(|_| in_place);
        if answer.is_some_and(|answer| answer(&mut held[..consumed])) {
            sent.extend_from_slice(&held[..consumed]);
            count += 1;
        } else if !spans.is_empty() {
            replies.clear(framing.into());
            let run = Run::new(&held, &spans, 0);
            let _ = handler.answer(&run, &mut replies);
            sent.extend_from_slice(replies.bytes());
        }
        assert_eq!(
            held[consumed..],
            before[consumed..],
            "the unfinished message is unchanged"
        );
        held.drain(..consumed);
    }
    replies.clear(framing.into());
    handler.input_ended(&mut replies);
    sent.extend_from_slice(replies.bytes());
    (sent, count)
}

const SERVICES: [&str; 6] = ["upper", "lower", "echo", "discard", "info", "greet"];

const FRAMINGS: [&str; 9] = [
    "chunk",
    "line",
    "crlf",
    "nul",
    "fixed:3",
    "delim:61",
    "delim:41",
    "delim:7a5a",
    "delim:c3",
];

proptest! {
    #[test]
    fn in_place_path_equals_per_message_path(
        text in "([a-zA-Z ]{0,9}|[ßΣσŉ\u{fb03}]{0,2}|[\r\n\0]{1,2}){0,30}",
        positions in prop::collection::vec(any::<usize>(), 0..8),
        service in prop::sample::select(&SERVICES[..]),
        framing in prop::sample::select(&FRAMINGS[..]),
    ) {
        let (framing, pieces): (Framing, _) = (framing.parse().unwrap(), cut(text.as_bytes(), &positions));
        let (in_place, _) = replies_to(service, framing, &pieces, true);
        let (by_message, count) = replies_to(service, framing, &pieces, false);
        prop_assert_eq!(count, 0);
        prop_assert_eq!(in_place, by_message);
    }
}

/// The in-place path is used, but not where it would change a terminator or mishandle characters beyond ASCII.
#[test]
fn in_place_path_is_used_only_where_valid() {
    let is_in_place = |service, framing: &str, piece: &[u8]| {
        replies_to(service, framing.parse().unwrap(), &[piece], true).1 > 0
    };
    for service in ["upper", "lower", "echo"] {
        for framing in ["chunk", "line", "crlf", "nul", "fixed:2", "delim:2d"] {
            assert!(
                is_in_place(service, framing, b"ab\r\n-\0"),
                "{service} {framing}"
            );
        }
    }
    assert!(!is_in_place("upper", "delim:61", b"xa") && is_in_place("lower", "delim:61", b"xa"));
    assert!(is_in_place("upper", "delim:41", b"xA") && !is_in_place("lower", "delim:41", b"xA"));
    assert!(
        !is_in_place("upper", "line", "ß\n".as_bytes()) && is_in_place("echo", "line", b"\xff\n")
    );
    assert!(!is_in_place("discard", "line", b"a\n"));
}

//! The short way of a service, where it offers one, comes to the same as its long one.

#![allow(clippy::unwrap_used, reason = "in a test that is the failure")]

use std::net::{Ipv4Addr, SocketAddr};

use echoic_core::{
    endpoint::Shape,
    event::Address,
    framing::{Framing, Splitter, oracle::cut},
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer},
};
use echoic_service::Chosen;
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
    match service.parse::<Chosen>().unwrap().0.handler(&peer) {
        Handler::Inline(handler) => handler,
        Handler::Spawned(_) => unreachable!("{service} is inline"),
    }
}

/// What a service says to `pieces` in all, and how many of them went the short way, which is taken where it can be if
/// `short` says so.
fn said(service: &str, framing: Framing, pieces: &[&[u8]], short: bool) -> (Vec<u8>, usize) {
    let mut handler = handler(service, framing);
    let mut splitter = Splitter::new(framing, 1 << 20);
    let (mut held, mut spans, mut replies) = (Vec::new(), Vec::new(), Replies::default());
    let (mut said, mut times) = (Vec::new(), 0);
    for piece in pieces {
        held.extend_from_slice(piece);
        spans.clear();
        let consumed = splitter.split(&held, &mut spans).consumed;
        let before = held.clone();
        let in_place = handler.in_place().filter(|_| short);
        if in_place.is_some_and(|answer| answer(&mut held[..consumed])) {
            said.extend_from_slice(&held[..consumed]);
            times += 1;
        } else if !spans.is_empty() {
            replies.clear(framing.into());
            let run = Run::new(&held, &spans, 0);
            let _ = handler.answer(&run, &mut replies);
            said.extend_from_slice(replies.bytes());
        }
        assert_eq!(
            held[consumed..],
            before[consumed..],
            "what is unfinished stays"
        );
        held.drain(..consumed);
    }
    replies.clear(framing.into());
    handler.finish(&mut replies);
    said.extend_from_slice(replies.bytes());
    (said, times)
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
        addresses in prop::collection::vec(any::<usize>(), 0..8),
        service in prop::sample::select(&SERVICES[..]),
        framing in prop::sample::select(&FRAMINGS[..]),
    ) {
        let (framing, pieces): (Framing, _) = (framing.parse().unwrap(), cut(text.as_bytes(), &addresses));
        let (short, _) = said(service, framing, &pieces, true);
        let (long, none) = said(service, framing, &pieces, false);
        prop_assert_eq!(none, 0);
        prop_assert_eq!(short, long);
    }
}

/// The short way is there at all, and not where it would change what ends a message.
#[test]
fn in_place_path_is_used_only_where_valid() {
    let takes = |service, framing: &str, piece: &[u8]| {
        said(service, framing.parse().unwrap(), &[piece], true).1 > 0
    };
    for service in ["upper", "lower", "echo"] {
        for framing in ["chunk", "line", "crlf", "nul", "fixed:2", "delim:2d"] {
            assert!(takes(service, framing, b"ab\r\n-\0"), "{service} {framing}");
        }
    }
    assert!(!takes("upper", "delim:61", b"xa") && takes("lower", "delim:61", b"xa"));
    assert!(takes("upper", "delim:41", b"xA") && !takes("lower", "delim:41", b"xA"));
    assert!(!takes("upper", "line", "ß\n".as_bytes()) && takes("echo", "line", b"\xff\n"));
    assert!(!takes("discard", "line", b"a\n"));
}

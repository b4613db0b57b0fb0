//! Ending our half of a conversation: the peer sees the end of the stream, and what it sends is still recorded.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use echoic_core::{
    control::{CloseHow, ControlError},
    ending::CloseReason,
    event::Outcome,
};

use crate::{
    controlled::{Controlled, ask, lines, named},
    conversations::SpawnedEcho,
    serving::until,
};

#[test]
fn half_close_ends_our_half_and_records_what_the_peer_still_sends() {
    for service in [named("echo"), Arc::new(SpawnedEcho)] {
        let server = Controlled::start(vec![lines("127.0.0.1:0", Arc::clone(&service))]);
        let mut peer = server.call(1);
        assert_eq!(ask(&mut peer, "a\n"), "a\n");
        let conversation = server.conversation_of(peer.local_addr().unwrap());
        server.close(conversation, CloseHow::Half).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "our half has ended");
        server.close(conversation, CloseHow::Half).unwrap();
        let refused = server.send(conversation, "late\n");
        assert!(
            matches!(refused, Err(ControlError::Invalid(_))),
            "{refused:?}"
        );

        peer.write_all(b"b\nc\n").unwrap();
        until("they are recorded", || {
            server.exchanges(conversation).len() == 3
        });
        assert_eq!(server.status(1).open, 1, "it is still open");
        peer.write_all(b"d\n").unwrap();
        drop(peer);
        let ending = server.ending(conversation);
        assert_eq!(
            (ending.reason, ending.received, ending.sent, ending.unsent),
            (CloseReason::ClosedByOperator, 8, 2, 0),
            "{service:?}"
        );
        let exchanges = server.exchanges(conversation);
        let recorded: Vec<_> = exchanges
            .iter()
            .map(|one| (one.n, one.outcome, &one.request[..], &one.reply[..]))
            .collect();
        let expected: [(u64, Outcome, &[u8], &[u8]); 4] = [
            (1, Outcome::Ok, b"a\n", b"a\n"),
            (2, Outcome::Unanswered, b"b\n", b""),
            (3, Outcome::Unanswered, b"c\n", b""),
            (4, Outcome::Unanswered, b"d\n", b""),
        ];
        assert_eq!(recorded, expected, "{service:?}");
        server.end();
    }
}

#[test]
fn half_closed_conversation_can_still_be_closed() {
    for (how, reason) in [
        (CloseHow::Fin, CloseReason::ClosedByOperator),
        (CloseHow::Rst, CloseReason::ResetByOperator),
    ] {
        let server = Controlled::start(vec![lines("127.0.0.1:0", named("upper"))]);
        let mut peer = server.call(1);
        let conversation = server.conversation_of(peer.local_addr().unwrap());
        server.close(conversation, CloseHow::Half).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        server.close(conversation, how).unwrap();
        drop(peer);
        assert_eq!(server.ending(conversation).reason, reason);
        server.end();
    }
}

#[test]
fn stop_ends_a_half_closed_conversation() {
    let server = Controlled::start(vec![lines("127.0.0.1:0", named("upper"))]);
    let mut peer = server.call(1);
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    server.close(conversation, CloseHow::Half).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    peer.write_all(b"last\n").unwrap();
    until("it is recorded", || {
        server.exchanges(conversation).len() == 1
    });
    let (_, store) = server.end();
    let ending = store.ending(conversation).unwrap();
    assert_eq!(
        (ending.reason, ending.received),
        (CloseReason::ServerStopped, 5)
    );
}

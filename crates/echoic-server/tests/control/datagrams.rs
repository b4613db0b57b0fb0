//! Endpoints and conversations of datagrams.

use std::{os::unix::net::UnixDatagram, time::Duration};

use echoic_core::{
    control::{CloseHow, ControlError, EndpointState, Requested},
    ending::CloseReason,
    event::Outcome,
    limits::Limits,
};
use echoic_recorder::RecorderOptions;
use echoic_server::EndpointConfig;

use crate::controlled::{A_WHILE, Controlled, gets_nothing, named};

fn udp(service: &str) -> EndpointConfig {
    EndpointConfig::new("udp://127.0.0.1:0".parse().unwrap(), named(service))
}

#[test]
fn datagrams_wait_while_the_endpoint_is_paused() {
    let server = Controlled::start(vec![udp("upper"), udp("upper")]);
    let (peer, other) = (server.peer(1), server.peer(2));
    server.set(1, Requested::Paused);
    peer.send(b"one").unwrap();
    peer.send(b"two").unwrap();
    peer.set_read_timeout(Some(A_WHILE)).unwrap();
    let mut buffer = [0; 9];
    gets_nothing(peer.recv(&mut buffer));
    assert_eq!(server.status(1).open, 0);
    other.send(b"other").unwrap();
    assert_eq!(other.recv(&mut buffer).unwrap(), 5);
    server.set(1, Requested::Open);
    peer.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    for expected in [b"ONE", b"TWO"] {
        let len = peer.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected);
    }
    server.set(1, Requested::Paused);
    peer.send(b"end").unwrap();
    let (drained, _) = server.end();
    assert_eq!((drained.served, drained.datagrams.dropped), (4, 0));
    let len = peer.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"END", "the stop ends the pause");
}

#[test]
fn unix_datagrams_wait_too() {
    let directory = tempfile::tempdir().unwrap();
    let (theirs, ours) = (directory.path().join("s"), directory.path().join("c"));
    let endpoint = format!("unixgram:{}", theirs.display());
    let config = EndpointConfig::new(endpoint.parse().unwrap(), named("upper"));
    let server = Controlled::start(vec![config]);
    let peer = UnixDatagram::bind(&ours).unwrap();
    peer.connect(&theirs).unwrap();
    server.set(1, Requested::Paused);
    peer.send(b"one").unwrap();
    peer.set_read_timeout(Some(A_WHILE)).unwrap();
    let mut buffer = [0; 9];
    gets_nothing(peer.recv(&mut buffer));
    server.set(1, Requested::Open);
    peer.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    assert_eq!(peer.recv(&mut buffer).unwrap(), 3);
    // No address can be forged here, so that nothing can be amplified.
    server.send(1, "longer than all before").unwrap();
    assert_eq!(peer.recv(&mut [0; 99]).unwrap(), 22);
    server.end();
}

#[test]
fn drain_ends_datagram_conversations_and_their_peers_come_back_after_it() {
    let server = Controlled::start(vec![udp("upper"), udp("upper")]);
    let (peer, other) = (server.peer(1), server.peer(2));
    let mut buffer = [0; 9];
    for socket in [&peer, &other] {
        socket.send(b"hello").unwrap();
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
    }
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    server.set(1, Requested::Draining);
    assert_eq!(
        server.ending(conversation).reason,
        CloseReason::EndpointDrained
    );
    let status = server.status(1);
    assert_eq!((status.state, status.open), (EndpointState::Paused, 0));
    assert_eq!(server.status(2).open, 1);
    peer.send(b"later").unwrap();
    peer.set_read_timeout(Some(A_WHILE)).unwrap();
    gets_nothing(peer.recv(&mut buffer));
    server.set(1, Requested::Draining);
    gets_nothing(peer.recv(&mut buffer));
    server.set(1, Requested::Open);
    peer.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    assert_eq!(peer.recv(&mut buffer).unwrap(), 5);
    assert_eq!((server.status(1).accepted, server.status(1).open), (2, 1));
    other.send(b"hello").unwrap();
    assert_eq!(other.recv(&mut buffer).unwrap(), 5);
    server.end();
}

/// Under strict durability a datagram is recorded before the system could refuse it.
#[test]
fn datagram_longer_than_udp_takes_is_refused_and_not_recorded() {
    for hold_replies in [false, true] {
        let endpoint = EndpointConfig {
            udp_allow_amplification: true,
            ..udp("discard")
        };
        let options = RecorderOptions {
            hold_replies,
            ..RecorderOptions::default()
        };
        let server = Controlled::start_with(vec![endpoint], Limits::default(), options);
        let peer = server.peer(1);
        peer.send(b"hello").unwrap();
        let conversation = server.conversation_of(peer.local_addr().unwrap());
        let Err(ControlError::Invalid(why)) = server.send(conversation, vec![b'x'; 65_508]) else {
            panic!("it is refused");
        };
        let expected = "65508 bytes are too many for one datagram to 127.0.0.1:";
        assert!(
            why.starts_with(expected) && why.ends_with("at most 65507"),
            "{why}"
        );
        server.send(conversation, vec![b'x'; 65_507]).unwrap();
        assert_eq!(peer.recv(&mut vec![0; 65_536]).unwrap(), 65_507);
        let (drained, store) = server.end();
        assert_eq!((drained.served, drained.datagrams.unsent), (2, 0));
        let lengths = store.exchanges().into_iter().map(|one| one.reply.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [0, 65_507]);
    }
}

#[test]
fn datagram_to_a_peer_is_not_longer_than_what_came_from_it() {
    let server = Controlled::start(vec![udp("discard")]);
    let peer = server.peer(1);
    peer.send(b"ten bytes.").unwrap();
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    let too_long = server.send(conversation, "eleven byte");
    assert!(
        matches!(too_long, Err(ControlError::Invalid(_))),
        "{too_long:?}"
    );
    server.send(conversation, "sixsix").unwrap();
    server.send(conversation, "four").unwrap();
    let one_more = server.send(conversation, "x");
    assert!(
        matches!(one_more, Err(ControlError::Invalid(_))),
        "{one_more:?}"
    );
    for expected in [6, 4] {
        assert_eq!(peer.recv(&mut [0; 99]).unwrap(), expected);
    }
    for how in [CloseHow::Rst, CloseHow::Half] {
        let refused = server.close(conversation, how);
        assert!(
            matches!(refused, Err(ControlError::Invalid(_))),
            "{refused:?}"
        );
    }
    server.close(conversation, CloseHow::Fin).unwrap();
    let ending = server.ending(conversation);
    assert_eq!(
        (ending.reason, ending.received, ending.sent),
        (CloseReason::ClosedByOperator, 10, 10)
    );
    let exchanges = server.exchanges(conversation);
    let recorded: Vec<_> = exchanges
        .iter()
        .map(|one| (one.outcome, one.request.len(), one.reply.len(), one.reads))
        .collect();
    assert_eq!(
        recorded,
        [
            (Outcome::Ok, 10, 0, 1),
            (Outcome::Ok, 0, 6, 0),
            (Outcome::Ok, 0, 4, 0)
        ]
    );
    assert_eq!(server.status(1).open, 0);
    server.end();
}

#[test]
fn endpoint_that_allows_amplification_sends_more() {
    let config = EndpointConfig {
        udp_allow_amplification: true,
        ..udp("discard")
    };
    let server = Controlled::start(vec![config]);
    let peer = server.peer(1);
    peer.send(b"x").unwrap();
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    server.send(conversation, vec![b'y'; 1000]).unwrap();
    assert_eq!(peer.recv(&mut [0; 2000]).unwrap(), 1000);
    let (drained, _) = server.end();
    assert_eq!((drained.served, drained.datagrams.unsent), (2, 0));
}

//! The socket calls of explained conversations.

use std::{io::Write, net::Shutdown};

use echoic_core::control::{CloseHow, SocketCall};
use echoic_server::EndpointConfig;

use crate::{
    controlled::{Controlled, ask, lines, named, upper},
    serving::{rest, until},
};

/// The sum of what the calls of this name returned.
fn sum(calls: &[SocketCall], name: &str) -> u64 {
    let calls = calls.iter().filter(|call| call.call == name);
    calls
        .filter_map(|call| call.result.parse::<u64>().ok())
        .sum()
}

fn names(calls: &[SocketCall]) -> Vec<&str> {
    calls.iter().map(|call| call.call).collect()
}

#[test]
fn calls_of_the_next_conversation_add_up_to_its_bytes() {
    let server = Controlled::start(vec![upper()]);
    let mut before = server.call(1);
    assert_eq!(ask(&mut before, "a\n"), "A\n");
    server.control.explain_next();
    let mut peer = server.call(1);
    for line in ["hello\n", "b\n", "three lines\n"] {
        ask(&mut peer, line);
    }
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    peer.write_all(b"the last one\n").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut peer), b"THE LAST ONE\n");
    let ending = server.ending(conversation);
    let closed = || {
        let calls = server.control.socket_calls(conversation).unwrap();
        calls.last().is_some_and(|call| call.call == "close")
    };
    until("its close is noted", closed);
    let calls = server.control.socket_calls(conversation).unwrap();
    assert_eq!(
        (sum(&calls, "recv"), sum(&calls, "send")),
        (ending.received, ending.sent)
    );
    let accept = &calls[0];
    assert_eq!(accept.call, "accept4");
    let fd = &accept.result;
    assert!(
        calls[1..]
            .iter()
            .all(|call| call.args.split(", ").next() == Some(fd)),
        "{calls:?}"
    );
    assert_eq!(
        names(&calls)[1..9],
        [
            "recv", "send", "recv", "send", "recv", "send", "recv", "send"
        ]
    );
    assert_eq!(
        (calls[1].result.as_str(), &calls[2].args),
        ("6", &format!("{fd}, 6"))
    );
    let end_of_stream = &calls[calls.len() - 2];
    assert_eq!(
        (end_of_stream.call, end_of_stream.result.as_str()),
        ("recv", "0")
    );
    assert!(calls.is_sorted_by_key(|call| call.t_us));

    let other = server.conversation_of(before.local_addr().unwrap());
    assert_eq!(server.control.socket_calls(other), None);
    let mut after = server.call(1);
    ask(&mut after, "a\n");
    let after = server.conversation_of(after.local_addr().unwrap());
    assert_eq!(
        server.control.socket_calls(after),
        None,
        "one was asked for"
    );
    server.end();
}

#[test]
fn reset_by_an_operator_shows_the_option_that_makes_it() {
    let server = Controlled::start(vec![upper()]);
    server.control.explain_next();
    let mut peer = server.call(1);
    ask(&mut peer, "a\n");
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    server.send(conversation, "note\n").unwrap();
    server.close(conversation, CloseHow::Rst).unwrap();
    server.ending(conversation);
    until("its close is noted", || {
        server.control.socket_calls(conversation).unwrap().len() >= 6
    });
    let calls = server.control.socket_calls(conversation).unwrap();
    assert_eq!(
        names(&calls),
        ["accept4", "recv", "send", "send", "setsockopt", "close"]
    );
    assert!(calls[4].args.ends_with("SO_LINGER, 0"), "{calls:?}");
    server.end();
}

#[test]
fn half_close_shows_its_shutdown() {
    let server = Controlled::start(vec![lines("127.0.0.1:0", named("upper"))]);
    server.control.explain_next();
    let mut peer = server.call(1);
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    server.close(conversation, CloseHow::Half).unwrap();
    assert_eq!(rest(&mut peer), b"");
    drop(peer);
    server.ending(conversation);
    until("its close is noted", || {
        server.control.socket_calls(conversation).unwrap().len() >= 4
    });
    let calls = server.control.socket_calls(conversation).unwrap();
    assert_eq!(names(&calls), ["accept4", "shutdown", "recv", "close"]);
    assert!(calls[1].args.ends_with(", SHUT_WR"), "{calls:?}");
    server.end();
}

#[test]
fn datagram_calls_add_up_to_the_bytes_of_their_peer() {
    let config = EndpointConfig::new("udp://127.0.0.1:0".parse().unwrap(), named("upper"));
    let server = Controlled::start(vec![config]);
    server.control.explain_next();
    let (peer, other) = (server.peer(1), server.peer(1));
    for socket in [&peer, &other, &peer] {
        socket.send(b"hello").unwrap();
        assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 5);
    }
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    server.close(conversation, CloseHow::Fin).unwrap();
    let ending = server.ending(conversation);
    let calls = server.control.socket_calls(conversation).unwrap();
    assert_eq!(names(&calls), ["recvfrom", "sendto", "recvfrom", "sendto"]);
    assert_eq!(
        (sum(&calls, "recvfrom"), sum(&calls, "sendto")),
        (ending.received, ending.sent)
    );
    let other = server.conversation_of(other.local_addr().unwrap());
    assert_eq!(server.control.socket_calls(other), None);
    server.end();
}

//! Pausing, resuming and draining endpoints of streams.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use echoic_core::{
    control::{CloseHow, ControlError, EndpointState, Requested},
    ending::CloseReason,
    event::Address,
    limits::Limits,
};
use echoic_recorder::RecorderOptions;
use echoic_server::EndpointConfig;

use crate::{
    controlled::{A_WHILE, Controlled, ask, gets_nothing, lines, named, read_line, upper},
    conversations::long,
    serving::{rest, until},
};

#[test]
fn pause_holds_a_client_in_the_backlog_and_resume_serves_it() {
    let server = Controlled::start(vec![upper(), upper()]);
    let mut before = server.call(1);
    assert_eq!(ask(&mut before, "a\n"), "A\n");

    let paused = server.set(1, Requested::Paused);
    assert_eq!((paused.state, paused.open), (EndpointState::Paused, 1));
    let mut waiting = server.call(1);
    waiting.write_all(b"wait\n").unwrap();
    waiting.set_read_timeout(Some(A_WHILE)).unwrap();
    gets_nothing(waiting.read(&mut [0]));
    assert_eq!(ask(&mut before, "b\n"), "B\n", "open conversations go on");
    assert_eq!(ask(&mut server.call(2), "c\n"), "C\n");
    assert_eq!(server.status(1).accepted, 1);

    let open = server.set(1, Requested::Open);
    assert_eq!(open.state, EndpointState::Open);
    waiting
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    assert_eq!(read_line(&mut waiting), "WAIT\n");
    let status = server.status(1);
    assert_eq!((status.accepted, status.rejected), (2, 0));
    server.end();
}

#[test]
fn unix_endpoint_pauses_and_drains_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let endpoint = format!("unix:{}", path.display());
    let server = Controlled::start(vec![lines(&endpoint, named("upper"))]);
    server.set(1, Requested::Paused);
    let mut waiting = UnixStream::connect(&path).unwrap();
    waiting.write_all(b"wait\n").unwrap();
    waiting.set_read_timeout(Some(A_WHILE)).unwrap();
    gets_nothing(waiting.read(&mut [0]));
    server.set(1, Requested::Open);
    waiting.set_read_timeout(None).unwrap();
    assert_eq!(read_line(&mut waiting), "WAIT\n");
    server.set(1, Requested::Draining);
    assert_eq!(waiting.read(&mut [0]).unwrap(), 0);
    drop(waiting);
    let (_, store) = server.end();
    assert_eq!(
        store.ending(1).unwrap().reason,
        CloseReason::EndpointDrained
    );
}

#[test]
fn paused_server_sleeps() {
    let udp = EndpointConfig::new("udp://127.0.0.1:0".parse().unwrap(), named("upper"));
    let server = Controlled::start(vec![upper(), udp]);
    let mut open = server.call(1);
    assert_eq!(ask(&mut open, "a\n"), "A\n");
    for endpoint in [1, 2] {
        server.set(endpoint, Requested::Paused);
    }
    let _waiting = server.call(1);
    server.peer(2).send(b"waits").unwrap();
    thread::sleep(A_WHILE); // the recorder commits
    let before = server.sleeps_and_ticks();
    thread::sleep(5 * A_WHILE);
    let after = server.sleeps_and_ticks();
    let (wakeups, ticks) = (after.0 - before.0, after.1 - before.1);
    assert!(
        wakeups <= 3 && ticks <= 4,
        "{wakeups} wake-ups and {ticks} ticks of CPU time in a second"
    );
    server.end();
}

#[test]
fn stop_serves_clients_that_wait_at_a_paused_or_drained_endpoint() {
    let limits = Limits {
        drain_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    for state in [Requested::Paused, Requested::Draining] {
        let options = RecorderOptions::default();
        let server = Controlled::start_with(vec![upper()], limits.clone(), options);
        let mut first = server.call(1);
        assert_eq!(ask(&mut first, "a\n"), "A\n");
        drop(first);
        server.set(1, state);
        let mut waiting = server.call(1);
        waiting.write_all(b"wait\n").unwrap();
        thread::sleep(Duration::from_millis(1200)); // the drain is overdue
        let (_, store) = server.end();
        assert_eq!(rest(&mut waiting), b"WAIT\n", "{state:?}");
        let reason = store.ending(2).unwrap().reason;
        assert_eq!(reason, CloseReason::ServerStopped, "{state:?}");
    }
}

#[test]
fn drain_ends_the_conversations_of_its_endpoint_alone() {
    let server = Controlled::start(vec![upper(), upper()]);
    let mut others = Vec::new();
    for round in 0..2 {
        let (mut one, mut other) = (server.call(1), server.call(2));
        assert_eq!(ask(&mut one, "a\n"), "A\n");
        assert_eq!(ask(&mut other, "b\n"), "B\n");
        let conversation = server.conversation_of(one.local_addr().unwrap());
        // Received, and unfinished when the drain begins.
        one.write_all(b"c\nunfinished").unwrap();
        assert_eq!(read_line(&mut one), "C\n");
        let drained = server.set(1, Requested::Draining);
        assert_ne!(drained.state, EndpointState::Open);
        assert_eq!(rest(&mut one), b"");
        drop(one);
        let ending = server.ending(conversation);
        assert_eq!(
            (ending.reason, ending.received, ending.sent),
            (CloseReason::EndpointDrained, 14, 4)
        );
        until("the drain is over", || {
            let status = server.status(1);
            (status.state, status.open) == (EndpointState::Paused, 0)
        });
        let paused = server.set(1, Requested::Paused);
        assert_eq!(paused.state, EndpointState::Paused);
        assert_eq!(ask(&mut other, "d\n"), "D\n", "the other one lives");
        assert_eq!(server.status(2).open, 1 + round);

        let mut later = server.call(1);
        later.write_all(b"later\n").unwrap();
        later.set_read_timeout(Some(A_WHILE)).unwrap();
        gets_nothing(later.read(&mut [0]));
        server.set(1, Requested::Open);
        later
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        assert_eq!(read_line(&mut later), "LATER\n");
        others.push(other);
    }
    server.end();
}

#[test]
fn drain_answers_everything_that_was_received() {
    let server = Controlled::start(vec![upper()]);
    let mut peer = server.call(1);
    let asked = "a line of a pipeline\n".repeat(10_000);
    let mut writer = peer.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(asked.as_bytes()).unwrap());
    assert_eq!(read_line(&mut peer), "A LINE OF A PIPELINE\n");
    server.set(1, Requested::Draining);
    let replies = rest(&mut peer);
    writing.join().unwrap();
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    let ending = server.ending(conversation);
    let complete = replies.len() as u64 + 21;
    assert_eq!(
        (ending.reason, ending.sent),
        (CloseReason::EndpointDrained, complete)
    );
    assert_eq!(ending.received / 21 * 21, complete, "{ending:?}");
    server.end();
}

#[test]
fn conversation_that_does_not_end_is_cut_at_the_drain_timeout() {
    // More than this process may pause before the second look.
    let drain_timeout = Duration::from_secs(2);
    let limits = Limits {
        drain_timeout,
        ..Limits::default()
    };
    let endpoints = vec![long(5_000_000), upper()];
    let server = Controlled::start_with(endpoints, limits, RecorderOptions::default());
    let mut other = server.call(2);
    assert_eq!(ask(&mut other, "a\n"), "A\n");
    for is_closing in [false, true] {
        let mut reads_nothing = server.call(1);
        reads_nothing.write_all(b"go\n").unwrap();
        let conversation = server.conversation_of(reads_nothing.local_addr().unwrap());
        reads_nothing.peek(&mut [0]).unwrap();
        if is_closing {
            server.close(conversation, CloseHow::Fin).unwrap();
        }
        let began = Instant::now();
        let status = server.set(1, Requested::Draining);
        assert_eq!((status.state, status.open), (EndpointState::Draining, 1));
        let paused = server.set(1, Requested::Paused);
        assert_eq!(paused.state, EndpointState::Draining, "it goes on");
        let ending = server.ending(conversation);
        assert_eq!(ending.reason, CloseReason::DrainTimeout);
        assert!(ending.unsent > 1_000_000, "{ending:?}");
        assert!(began.elapsed() >= drain_timeout);
        assert_eq!(ask(&mut other, "b\n"), "B\n");
        until("paused", || server.status(1).state == EndpointState::Paused);
        server.set(1, Requested::Open);
    }
    server.end();
}

#[test]
fn endpoints_are_numbered_and_counted() {
    let server = Controlled::start(vec![upper(), lines("udp://127.0.0.1:0", named("upper"))]);
    let mut peer = server.call(1);
    assert_eq!(ask(&mut peer, "a\n"), "A\n");
    let udp = server.peer(2);
    udp.send(b"hello").unwrap();
    assert_eq!(udp.recv(&mut [0; 9]).unwrap(), 5);
    let endpoints = server.control.endpoints();
    let ids: Vec<_> = endpoints.iter().map(|endpoint| endpoint.id).collect();
    assert_eq!(ids, [1, 2]);
    for endpoint in &endpoints {
        assert_eq!((endpoint.open, endpoint.accepted), (1, 1), "{endpoint:?}");
        assert!(matches!(endpoint.addresses[..], [Address::Net(_)]));
    }
    let counts = server.control.counts();
    assert_eq!((counts.open, counts.accepted), (2, 2));
    until("both are served", || server.control.counts().served == 2);
    let unknown = server.try_set(3, Requested::Paused);
    assert_eq!(
        unknown.unwrap_err(),
        ControlError::NotFound("endpoint 3".into())
    );
    drop(peer);
    until("it is closed", || server.status(1).open == 0);
    server.end();
}

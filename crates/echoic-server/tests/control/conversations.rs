//! Sending into conversations and closing them.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    thread,
};

use echoic_core::{
    control::{CloseHow, ControlError},
    ending::CloseReason,
    event::Outcome,
    limits::Limits,
    service::{
        BoxFuture, Handler, Peer, Reply, ReplySender, RequestReceiver, Service, ServiceError,
        SpawnedHandler,
    },
};
use echoic_recorder::RecorderOptions;
use echoic_server::EndpointConfig;
use echoic_wire::ListenOptions;

use crate::{
    controlled::{Controlled, ask, lines, named, read_line, upper},
    serving::{Doing, rest},
};

/// Echoes, from a task of its own.
#[derive(Debug)]
pub(crate) struct SpawnedEcho;

impl Service for SpawnedEcho {
    fn name(&self) -> &'static str {
        "spawned"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Spawned(Box::new(Self))
    }
}

impl SpawnedHandler for SpawnedEcho {
    fn run(
        self: Box<Self>,
        mut requests: RequestReceiver,
        mut replies: ReplySender,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(async move {
            while let Ok(Some(run)) = requests.recv().await {
                let bytes = run.as_run().raw().to_vec();
                let lengths = Some(run.as_run().lengths().collect());
                replies.send(Reply::Bytes { bytes, lengths }).await?;
            }
            Ok(())
        })
    }
}

/// Answers a line with the beginning of another, and sends the rest once the peer ends its half.
#[derive(Debug)]
struct Hesitating;

impl Service for Hesitating {
    fn name(&self) -> &'static str {
        "hesitating"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Spawned(Box::new(Self))
    }
}

impl SpawnedHandler for Hesitating {
    fn run(
        self: Box<Self>,
        mut requests: RequestReceiver,
        mut replies: ReplySender,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(async move {
            let part = |bytes: &[u8]| Reply::Bytes {
                bytes: bytes.to_vec(),
                lengths: None,
            };
            requests.recv().await?;
            replies.send(part(b"be")).await?;
            requests.recv().await?;
            replies.send(part(b"gun\n")).await?;
            while requests.recv().await?.is_some() {}
            Ok(())
        })
    }
}

/// Replies to each line with so many bytes, and a newline.
pub(crate) fn long(bytes: usize) -> EndpointConfig {
    let service = Doing(move |_: &[u8], out: &mut Vec<u8>| out.resize(out.len() + bytes, b'x'));
    EndpointConfig {
        listen: ListenOptions {
            send_buffer: Some(16 << 10),
            ..ListenOptions::default()
        },
        ..lines("127.0.0.1:0", Arc::new(service))
    }
}

#[test]
fn sent_bytes_arrive_between_replies_and_are_recorded() {
    for service in [named("echo"), Arc::new(SpawnedEcho)] {
        for hold_replies in [false, true] {
            let options = RecorderOptions {
                hold_replies,
                ..RecorderOptions::default()
            };
            let endpoints = vec![lines("127.0.0.1:0", Arc::clone(&service))];
            let server = Controlled::start_with(endpoints, Limits::default(), options);
            let mut peer = server.call(1);
            assert_eq!(ask(&mut peer, "a\n"), "a\n");
            let conversation = server.conversation_of(peer.local_addr().unwrap());
            server.send(conversation, "note\n").unwrap();
            assert_eq!(read_line(&mut peer), "note\n");
            assert_eq!(ask(&mut peer, "b\n"), "b\n");
            drop(peer);
            let ending = server.ending(conversation);
            assert_eq!(
                (ending.received, ending.sent, ending.unsent),
                (4, 9, 0),
                "{service:?}"
            );
            let exchanges = server.exchanges(conversation);
            let recorded: Vec<_> = exchanges
                .iter()
                .map(|one| (one.n, one.outcome, &one.request[..], &one.reply[..]))
                .collect();
            let expected: [(u64, Outcome, &[u8], &[u8]); 3] = [
                (1, Outcome::Ok, b"a\n", b"a\n"),
                (2, Outcome::Ok, b"", b"note\n"),
                (3, Outcome::Ok, b"b\n", b"b\n"),
            ];
            assert_eq!(recorded, expected, "{service:?}");
            assert_eq!(exchanges[1].reads, 0);
            let offsets: Vec<_> = exchanges.iter().map(|one| one.reply_offset).collect();
            assert_eq!(offsets, [0, 2, 7]);
            server.end();
        }
    }
}

#[test]
fn sent_bytes_wait_behind_a_pending_reply_up_to_a_bound() {
    const REPLY: usize = 900_000;
    let server = Controlled::start(vec![long(REPLY)]);
    let mut peer = server.call(1);
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    peer.write_all(b"go\n").unwrap();
    // Most of the reply is unsent, because this peer does not read.
    peer.peek(&mut [0]).unwrap();
    for i in 0..100 {
        server.send(conversation, format!("note {i}\n")).unwrap();
    }
    let busy = server.send(conversation, vec![b'y'; 1 << 20]);
    assert!(matches!(busy, Err(ControlError::Busy(_))), "{busy:?}");
    let too_long = server.send(conversation, vec![b'y'; (1 << 20) + 1]);
    assert!(
        matches!(too_long, Err(ControlError::Invalid(_))),
        "{too_long:?}"
    );
    server.close(conversation, CloseHow::Fin).unwrap();
    let received = rest(&mut peer);
    let mut expected = "x".repeat(REPLY) + "\n";
    for i in 0..100 {
        expected += &format!("note {i}\n");
    }
    assert!(received == expected.as_bytes(), "{}", received.len());
    drop(peer);
    let ending = server.ending(conversation);
    assert_eq!(
        (ending.reason, ending.sent, ending.unsent),
        (CloseReason::ClosedByOperator, expected.len() as u64, 0)
    );
    assert_eq!(server.exchanges(conversation).len(), 101);
    server.end();
}

#[test]
fn nothing_is_sent_within_a_reply() {
    let server = Controlled::start(vec![lines("127.0.0.1:0", Arc::new(Hesitating))]);
    let mut peer = server.call(1);
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    peer.write_all(b"a\n").unwrap();
    peer.read_exact(&mut [0; 2]).unwrap();
    let busy = server.send(conversation, "note\n");
    assert!(matches!(busy, Err(ControlError::Busy(_))), "{busy:?}");
    assert_eq!(ask(&mut peer, "b\n"), "gun\n");
    server.send(conversation, "note\n").unwrap();
    assert_eq!(read_line(&mut peer), "note\n");
    drop(peer);
    server.ending(conversation);
    let exchanges = server.exchanges(conversation);
    let replies: Vec<_> = exchanges.iter().map(|one| &one.reply[..]).collect();
    let expected: [&[u8]; 3] = [b"begun\n", b"note\n", b""];
    assert_eq!(replies, expected);
    server.end();
}

#[test]
fn fin_and_reset_reach_the_peer_and_the_record() {
    for service in [named("echo"), Arc::new(SpawnedEcho)] {
        let server = Controlled::start(vec![lines("127.0.0.1:0", Arc::clone(&service))]);
        for how in [CloseHow::Fin, CloseHow::Rst] {
            let mut peer = server.call(1);
            assert_eq!(ask(&mut peer, "a\n"), "a\n");
            let conversation = server.conversation_of(peer.local_addr().unwrap());
            server.close(conversation, how).unwrap();
            let seen = peer.read(&mut [0]).map_err(|error| error.kind());
            drop(peer);
            let reason = server.ending(conversation).reason;
            let expected = match how {
                CloseHow::Rst => (
                    Err(ErrorKind::ConnectionReset),
                    CloseReason::ResetByOperator,
                ),
                _ => (Ok(0), CloseReason::ClosedByOperator),
            };
            assert_eq!((seen, reason), expected, "{service:?}");
            let again = server.close(conversation, how);
            assert!(matches!(again, Err(ControlError::NotFound(_))), "{again:?}");
        }
        server.end();
    }
}

#[test]
fn lingering_conversation_can_be_reset_and_nothing_else() {
    let server = Controlled::start(vec![upper()]);
    let mut peer = server.call(1);
    assert_eq!(ask(&mut peer, "a\n"), "A\n");
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    server.close(conversation, CloseHow::Fin).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    for refused in [
        server.send(conversation, "late\n"),
        server.close(conversation, CloseHow::Fin),
    ] {
        assert!(
            matches!(refused, Err(ControlError::Invalid(_))),
            "{refused:?}"
        );
    }
    server.close(conversation, CloseHow::Rst).unwrap();
    assert_eq!(
        server.ending(conversation).reason,
        CloseReason::ResetByOperator
    );
    server.end();
}

#[test]
fn unix_conversation_has_no_reset() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let endpoint = format!("unix:{}", path.display());
    let server = Controlled::start(vec![lines(&endpoint, named("upper"))]);
    let mut peer = UnixStream::connect(&path).unwrap();
    assert_eq!(ask(&mut peer, "a\n"), "A\n");
    let refused = server.close(1, CloseHow::Rst);
    assert!(
        matches!(refused, Err(ControlError::Invalid(_))),
        "{refused:?}"
    );
    server.send(1, "note\n").unwrap();
    assert_eq!(read_line(&mut peer), "note\n");
    server.close(1, CloseHow::Fin).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    drop(peer);
    assert_eq!(server.ending(1).reason, CloseReason::ClosedByOperator);
    server.end();
}

/// A conversation in which something is always ready to be read.
#[test]
fn busy_conversation_takes_commands() {
    let server = Controlled::start(vec![lines("127.0.0.1:0", named("discard"))]);
    let mut peer = server.call(1);
    let conversation = server.conversation_of(peer.local_addr().unwrap());
    let mut writer = peer.try_clone().unwrap();
    let flood = thread::spawn(move || {
        let lines = "x\n".repeat(30_000);
        while writer.write_all(lines.as_bytes()).is_ok() {}
    });
    for _ in 0..20 {
        match server.send(conversation, "note\n") {
            Ok(()) => assert_eq!(read_line(&mut peer), "note\n"),
            Err(ControlError::Busy(why)) => assert!(why.contains("store"), "{why}"),
            Err(other) => panic!("{other}"),
        }
    }
    server.close(conversation, CloseHow::Rst).unwrap();
    flood.join().unwrap();
    assert_eq!(
        server.ending(conversation).reason,
        CloseReason::ResetByOperator
    );
    server.end();
}

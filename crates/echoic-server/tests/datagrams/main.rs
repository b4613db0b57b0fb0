//! A whole datagram server on real sockets.

#![allow(clippy::unwrap_used, reason = "in a test that is the failure")]

#[path = "../../../echoic-recorder/tests/common/mod.rs"]
mod common;
mod datagram_server;
mod guards;
#[path = "../common/serving.rs"]
mod serving;

use std::{net::UdpSocket, os::unix::net::UnixDatagram, sync::Arc, time::Duration};

use datagram_server::{DatagramServer, ask, config, peer, receive};
use echoic_core::{
    ending::CloseReason,
    event::{Address, Marked, Outcome},
};
use echoic_recorder::{Recorder, RecorderOptions};
use echoic_server::{EndpointConfig, OpenError, Server};
use echoic_wire::{ListenError, ListenOptions};
use serving::{Doing, until};

use crate::common::{StoreMode, TestStore};

#[test]
fn datagram_of_any_size_is_one_message_returned_whole() {
    for service in ["echo", "upper"] {
        let running = DatagramServer::named(service, "udp://127.0.0.1:0").start();
        let peer = running.peer();
        let sizes = [1, 2, 1472, 1473, 8192, 8193, 9000, 65_506, 65_507];
        for size in sizes {
            let bytes: Vec<u8> = (0..size).map(|i| b'a' + (i % 26) as u8).collect();
            let expected = if service == "echo" {
                bytes.clone()
            } else {
                bytes.to_ascii_uppercase()
            };
            assert!(ask(&peer, &bytes) == expected, "{service} {size}");
        }
        let (drained, store) = running.end();
        assert_eq!(drained.served, sizes.len() as u64);
        let kept = store.exchanges();
        assert!(
            kept.iter()
                .zip(sizes)
                .all(|(kept, size)| kept.request.len() == size && kept.reply.len() == size)
        );
        let ending = store.ending(1).unwrap();
        assert_eq!(
            (ending.reason, ending.unsent),
            (CloseReason::ServerStopped, 0)
        );
    }
}

#[test]
fn empty_datagram_is_a_message() {
    let running = DatagramServer::named("upper", "udp://127.0.0.1:0").start();
    let peer = running.peer();
    assert_eq!(ask(&peer, b""), b"");
    assert_eq!(ask(&peer, b"next"), b"NEXT");
    let (drained, store) = running.end();
    assert_eq!((drained.served, drained.datagrams.sent), (2, 2));
    assert_eq!(store.exchanges()[0].outcome, Outcome::Ok);
}

/// A datagram is a whole message: bytes without a terminator at its end are not joined with the next datagram.
#[test]
fn character_does_not_continue_in_the_next_datagram() {
    let running = DatagramServer::named("upper", "udp://127.0.0.1:0").start();
    let peer = running.peer();
    assert_eq!(ask(&peer, b"a\xc3"), b"A\xc3");
    assert_eq!(ask(&peer, b"\xa4b"), b"\xa4B");
    running.end();
}

#[test]
fn each_peer_is_a_conversation_across_two_workers() {
    let mut server = DatagramServer::named("upper", "udp://:0");
    server.workers = 2;
    let running = server.start();
    let peers: Vec<UdpSocket> = (0..64).map(|_| running.peer()).collect();
    for (i, peer) in peers.iter().enumerate() {
        assert_eq!(
            ask(peer, format!("peer {i}").as_bytes()),
            format!("PEER {i}").as_bytes()
        );
    }
    let (drained, store) = running.end();
    assert_eq!((drained.served, store.endings().len()), (64, 64));
    assert!(store.exchanges().iter().all(|kept| kept.n == 1));
}

#[test]
fn silent_peer_times_out_and_returns_as_a_new_conversation() {
    // More than this process may pause between the first two.
    let gap = Duration::from_secs(2);
    let running = DatagramServer::with(EndpointConfig {
        datagram_idle_timeout: gap,
        ..config("upper", "udp://127.0.0.1:0")
    })
    .start();
    let peer = running.peer();
    ask(&peer, b"one");
    ask(&peer, b"two");
    until("the first conversation ends", || {
        running.store.ending(1).is_some()
    });
    ask(&peer, b"three");
    let (_, store) = running.end();
    let ends: Vec<_> = store
        .endings()
        .iter()
        .map(|(talk, end)| (*talk, end.reason, end.received, end.sent))
        .collect();
    assert_eq!(
        ends,
        [
            (1, CloseReason::IdleTimeout, 6, 6),
            (2, CloseReason::ServerStopped, 5, 5)
        ]
    );
}

#[test]
fn d22_reply_source_is_the_requested_address() {
    let running = DatagramServer::named("upper", "udp://*:0").start();
    let port = running.addr().port();
    // A connected socket receives only from the address that it sent to.
    for own in ["127.0.0.1", "127.0.0.2", "127.9.8.7"] {
        let peer = peer("127.0.0.1:0", format!("{own}:{port}").parse().unwrap());
        assert_eq!(ask(&peer, b"hello"), b"HELLO");
    }
    if running.addresses.len() == 2 {
        let peer = peer("[::1]:0", format!("[::1]:{port}").parse().unwrap());
        assert_eq!(ask(&peer, b"hello"), b"HELLO");
    }
    running.end();
}

#[test]
fn address_in_use_names_its_owner_and_is_freed_at_once() {
    let running = DatagramServer::named("upper", "udp://127.0.0.1:0").start();
    let endpoint = format!("udp://{}", running.addr());
    let Err(OpenError::Listen(error)) = DatagramServer::named("upper", &endpoint).try_start()
    else {
        panic!("it is in use")
    };
    let ListenError::InUse { owner, .. } = error else {
        panic!("{error}")
    };
    let us = format!(
        "another endpoint of this same program (pid {})",
        std::process::id()
    );
    assert_eq!(owner.map(|owner| owner.to_string()), Some(us));
    ask(&running.peer(), b"x");
    running.end();
    let mut server = DatagramServer::named("upper", &endpoint);
    server.workers = 2;
    let running = server.start();
    let Err(error) = DatagramServer::named("upper", &endpoint).try_start() else {
        panic!("only its own workers share it")
    };
    assert!(error.to_string().contains("in use"), "{error}");
    running.end();
}

#[test]
fn vanished_peer_does_not_disturb_others() {
    let running = DatagramServer::named("upper", "udp://127.0.0.1:0").start();
    // Bound before the others: the system may assign the port of a closed socket again, and with it the reply.
    let lasting = running.peer();
    for i in 0..100 {
        running.peer().send(format!("gone {i}").as_bytes()).unwrap();
    }
    assert_eq!(ask(&lasting, b"still there"), b"STILL THERE");
    let (drained, _) = running.end();
    assert_eq!(drained.served, 101);
}

/// A kernel without buffer space drops datagrams silently: received and dropped together must be all that were sent.
#[test]
fn burst_datagrams_are_received_or_counted_as_dropped() {
    const BURST: u64 = 2000;
    let listen = ListenOptions {
        receive_buffer: 4096,
        ..ListenOptions::default()
    };
    let running = DatagramServer::with(EndpointConfig {
        listen,
        ..config("discard", "udp://127.0.0.1:0")
    })
    .start();
    let peer = running.peer();
    for i in 0..BURST {
        peer.send(&[i as u8; 1000]).unwrap();
    }
    let (drained, store) = running.end();
    let counts = drained.datagrams;
    assert_eq!(counts.received + counts.dropped, BURST, "{counts:?}");
    assert!(counts.dropped > 0, "none was dropped: {counts:?}");
    let dropped = |(_, _, what)| match what {
        Marked::Dropped { datagrams } => datagrams,
        _ => 0,
    };
    assert_eq!(
        store.marks().into_iter().map(dropped).sum::<u64>(),
        counts.dropped
    );
}

#[tokio::test]
async fn datagrams_received_before_stop_are_answered() {
    for options in [
        RecorderOptions::default(),
        RecorderOptions {
            hold_replies: true,
            ..RecorderOptions::default()
        },
    ] {
        let store = TestStore::new(StoreMode::Commits);
        let (recorder, task) = Recorder::new(Some(Arc::clone(&store) as _), options)
            .await
            .unwrap();
        let task = tokio::spawn(task.run());
        let config = config("upper", "udp://127.0.0.1:0");
        let mut server = Server::new(recorder.clone(), config.limits.clone());
        let addresses = server.open(config).await.unwrap();
        let Address::Net(addr) = addresses[0] else {
            panic!()
        };
        let peer = peer("127.0.0.1:0", addr);
        for i in 0..100 {
            peer.send(format!("n{i}").as_bytes()).unwrap();
        }
        let drained = server.run(async {}).await;
        recorder.close(task, Duration::from_secs(10)).await;
        assert_eq!(
            (drained.served, drained.datagrams.sent, drained.cut),
            (100, 100, 0)
        );
        for i in 0..100 {
            assert_eq!(receive(&peer), format!("N{i}").as_bytes());
        }
        assert_eq!(store.exchanges().len(), 100);
        assert_eq!(store.ending(1).unwrap().unsent, 0);
    }
}

#[test]
fn strict_durability_replies_after_the_commit() {
    let mut server = DatagramServer::named("upper", "udp://127.0.0.1:0");
    server.options.hold_replies = true;
    server.store.set(StoreMode::Slow(Duration::from_millis(50)));
    let running = server.start();
    let peer = running.peer();
    for i in 0..5 {
        ask(&peer, format!("m{i}").as_bytes());
        assert_eq!(
            running.store.exchanges().len(),
            i + 1,
            "committed before it was answered"
        );
    }
    let (_, store) = running.end();
    assert_eq!(store.ending(1).unwrap().unsent, 0);
}

#[test]
fn panic_in_a_handler_ends_one_conversation() {
    let shout = |bytes: &[u8], out: &mut Vec<u8>| {
        assert_ne!(bytes, b"boom", "on purpose");
        out.extend(bytes.to_ascii_uppercase());
    };
    let running = DatagramServer::with(EndpointConfig::new(
        "udp://127.0.0.1:0".parse().unwrap(),
        Arc::new(Doing(shout)),
    ))
    .start();
    let (one, other) = (running.peer(), running.peer());
    assert_eq!(ask(&other, b"a"), b"A");
    one.send(b"boom").unwrap();
    until("it has ended", || {
        running
            .store
            .endings()
            .iter()
            .any(|(_, end)| end.reason == CloseReason::Panicked)
    });
    assert_eq!(ask(&other, b"b"), b"B");
    assert_eq!(ask(&one, b"c"), b"C");
    let (drained, _) = running.end();
    assert_eq!((drained.panicked, drained.served), (1, 4));
}

#[test]
fn server_without_recorder_answers_everything() {
    let config = config("upper", "udp://127.0.0.1:0");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let drained = runtime.block_on(async {
        let mut server = Server::new(Recorder::none(), config.limits.clone());
        let addresses = server.open(config).await.unwrap();
        let Address::Net(addr) = addresses[0] else {
            panic!()
        };
        let asking = tokio::task::spawn_blocking(move || {
            let peer = peer("127.0.0.1:0", addr);
            (0..20)
                .filter(|i| ask(&peer, format!("m{i}").as_bytes()) == format!("M{i}").as_bytes())
                .count()
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(server.run(async { _ = stopped.await }));
        assert_eq!(asking.await.unwrap(), 20);
        stop.send(()).unwrap();
        serving.await.unwrap()
    });
    assert_eq!(drained.served, 20);
}

#[test]
fn unix_datagrams_are_answered_at_the_sender_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server");
    let running = DatagramServer::named("upper", &format!("unixgram:{}", path.display())).start();
    let peer = UnixDatagram::bind(folder.path().join("peer")).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    peer.connect(&path).unwrap();
    let mut room = [0; 99];
    for request in [&b"hello"[..], b""] {
        peer.send(request).unwrap();
        let len = peer.recv(&mut room).unwrap();
        assert_eq!(&room[..len], request.to_ascii_uppercase());
    }
    // A socket without a path cannot be answered, and at most 64 KiB of a datagram are received.
    let unbound = UnixDatagram::unbound().unwrap();
    unbound.send_to(b"from unbound", &path).unwrap();
    peer.send(&vec![b'x'; 100_000]).unwrap();
    until("all are recorded", || running.store.exchanges().len() == 4);
    let (drained, store) = running.end();
    let outcomes: Vec<_> = store.exchanges().iter().map(|kept| kept.outcome).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Ok,
            Outcome::Ok,
            Outcome::Unsent,
            Outcome::Unanswered
        ]
    );
    assert_eq!(drained.datagrams.unsent, 1);
    let too_long = store
        .endings()
        .into_iter()
        .find(|(_, end)| end.reason == CloseReason::MessageTooLong)
        .unwrap()
        .1;
    assert_eq!(
        (too_long.received, too_long.discarded),
        (5 + 65_536, 100_000 - 65_536)
    );
    assert!(!path.exists(), "removed with its server");
}

/// While the store does not answer, the server stops reading instead of using more memory; the kernel drops and counts
/// the rest.
#[test]
fn full_recorder_stops_reading_datagrams() {
    const SOURCES: u64 = 2000;
    let listen = ListenOptions {
        receive_buffer: 64 << 10,
        ..ListenOptions::default()
    };
    let mut server = DatagramServer::with(EndpointConfig {
        listen,
        ..config("discard", "udp://127.0.0.1:0")
    });
    server.options.uncommitted_bytes_max = 256 << 10;
    server.store.set(StoreMode::Hangs);
    let running = server.start();
    for i in 0..SOURCES {
        let own = format!("127.2.{}.{}:0", i / 250, 1 + i % 250);
        peer(&own, running.addr()).send(&[b'x'; 1000]).unwrap();
    }
    running.store.set(StoreMode::Commits);
    let (drained, _) = running.end();
    let counts = drained.datagrams;
    assert_eq!(counts.received + counts.dropped, SOURCES, "{counts:?}");
    assert!(counts.dropped > 0, "none was dropped: {counts:?}");
}

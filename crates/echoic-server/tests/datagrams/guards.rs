//! Protections of a datagram server: it cannot be used to flood others or to answer in a loop.

use std::{
    env,
    net::{SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use echoic_core::{
    access::AccessList,
    ending::CloseReason,
    event::{Marked, Outcome},
};
use echoic_server::{EndpointConfig, OpenError};

use crate::{
    datagram_server::{DatagramServer, ask, config, peer, receive},
    serving::until,
};

/// Sends every character: alone if the service makes it longer, else with many others. The reply is the one that std
/// computes, or none if that is longer than the request.
#[test]
fn d23_reply_is_never_longer_than_its_request() {
    assert_reply_never_longer("upper", str::to_uppercase);
    assert_reply_never_longer("lower", str::to_lowercase);
    assert_reply_never_longer("echo", str::to_owned);
}

fn assert_reply_never_longer(service: &str, answer: fn(&str) -> String) {
    let grows = |c: &char| answer(c.encode_utf8(&mut [0; 4])).len() > c.len_utf8();
    let (growing, rest): (Vec<char>, Vec<char>) = (char::MIN..=char::MAX).partition(grows);
    let texts = growing.iter().map(ToString::to_string);
    let texts: Vec<String> = texts
        .chain(rest.chunks(8000).map(|chars| chars.iter().collect()))
        .collect();

    let server = DatagramServer::named(service, "udp://127.0.0.1:0").start();
    let peer = server.peer();
    for (i, text) in texts.iter().enumerate() {
        peer.send(text.as_bytes()).unwrap();
        let sentinel = format!("{i}");
        peer.send(sentinel.as_bytes()).unwrap();
        let mut received = receive(&peer);
        let answer = answer(text);
        if answer.len() <= text.len() {
            assert!(received == answer.as_bytes(), "{service} {text}");
            received = receive(&peer);
        }
        assert_eq!(
            received,
            sentinel.as_bytes(),
            "nothing else: {service} {text}"
        );
    }
    let (drained, store) = server.end();
    assert_eq!(drained.datagrams.withheld, growing.len() as u64);
    assert_eq!(growing.is_empty(), service == "echo");
    let kept = store.exchanges();
    let kept = kept.iter().filter(|kept| kept.outcome == Outcome::Withheld);
    assert_eq!(
        kept.filter(|kept| kept.reply.is_empty()).count(),
        growing.len()
    );
}

#[test]
fn amplifying_service_over_udp_must_be_allowed() {
    for service in ["greet", "time", "daytime", "info"] {
        let refused = DatagramServer::named(service, "udp://127.0.0.1:0").try_start();
        let Err(error @ OpenError::Amplifies { .. }) = refused.map(|_| ()) else {
            panic!("{service}")
        };
        assert!(
            error.to_string().contains("--udp-allow-amplification"),
            "{error}"
        );
        let allowed = EndpointConfig {
            udp_allow_amplification: true,
            ..config(service, "udp://127.0.0.1:0")
        };
        let server = DatagramServer::with(allowed).start();
        let answer = ask(&server.peer(), b"?");
        assert!(answer.len() > 1, "{service}");
        server.end();
    }
    let allowed = EndpointConfig {
        udp_allow_amplification: true,
        ..config("chargen", "udp://127.0.0.1:0")
    };
    let Err(OpenError::NeedsStream { .. }) = DatagramServer::with(allowed).try_start().map(|_| ())
    else {
        panic!()
    };
    for service in ["upper", "lower", "echo", "discard"] {
        DatagramServer::named(service, "udp://127.0.0.1:0")
            .start()
            .end();
    }
}

#[test]
fn upper_may_grow_if_amplification_is_allowed() {
    let allowed = EndpointConfig {
        udp_allow_amplification: true,
        ..config("upper", "udp://127.0.0.1:0")
    };
    let server = DatagramServer::with(allowed).start();
    assert_eq!(
        ask(&server.peer(), "ΐ".as_bytes()),
        "ΐ".to_uppercase().as_bytes()
    );
    server.end();
}

#[test]
fn repeated_datagram_is_silenced_and_other_peers_are_answered() {
    let server = DatagramServer::named("upper", "udp://127.0.0.1:0").start();
    let (looping, other) = (server.peer(), server.peer());
    for _ in 0..100 {
        looping.send(b"ROUND").unwrap();
    }
    until("all are received", || server.store.exchanges().len() == 100);
    looping.set_nonblocking(true).unwrap();
    let mut answers = 0;
    while looping.recv(&mut [0; 9]).is_ok() {
        answers += 1;
    }
    assert!((1..=8).contains(&answers), "{answers}");
    assert_eq!(ask(&other, b"ROUND"), b"ROUND");
    let (drained, store) = server.end();
    assert_eq!(drained.datagrams.withheld, 100 - answers);
    let silenced = store
        .marks()
        .into_iter()
        .filter(|(_, _, what)| matches!(what, Marked::Silenced { .. }));
    assert_eq!(silenced.count(), 1);
}

#[test]
fn denied_datagram_source_is_not_answered() {
    let access = AccessList {
        allow: vec!["127.0.0.2".parse().unwrap()],
        deny: vec![],
    };
    let server = DatagramServer::with(EndpointConfig {
        access,
        ..config("upper", "udp://127.0.0.1:0")
    })
    .start();
    server.peer().send(b"let me in").unwrap();
    assert_eq!(
        ask(&peer("127.0.0.2:0", server.addr()), b"me too"),
        b"ME TOO"
    );
    let (drained, store) = server.end();
    assert_eq!(drained.served, 1);
    let denied = store.ending(1).unwrap();
    assert_eq!(
        (denied.reason, denied.received, denied.discarded),
        (CloseReason::Denied, 0, 9)
    );
}

/// With more sources than the table holds, the longest idle ones are evicted, and all are answered.
#[test]
fn longest_idle_peer_is_evicted_when_the_table_is_full() {
    const SOURCES: usize = 5000;
    let server = DatagramServer::named("echo", "udp://127.0.0.1:0").start();
    let steady = server.peer();
    for i in 0..SOURCES {
        let source = format!("127.1.{}.{}:0", i / 250, 1 + i % 250);
        assert_eq!(ask(&peer(&source, server.addr()), b"x"), b"x");
        if i % 1000 == 0 {
            ask(&steady, format!("{i}").as_bytes());
        }
    }
    until("some are evicted", || !server.store.endings().is_empty());
    let (drained, store) = server.end();
    assert_eq!(drained.datagrams.sent as usize, SOURCES + 5);
    let endings = store.endings();
    assert_eq!(endings.len(), SOURCES + 1);
    let idle = endings
        .iter()
        .filter(|(_, end)| end.reason == CloseReason::IdleTimeout)
        .count();
    assert_eq!(idle, SOURCES + 1 - 4096);
    assert_eq!(
        endings
            .iter()
            .find(|(conversation, _)| *conversation == 2)
            .unwrap()
            .1
            .reason,
        CloseReason::ServerStopped,
        "it was never idle for long"
    );
}

/// Counts the datagrams that a forged one causes, in a network namespace of its own.
#[test]
fn d23_forged_datagram_triggers_at_most_sixteen() {
    let inner = Command::new("unshare")
        .args(["-n", "--"])
        .arg(env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "guards::datagram_loop_in_own_network_namespace",
            "--nocapture",
        ])
        .output();
    match inner {
        Ok(done) if done.status.success() => print!("{}", String::from_utf8_lossy(&done.stdout)),
        Ok(done) => {
            let stderr = String::from_utf8_lossy(&done.stderr);
            assert!(
                stderr.contains("Operation not permitted"),
                "{stderr}{}",
                String::from_utf8_lossy(&done.stdout)
            );
            trials_skip::skip(format_args!(
                "a network namespace cannot be created here ({})",
                stderr.trim()
            ));
        }
        Err(error) => trials_skip::skip(format_args!("unshare cannot be run ({error})")),
    }
}

#[test]
#[ignore = "run by d23_forged_datagram_triggers_at_most_sixteen, in a namespace"]
fn datagram_loop_in_own_network_namespace() {
    // Otherwise the test would change the machine's own network.
    let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap();
    assert!(
        interfaces
            .lines()
            .skip(2)
            .all(|line| line.trim_start().starts_with("lo:")),
        "{interfaces}"
    );
    python(UP, &[]);

    for text in ["round and round", "ROUND AND ROUND"] {
        let (one, other) = (
            DatagramServer::named("upper", "udp://127.0.0.1:0"),
            DatagramServer::named("upper", "udp://127.0.0.1:0"),
        );
        let (one, other) = (one.start(), other.start());
        forge(other.addr(), one.addr(), text);
        settle(&[&one.store, &other.store]);
        let (one, other) = (one.end().0.datagrams, other.end().0.datagrams);
        let all = 1 + one.sent + other.sent;
        println!("between two servers, {text:?}: {all} datagrams");
        assert!((3..=16).contains(&all), "{one:?} {other:?}");
    }

    let mut naive = [
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    ];
    let addrs = naive.each_ref().map(|socket| socket.local_addr().unwrap());
    let twins: Vec<_> = naive
        .each_mut()
        .map(|socket| socket.try_clone().unwrap())
        .into_iter()
        .map(echoes)
        .collect();
    forge(addrs[0], addrs[1], "round and round");
    let all: u64 = twins.into_iter().map(|twin| twin.join().unwrap()).sum();
    println!("between two plain echo sockets: {all} datagrams without an end");
    assert!(all > 1000, "{all}");

    for endpoint in ["udp://127.0.0.1:0", "udp://*:0"] {
        let server = DatagramServer::named("echo", endpoint).start();
        let port = server.addr().port();
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
        forge(at("127.0.0.1"), at("127.0.0.1"), "from itself");
        let mut expected = 1;
        if endpoint.contains('*') {
            forge(at("127.0.0.2"), at("127.0.0.1"), "from itself elsewhere");
            expected += 1;
        }
        for service in [0, 7, 13, 19, 53, 123, 1023] {
            forge(
                SocketAddr::new([127, 0, 0, 1].into(), service),
                at("127.0.0.1"),
                "from a server",
            );
            expected += 1;
        }
        until("all are recorded", || {
            server.store.exchanges().len() == expected
        });
        let (drained, store) = server.end();
        assert_eq!(
            (drained.datagrams.sent, drained.datagrams.withheld),
            (0, expected as u64)
        );
        assert!(
            store
                .exchanges()
                .iter()
                .all(|kept| kept.outcome == Outcome::Withheld)
        );
    }
}

/// Answers every datagram until it has sent a thousand or none arrives for 2 s. The first may take 20 s, because its
/// sender has to be started.
fn echoes(socket: UdpSocket) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let (mut sent, mut room) = (0, [0; 99]);
        while sent <= 1000 {
            let seconds = if sent == 0 { 20 } else { 2 };
            let timeout = Some(Duration::from_secs(seconds));
            socket.set_read_timeout(timeout).unwrap();
            let Ok((len, from)) = socket.recv_from(&mut room) else {
                break;
            };
            sent += u64::from(socket.send_to(&room[..len], from).is_ok());
        }
        sent
    })
}

/// Waits until neither record grows any more.
fn settle(stores: &[&crate::common::TestStore]) {
    let recorded = || {
        stores
            .iter()
            .map(|store| store.exchanges().len())
            .sum::<usize>()
    };
    let (mut last, mut since) = (0, Instant::now());
    until("no more exchanges", || {
        let now = recorded();
        if now != last || now == 0 {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(400)
    });
}

const UP: &str = "
import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x49))  # SIOCSIFFLAGS: up, loopback, running
";

/// Sends an IPv4 packet with any source address through a raw socket (raw(7)).
const FORGE: &str = "
import socket, struct, sys
source, source_port, to, to_port, text = sys.argv[1:]
body = text.encode()
udp = struct.pack('!HHHH', int(source_port), int(to_port), 8 + len(body), 0) + body
ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                 socket.inet_aton(source), socket.inet_aton(to))
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
s.sendto(ip + udp, (to, 0))
";

/// Sends `text` to `to` with `from` as its source address.
fn forge(from: SocketAddr, to: SocketAddr, text: &str) {
    let (from_port, to_port) = (from.port().to_string(), to.port().to_string());
    let (from, to) = (from.ip().to_string(), to.ip().to_string());
    python(FORGE, &[&from, &from_port, &to, &to_port, text]);
}

fn python(program: &str, arguments: &[&str]) {
    let done = Command::new("python3")
        .arg("-c")
        .arg(program)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

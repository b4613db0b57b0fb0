//! What a server of datagrams must not be made to do: flood others, or answer for ever.

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
    posting::{DatagramServer, ask, config, hear, peer},
    serving::until,
};

/// Every character, in datagrams of one where it grows and of many where it does not: what comes back is what std makes
/// of it, or nothing where that is longer.
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

    let posted = DatagramServer::named(service, "udp://127.0.0.1:0").start();
    let peer = posted.peer();
    for (i, text) in texts.iter().enumerate() {
        peer.send(text.as_bytes()).unwrap();
        let sentinel = format!("{i}");
        peer.send(sentinel.as_bytes()).unwrap();
        let mut heard = hear(&peer);
        let answer = answer(text);
        if answer.len() <= text.len() {
            assert!(heard == answer.as_bytes(), "{service} {text}");
            heard = hear(&peer);
        }
        assert_eq!(heard, sentinel.as_bytes(), "nothing else: {service} {text}");
    }
    let (drained, store) = posted.end();
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
        let posted = DatagramServer::with(allowed).start();
        let answer = ask(&posted.peer(), b"?");
        assert!(answer.len() > 1, "{service}");
        posted.end();
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
    let posted = DatagramServer::with(allowed).start();
    assert_eq!(
        ask(&posted.peer(), "ΐ".as_bytes()),
        "ΐ".to_uppercase().as_bytes()
    );
    posted.end();
}

#[test]
fn repeated_datagram_is_silenced_and_other_peers_are_answered() {
    let posted = DatagramServer::named("upper", "udp://127.0.0.1:0").start();
    let (circle, other) = (posted.peer(), posted.peer());
    for _ in 0..100 {
        circle.send(b"ROUND").unwrap();
    }
    until("all are heard", || posted.store.exchanges().len() == 100);
    circle.set_nonblocking(true).unwrap();
    let mut answers = 0;
    while circle.recv(&mut [0; 9]).is_ok() {
        answers += 1;
    }
    assert!((1..=8).contains(&answers), "{answers}");
    assert_eq!(ask(&other, b"ROUND"), b"ROUND");
    let (drained, store) = posted.end();
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
    let posted = DatagramServer::with(EndpointConfig {
        access,
        ..config("upper", "udp://127.0.0.1:0")
    })
    .start();
    posted.peer().send(b"let me in").unwrap();
    assert_eq!(
        ask(&peer("127.0.0.2:0", posted.addr()), b"me too"),
        b"ME TOO"
    );
    let (drained, store) = posted.end();
    assert_eq!(drained.served, 1);
    let denied = store.ending(1).unwrap();
    assert_eq!(
        (denied.reason, denied.received, denied.discarded),
        (CloseReason::Denied, 0, 9)
    );
}

/// More sources than there is room for: the ones silent for longest make room, and all are answered.
#[test]
fn longest_idle_peer_is_evicted_when_the_table_is_full() {
    const SOURCES: usize = 5000;
    let posted = DatagramServer::named("echo", "udp://127.0.0.1:0").start();
    let steady = posted.peer();
    for i in 0..SOURCES {
        let source = format!("127.1.{}.{}:0", i / 250, 1 + i % 250);
        assert_eq!(ask(&peer(&source, posted.addr()), b"x"), b"x");
        if i % 1000 == 0 {
            ask(&steady, format!("{i}").as_bytes());
        }
    }
    until("some have made room", || !posted.store.endings().is_empty());
    let (drained, store) = posted.end();
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
            .find(|(talk, _)| *talk == 2)
            .unwrap()
            .1
            .reason,
        CloseReason::ServerStopped,
        "it was never silent for long"
    );
}

/// What a forged datagram sets off, in a network of its own.
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
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(
                said.contains("Operation not permitted"),
                "{said}{}",
                String::from_utf8_lossy(&done.stdout)
            );
            println!(
                "skipped: no network of its own may be made here ({})",
                said.trim()
            );
        }
        Err(error) => println!("skipped: unshare cannot be run ({error})"),
    }
}

#[test]
#[ignore = "run by d23_forged_datagram_triggers_at_most_sixteen, in a namespace"]
fn datagram_loop_in_own_network_namespace() {
    // Otherwise it would be the machine's own network that is played with.
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
    println!("between two that just answer: {all} datagrams, and no end to it");
    assert!(all > 1000, "{all}");

    for endpoint in ["udp://127.0.0.1:0", "udp://*:0"] {
        let posted = DatagramServer::named("echo", endpoint).start();
        let port = posted.addr().port();
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
            posted.store.exchanges().len() == expected
        });
        let (drained, store) = posted.end();
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

/// Answers whatever comes, as the tutorial has it, until there were a thousand or nothing comes any more. The first may
/// take its time: somebody has yet to be started who sends it.
fn echoes(socket: UdpSocket) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let (mut sent, mut room) = (0, [0; 99]);
        while sent <= 1000 {
            let patience = if sent == 0 { 20 } else { 2 };
            let patience = Some(Duration::from_secs(patience));
            socket.set_read_timeout(patience).unwrap();
            let Ok((len, from)) = socket.recv_from(&mut room) else {
                break;
            };
            sent += u64::from(socket.send_to(&room[..len], from).is_ok());
        }
        sent
    })
}

/// Waits until the record of both stands still.
fn settle(stores: &[&crate::common::TestStore]) {
    let heard = || {
        stores
            .iter()
            .map(|store| store.exchanges().len())
            .sum::<usize>()
    };
    let (mut last, mut since) = (0, Instant::now());
    until("they fall silent", || {
        let now = heard();
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

/// An IPv4 packet made by hand, so that its source can be anybody (raw(7)).
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

/// Sends `text` to `to` so that it seems to come from `from`.
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

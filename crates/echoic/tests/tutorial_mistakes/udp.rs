//! Datagrams.

use crate::harness::{Home, Serve, python};

/// Prefix of a client program: a socket `u`, and the address `at` in its first argument.
const SOCKET: &str = "
import socket, sys, time
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(10)
at = ('127.0.0.1', int(sys.argv[1]))
";

#[track_caller]
fn ask(port: u16, program: &str) -> String {
    python(&[SOCKET, program].concat(), &[&port], "").good()
}

#[test]
fn d22_datagram_is_whole_and_vanished_peer_is_harmless() {
    let program = "
for n in 9000, 65507:
    u.sendto(b'x' * n, at)
    print(len(u.recv(65535)))";
    let serve = Serve::start(&["udp://:0"]);
    let port = serve.at[0].port();
    assert_eq!(ask(port, program), "9000\n65507\n");
    // The ICMP reply is returned as an error of the socket.
    ask(
        port,
        "for i in range(20):\n  g = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); g.sendto(b'gone', at); g.close()",
    );
    assert_eq!(
        ask(port, "u.sendto(b'still there', at); print(u.recv(99))"),
        "b'STILL THERE'\n"
    );

    let naive = "
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))
u.sendto(b'x' * 9000, s.getsockname()); print(len(s.recvfrom(1024)[0]))";
    assert_eq!(ask(port, naive), "1024\n", "and the sender gets no error");
}

#[test]
fn d23_reply_never_exceeds_its_request() {
    let home = Home::new();
    for service in ["greet", "time", "info"] {
        let ran = home.run(&["serve", &format!("{service}=udp://:0"), "--store", "none"]);
        assert_eq!(ran.code, Some(2), "{service}: {}", ran.err);
        assert!(ran.err.contains("--udp-allow-amplification"), "{}", ran.err);
    }
    let serve = Serve::start(&["udp://:0"]);
    let port = serve.at[0].port();
    // Three letters of two bytes each, whose upper case would be nine bytes.
    let received = ask(
        port,
        "u.settimeout(0.3)\nu.sendto('ΐΐΐ'.encode(), at)\ntry: print(u.recv(99))\nexcept TimeoutError: print('nothing')",
    );
    assert_eq!(received, "nothing\n");
    let home = serve.home.clone();
    serve.stop();
    assert_eq!(home.count(&["is:withheld"]), 1);
}

#[test]
fn burst_is_answered_or_its_drops_are_counted() {
    // Sent before the first is read, to a socket whose buffer cannot hold them all.
    let serve = Serve::start_with_events(&["udp://127.0.0.1:0"]);
    let port = serve.at[0].port();
    serve.signal(rustix::process::Signal::STOP);
    ask(
        port,
        "for i in range(2000): u.sendto(b'%06d' % i + b'x' * 200, at)",
    );
    serve.signal(rustix::process::Signal::CONT);
    // The buffer may still be full, and then this is dropped too.
    let afters = ask(
        port,
        "
u.settimeout(1)
for n in range(1, 20):
    u.sendto(b'after', at)
    try:
        u.recv(999)
        break
    except TimeoutError: pass
print(n)",
    );
    let sent = 2000 + afters.trim().parse::<u64>().unwrap();
    let (home, err, out) = (serve.home.clone(), serve.err.clone(), serve.out.clone());
    let served = serve.stop().served;
    let last = err.all().pop().unwrap();
    let dropped: u64 = match last.split_once("; ") {
        Some((_, rest)) => rest.split(' ').next().unwrap().parse().unwrap(),
        None => 0,
    };
    assert_eq!(served + dropped, sent, "{last}");
    assert!(dropped > 0, "the buffer held all of them: no test");
    let after = home.count(&["req:after"]);
    assert!(after > 0);
    assert_eq!(home.count(&["req:x"]) + after, served);
    let seen = out.all();
    let drops: u64 = seen
        .iter()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| event["ev"] == "dropped")
        .map(|event| event["n"].as_u64().unwrap())
        .sum();
    assert_eq!(drops, dropped, "reported as events too");
    let marked = home.sql("SELECT sum(a) FROM mark WHERE what = 'dropped'");
    assert_eq!(marked, [dropped.to_string()]);
}

//! Conversations that are cut: each has its end in the record, over whatever it was held and however the stop came.

use std::{
    os::unix::net::{UnixDatagram, UnixStream},
    process::Stdio,
    sync::Arc,
    time::Instant,
};

use rustix::process::Signal;

use super::{AT_ONCE, peer_that_never_reads};
use crate::harness::{FULL_AFTER, Home, Serve, Talk, fill};

/// One stream and one datagram endpoint in each family, on several workers.
const ENDPOINTS: [&str; 10] = [
    "echo=:0",
    "echo=udp://127.0.0.1:0",
    "echo=unix:./x.sock",
    "echo=unixgram:./g.sock",
    "--frame",
    "line",
    "--workers",
    "3",
    "--write-timeout",
    "60s",
];

/// Peers of a server, all of them still there when it stops.
struct Peers {
    _tcp: [Talk; 2],
    _unix: UnixStream,
    _datagrams: UnixDatagram,
    _udp: std::net::UdpSocket,
}

/// Starts a server with peers that keep it from draining: on each stream there are replies that the peer does not read.
/// Datagrams are answered, so that their conversations end as soon as the drain begins.
fn held_up(home: &Arc<Home>, more: &[&str]) -> (Serve, Peers) {
    let args = [&ENDPOINTS[..], more].concat();
    let mut command = home.echoic(&[&["serve"], &args[..], &["--print"]].concat());
    command.stdin(Stdio::piped());
    let serve = Serve::from(home, &args, command);
    let tcp = [peer_that_never_reads(&serve), peer_that_never_reads(&serve)];
    let unix = UnixStream::connect(home.path().join("x.sock")).unwrap();
    unix.set_write_timeout(Some(FULL_AFTER)).unwrap();
    fill(&unix);
    let datagrams = UnixDatagram::bind(home.path().join("peer.sock")).unwrap();
    datagrams.connect(home.path().join("g.sock")).unwrap();
    datagrams.send(b"answered").unwrap();
    datagrams.set_read_timeout(Some(AT_ONCE)).unwrap();
    datagrams.recv(&mut [0; 16]).unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"answered", serve.at[1]).unwrap();
    udp.set_read_timeout(Some(AT_ONCE)).unwrap();
    udp.recv(&mut [0; 16]).unwrap();
    let peers = Peers {
        _tcp: tcp,
        _unix: unix,
        _datagrams: datagrams,
        _udp: udp,
    };
    (serve, peers)
}

/// Asserts that each conversation has its end in the record: the streams were cut for `reason`.
#[track_caller]
fn assert_ends(home: &Arc<Home>, reason: &str) {
    let ends = home.sql(
        "SELECT reason, count(*) FROM conversation GROUP BY reason ORDER BY reason = 'server-stopped'",
    );
    assert_eq!(ends, [format!("{reason}|3"), "server-stopped|2".to_owned()]);
    assert!(home.count(&["end:drain"]) > 0);
    // The next start finds no conversation without an end.
    Serve::start_in(home, &["echo=:0"]).stop();
    assert_eq!(home.count(&["end:error"]), 0);
}

#[test]
fn stop_at_once_records_the_end_of_each_conversation() {
    for (first, second) in [
        (Some(Signal::INT), Signal::INT),
        (Some(Signal::TERM), Signal::TERM),
        (Some(Signal::HUP), Signal::TERM),
        (None, Signal::INT),
    ] {
        let home = Arc::new(Home::new());
        let (mut serve, _peers) = held_up(&home, &["--drain-timeout", "60s", "--exit-with-stdin"]);
        match first {
            Some(first) => serve.signal(first),
            None => drop(serve.stdin()),
        }
        serve.err.wait_for("again to stop at once");
        let since = Instant::now();
        let code = if first.is_none() || first == Some(Signal::HUP) {
            // Neither a hang-up nor the end of standard input counts as a first signal, so a further one is needed.
            serve.ends_by(second)
        } else {
            serve.signal(second);
            serve.ends_somehow()
        };
        assert_eq!(code, Some(130), "{first:?}");
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        let last = serve.err.all().pop().unwrap();
        assert!(last.ends_with(" recorded, 0 not recorded"), "{last}");
        assert_ends(&home, "stopped-at-once");
    }
}

#[test]
fn drain_timeout_records_the_end_of_each_conversation() {
    for first in [Some(Signal::TERM), Some(Signal::HUP), None] {
        let home = Arc::new(Home::new());
        let (mut serve, _peers) = held_up(&home, &["--drain-timeout", "1s", "--exit-with-stdin"]);
        match first {
            Some(first) => serve.signal(first),
            None => drop(serve.stdin()),
        }
        let stopped = serve.ends();
        assert_eq!((stopped.code, stopped.lost), (Some(6), 0), "{first:?}");
        let last = serve.err.all().pop().unwrap();
        assert!(last.contains("; 3 conversations cut"), "{last}");
        assert_ends(&home, "drain-timeout");
    }
}

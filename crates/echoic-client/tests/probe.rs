//! Probing real sockets of this machine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener},
    thread,
    time::{Duration, Instant},
};

use echoic_client::probe::{AttemptOutcome, ProbeOptions, Report, State, probe};

const SOON: Duration = Duration::from_secs(20);

fn quick() -> ProbeOptions {
    ProbeOptions {
        timeout: SOON,
        ..ProbeOptions::default()
    }
}

async fn probed(endpoint: &str, options: &ProbeOptions) -> Report {
    probe(&endpoint.parse().unwrap(), options).await
}

/// A socket at a loopback address of one test alone: a port that one test gives back is soon another's, and what was
/// sent to one would be received by the other.
fn alone_at(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

#[tokio::test]
async fn listening_server_is_reachable_and_gets_no_bytes() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let report = probed(
        &addr.to_string(),
        &ProbeOptions {
            count: 3,
            ..quick()
        },
    )
    .await;
    assert_eq!(report.verdict().state, State::Reachable);
    assert_eq!(report.tries.len(), 3);
    let summary = &report.by_address()[0];
    let span = summary.span.unwrap();
    assert!(summary.good == 3 && span.min <= span.median && span.median <= span.max);
    for _ in 0..3 {
        let (mut peer, _) = server.accept().unwrap();
        peer.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(
            io::Read::read(&mut peer, &mut [0; 9]).unwrap(),
            0,
            "a clean end and no byte"
        );
    }
}

#[tokio::test]
async fn port_without_listener_is_refused() {
    let report = {
        let addr = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        probed(&addr.to_string(), &quick()).await
    };
    assert_eq!(report.verdict().state, State::Refused, "{:?}", report.tries);
}

#[tokio::test]
async fn probe_all_tries_every_address_of_localhost() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let report = probed(
        &format!("localhost:{port}"),
        &ProbeOptions {
            all: true,
            count: 2,
            ..quick()
        },
    )
    .await;
    assert_eq!(report.verdict().state, State::Reachable);
    assert!(
        report.untried.is_empty() && report.dns.is_none(),
        "localhost is not for name servers (RFC 6761)"
    );
    for summary in report.by_address() {
        assert_eq!(summary.tries.len(), 2, "{:?}", summary.address);
    }
}

/// An address that gives no answer, and what keeps it so: a listener whose queue is full.
fn full_backlog() -> (SocketAddr, socket2::Socket, [TcpStream; 2]) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(1).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let waiting = [(); 2].map(|()| TcpStream::connect(addr).unwrap());
    (addr, socket, waiting)
}

#[tokio::test]
async fn wait_that_ends_within_a_round_tells_what_was_tried() {
    let (addr, _listener, _waiting) = full_backlog();
    for (all, count) in [(false, 1), (true, 3)] {
        let options = ProbeOptions {
            timeout: SOON,
            wait: Some(Duration::from_millis(300)),
            all,
            count,
            ..ProbeOptions::default()
        };
        let report = probed(&addr.to_string(), &options).await;
        assert_eq!(report.verdict().state, State::TimedOut, "{report:?}");
        assert!(report.waited.unwrap() < SOON, "{report:?}");
    }
}

#[tokio::test]
async fn full_backlog_times_out_after_the_requested_time() {
    let (addr, _listener, _waiting) = full_backlog();
    let began = Instant::now();
    let options = ProbeOptions {
        timeout: Duration::from_millis(1100),
        ..ProbeOptions::default()
    };
    let report = probed(&addr.to_string(), &options).await;
    let verdict = report.verdict();
    assert_eq!(verdict.state, State::TimedOut);
    assert!(
        verdict.sentence.contains("its queue is full"),
        "{}",
        verdict.sentence
    );
    assert!((options.timeout..options.timeout + SOON).contains(&began.elapsed()));
}

#[tokio::test]
async fn waiting_ends_when_the_server_appears() {
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = thread::spawn(move || {
        // Later than the first try, which comes at once.
        thread::sleep(Duration::from_millis(400));
        TcpListener::bind(addr).unwrap()
    });
    let report = probed(
        &addr.to_string(),
        &ProbeOptions {
            wait: Some(SOON),
            ..quick()
        },
    )
    .await;
    assert!(report.is_reachable() && report.rounds > 1, "{report:?}");
    assert!(report.waited.unwrap() < SOON);
    drop(server.join().unwrap());
}

#[tokio::test]
async fn waiting_ends_at_its_deadline() {
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let wait = Duration::from_millis(700);
    let began = Instant::now();
    let report = probed(
        &addr.to_string(),
        &ProbeOptions {
            wait: Some(wait),
            ..quick()
        },
    )
    .await;
    assert_eq!(report.verdict().state, State::Refused);
    assert!(
        report.rounds > 1 && began.elapsed() < wait + Duration::from_secs(5),
        "{report:?}"
    );
}

#[tokio::test]
async fn answering_udp_server_is_open() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let (n, peer) = server.recv_from(&mut [0; 99]).unwrap();
        server.send_to(&vec![b'x'; n + 2], peer).unwrap();
    });
    let report = probed(&format!("udp://{addr}"), &quick()).await;
    assert_eq!(report.verdict().state, State::Open);
    assert!(matches!(
        report.tries[0].outcome,
        AttemptOutcome::Replied { bytes: 3 }
    ));
    answering.join().unwrap();
}

#[tokio::test]
async fn quiet_udp_server_is_silent_after_two_requests() {
    let (server, addr) = alone_at("127.0.0.71");
    let options = ProbeOptions {
        timeout: Duration::from_millis(200),
        ..ProbeOptions::default()
    };
    let report = probed(&format!("udp://{addr}"), &options).await;
    assert_eq!(report.verdict().state, State::Silent);
    server.set_nonblocking(true).unwrap();
    let received = std::iter::from_fn(|| server.recv(&mut [0; 9]).ok()).count();
    assert_eq!(received, 2);
}

#[tokio::test]
async fn udp_port_without_socket_is_closed() {
    let (server, addr) = alone_at("127.0.0.72");
    drop(server);
    let report = probed(&format!("udp://{addr}"), &quick()).await;
    assert_eq!(report.verdict().state, State::Closed, "{:?}", report.tries);
}

#[tokio::test]
async fn unix_stream_and_datagram_sockets_are_probed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let _stream = UnixListener::bind(at("stream")).unwrap();
    let _datagram = UnixDatagram::bind(at("datagram")).unwrap();
    drop(UnixListener::bind(at("left")).unwrap());
    for (endpoint, state, part) in [
        (
            format!("unix:{}", at("stream")),
            State::Reachable,
            "connects in",
        ),
        (
            format!("unixgram:{}", at("datagram")),
            State::Reachable,
            "nothing was sent",
        ),
        (
            format!("unixgram:{}", at("stream")),
            State::Refused,
            "probe unix: instead",
        ),
        (
            format!("unix:{}", at("datagram")),
            State::Refused,
            "probe unixgram: instead",
        ),
        (
            format!("unix:{}", at("left")),
            State::Refused,
            "nothing listens",
        ),
        (
            format!("unix:{}", at("none")),
            State::Refused,
            "there is nothing at",
        ),
    ] {
        let verdict = probed(&endpoint, &quick()).await.verdict();
        assert_eq!(verdict.state, state, "{endpoint}: {}", verdict.sentence);
        assert!(
            verdict.sentence.contains(part),
            "{endpoint}: {}",
            verdict.sentence
        );
    }
}

#[tokio::test]
async fn silent_udp_server_is_neither_reachable_nor_closed() {
    let (_server, addr) = alone_at("127.0.0.73");
    for (wait, count) in [(None, 1), (None, 3), (Some(Duration::from_millis(500)), 1)] {
        let options = ProbeOptions {
            timeout: Duration::from_millis(150),
            all: true,
            count,
            wait,
            ..ProbeOptions::default()
        };
        let report = probed(&format!("udp://{addr}"), &options).await;
        assert_eq!(report.tries.len(), count as usize, "{report:?}");
        for tried in &report.tries {
            assert!(matches!(tried.outcome, AttemptOutcome::Silent), "{tried:?}");
            // It waited as long as it was told to, after the second request too.
            assert!(
                tried.ended.saturating_sub(tried.started) >= options.timeout,
                "{tried:?}"
            );
        }
        assert!(!report.is_reachable());
        let verdict = report.verdict();
        assert_eq!(verdict.state, State::Silent);
        assert!(
            verdict
                .sentence
                .contains("nothing came back from 127.0.0.73"),
            "{verdict:?}"
        );
    }
}

//! `connect` over UDP and Unix datagram sockets: whole messages, no end of stream, and no listener.

use std::{
    io::Write,
    net::UdpSocket,
    os::unix::net::UnixDatagram,
    process::{Output, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{SOON, echoic, pty::Pty};

/// Answers this many datagrams in upper case, and returns them.
fn upper(count: usize) -> (String, JoinHandle<Vec<Vec<u8>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let endpoint = format!("udp://{}", socket.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let mut received = Vec::new();
        let mut buffer = vec![0; 65536];
        while received.len() < count {
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            received.push(buffer[..n].to_vec());
            socket
                .send_to(&buffer[..n].to_ascii_uppercase(), from)
                .unwrap();
        }
        received
    });
    (endpoint, answering)
}

fn run(args: &[&str], input: &[u8]) -> Output {
    let mut command = echoic();
    command.args(args).stdin(Stdio::piped());
    let mut process = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(input).unwrap();
    process.wait_with_output().unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
}

#[test]
fn each_line_is_a_datagram_even_if_empty() {
    let (endpoint, received) = upper(3);
    let output = run(&[&endpoint, "--linger-timeout", "300ms"], b"one\n\ntwo");
    assert_code(&output, 0);
    assert_eq!(received.join().unwrap(), [&b"one"[..], b"", b"two"]);
    assert_eq!(output.stdout, b"ONETWO");
}

#[test]
fn each_send_is_a_datagram_and_the_expected_reply_ends_it() {
    let (endpoint, received) = upper(2);
    let output = run(
        &[
            &endpoint,
            "--send",
            "a\\n",
            "--send-hex",
            "62",
            "--expect",
            "B",
        ],
        b"",
    );
    assert_code(&output, 0);
    assert_eq!(received.join().unwrap(), [b"a\n".to_vec(), b"b".to_vec()]);
}

#[test]
fn expectation_must_be_met_by_one_datagram() {
    let (endpoint, _) = upper(2);
    let args = [
        &*endpoint, "--send", "no", "--send", "ok", "--expect", "/^OK$/",
    ];
    assert_code(&run(&args, b""), 0);
    let (endpoint, _) = upper(2);
    let args = [
        &*endpoint, "--send", "o", "--send", "k", "--expect", "OK", "-w", "500ms",
    ];
    assert_code(&run(&args, b""), 7);
}

#[test]
fn missing_reply_times_out_and_missing_peer_is_refused() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("udp://{}", silent.local_addr().unwrap());
    let output = run(
        &[&endpoint, "--send", "x", "--linger-timeout", "200ms"],
        b"",
    );
    assert_code(&output, 5);
    drop(silent);
    let output = run(
        &[&endpoint, "--send", "x", "--count", "2", "--every", "200ms"],
        b"",
    );
    assert_code(&output, 4);
}

/// Answers the datagrams that `answers` accepts.
fn picky(answers: fn(&[u8]) -> bool, count: usize) -> (String, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let endpoint = format!("udp://{}", socket.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let mut buffer = [0; 99];
        for _ in 0..count {
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            if answers(&buffer[..n]) {
                socket.send_to(&buffer[..n], from).unwrap();
            }
        }
    });
    (endpoint, answering)
}

#[test]
fn unanswered_datagrams_are_counted_although_the_last_has_a_reply() {
    let input = b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";
    let (endpoint, answering) = picky(|datagram| datagram == b"10", 10);
    let output = run(&[&endpoint, "--linger-timeout", "300ms"], input);
    answering.join().unwrap();
    assert_code(&output, 5);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("9 of 10 datagrams have no reply"), "{err}");
}

#[test]
fn unanswered_datagram_of_a_unix_socket_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = UnixDatagram::bind(&path).unwrap();
    let answering = thread::spawn(move || {
        for _ in 0..2 {
            let mut buffer = [0; 9];
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            if buffer[..n] == *b"b" {
                socket.send_to_addr(b"B", &from).unwrap();
            }
        }
    });
    let endpoint = format!("unixgram:{}", path.display());
    let output = run(&[&endpoint, "--linger-timeout", "300ms"], b"a\nb\n");
    answering.join().unwrap();
    assert_code(&output, 5);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("1 of 2 datagrams"), "{err}");
}

/// Returns the exchanges of a record as request, reply and outcome.
fn recorded(store: &str) -> Vec<[String; 3]> {
    let mut log = std::process::Command::new(env!("CARGO_BIN_EXE_echoic"));
    let output = log.args(["log", "--json", "--store", store]).output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    let exchange = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        [
            text(&line["req"]["text"]),
            text(&line["rep"]["text"]),
            text(&line["outcome"]),
        ]
    };
    let mut all: Vec<_> = output.lines().map(exchange).collect();
    all.sort();
    all
}

#[test]
fn record_names_the_datagrams_that_have_no_reply() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("talk.db");
    let store = store.to_str().unwrap();
    let (endpoint, answering) = picky(|datagram| matches!(datagram, b"one" | b"three"), 4);
    let options = ["--linger-timeout", "300ms", "--store", store];
    let input = b"one\ntwo\nthree\nfour\n";
    let output = run(&[&[endpoint.as_str()], &options[..]].concat(), input);
    answering.join().unwrap();
    assert_code(&output, 5);
    let expected = [
        ["four", "", "unanswered"],
        ["one", "one", "ok"],
        ["three", "three", "ok"],
        ["two", "", "unanswered"],
    ];
    assert_eq!(recorded(store), expected);
}

/// A service of its own: which of the two datagrams the only reply answers, nobody can tell.
#[test]
fn record_calls_no_datagram_unanswered_if_a_reply_may_answer_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let store = dir.path().join("talk.db");
    let store = store.to_str().unwrap();
    let socket = UnixDatagram::bind(&path).unwrap();
    let answering = thread::spawn(move || {
        socket.recv_from(&mut [0; 9]).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 9]).unwrap();
        socket.send_to_addr(b"17", &from).unwrap();
    });
    let endpoint = format!("unixgram:{}", path.display());
    let options = ["--linger-timeout", "300ms", "--store", store];
    let output = run(&[&[endpoint.as_str()], &options[..]].concat(), b"a\nb\n");
    answering.join().unwrap();
    assert_code(&output, 5);
    let expected = [
        ["", "17", "ok"],
        ["a", "", "unpaired"],
        ["b", "", "unpaired"],
    ];
    assert_eq!(recorded(store), expected);
}

#[test]
fn sends_end_when_each_is_answered_without_the_linger_timeout() {
    let started = Instant::now();
    let (endpoint, received) = upper(6);
    let sends = ["--send", "a", "--send", "b", "--count", "3"];
    let output = run(
        &[&[endpoint.as_str(), "--linger-timeout", "15s"], &sends[..]].concat(),
        b"",
    );
    assert_code(&output, 0);
    assert_eq!(
        (received.join().unwrap().len(), output.stdout.len()),
        (6, 6)
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn hold_option_waits_for_more_than_the_answers() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let endpoint = format!("udp://{}", socket.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let (_, from) = socket.recv_from(&mut [0; 9]).unwrap();
        socket.send_to(b"answer ", from).unwrap();
        thread::sleep(Duration::from_millis(300));
        socket.send_to(b"and more", from).unwrap();
        socket
    });
    let hold = ["--send", "x", "--hold", "--idle-timeout", "2s"];
    let output = run(&[&[endpoint.as_str()], &hold[..]].concat(), b"");
    answering.join().unwrap();
    assert_code(&output, 5);
    assert_eq!(output.stdout, b"answer and more");
}

#[test]
fn udp_is_never_said_to_be_connected() {
    let (endpoint, answering) = picky(|_| true, 1);
    let output = run(&[&endpoint, "--send", "x", "--verbose"], b"");
    answering.join().unwrap();
    assert_code(&output, 0);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("sending to 127.0.0.1"), "{err}");
    assert!(!err.contains("connected"), "{err}");
}

#[test]
fn framing_of_datagrams_is_ignored_with_a_notice() {
    for (option, args, what) in [
        ("", &["--frame", "line"][..], "--frame"),
        ("?frame=u16be", &[], "?frame="),
    ] {
        let (endpoint, received) = upper(1);
        let endpoint = format!("{endpoint}{option}");
        let output = run(&[&[&*endpoint, "--send", "hi"], args].concat(), b"");
        assert_code(&output, 0);
        assert_eq!(received.join().unwrap(), [b"hi"]);
        assert_eq!(output.stdout, b"HI");
        let err = String::from_utf8_lossy(&output.stderr);
        let notice = format!("a datagram is one message, so {what} does not apply");
        assert!(err.contains(&notice), "{err}");
    }
}

#[test]
fn silence_of_datagrams_is_not_called_a_missing_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (silent, gram) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UnixDatagram::bind(&path).unwrap(),
    );
    let endpoints = [
        format!("udp://{}", silent.local_addr().unwrap()),
        format!("unixgram:{}", path.display()),
    ];
    for endpoint in &endpoints {
        let output = run(&[endpoint, "-v", "--linger-timeout", "200ms"], b"x\n");
        assert_code(&output, 5);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains("timed out: no reply within 200ms"), "{err}");
        assert!(!err.contains("close"), "{err}");
        let output = run(&[endpoint, "-v", "--send-only"], b"x\n");
        assert_code(&output, 0);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains("sent everything and closed"), "{err}");
    }
    drop((silent, gram));
    let (endpoint, answering) = picky(|_| true, 1);
    let output = run(&[&endpoint, "-v", "--linger-timeout", "200ms"], b"x\n");
    answering.join().unwrap();
    assert_code(&output, 0);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("closed after 200ms of silence"), "{err}");
}

#[test]
fn prompt_reports_a_missing_datagram_reply() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut pty = Pty::start(&[&format!("udp://{}", silent.local_addr().unwrap())]);
    assert!(String::from_utf8_lossy(&pty.output()).contains("a line is a datagram"));
    pty.press("hello\r");
    pty.wait_for("(no reply in 1 s)");
    let (_, from) = silent.recv_from(&mut [0; 16]).unwrap();
    silent.send_to(b"late", from).unwrap();
    pty.wait_for("late");
}

#[test]
fn prompt_counts_unanswered_datagrams_although_another_has_a_reply() {
    let (endpoint, answering) = picky(|datagram| datagram == b"two", 3);
    let mut pty = Pty::start(&[&endpoint]);
    pty.press("one\rtwo\rthree\r");
    pty.wait_for("(no reply to 2 datagrams in 1 s)");
    answering.join().unwrap();
    pty.press("q\r");
    assert_eq!(pty.code(), Some(0));
}

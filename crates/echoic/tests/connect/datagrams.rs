//! `connect` over UDP and Unix datagram sockets: whole messages, no end of stream, and no listener.

use std::{
    io::Write,
    net::UdpSocket,
    process::{Output, Stdio},
    thread::{self, JoinHandle},
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

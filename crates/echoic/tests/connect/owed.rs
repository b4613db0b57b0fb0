//! Replies that a peer owes when it closes, and a peer that speaks TLS.

use std::{
    io::{Read, Write},
    process::{Output, Stdio},
};

use crate::{echoic, pty::Pty, server};

fn run(args: &[&str], input: &[u8]) -> Output {
    let mut process = echoic()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(input).unwrap();
    process.wait_with_output().unwrap()
}

#[track_caller]
fn assert_tells(output: &Output, code: i32, why: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(err.contains(why), "{err}");
}

#[test]
fn close_without_a_reply_exits_with_6_under_a_declared_framing() {
    for (options, code) in [
        (vec!["--frame", "line"], 6),
        (vec!["--frame", "u16be/chunk"], 6),
        (vec!["--frame", "nul", "--send", "hello"], 6),
        (vec!["--frame", "line", "--send", "hello", "--hold"], 6),
        (vec!["--frame", "line", "--send-only"], 0),
        (vec!["--frame", "chunk/line"], 0),
        (vec![], 0),
    ] {
        let (addr, peer) = server(|mut peer| peer.read(&mut [0; 99]).unwrap());
        let output = run(&[&[addr.as_str()], &options[..]].concat(), b"hello\n");
        assert!(peer.join().unwrap() > 0);
        let why = if code == 0 {
            ""
        } else {
            "without a reply to the last message"
        };
        assert_tells(&output, code, why);
    }
}

/// What OpenSSL answers to a line of text.
const ALERT: &[u8] = b"\x15\x03\x01\0\x02\x02\x32";

#[test]
fn tls_alert_exits_with_6_and_a_hint() {
    for (options, code) in [
        (vec![], 6),
        (vec!["--frame", "line"], 6),
        (vec!["--expect", "HELLO"], 7),
    ] {
        let (addr, peer) = server(|mut peer| {
            peer.read_exact(&mut [0; 6]).unwrap();
            peer.write_all(ALERT).unwrap();
        });
        let output = run(&[&[addr.as_str()], &options[..]].concat(), b"hello\n");
        peer.join().unwrap();
        assert_tells(&output, code, "the peer speaks TLS");
        assert_eq!(output.stdout, ALERT);
    }
}

#[test]
fn tls_alert_is_told_at_the_prompt() {
    let (addr, peer) = server(|mut peer| {
        peer.read_exact(&mut [0; 6]).unwrap();
        peer.write_all(ALERT).unwrap();
    });
    let mut pty = Pty::start(&[&addr]);
    pty.press("hello\r");
    pty.wait_for("the peer speaks TLS");
    assert_eq!(pty.code(), Some(6));
    peer.join().unwrap();
}

#[test]
fn answered_requests_are_claimed_only_under_a_declared_framing() {
    for (frame, claims) in [("line", true), ("chunk", false), ("line/chunk", false)] {
        let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
        let (addr, peer) = server(move |mut peer| {
            peer.read_exact(&mut [0; 2]).unwrap();
            peer.write_all(b"A\n").unwrap();
            let _ = stopped.recv();
        });
        let options = ["--frame", frame, "--linger-timeout", "300ms"];
        let output = run(&[&[addr.as_str()], &options[..]].concat(), b"a\n");
        drop(stop);
        peer.join().unwrap();
        assert_tells(&output, 0, "(--linger-timeout)");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(err.contains("all requests were answered"), claims, "{err}");
    }
}

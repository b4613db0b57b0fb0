//! Without a user and without input: `--send`, `--expect`, and how long the client waits.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixListener,
    process::{Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{SOON, echoic, server};

fn run(args: &[&str]) -> Output {
    echoic().args(args).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
}

/// Answers each line in upper case until the client closes; returns the number of lines.
fn upper(peer: TcpStream) -> usize {
    let mut answers = peer.try_clone().unwrap();
    let lines = BufReader::new(peer).lines();
    lines
        .map(|line| {
            // In one write: a client that expects the text may leave before the newline.
            let reply = line.unwrap().to_uppercase() + "\n";
            answers.write_all(reply.as_bytes()).unwrap();
        })
        .count()
}

#[test]
fn text_that_looks_like_an_expression_gets_a_hint() {
    let (endpoint, _) = server(|mut peer| peer.write_all(b"HELLO\n").unwrap());
    let output = run(&[&endpoint, "--expect", "HELLO$"]);
    assert_code(&output, 7);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("between slashes: '/HELLO$/'"), "{err}");
    let (endpoint, _) = server(|mut peer| peer.write_all(b"HELLO\n").unwrap());
    let output = run(&[&endpoint, "--expect", "no [x] (y)?"]);
    assert_code(&output, 7);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!err.contains("slashes"), "{err}");
}

#[test]
fn sends_are_framed_in_order_and_the_reply_printed() {
    let (addr, peer) = server(|mut peer| {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        peer.write_all(&[0, 2, b'o', b'k']).unwrap();
        all
    });
    let output = run(&[
        &addr,
        "--frame",
        "u16be",
        "--send",
        "a\\x00",
        "--send-hex",
        "ff",
        "--send",
        "b",
    ]);
    assert_code(&output, 0);
    assert_eq!(peer.join().unwrap(), b"\0\x02a\0\0\x01\xff\0\x01b");
    assert_eq!(output.stdout, b"\0\x02ok");
}

#[test]
fn reply_shorter_than_its_length_is_cut() {
    let (addr, _) = server(|mut peer| {
        peer.write_all(&[5, b'a', b'b']).unwrap();
        std::io::copy(&mut peer, &mut std::io::sink()).unwrap();
    });
    let output = run(&[&format!("{addr}?frame=u8"), "--send", "x"]);
    assert_code(&output, 6);
    assert!(String::from_utf8_lossy(&output.stderr).contains("under u8"));
}

#[test]
fn expected_reply_ends_it_at_once() {
    let (addr, peer) = server(upper);
    let started = Instant::now();
    let output = run(&[
        &addr,
        "--frame",
        "line",
        "--send",
        "hello",
        "--expect",
        "/^HEL+O$/",
        "-w",
        "20",
    ]);
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"HELLO\n");
    assert!(started.elapsed() < SOON);
    assert_eq!(peer.join().unwrap(), 1);
}

#[test]
fn missing_expected_reply_exits_with_7() {
    let (addr, _) = server(upper);
    let output = run(&[
        &addr, "--frame", "line", "--send", "hello", "--expect", "hello", "-w", "2s",
    ]);
    assert_code(&output, 7);
    assert_eq!(
        output.stdout, b"HELLO\n",
        "what came is printed all the same"
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("did not contain hello"));

    let (addr, _) = server(|mut peer| peer.write_all(b"busy").unwrap());
    let output = run(&[&addr, "--expect", "ready"]);
    assert_code(&output, 7);
    assert!(String::from_utf8_lossy(&output.stderr).contains("closed first"));
}

/// Sends the pieces 300 ms apart, and keeps the connection open.
fn pieces(pieces: Vec<&'static [u8]>) -> impl FnOnce(TcpStream) + Send {
    move |mut peer| {
        for (number, piece) in pieces.iter().enumerate() {
            if number > 0 {
                thread::sleep(Duration::from_millis(300));
            }
            peer.write_all(piece).unwrap();
        }
        let _ = std::io::copy(&mut peer, &mut std::io::sink());
    }
}

#[test]
fn end_of_a_read_is_no_end_of_a_line_or_word() {
    for (expected, read) in [
        ("/^OK$/", [&b"OK"[..], b": no"]),
        (r"/OK\z/", [b"OK", b"\n"]),
        (r"/OK\b/", [b"OK", b"AY"]),
        (r"/OK\B/", [b"OK", b"\n"]),
        (r"/^OK\r?$/", [b"OK\r", b"?"]),
    ] {
        let (addr, _) = server(pieces(read.to_vec()));
        let output = run(&[&addr, "--recv-only", "--expect", expected, "-w", "800ms"]);
        let code = if expected.contains(r"\r") { 0 } else { 7 };
        assert_eq!(output.status.code(), Some(code), "{expected}");
        let (addr, _) = server(move |mut peer| peer.write_all(read[0]).unwrap());
        assert_code(&run(&[&addr, "--recv-only", "--expect", expected]), {
            if expected.contains(r"\B") { 7 } else { 0 }
        });
    }
}

#[test]
fn expectation_tells_that_an_anchor_waited_in_vain() {
    let (addr, _) = server(pieces(vec![b"OK"]));
    let output = run(&[&addr, "--expect", "/^OK$/", "-w", "2s"]);
    assert_code(&output, 7);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not of a read"));
    let started = Instant::now();
    for (framing, reply) in [("u8", &b"\x02OK"[..]), ("nul", b"OK\0"), ("line", b"OK\n")] {
        let (addr, _) = server(pieces(vec![reply]));
        let output = run(&[
            &addr,
            "--frame",
            framing,
            "--recv-only",
            "--expect",
            "/^OK$/",
            "-w",
            "30",
        ]);
        assert_code(&output, 0);
    }
    assert!(started.elapsed() < SOON, "a message has an end of its own");
}

#[test]
fn each_round_expects_its_own_reply() {
    let (addr, peer) = server(upper);
    let args = [
        "--frame", "line", "--send", "ping", "--expect", "PING", "--count", "3", "--every", "10ms",
    ];
    let output = run(&[&[&*addr], &args[..]].concat());
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"PING\nPING\nPING\n");
    assert_eq!(peer.join().unwrap(), 3);

    // The server answers once and then stops: the first reply does not count for the second round.
    let (addr, _) = server(|mut peer| {
        let _ = peer.read(&mut [0; 8]);
        peer.write_all(b"PING\n").unwrap();
        std::io::copy(&mut peer, &mut std::io::sink()).unwrap();
    });
    let output = run(&[&[&*addr, "-w", "2s"], &args[..]].concat());
    assert_code(&output, 7);
}

#[test]
fn hold_option_waits_for_the_peer_to_close() {
    let until_end = |mut peer: TcpStream, at_most: Duration| {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        peer.set_read_timeout(Some(at_most)).unwrap();
        let ended = matches!(peer.read(&mut byte), Ok(0));
        peer.write_all(b"late").unwrap();
        ended
    };
    let (addr, peer) = server(move |peer| until_end(peer, Duration::from_millis(300)));
    let output = run(&[&addr, "--send", "x", "--hold"]);
    assert_code(&output, 0);
    assert_eq!(
        (output.stdout, peer.join().unwrap()),
        (b"late".to_vec(), false)
    );

    let (addr, peer) = server(move |peer| until_end(peer, SOON));
    let output = run(&[&addr, "--send", "x"]);
    assert_code(&output, 0);
    assert_eq!(
        (output.stdout, peer.join().unwrap()),
        (b"late".to_vec(), true)
    );
}

#[test]
fn send_only_and_recv_only_transfer_one_way() {
    let (addr, peer) = server(|mut peer| {
        peer.write_all(b"not wanted").unwrap();
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        all
    });
    let output = run(&[&addr, "--send", "only this", "--send-only"]);
    assert_code(&output, 0);
    assert_eq!(
        (output.stdout, peer.join().unwrap()),
        (vec![], "only this".to_owned())
    );

    let (addr, peer) = server(|mut peer| {
        peer.set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let silent = peer.read(&mut [0]).is_err();
        peer.write_all(b"news").unwrap();
        silent
    });
    let output = run(&[&addr, "--recv-only"]);
    assert_code(&output, 0);
    assert_eq!(
        (output.stdout, peer.join().unwrap()),
        (b"news".to_vec(), true)
    );
}

#[test]
fn unix_socket_is_called_by_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        peer.write_all(all.to_uppercase().as_bytes()).unwrap();
    });
    let output = run(&[path.to_str().unwrap(), "--send", "hello", "-v", "--explain"]);
    peer.join().unwrap();
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"HELLO");
    let err = String::from_utf8_lossy(&output.stderr);
    for wanted in [
        "socket(AF_UNIX, SOCK_STREAM)".to_owned(),
        format!("connected unix:{} in", path.display()),
    ] {
        assert!(err.contains(&wanted), "{wanted}: {err}");
    }
    let output = run(&[
        dir.path().join("missing").to_str().unwrap(),
        "--send",
        "hello",
    ]);
    assert_code(&output, 4);
}

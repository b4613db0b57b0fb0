//! `connect` through pipes: bytes unchanged, and truthful exit codes.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{GREET, Tutorial, UPPER, echoic, ended, server};

/// Runs the program to its end with `input` on standard input.
fn run(args: &[&str], input: &[u8]) -> Output {
    let mut process = echoic()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let input = input.to_vec();
    let feeding = thread::spawn(move || {
        // It may exit before it has read all its input.
        let _ = stdin.write_all(&input);
    });
    let output = process.wait_with_output().unwrap();
    feeding.join().unwrap();
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
}

#[test]
fn tutorial_upper_server_reply_is_the_only_output() {
    let server = Tutorial::start(UPPER);
    let output = run(&[&server.addr], b"hello");
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"HELLO");
    assert_eq!(stderr(&output), "");
}

#[test]
fn tutorial_greeting_is_printed() {
    let server = Tutorial::start(GREET);
    let (host, port) = server.addr.split_once(':').unwrap();
    let output = run(&[host, port], b"");
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"Thank you for connecting");
}

#[test]
fn every_byte_passes_unchanged() {
    let (addr, _) = server(|mut peer| {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        peer.write_all(&all).unwrap();
    });
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let output = run(&[&addr, "--frame", "line"], &all);
    assert!(output.stdout == all);
    assert_code(&output, 0);
}

/// The echo deadlock: 50 MB through a server that stops reading while its replies are unread.
#[test]
fn echo_returns_fifty_megabytes() {
    let (addr, _) = server(|mut peer| {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = peer.read(&mut buffer) {
            peer.write_all(&buffer[..n]).unwrap();
        }
    });
    let all: Vec<u8> = (0..50_000_000_u32).map(|i| (i % 251) as u8).collect();
    let output = run(&[&addr], &all);
    assert!(output.stdout == all, "{} bytes", output.stdout.len());
    assert_code(&output, 0);
}

/// Nobody knows whether more input would have come, so it is no success.
#[test]
fn peer_close_ends_it_while_stdin_is_open() {
    let (addr, _) = server(|mut peer| peer.write_all(b"the rest").unwrap());
    let mut process = echoic()
        .arg(addr)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = process.stdin.take();
    ended(&mut process);
    let output = process.wait_with_output().unwrap();
    drop(stdin);
    assert_code(&output, 6);
    assert_eq!(output.stdout, b"the rest");
    let err = stderr(&output);
    assert!(
        err.contains("still open") && err.contains("--recv-only"),
        "{err}"
    );
}

#[test]
fn reply_cut_by_a_reset_exits_with_6() {
    let (addr, _) = server(|mut peer| {
        peer.read_exact(&mut [0]).unwrap();
        peer.write_all(b"half a rep").unwrap();
    });
    let output = run(&[&addr], b"request\n");
    assert_code(&output, 6);
    assert_eq!(output.stdout, b"half a rep");
    assert!(
        stderr(&output).contains("reset the connection after 10 B"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn unterminated_last_line_exits_with_6_only_under_line() {
    for (frame, code) in [("line", 6), ("chunk", 0)] {
        let (addr, _) = server(|mut peer| {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            peer.write_all(b"ONE\nTW").unwrap();
        });
        let output = run(&[&addr, "--frame", frame], b"one\ntwo\n");
        assert_code(&output, code);
        assert_eq!(output.stdout, b"ONE\nTW");
    }
}

#[test]
fn refused_connection_exits_with_4_and_names_each_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let output = run(&[&port], b"");
    assert_code(&output, 4);
    assert!(
        stderr(&output).contains(&format!("127.0.0.1:{port} refused")),
        "{}",
        stderr(&output)
    );
}

#[test]
fn unknown_name_exits_with_3() {
    let output = run(&["no-such-host.invalid:80"], b"");
    assert_code(&output, 3);
    assert!(stderr(&output).contains("no-such-host.invalid"));
}

#[test]
fn invalid_usage_exits_with_2_and_a_hint() {
    for (args, why) in [
        (vec!["localhost"], "HOST:PORT"),
        (vec!["localhost:1", "2"], "leave one of them out"),
        (vec![":1", "--frame", "zip"], "chunk, line"),
        (vec![":1", "--linger-timeout", "soon"], "250ms"),
    ] {
        let output = run(&args, b"");
        assert_code(&output, 2);
        assert!(
            stderr(&output).contains(why),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

/// Two clients fill a backlog of one; the SYN of the third is dropped, and it waits (listen(2)).
#[test]
fn black_hole_exits_with_5() {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    let addr: SocketAddr = rustix::net::getsockname(&socket)
        .unwrap()
        .try_into()
        .unwrap();
    let _waiting = [
        TcpStream::connect(addr).unwrap(),
        TcpStream::connect(addr).unwrap(),
    ];
    let started = Instant::now();
    let output = run(&[&addr.to_string(), "-w", "300ms"], b"");
    assert_code(&output, 5);
    assert!(
        stderr(&output).contains("did not answer within 300"),
        "{}",
        stderr(&output)
    );
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn silent_peer_exits_with_5_only_if_a_reply_is_due() {
    for (reply, code) in [(&b""[..], 5), (b"HELLO", 0)] {
        let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
        let (addr, peer) = server(move |mut peer| {
            peer.read_exact(&mut [0; 5]).unwrap();
            peer.write_all(reply).unwrap();
            // The server does not close; the client does.
            let mut rest = Vec::new();
            let _ = peer.read_to_end(&mut rest);
            let _ = stopped.recv();
        });
        let output = run(&[&addr, "--linger-timeout", "2s"], b"hello");
        assert_code(&output, code);
        assert_eq!(output.stdout, reply);
        assert!(
            stderr(&output).contains("--linger-timeout"),
            "{}",
            stderr(&output)
        );
        drop(stop);
        peer.join().unwrap();
    }
}

#[test]
fn peer_that_does_not_read_exits_with_5_and_counts_unsent() {
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let (addr, peer) = server(move |peer| {
        let _ = stopped.recv();
        drop(peer);
    });
    let output = run(
        &[&addr, "--write-timeout", "300ms"],
        &vec![b'x'; 50_000_000],
    );
    assert_code(&output, 5);
    assert!(stderr(&output).contains("unsent"), "{}", stderr(&output));
    drop(stop);
    peer.join().unwrap();
}

#[test]
fn closed_stdout_is_a_quiet_success() {
    let (addr, peer) = server(|mut peer| while peer.write_all(&[b'y'; 4096]).is_ok() {});
    let mut process = echoic()
        .arg(addr)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    assert_eq!(ended(&mut process).code(), Some(0));
    let mut stderr = String::new();
    process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(stderr, "");
    peer.join().unwrap();
}

#[test]
fn unreadable_input_exits_with_1() {
    let (addr, peer) = server(|mut peer| peer.read_to_end(&mut Vec::new()).unwrap());
    let output = echoic()
        .arg(addr)
        .stdin(std::fs::File::open("/").unwrap())
        .output()
        .unwrap();
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("cannot read standard input"),
        "{}",
        stderr(&output)
    );
    assert_eq!(peer.join().unwrap(), 0);
}

#[test]
fn peer_that_half_closes_first_gets_the_whole_upload() {
    let (addr, peer) = server(|mut peer| {
        peer.read_exact(&mut [0]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        1 + all.len()
    });
    let output = run(&[&addr], &vec![b'x'; 20_000_000]);
    assert_code(&output, 0);
    assert_eq!(peer.join().unwrap(), 20_000_000);
}

#[test]
fn explain_prints_each_call_in_order_on_stderr() {
    let (addr, _) = server(|mut peer| {
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        peer.write_all(all.to_uppercase().as_bytes()).unwrap();
    });
    let output = run(&[&addr, "--explain"], b"hello\n");
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"HELLO\n");
    let explained = stderr(&output);
    let mut rest = explained.as_str();
    for call in [
        "socket(AF_INET, SOCK_STREAM)",
        &format!("connect({addr})"),
        r"send(b'hello\n') = 6",
        "shutdown(SHUT_WR)",
        r"recv(65536) = b'HELLO\n'",
        "recv(65536) = b''",
        "close()",
    ] {
        let at = rest
            .find(call)
            .unwrap_or_else(|| panic!("{call} is missing, or out of order:\n{explained}"));
        rest = &rest[at + call.len()..];
    }
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let output = run(&["--help"], b"");
    assert_code(&output, 0);
    let help = String::from_utf8(output.stdout).unwrap();
    for part in ["Examples:", "echoic connect localhost 5000", "Exit codes:"] {
        assert!(help.contains(part), "{help}");
    }
}

/// It used to panic, and reported that as a bug.
#[test]
fn missing_thread_is_reported_without_panic() {
    for nth in 1..=2 {
        let server = Tutorial::start(UPPER);
        let inject = format!("inject=clone3:error=EAGAIN:when={nth}");
        let output = std::process::Command::new("strace")
            .args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"])
            .args(["-e", "trace=clone3", "-e", &inject, "--"])
            .args([env!("CARGO_BIN_EXE_echoic"), "connect", &server.addr])
            .stdin(Stdio::null())
            .output()
            .expect("strace; its Debian package is strace");
        assert_code(&output, 1);
        let err = stderr(&output);
        assert!(
            err.starts_with("echoic: cannot start a thread: "),
            "{nth}: {err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

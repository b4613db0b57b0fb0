//! A peer that ends its half of the stream, before or while we send: ours goes on to its end.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, Output, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{echoic, pty::Pty, repeat::repeat_while, server};

/// What a peer that has ended its half reads until we end ours.
type Reading = JoinHandle<String>;

trait Stream: Read + Write {
    fn end_half(&self);
}

impl Stream for TcpStream {
    fn end_half(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Stream for UnixStream {
    fn end_half(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

/// Sends `greeting`, ends its half and reads on.
fn end_and_read(mut peer: impl Stream, greeting: &[u8]) -> String {
    peer.write_all(greeting).unwrap();
    peer.end_half();
    let mut all = String::new();
    peer.read_to_string(&mut all).unwrap();
    all
}

fn tcp(greeting: &'static [u8]) -> (String, Reading) {
    server(move |peer| end_and_read(peer, greeting))
}

fn start(args: &[&str]) -> Child {
    echoic()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the program with two lines of input that come late.
fn run_late(args: &[&str]) -> Output {
    let mut process = start(args);
    let mut stdin = process.stdin.take().unwrap();
    for line in ["pay\n", "load\n"] {
        thread::sleep(Duration::from_millis(400));
        stdin.write_all(line.as_bytes()).unwrap();
    }
    drop(stdin);
    process.wait_with_output().unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
}

#[test]
fn late_input_arrives_whole_after_the_peers_fin() {
    let store = tempfile::tempdir().unwrap();
    let store = store.path().join("talk.db");
    let store = store.to_str().unwrap();
    for (options, greeting, code) in [
        (vec![], &b""[..], 0),
        (vec![], b"hi\n", 0),
        (vec!["--hold"], b"hi\n", 0),
        (vec!["--send-only"], b"", 0),
        (vec!["--store", store], b"hi\n", 0),
        // Two messages of a declared framing have no reply.
        (vec!["--frame", "line"], b"", 6),
        (vec!["--frame", "chunk/nul"], b"", 0),
    ] {
        let (addr, peer) = tcp(greeting);
        let output = run_late(&[&[addr.as_str()], &options[..]].concat());
        assert_code(&output, code);
        assert_eq!(peer.join().unwrap(), "pay\nload\n", "{options:?}");
        let discards = options.contains(&"--send-only");
        assert_eq!(output.stdout, if discards { b"" } else { greeting });
    }
}

#[test]
fn late_input_arrives_whole_over_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = thread::spawn(move || end_and_read(listener.accept().unwrap().0, b"hi\n"));
    let output = run_late(&[&format!("unix:{}", path.display())]);
    assert_code(&output, 0);
    assert_eq!(peer.join().unwrap(), "pay\nload\n");
}

#[test]
fn rounds_go_on_after_the_peers_fin() {
    let (addr, peer) = tcp(b"hi\n");
    let sends = ["--send", "x\\n", "--count", "4", "--every", "200ms"];
    let process = start(&[&[addr.as_str()], &sends[..]].concat());
    let output = process.wait_with_output().unwrap();
    assert_code(&output, 0);
    assert_eq!(peer.join().unwrap(), "x\nx\nx\nx\n");
}

#[test]
fn recv_only_ends_with_the_peers_fin() {
    let (addr, peer) = tcp(b"all\n");
    let mut process = start(&[&addr, "--recv-only"]);
    let stdin = process.stdin.take();
    let output = process.wait_with_output().unwrap();
    drop(stdin);
    assert_code(&output, 0);
    assert_eq!(
        (peer.join().unwrap().as_str(), output.stdout),
        ("", b"all\n".to_vec())
    );
}

/// Whether the peer or our input comes first, nobody reads the input.
#[test]
fn input_for_a_peer_that_closed_exits_with_6() {
    for (input_after, close_after) in [(100, 0), (0, 50)] {
        let (close, closes) = mpsc::sync_channel::<()>(1);
        let (addr, peer) = server(move |peer| {
            peer.shutdown(Shutdown::Write).unwrap();
            let _ = closes.recv();
            drop(peer);
        });
        let mut process = start(&[&addr]);
        let mut stdin = process.stdin.take().unwrap();
        let closing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(close_after));
            close.send(()).unwrap();
        });
        thread::sleep(Duration::from_millis(input_after));
        stdin.write_all(b"lost\n").unwrap();
        thread::sleep(Duration::from_millis(600 - input_after));
        let output = process.wait_with_output().unwrap();
        assert_code(&output, 6);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            err.contains("closed before it had read everything"),
            "{err}"
        );
        closing.join().unwrap();
        peer.join().unwrap();
    }
}

/// Whenever the input comes, or whether it comes at all, the exit code is the same: no moment turns a loss into a success.
#[test]
fn input_that_has_not_ended_when_the_peer_closed_exits_with_6() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("talk.db");
    let store = store.to_str().unwrap();
    let large = vec![b'x'; 288_000];
    let runs: [(&[&str], u64, &[u8]); 8] = [
        (&[], 0, b""),
        (&[], 980, b"late\n"),
        (&[], 1000, &large),
        (&[], 1020, b"late\n"),
        (&[], 1500, b"late\n"),
        (&["--hold"], 1020, b"late\n"),
        (&["--send-only"], 1020, b"late\n"),
        (&["--store", store], 1020, b"late\n"),
    ];
    thread::scope(|scope| {
        for (options, after, input) in runs {
            scope.spawn(move || {
                let (addr, peer) = server(drop);
                let mut process = start(&[&[addr.as_str()], options].concat());
                peer.join().unwrap();
                let mut stdin = process.stdin.take().unwrap();
                thread::sleep(Duration::from_millis(after));
                // It may have exited, which the writer of a pipe sees as EPIPE.
                let _ = stdin.write_all(input);
                let output = process.wait_with_output().unwrap();
                drop(stdin);
                assert_code(&output, 6);
            });
        }
    });
}

#[test]
fn input_that_ends_soon_after_the_peer_closed_exits_with_0() {
    let (addr, peer) = server(drop);
    let mut process = start(&[&addr]);
    let stdin = process.stdin.take();
    peer.join().unwrap();
    thread::sleep(Duration::from_millis(50));
    drop(stdin);
    assert_code(&process.wait_with_output().unwrap(), 0);
}

/// What the user asked for is there, whatever the input.
#[test]
fn met_expectation_and_recv_only_need_no_end_of_input() {
    for options in [&["--recv-only"][..], &["--expect", "hi"]] {
        let (addr, _) = server(|mut peer| peer.write_all(b"hi\n").unwrap());
        let mut process = start(&[&[addr.as_str()], options].concat());
        let stdin = process.stdin.take();
        let output = process.wait_with_output().unwrap();
        drop(stdin);
        assert_code(&output, 0);
    }
}

#[test]
fn rounds_that_a_closed_peer_does_not_get_exit_with_6() {
    let (addr, peer) = server(drop);
    let sends = ["--send", "x\\n", "--count", "9", "--every", "300ms"];
    let process = start(&[&[addr.as_str()], &sends[..]].concat());
    let output = process.wait_with_output().unwrap();
    peer.join().unwrap();
    assert_code(&output, 6);
}

/// The kernel has accepted all, and the peer takes it slowly.
#[test]
fn end_waits_until_a_slow_peer_has_taken_all() {
    let attempt = || {
        let (addr, peer) = server(take_slowly);
        let mut process = start(&[&addr, "--write-timeout", "1s"]);
        let mut stdin = process.stdin.take().unwrap();
        let given = stdin.write_all(&vec![b'x'; 3_000_000]);
        drop(stdin);
        let output = process.wait_with_output().unwrap();
        (given, output, peer.join().unwrap())
    };
    // If this process pauses, the peer has taken nothing in the time.
    let is_spoilt = |(_, _, (_, longest)): &(_, _, (_, Duration))| *longest >= LONG;
    let (given, output, (taken, _)) = repeat_while(5, is_spoilt, attempt);
    assert_code(&output, 0);
    given.unwrap();
    assert_eq!(taken.unwrap(), 3_000_000);
}

/// Nearly a write timeout of a second.
const LONG: Duration = Duration::from_millis(800);

/// Ends its half and takes all, 100 kB at a time; returns how many bytes there were, and the longest time between two reads.
fn take_slowly(mut peer: TcpStream) -> (std::io::Result<usize>, Duration) {
    let ended = peer.shutdown(Shutdown::Write);
    let (mut all, mut buffer) = (ended.map(|()| 0), vec![0; 100_000]);
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while let Ok(before) = all {
        thread::sleep(Duration::from_millis(50));
        let read = peer.read(&mut buffer);
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if let Ok(0) = read {
            break;
        }
        all = read.map(|n| before + n);
    }
    (all, longest)
}

#[test]
fn end_times_out_with_the_unsent_count_if_the_peer_takes_nothing_more() {
    let (stop, stopped) = mpsc::sync_channel::<()>(1);
    let (addr, peer) = server(move |peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        let _ = stopped.recv();
        drop(peer);
    });
    let mut process = start(&[&addr, "--write-timeout", "500ms"]);
    let mut stdin = process.stdin.take().unwrap();
    // More than the peer's receive buffer (tcp_rmem), less than our send buffer.
    stdin.write_all(&vec![b'x'; 1_000_000]).unwrap();
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    assert_code(&output, 5);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("KiB unsent"), "{err}");
    drop(stop);
    peer.join().unwrap();
}

/// Between two lines the terminal is not in raw mode, and must not take Ctrl-D for itself.
#[test]
fn ctrl_d_typed_right_after_a_line_is_not_lost() {
    for round in 0..40 {
        let (addr, peer) = tcp(b"hi\n");
        let mut pty = Pty::start(&[&addr]);
        pty.wait_for("the peer has ended its side");
        pty.press("one\r");
        thread::sleep(Duration::from_micros(50 * round));
        pty.press("\x04");
        assert_eq!(pty.code(), Some(6), "the peer has answered nothing");
        assert_eq!(peer.join().unwrap(), "one\n");
    }
}

#[test]
fn line_typed_after_the_peers_fin_arrives() {
    let (addr, peer) = tcp(b"hi\n");
    let mut pty = Pty::start(&[&addr]);
    pty.wait_for("hi");
    pty.wait_for("the peer has ended its side");
    pty.press("one\r");
    pty.press("two\r");
    pty.wait_for("two");
    pty.press("\x04");
    assert_eq!(pty.code(), Some(6), "the peer has answered nothing");
    assert_eq!(peer.join().unwrap(), "one\ntwo\n");
}

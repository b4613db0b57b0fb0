//! What signals and the end of standard input do to each command.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use self::harness::{
    Home, Lines, Load, Serve, Talk, kill, repeat_while, signal, signal_to_the_end, tool, until,
    wait_for_end,
};

/// Time between two signals that are sent together: they do not merge in the kernel, and are within 50 ms.
const MOMENT: Duration = Duration::from_micros(500);

/// Time in which a signal that counts would show.
const LATER: Duration = Duration::from_millis(300);

/// Sends signals, each a [`MOMENT`] after the one before. Returns whether they were together: if this process has paused, the
/// program is right not to count them as one.
fn send_together(send: impl Fn(Signal), signals: &[Signal]) -> bool {
    let began = Instant::now();
    for which in signals {
        send(*which);
        thread::sleep(MOMENT);
    }
    began.elapsed() < Duration::from_millis(40)
}

/// Repeats an attempt that returns `None`: its signals were not sent together.
fn until_together<T>(attempt: impl FnMut() -> Option<T>) -> T {
    let sent = repeat_while(10, Option::is_none, attempt);
    sent.expect("signals that are sent together")
}

#[test]
fn signals_together_are_one() {
    for (first, second) in [
        (Signal::INT, Signal::INT),
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::TERM),
        (Signal::HUP, Signal::TERM),
        (Signal::TERM, Signal::HUP),
    ] {
        let (mut serve, load) = until_together(|| {
            let serve = Serve::start(&["echo=:0", "--frame", "line"]);
            let load = Load::start(serve.at[0], "peer", &[1, 1, 8, 8]);
            load.wait_for(500);
            if send_together(|which| serve.signal(which), &[first, second]) {
                return Some((serve, load));
            }
            serve.kill();
            None
        });
        let stopped = serve.ends();
        assert_eq!(
            (stopped.code, stopped.lost),
            (Some(0), 0),
            "{first:?} {second:?}"
        );
        let replies: usize = load.ends().iter().map(|peer| peer.received.len()).sum();
        assert_eq!(stopped.recorded, replies as u64, "{first:?} {second:?}");
    }
}

#[test]
fn hangup_drains() {
    let endpoints = ["upper=:0", "unix:./x.sock", "unixgram:./g.sock"];
    let mut serve = Serve::start(&[&endpoints[..], &["--frame", "line"]].concat());
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("answered\n", "ANSWERED\n");
    talk.send("received\n");
    let file = |name| serve.home.path().join(name);
    let files = [file("x.sock"), file("g.sock"), file("echoic.db-status")];
    assert!(files.iter().all(|file| file.exists()));
    UnixDatagram::unbound()
        .unwrap()
        .send_to(b"received", &files[1])
        .unwrap();
    serve.signal(Signal::HUP);
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.recorded), (Some(0), 3));
    assert_eq!(talk.rest(), b"RECEIVED\n");
    let left = files.iter().find(|file| file.exists());
    assert_eq!(left, None, "the file of a socket is left");
}

/// A command run by a shell that ignores SIGHUP, as nohup(1) does.
fn nohup(home: &Home, args: &[&str]) -> Command {
    let mut command = tool("sh", "dash");
    home.settle(&mut command);
    command
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_echoic"))
        .args(args);
    command
}

#[test]
fn ignored_hangup_stays_ignored() {
    let home = Arc::new(Home::new());
    let args = ["upper=:0", "--frame", "line", "--print"];
    let command = nohup(&home, &[&["serve"], &args[..]].concat());
    let serve = Serve::from(&home, &args, command);
    serve.signal(Signal::HUP);
    thread::sleep(LATER);
    Talk::to(serve.at[0]).ask("still here\n", "STILL HERE\n");
    assert_eq!(serve.stop().served, 1);
}

/// A server with a peer that reads nothing, so that it drains until the drain timeout.
fn draining(drain_timeout: &str) -> (Serve, Talk) {
    let serve = Serve::start(&[
        "echo=:0",
        "--frame",
        "line",
        "--write-timeout",
        "60s",
        "--drain-timeout",
        drain_timeout,
    ]);
    let talk = Talk::to(serve.at[0]);
    let mut stream = &talk.0;
    stream.set_write_timeout(Some(LATER)).unwrap();
    let block = b"0123456789abcde\n".repeat(4096);
    let full = loop {
        if let Err(error) = stream.write_all(&block) {
            break error.kind();
        }
    };
    assert!(matches!(full, ErrorKind::WouldBlock | ErrorKind::TimedOut));
    (serve, talk)
}

/// The drain lasts longer than the time within which signals are one.
#[test]
fn signals_together_do_not_cut_a_long_drain() {
    for (first, second) in [
        (Signal::INT, Signal::INT),
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::TERM),
    ] {
        let (mut serve, _talk) = until_together(|| {
            let (serve, talk) = draining("1s");
            if send_together(|which| serve.signal(which), &[first, second]) {
                return Some((serve, talk));
            }
            serve.kill();
            None
        });
        assert_eq!(serve.ends().code, Some(6), "{first:?} {second:?}");
    }
}

#[test]
fn hangup_is_never_a_second_signal() {
    for (first, second) in [
        (Signal::HUP, Signal::HUP),
        (Signal::HUP, Signal::TERM),
        (Signal::TERM, Signal::HUP),
    ] {
        let (mut serve, _peer) = draining("2s");
        serve.signal(first);
        serve.err.wait_for("again to stop at once");
        serve.signal(second);
        assert_eq!(serve.ends().code, Some(6), "{first:?} {second:?}");
    }
    // After a hang-up, the first TERM is the first signal, and the second is the second.
    let (mut serve, _peer) = draining("60s");
    for signal in [Signal::HUP, Signal::TERM] {
        serve.signal(signal);
        thread::sleep(LATER);
    }
    assert_eq!(serve.ends_by(Signal::INT), Some(130));
}

/// Holds the write lock of the database, so that nothing can be committed.
const LOCKER: &str = "
import sqlite3, sys
record = sqlite3.connect(sys.argv[1], isolation_level=None)
record.execute('BEGIN IMMEDIATE')
print('locked', flush=True)
sys.stdin.read()
";

#[test]
fn stop_at_once_counts_what_is_not_recorded() {
    // Each worker may have 2 MiB uncommitted; what comes then is lost at once.
    let drops = ["--when-full=drop", "--workers=32", "--max-message=1m"];
    let drains = ["upper=:0", "--frame", "line", "--drain-timeout", "60s"];
    let mut serve = Serve::start(&[&drains[..], &drops].concat());
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("a\nb\n", "A\nB\n");
    let home = Arc::clone(&serve.home);
    until("two are recorded", || home.count(&[]) == 2);
    let mut python = tool("python3", "python3");
    python.args(["-c", LOCKER]).arg(home.store());
    let (child, locked) = started(python.stdin(Stdio::piped()));
    locked.wait_for("locked");
    talk.ask("c\nd\ne\n", "C\nD\nE\n");
    for _ in 0..6 {
        let long = format!("{}\n", "x".repeat(300_000));
        talk.ask(&long, long.to_uppercase());
    }
    serve.signal(Signal::TERM);
    serve.err.wait_for("again to stop at once");
    serve.signal(Signal::TERM);
    let since = Instant::now();
    assert_eq!(serve.ends_somehow(), Some(130));
    // The drain timeout is 60 s.
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
    drop(child);
    let last = serve.err.all().pop().unwrap();
    assert_eq!(
        last,
        "stopped at once: 11 exchanges served, 2 recorded, 9 not recorded"
    );
    assert_eq!(home.count(&[]), 2);
}

/// A process that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

fn started(command: &mut Command) -> (Running, Lines) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = Lines::of(child.stdout.take().unwrap());
    (Running(child), lines)
}

#[test]
fn end_of_standard_input_drains_only_if_asked() {
    let args = ["upper=:0", "--frame", "line"];
    let home = Arc::new(Home::new());
    let command = |args: &[&str]| {
        let mut command = home.echoic(&[&["serve"], args, &["--print"]].concat());
        command.stdin(Stdio::piped());
        command
    };
    let asked = [&args[..], &["--exit-with-stdin"]].concat();
    let mut serve = Serve::from(&home, &asked, command(&asked));
    let mut stdin = serve.stdin();
    // What comes is discarded.
    stdin.write_all(b"anything\n").unwrap();
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("answered\n", "ANSWERED\n");
    talk.send("received\n");
    drop(stdin);
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.recorded), (Some(0), 2));
    assert_eq!(talk.rest(), b"RECEIVED\n");

    let mut serve = Serve::from(&home, &args, command(&args));
    drop(serve.stdin());
    thread::sleep(LATER);
    Talk::to(serve.at[0]).ask("still here\n", "STILL HERE\n");
    assert_eq!(serve.stop().served, 1);
}

#[test]
fn end_of_standard_input_is_never_a_second_signal() {
    let home = Arc::new(Home::new());
    let args = ["upper=:0", "--frame", "line", "--exit-with-stdin"];
    let mut command = home.echoic(&[&["serve"], &args[..], &["--print"]].concat());
    command.stdin(Stdio::piped());
    let mut serve = Serve::from(&home, &args, command);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("a\n", "A\n");
    // As a test harness does that closes the pipe and terminates the process.
    drop(serve.stdin());
    serve.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(1));
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.recorded), (Some(0), 1));
}

/// Returns the reason, and the bytes received and sent, of the only conversation in the record.
fn ending(home: &Home) -> Vec<String> {
    home.sql("SELECT reason, received, sent FROM conversation")
}

/// Answers the lines of one client with themselves.
fn echoing_peer() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let peer = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|n| n > 0) {
            stream.get_mut().write_all(line.as_bytes()).unwrap();
            line.clear();
        }
    });
    (at, peer)
}

#[test]
fn client_record_is_complete_after_signals() {
    for signals in [
        &[Signal::HUP][..],
        &[Signal::TERM],
        &[Signal::INT, Signal::INT],
        &[Signal::HUP, Signal::TERM],
    ] {
        let (home, mut connect, _stdin, peer) = until_together(|| {
            let (at, peer) = echoing_peer();
            let home = Home::new();
            let args = ["connect", &at, "--frame", "line", "--store", "echoic.db"];
            let (mut connect, lines) = started(home.echoic(&args).stdin(Stdio::piped()));
            let mut stdin = connect.0.stdin.take().unwrap();
            stdin.write_all(b"hello\n").unwrap();
            lines.wait_for("hello");
            send_together(|which| signal(&connect.0, which), signals)
                .then_some((home, connect, stdin, peer))
        });
        let status = wait_for_end(&mut connect.0, harness::SOON).unwrap();
        assert_eq!(status.code(), Some(130), "{signals:?}");
        assert_eq!(home.count(&["is:ok"]), 1, "{signals:?}");
        assert_eq!(ending(&home), ["closed-by-us|6|6"], "{signals:?}");
        peer.join().unwrap();
    }
}

#[test]
fn client_stopped_at_once_counts_what_is_not_recorded() {
    let serve = Serve::start(&["echo=:0", "--frame", "line", "--store", "none"]);
    let home = Home::new();
    let at = serve.at[0].to_string();
    let mut connect = home.echoic(&["connect", &at, "--frame", "line", "--store", "echoic.db"]);
    connect.stdin(Stdio::piped()).stderr(Stdio::piped());
    let (mut connect, lines) = started(&mut connect);
    let mut stdin = connect.0.stdin.take().unwrap();
    stdin.write_all(b"recorded\n").unwrap();
    lines.wait_for("recorded");
    until("it is recorded", || home.count(&[]) == 1);
    let mut python = tool("python3", "python3");
    python.args(["-c", LOCKER]).arg(home.store());
    let (_locker, locked) = started(python.stdin(Stdio::piped()));
    locked.wait_for("locked");
    stdin.write_all(b"not recorded\n").unwrap();
    lines.wait_for("not recorded");
    signal(&connect.0, Signal::TERM);
    thread::sleep(LATER);
    let status = signal_to_the_end(&mut connect.0, Signal::TERM).unwrap();
    assert_eq!(status.code(), Some(130));
    let err = std::io::read_to_string(connect.0.stderr.take().unwrap()).unwrap();
    assert!(err.contains("1 exchange was not recorded in"), "{err}");
}

#[test]
fn client_ignores_a_hangup_that_was_ignored() {
    let serve = Serve::start(&["echo=:0", "--frame", "line"]);
    let at = serve.at[0].to_string();
    let home = Home::new();
    let args = ["connect", &at, "--frame", "line", "--store", "echoic.db"];
    let (mut connect, lines) = started(nohup(&home, &args).stdin(Stdio::piped()));
    let mut stdin = connect.0.stdin.take().unwrap();
    stdin.write_all(b"before\n").unwrap();
    lines.wait_for("before");
    signal(&connect.0, Signal::HUP);
    thread::sleep(LATER);
    stdin.write_all(b"after\n").unwrap();
    lines.wait_for("after");
    drop(stdin);
    let status = wait_for_end(&mut connect.0, harness::SOON).unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(home.count(&["is:ok"]), 2);
}

#[test]
fn bench_prints_its_result_after_signals() {
    let serve = Serve::start(&["echo=:0", "--frame", "line", "--store", "none"]);
    let at = serve.at[0].to_string();
    for signals in [
        &[Signal::HUP][..],
        &[Signal::TERM],
        &[Signal::INT, Signal::INT],
    ] {
        let home = Home::new();
        let args = [
            "bench",
            &at,
            "-d",
            "60s",
            "--warmup",
            "0",
            "--frame",
            "line",
            "--no-floor",
        ];
        let args = [&args[..], &["--expect", "echo"]].concat();
        let (mut bench, out) = until_together(|| {
            let (mut bench, out) = started(home.echoic(&args).stderr(Stdio::piped()));
            // Progress is printed once a second while the load runs.
            Lines::of(bench.0.stderr.take().unwrap())
                .wait("progress", |lines| (lines.len() > 1).then_some(()));
            send_together(|which| signal(&bench.0, which), signals).then_some((bench, out))
        });
        let status = wait_for_end(&mut bench.0, harness::SOON);
        assert_eq!(
            status.and_then(|status| status.code()),
            Some(0),
            "{signals:?}"
        );
        let report: Value = serde_json::from_str(&out.all().concat()).unwrap();
        assert!(report["ok"].as_u64() > Some(0), "{signals:?}: {report}");
    }
}

//! Standard output and error that cannot be written: a full device is an error, a closed pipe is not, and a stream that
//! another process made non-blocking is waited for.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{Read, Write},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use self::harness::{Home, Lines, Serve, Talk, kill, until, wait_for_end};

/// A device that takes nothing (null(4)).
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A server whose record has two exchanges.
fn recorded() -> (Serve, String) {
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    Talk::to(serve.at[0]).ask("one\ntwo\n", "ONE\nTWO\n");
    until("both are recorded", || serve.home.count(&[]) == 2);
    let at = serve.at[0].to_string();
    (serve, at)
}

/// The commands that print a result.
fn printing(at: &str) -> Vec<Vec<&str>> {
    let mut commands: Vec<Vec<&str>> = [
        "--help",
        "--version",
        "-h",
        "help serve",
        "limits",
        "limits --json",
        "man",
        "completions bash",
        "completions zsh",
        "log",
        "log --json",
        "log --show",
        "log --count",
        "log limit:1",
        "log sort:-id",
        "log sort:lat",
        "log -f",
    ]
    .iter()
    .map(|command| command.split(' ').collect())
    .collect();
    for command in ["serve", "connect", "probe", "bench", "log", "limits", "man"] {
        commands.push(vec![command, "--help"]);
    }
    commands.push(vec!["probe", at]);
    commands.push(vec!["probe", at, at, "--json"]);
    commands.push(vec!["connect", at, "--send", "hello\n", "--frame", "line"]);
    for form in ["text", "json", "jsonl", "csv"] {
        let load = [
            "-n",
            "20",
            "--no-floor",
            "-q",
            "--frame",
            "line",
            "-o",
            form,
        ];
        commands.push([&["bench", at][..], &load].concat());
    }
    commands
}

/// Runs a command with these standard streams; returns its exit code and standard error.
#[track_caller]
fn ends_with(home: &Home, args: &[&str], out: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = home.echoic(args);
    let mut child = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    let err = Lines::of(child.stderr.take().unwrap());
    let status = wait_for_end(&mut child, harness::SOON);
    kill(&mut child);
    let status = status.unwrap_or_else(|| panic!("{args:?} did not end"));
    (status.code(), err.all().join("\n"))
}

#[test]
fn full_device_is_an_error() {
    let (serve, at) = recorded();
    for args in printing(&at) {
        let (code, err) = ends_with(&serve.home, &args, full());
        assert_eq!(code, Some(1), "{args:?}: {err}");
        let why = "echoic: cannot write standard output: No space left on device";
        assert!(err.contains(why), "{args:?}: {err}");
    }
}

#[test]
fn output_open_for_reading_only_is_an_error() {
    let (serve, at) = recorded();
    for args in printing(&at) {
        let (code, err) = ends_with(&serve.home, &args, File::open("/dev/null").unwrap());
        assert_eq!(code, Some(1), "{args:?}: {err}");
        let why = "echoic: cannot write standard output: Bad file descriptor";
        assert!(err.contains(why), "{args:?}: {err}");
    }
}

#[test]
fn input_open_for_writing_only_is_an_error() {
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    let at = serve.at[0].to_string();
    let mut connect = serve.home.echoic(&["connect", &at]);
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let connect = connect.stdin(null).stderr(Stdio::piped());
    let mut child = connect.spawn().unwrap();
    let err = Lines::of(child.stderr.take().unwrap());
    err.wait_for("cannot read standard input: Bad file descriptor");
    let status = wait_for_end(&mut child, harness::SOON);
    kill(&mut child);
    assert_eq!(status.and_then(|status| status.code()), Some(1));
}

#[test]
fn closed_pipe_is_no_error() {
    let (serve, at) = recorded();
    for args in printing(&at) {
        // A follower whose reader has gone notices it at its next line.
        if args.contains(&"-f") {
            continue;
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        let (code, err) = ends_with(&serve.home, &args, OwnedFd::from(theirs));
        assert_eq!(code, Some(0), "{args:?}: {err}");
        assert!(!err.contains("cannot write"), "{args:?}: {err}");
    }
    // What was found out still counts.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = free.local_addr().unwrap().to_string();
    drop(free);
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let (code, _) = ends_with(&serve.home, &["probe", &refused], OwnedFd::from(theirs));
    assert_eq!(code, Some(4));
}

#[test]
fn bench_files_are_written_on_a_full_device() {
    let (serve, at) = recorded();
    let args = [
        "bench",
        &at,
        "-n",
        "20",
        "--no-floor",
        "-q",
        "--frame",
        "line",
    ];
    let (code, _) = ends_with(
        &serve.home,
        &[&args[..], &["--report", "report.html"]].concat(),
        full(),
    );
    assert_eq!(code, Some(1));
    let report = fs::read_to_string(serve.home.path().join("report.html")).unwrap();
    assert!(report.contains("</html>"));
}

#[test]
fn full_standard_error_stops_no_server() {
    let home = Arc::new(Home::new());
    // A warning of a library at the start.
    fs::set_permissions(home.path(), Permissions::from_mode(0o777)).unwrap();
    let mut command = home.echoic(&["serve", "upper=:0", "--frame", "line", "--print"]);
    let mut serve = command
        .stdout(Stdio::piped())
        .stderr(full())
        .spawn()
        .unwrap();
    let out = Lines::of(serve.stdout.take().unwrap());
    let at = out.wait("an address", |lines| lines.first()?.parse().ok());
    Talk::to(at).ask("hello\n", "HELLO\n");
    harness::signal(&serve, rustix::process::Signal::TERM);
    let status = wait_for_end(&mut serve, harness::SOON);
    kill(&mut serve);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert_eq!(home.count(&[]), 1);
}

/// A socket that is non-blocking for the child that gets it, and its other end, which blocks.
fn non_blocking() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs.into())
}

/// Reads slowly at first, so that the writer meets full buffers.
fn read_slowly(mut from: UnixStream) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut received = Vec::new();
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(100));
            let mut some = vec![0; 10_000];
            let n = from.read(&mut some).unwrap();
            received.extend_from_slice(&some[..n]);
        }
        from.read_to_end(&mut received).unwrap();
        received
    })
}

/// Runs a command whose output `to` sets; returns its exit code.
fn code_of(command: &mut Command) -> Option<i32> {
    let mut child = command.spawn().unwrap();
    // The command holds copies of the streams, which would keep them open.
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .stdin(Stdio::null());
    let status = wait_for_end(&mut child, harness::SOON);
    kill(&mut child);
    status.and_then(|status| status.code())
}

#[test]
fn non_blocking_output_is_waited_for() {
    let serve = Serve::start(&["echo=:0", "--frame", "line"]);
    let lines = format!("{}\n", "x".repeat(99)).repeat(20_000);
    let mut talk = Talk::to(serve.at[0]);
    let mut writer = talk.0.try_clone().unwrap();
    let sent = lines.clone();
    let writing = thread::spawn(move || writer.write_all(sent.as_bytes()).unwrap());
    talk.expect_reply(&lines);
    writing.join().unwrap();
    until("all are recorded", || serve.home.count(&[]) == 20_000);

    let (ours, theirs) = non_blocking();
    let reading = read_slowly(ours);
    let mut log = serve.home.echoic(&["log", "--json"]);
    assert_eq!(code_of(log.stdout(theirs)), Some(0));
    let listed = String::from_utf8(reading.join().unwrap()).unwrap();
    assert_eq!(listed.lines().count(), 20_000);

    // Payload in both directions.
    let (mut input, theirs_in) = non_blocking();
    let (ours, theirs_out) = non_blocking();
    let reading = read_slowly(ours);
    let sent = lines.clone();
    let writing = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        input.write_all(sent.as_bytes()).unwrap();
    });
    let at = serve.at[0].to_string();
    let mut connect = serve.home.echoic(&["connect", &at]);
    assert_eq!(
        code_of(connect.stdin(theirs_in).stdout(theirs_out)),
        Some(0)
    );
    writing.join().unwrap();
    assert!(reading.join().unwrap() == lines.as_bytes());
}

#[test]
fn non_blocking_standard_error_is_waited_for() {
    let serve = Serve::start(&["echo=:0", "--frame", "line"]);
    let at = serve.at[0].to_string();
    let (ours, theirs) = non_blocking();
    let reading = read_slowly(ours);
    let message = "y".repeat(99);
    let args = [
        "connect",
        &at,
        "--frame",
        "line",
        "--send",
        &message,
        "--count",
        "4000",
        "--explain",
    ];
    let mut connect = serve.home.echoic(&args);
    assert_eq!(
        code_of(connect.stdout(Stdio::null()).stderr(theirs)),
        Some(0)
    );
    let explained = String::from_utf8(reading.join().unwrap()).unwrap();
    assert!(
        explained.lines().all(|line| line.contains(" ms  ")),
        "a line is torn"
    );
    let sent: usize = explained
        .lines()
        .filter(|line| line.contains("send("))
        .map(|line| line.rsplit(" = ").next().unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(sent, 4000 * 100);
    assert!(explained.lines().last().unwrap().contains("close()"));
}

#[test]
fn events_on_a_non_blocking_output_all_arrive() {
    let home = Arc::new(Home::new());
    let (ours, theirs) = non_blocking();
    let mut command = home.echoic(&["serve", "echo=:0", "--frame", "line", "--json", "--print"]);
    let mut serve = command
        .stdout(theirs)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    command.stdout(Stdio::null());
    let out = Lines::of(ours);
    let at = out.wait("an address", |lines| lines.first()?.parse().ok());
    let mut talk = Talk::to(at);
    let lines = "a line\n".repeat(100);
    for _ in 0..20 {
        talk.ask(&lines, &lines);
    }
    drop(talk.finish());
    out.wait_for("\"ev\":\"end\"");
    harness::signal(&serve, rustix::process::Signal::TERM);
    let status = wait_for_end(&mut serve, harness::SOON);
    kill(&mut serve);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    let exchanges = out
        .all()
        .iter()
        .filter(|line| line.contains("\"ev\":\"exchange\""))
        .count();
    assert_eq!(exchanges, 2000);
}

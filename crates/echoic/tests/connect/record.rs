//! `connect --store`: the client's side of a conversation is recorded, whichever way it ended.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Tutorial, UPPER, echoic, ended, pty::Pty, server, until};

/// A database file in a directory of its own.
struct Recording {
    dir: TempDir,
    file: PathBuf,
}

impl Recording {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("talk.db");
        Self { dir, file }
    }

    fn connect(&self, args: &[&str]) -> Command {
        let mut command = echoic();
        command.args(args).arg("--store").arg(&self.file);
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        run(&mut self.connect(args), input)
    }

    fn log(&self, filter: &[&str]) -> Vec<Value> {
        log(&self.file, filter)
    }

    /// Returns request, reply and outcome of each exchange.
    fn talk(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let exchanges = self.log(&[]);
        exchanges
            .iter()
            .map(|e| {
                (
                    text(&e["req"]["text"]),
                    text(&e["rep"]["text"]),
                    text(&e["outcome"]),
                )
            })
            .collect()
    }

    /// Returns how the conversations ended: the reason, bytes received, bytes sent.
    fn ends(&self) -> Vec<String> {
        self.rows("SELECT reason, received, sent FROM conversation ORDER BY id")
    }

    /// Returns the rows of a query, one a line.
    fn rows(&self, query: &str) -> Vec<String> {
        let program = "import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]):
    print(*row)";
        let output = Command::new("python3")
            .args(["-c", program])
            .arg(&self.file)
            .arg(query)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[track_caller]
fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    thread::spawn(move || stdin.write_all(&input));
    child.wait_with_output().unwrap()
}

fn log(file: &Path, filter: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_echoic"))
        .arg("log")
        .args(filter)
        .arg("--json")
        .arg("--store")
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn exchange(request: &str, reply: &str, outcome: &str) -> (String, String, String) {
    (request.into(), reply.into(), outcome.into())
}

#[test]
fn client_and_server_records_agree_on_each_transport() {
    let recording = Recording::new();
    let theirs = recording.dir.path().join("theirs.db");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_echoic"))
        .args([
            "serve",
            ":0",
            "udp://:0",
            "unix:./s",
            "unixgram:./g",
            "--frame",
            "line",
        ])
        .args(["--print", "--quiet", "--store", "theirs.db"])
        .current_dir(recording.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut addresses = std::io::BufReader::new(serve.stdout.take().unwrap());
    let mut address = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut addresses, &mut line).unwrap();
        line.trim().to_owned()
    };
    let (tcp, udp) = (address(), address());
    let at = |scheme: &str, name| format!("{scheme}:{}", recording.dir.path().join(name).display());
    for (endpoint, ..) in [
        (format!("{tcp}?frame=line"), "tcp"),
        (format!("udp://{udp}"), "udp"),
        (format!("{}?frame=line", at("unix", "s")), "unix"),
        (at("unixgram", "g"), "unixgram"),
    ] {
        let args = [
            &*endpoint,
            "--send",
            "one",
            "--send",
            "straße",
            "--linger-timeout",
            "300ms",
        ];
        let output = recording.run(&args, b"");
        assert!(output.status.success(), "{endpoint}: {}", stderr(&output));
    }
    kill_process(Pid::from_child(&serve), Signal::TERM).unwrap();
    ended(&mut serve);
    let (ours, mut theirs) = (recording.log(&[]), log(&theirs, &[]));
    // The server commits conversations of several workers together, in any order.
    theirs.sort_by_key(|e| e["conv"].as_u64());
    let what = |all: &[Value]| -> Vec<Value> {
        all.iter()
            .map(|e| {
                serde_json::json!([
                    e["conv"],
                    e["n"],
                    e["proto"],
                    e["req"]["text"],
                    e["rep"]["text"],
                    e["outcome"]
                ])
            })
            .collect()
    };
    assert_eq!(what(&ours), what(&theirs));
    assert_eq!(ours.len(), 8);
    assert!(ours.iter().all(|e| e["svc"] == "" && e["role"] == "client"));
    // The same filters: protocol, port, peer and content.
    let port = tcp.rsplit(':').next().unwrap();
    for (filter, found) in [
        ("proto:unixgram", 2),
        (&*format!("port:{port}"), 2),
        (&*format!("peer:{tcp}"), 2),
        ("rep:STRASSE role:client", 4),
        ("svc:upper", 0),
        ("is:unsent", 0),
        ("lat:<10s since:1h conv:2 n:2", 1),
    ] {
        assert_eq!(recording.log(&[filter]).len(), found, "{filter}");
    }
    let ends = recording.ends();
    let expected = [
        "peer-closed 12 12",
        "closed-by-us 10 10",
        "peer-closed 12 12",
        "closed-by-us 10 10",
    ];
    assert_eq!(ends, expected);
}

#[test]
fn prompt_session_is_recorded() {
    let recording = Recording::new();
    let tutorial = Tutorial::start(UPPER);
    let mut pty = Pty::start(&[&tutorial.addr, "--store", recording.file.to_str().unwrap()]);
    pty.press("hello\r");
    pty.wait_for_prompt_after(" HELLO");
    pty.press(":frame chunk\r");
    pty.wait_for("framing chunk");
    pty.press("two words\r");
    pty.wait_for_prompt_after(" TWO WORDS");
    pty.press(":rst\r");
    assert_eq!(pty.code(), Some(0));
    let expected = [
        exchange("hello\n", "HELLO\n", "ok"),
        exchange("two words", "TWO WORDS", "ok"),
    ];
    assert_eq!(recording.talk(), expected);
    assert_eq!(recording.ends(), ["reset-by-us 15 15"]);
    assert_eq!(recording.log(&["end:rst"]).len(), 2);
}

#[test]
fn each_ending_is_recorded() {
    let recording = Recording::new();
    let hold = |mut peer: TcpStream| {
        let _ = peer.read_to_end(&mut Vec::new());
        // Longer than any of these timeouts on a busy machine. Nothing waits for it.
        thread::sleep(Duration::from_secs(20));
    };
    let (addr, _) = server(|mut peer| {
        peer.write_all(b"bye").unwrap();
        std::io::copy(&mut peer, &mut std::io::sink()).unwrap();
    });
    recording.run(&[&addr], b"");
    let (addr, _) = server(|mut peer| {
        peer.read_exact(&mut [0; 1]).unwrap();
        peer.write_all(b"A").unwrap();
        let linger = rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO));
        linger.unwrap();
    });
    recording.run(&[&addr, "--hold"], b"a");
    let (addr, _) = server(hold);
    recording.run(&[&addr, "--linger-timeout", "50ms"], b"ab");
    let (addr, _) = server(hold);
    recording.run(&[&addr, "--hold", "--idle-timeout", "50ms"], b"abc");
    let (addr, _) = server(|mut peer| {
        peer.write_all(b"found").unwrap();
        let _ = peer.read(&mut [0; 100]);
    });
    recording.run(&[&addr, "--expect", "found", "--recv-only"], b"");
    // Longer than it takes to record what fits into the buffers.
    let (addr, _) = server(|peer| {
        thread::sleep(Duration::from_secs(20));
        drop(peer);
    });
    recording.run(&[&addr, "--write-timeout", "50ms"], &vec![b'x'; 20 << 20]);
    let ends = recording.ends();
    let words: Vec<_> = ends
        .iter()
        .map(|end| end.split(' ').next().unwrap())
        .collect();
    let expected = [
        "peer-closed",
        "peer-reset",
        "linger-timeout",
        "idle-timeout",
        "closed-by-us",
        "write-timeout",
    ];
    assert_eq!(words, expected);
    assert_eq!(
        ends[..5],
        [
            "peer-closed 3 0",
            "peer-reset 1 1",
            "linger-timeout 0 2",
            "idle-timeout 0 3",
            "closed-by-us 5 0"
        ]
    );
    let talk = recording.talk();
    assert_eq!(talk[0], exchange("", "bye", "ok"));
    assert_eq!(talk[1], exchange("a", "A", "ok"));
    assert_eq!(talk[2], exchange("ab", "", "unanswered"));
    let last = talk.last().unwrap();
    assert_eq!(last.2, "unsent", "what the peer did not take");
    let sent: u64 = ends[5].rsplit(' ').next().unwrap().parse().unwrap();
    let recorded: usize = talk[5..].iter().map(|exchange| exchange.0.len()).sum();
    assert_eq!(recorded as u64, sent, "no more than what was sent");
}

#[test]
fn locked_file_is_rejected_before_connecting() {
    let recording = Recording::new();
    let (addr, _peer) = server(|mut peer| peer.read_to_end(&mut Vec::new()));
    let mut holder = recording
        .connect(&[&addr])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    until("it is held", || {
        fs::read_to_string(recording.dir.path().join("talk.db-lock"))
            .ok()
            .filter(|pid| !pid.is_empty())
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let output = recording.run(&[&listener.local_addr().unwrap().to_string()], b"x");
    assert_eq!(output.status.code(), Some(1));
    let held = format!("is held by another echoic (pid {})", holder.id());
    assert!(stderr(&output).contains(&held), "{}", stderr(&output));
    assert!(listener.accept().is_err(), "no connection was made");
    drop(holder.stdin.take());
    assert!(ended(&mut holder).success());
}

#[test]
fn failed_connection_leaves_no_file() {
    let recording = Recording::new();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = recording.run(&[&port.to_string()], b"x");
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(fs::read_dir(recording.dir.path()).unwrap().count(), 0);

    // An existing file is left unchanged.
    let (addr, _) = server(drop);
    recording.run(&[&addr], b"");
    let output = recording.run(&[&port.to_string()], b"x");
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(recording.ends(), ["peer-closed 0 0"]);
}

/// Like `end` in `each_ending_is_recorded`, for a reader of our output that closes it early.
#[test]
fn closed_stdout_is_recorded_as_an_ending() {
    let recording = Recording::new();
    let (addr, _) = server(|mut peer| while peer.write_all(&[b'y'; 1024]).is_ok() {});
    let mut child = recording
        .connect(&[&addr, "--hold"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    assert!(ended(&mut child).success(), "that is no failure");
    let ends = recording.ends();
    assert!(ends[0].starts_with("output-closed "), "{ends:?}");
}

#[test]
fn peer_half_close_is_recorded() {
    let recording = Recording::new();
    let (addr, received) = server(|mut peer| {
        peer.write_all(b"bye").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    recording.run(&[&addr], b"an upload");
    assert_eq!(received.join().unwrap(), b"an upload");
    // Either side may have closed first.
    let (addr, _) = server(|mut peer| peer.read_to_end(&mut Vec::new()));
    recording.run(&[&addr], b"hello");
    let marks = recording.rows("SELECT conversation, what, a FROM mark");
    assert!(
        marks.is_empty() || marks == ["1 half-closed 3"],
        "{marks:?}"
    );
    let (addr, _) = server(|peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        thread::sleep(Duration::from_millis(200));
    });
    recording.run(&[&addr, "--hold"], b"");
    let marks = recording.rows("SELECT what, a FROM mark WHERE conversation = 3");
    assert_eq!(marks, ["half-closed 0"]);
}

/// A writer that holds the database's write lock until released.
fn lock_store(file: &Path) -> impl FnOnce() + Send + use<> {
    let program = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
db.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()
db.execute('ROLLBACK')";
    let mut child = Command::new("python3")
        .args(["-c", program])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let held = child.stdout.as_mut().unwrap().read_exact(&mut [0; 4]);
    held.unwrap();
    move || {
        drop(child.stdin.take());
        assert!(ended(&mut child).success());
    }
}

/// The bytes sent through an echo server in the tests of slow stores, after a first message.
const BYTES: u64 = 50 << 20;

/// An echo server that counts the received bytes.
fn counting_echo() -> (String, Arc<AtomicU64>) {
    let passed = Arc::new(AtomicU64::new(0));
    let came = Arc::clone(&passed);
    let (addr, _) = server(move |mut peer| {
        let mut buffer = vec![0; 64 << 10];
        while let n @ 1.. = peer.read(&mut buffer).unwrap() {
            came.fetch_add(n as u64, Ordering::Relaxed);
            peer.write_all(&buffer[..n]).unwrap();
        }
    });
    (addr, passed)
}

/// Runs `command`, which sends a first message and all the bytes to an echo server and back; `first_came` is awaited
/// before the bytes.
fn send_through_echo(command: &mut Command, first_came: impl FnOnce()) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"first").unwrap();
    first_came();
    let saying = thread::spawn(move || {
        let piece = vec![b'x'; 1 << 20];
        (0..BYTES >> 20).for_each(|_| stdin.write_all(&piece).unwrap());
    });
    let output = child.wait_with_output().unwrap();
    saying.join().unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout.len() as u64, BYTES + 5);
}

/// Found with 200 MB through an echo server: four of five exchanges were not recorded, as nothing waited for the store.
#[test]
fn slow_store_is_waited_for_without_loss() {
    let (addr, _) = counting_echo();
    let started = Instant::now();
    send_through_echo(echoic().arg(&addr), || {});
    // Time enough for all of it, and less than the time after which a store counts as failed.
    let how_long = (started.elapsed() * 2).min(Duration::from_millis(1500));

    let recording = Recording::new();
    let (addr, passed) = counting_echo();
    let (unlocking, unlocked) = mpsc::sync_channel(1);
    let file = recording.file.clone();
    send_through_echo(&mut recording.connect(&[&addr]), || {
        until("the first is recorded", || {
            let recorded = recording.rows("SELECT count(*) FROM run WHERE rep = x'6669727374'");
            (recorded == ["1"]).then_some(())
        });
        let unlock = lock_store(&file);
        thread::spawn(move || {
            thread::sleep(how_long);
            let meanwhile = passed.load(Ordering::Relaxed);
            unlock();
            unlocking.send(meanwhile).unwrap();
        });
    });
    let meanwhile = unlocked.recv().unwrap();
    assert!(
        meanwhile < BYTES / 2,
        "{meanwhile} bytes passed while the store recorded nothing, in {how_long:?}"
    );
    let sums = recording.rows("SELECT sum(length(req)), sum(length(rep)) FROM exchange");
    assert_eq!(sums, [format!("{0} {0}", BYTES + 5)]);
    assert_eq!(
        recording.ends(),
        [format!("peer-closed {0} {0}", BYTES + 5)]
    );
}

#[test]
fn full_disk_is_reported_and_the_wire_unaffected() {
    const BYTES: usize = 4 << 20;
    let talk = |limit: &str| {
        let recording = Recording::new();
        let (addr, peer) = server(|mut peer| {
            let mut back = peer.try_clone().unwrap();
            std::io::copy(&mut peer, &mut back).unwrap()
        });
        // The file may not grow beyond this (`RLIMIT_FSIZE`); the signal that would kill the process is ignored, and
        // the write fails.
        let script = format!("trap '' XFSZ; {limit} exec \"$@\"");
        let mut command = Command::new("bash");
        command
            .args(["-c", &script, "bash"])
            .arg(env!("CARGO_BIN_EXE_echoic"));
        command
            .args(["connect", &addr, "--store"])
            .arg(&recording.file);
        let input: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
        let output = run(&mut command, &input);
        // It fails before it connects, so no peer is needed.
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(peer.join().unwrap(), BYTES as u64);
        assert!(output.stdout == input, "{} bytes came", output.stdout.len());
        stderr(&output)
    };
    let full = talk("ulimit -f 1000;");
    assert!(
        full.contains("not recorded in")
            && (full.contains("exchanges were") || full.contains("echoic: 1 exchange was")),
        "{full}"
    );
    assert_eq!(talk(""), "", "with room there is no message");
}

#[test]
fn signal_ends_cleanly_and_crash_is_reported_on_next_start() {
    let recording = Recording::new();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let (addr, _) = server(|mut peer| {
            peer.read_exact(&mut [0; 3]).unwrap();
            peer.write_all(b"reply").unwrap();
            let _ = peer.read(&mut [0; 1]);
        });
        let mut child = recording
            .connect(&[&addr, "--send", "ask", "--hold"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reply = [0; 5];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut reply)
            .unwrap();
        let recorded = || log(&recording.file, &["rep:reply", "is:open"]).len() == 1;
        until("it is recorded while it is open", || {
            recorded().then_some(())
        });
        kill_process(Pid::from_child(&child), signal).unwrap();
        let code = ended(&mut child).code();
        assert_eq!(code, (signal != Signal::KILL).then_some(130));
    }
    let (addr, _) = server(drop);
    recording.run(&[&addr], b"");
    assert_eq!(
        recording.ends(),
        [
            "closed-by-us 5 3",
            "closed-by-us 5 3",
            "process-died 5 3",
            "peer-closed 0 0"
        ]
    );
}

#[test]
fn store_option_accepts_only_a_file() {
    let output = echoic().args([":1", "--store", "memory"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("expected a file"),
        "{}",
        stderr(&output)
    );
}

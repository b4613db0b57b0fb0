//! Bytes from peers and from command lines are escaped on a terminal. A terminal emulator (vte) interprets the
//! program's output, and the tests assert that it executes nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "escape/hostile.rs"]
mod hostile;
#[path = "escape/interpreter.rs"]
mod interpreter;
#[allow(
    dead_code,
    reason = "written for the tests of connect; here it types little"
)]
#[path = "connect/pty.rs"]
mod pty;

use std::{
    ffi::OsString,
    fmt::Debug,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{ffi::OsStringExt, net::UnixDatagram},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
};

use harness::{Home, Lines, SOON, Serve, Talk, run, terminal};
use hostile::{characters, commands, forging, framed, hostile, hostile_lines};
use interpreter::Interpreter;
use pty::Pty;
use rustix::process::Signal;
use serde_json::Value;

/// Returns `echoic connect`, started as in `pty.rs`.
fn echoic() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoic"));
    for name in ["ECHOIC_FRAME", "ECHOIC_LOG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.arg("connect");
    command
}

fn ended(process: &mut Child) -> ExitStatus {
    harness::wait_for_end(process, SOON).expect("it ends")
}

/// Returns everything that `command` prints on a pseudo-terminal.
fn shown_by(command: &mut Command) -> Vec<u8> {
    let (mut ours, theirs) = terminal();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs)
        .spawn()
        .unwrap();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        // Reading from a terminal whose other side is closed returns EIO.
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = ours.read(&mut buffer) {
            all.extend_from_slice(&buffer[..n]);
        }
        all
    });
    ended(&mut child);
    reading.join().unwrap()
}

#[track_caller]
fn assert_inert(shown: &[u8], what: impl Debug) {
    let executed = Interpreter::about(shown);
    let text = shown.escape_ascii();
    assert!(str::from_utf8(shown).is_ok(), "{what:?}: {text}");
    assert!(executed.is_empty(), "{what:?}: {executed:?} in {text}");
}

/// A server for one client, which sends `bytes` and waits for the client's end.
fn server_sending(bytes: Vec<u8>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let serving = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let _ = peer.write_all(&bytes);
        let _ = peer.read_to_end(&mut Vec::new());
    });
    (addr, serving)
}

#[test]
fn raw_hostile_bytes_control_the_terminal() {
    assert!(str::from_utf8(&hostile_lines()).is_err());
    let executed = Interpreter::about(&hostile_lines());
    for what in [
        "control 07",
        "control 08",
        "hidden 007f",
        "CSI [2]J",
        "CSI ?[1049]h",
        "OSC 0",
        "OSC 8",
        "OSC 52",
        "DCS q",
        "ESC 63",
        "hidden 202e",
        "hidden 2066",
        "hidden 200b",
    ] {
        assert!(executed.contains(what), "{what} is not in {executed:?}");
    }
    assert!(
        executed.contains("control 9b") || executed.contains("hidden 009b"),
        "{executed:?}"
    );
}

#[test]
fn connect_prompt_escapes_hostile_bytes() {
    let mut sent = hostile_lines();
    sent.extend(b"that was all\n");
    for explain in [&[][..], &["--explain"]] {
        let (addr, serving) = server_sending(sent.clone());
        let args = [&[&addr[..], "--frame", "line"], explain].concat();
        let mut pty = Pty::start_with(&args, &[]);
        pty.wait_for("that was all");
        pty.press("q\r");
        assert_eq!(pty.code(), Some(0));
        let edits = Interpreter::at_a_prompt();
        let shown = pty.output();
        let executed = edits.after(&shown);
        assert!(
            executed.is_empty(),
            "{executed:?} in {}",
            shown.escape_ascii()
        );
        serving.join().unwrap();
    }
}

/// Output into a pipe is not escaped: it is exactly what was received.
#[test]
fn pipe_gets_every_byte_unchanged() {
    let sent = hostile_lines();
    let (addr, serving) = server_sending(sent.clone());
    let out = run(echoic().args([&addr, "--linger-timeout", "1s"]), b"");
    assert!(out.out == sent, "{}", out.err);
    serving.join().unwrap();
    let (addr, serving) = server_sending(sent);
    let shown = shown_by(echoic().args([&addr, "--linger-timeout", "1s"]));
    assert_inert(&shown, "connect without a prompt");
    assert!(shown.len() > 2000, "{}", shown.escape_ascii());
    serving.join().unwrap();
}

/// Returns a server after exchanges with hostile requests and replies.
fn hostile_server(args: &[&str]) -> Serve {
    let server = Serve::start(&[&["echo=:0", "--frame", "line"], args].concat());
    let mut talk = Talk::to(server.at[0]);
    let lines = hostile_lines();
    talk.ask(&lines, &lines);
    talk.finish();
    server
}

#[test]
fn log_output_escapes_hostile_bytes() {
    let server = hostile_server(&[]);
    let home = Arc::clone(&server.home);
    server.stop();
    for args in [
        &["log", "limit:1000"][..],
        &["log", "--show", "limit:1000"],
        &["log", "--json"],
    ] {
        let shown = shown_by(&mut home.echoic(args));
        let lines = shown.split(|byte| *byte == b'\n').count();
        assert!(
            lines >= hostile().len(),
            "{args:?} shows {lines} lines: {}",
            shown.escape_ascii()
        );
        assert_inert(&shown, args);
    }
}

/// One event is one line of JSON, whatever it contains.
#[test]
fn each_event_is_one_json_line() {
    let mut server = Serve::start_with_events(&["echo=:0", "--frame", "u16be"]);
    let messages = framed(&forging());
    let mut talk = Talk::to(server.at[0]);
    talk.ask(&messages, &messages);
    talk.finish();
    server.signal(Signal::TERM);
    assert_eq!(server.ends().code, Some(0));
    let (home, events) = (Arc::clone(&server.home), server.out.all());
    let log = run(&mut home.echoic(&["log", "--json"]), b"").good();
    let log: Vec<String> = log.lines().map(str::to_owned).collect();
    for lines in [&events[1..], &log] {
        let exchanges: Vec<Value> = lines
            .iter()
            .map(|line| {
                let event: Value = serde_json::from_str(line).expect(line);
                assert!(event.get("forged").is_none(), "{line}");
                event
            })
            .filter(|event| event.get("req").is_some())
            .collect();
        assert_eq!(exchanges.len(), forging().len());
        assert!(exchanges.iter().all(|event| event["id"] != 9999));
    }
    // The control: printed raw, the same messages are lines of their own.
    let naive = forging().concat();
    let naive = String::from_utf8_lossy(&naive);
    assert!(naive.lines().any(|line| {
        serde_json::from_str::<Value>(line).is_ok_and(|event| event["forged"] == true)
    }));
}

/// Lines that a terminal shows in a second, of which a few are lifecycle lines.
const SHOWN_AT_ONCE: usize = 15;

/// Runs a server on a pseudo-terminal with `messages`, no more than it shows; returns the sequences that the terminal
/// would execute.
#[track_caller]
fn assert_events_inert(messages: &[Vec<u8>], json: &[&str]) {
    let args = [&["echo=:0", "--frame", "u16be"][..], json].concat();
    let mut server = Serve::start_on_terminal(&args);
    let mut talk = Talk::to(server.at[0]);
    let framed = framed(messages);
    talk.ask(&framed, &framed);
    talk.finish();
    server.signal(Signal::TERM);
    assert_eq!(server.ends().code, Some(0));
    let shown = server.out.raw().join(&b'\n');
    assert_inert(&shown, json);
    let lines = shown.split(|byte| *byte == b'\n').count();
    assert!(lines > messages.len(), "{}", shown.escape_ascii());
}

#[test]
fn serve_events_escape_hostile_bytes() {
    let all = forging();
    assert_events_inert(&all, &["--json"]);
    for few in all.chunks(SHOWN_AT_ONCE) {
        assert_events_inert(few, &[]);
    }
}

/// Error messages about arguments are escaped.
#[test]
fn argument_errors_escape_hostile_bytes() {
    let home = Home::new();
    let typed: Vec<OsString> = [
        commands().concat(),
        b"\x1b]0;t\x07".to_vec(),
        b"h\xc2\x9bost\xe2\x80\xae\xff".to_vec(),
        "a\u{202e}b\u{7f}\u{85}".as_bytes().to_vec(),
        (1..=255).collect(),
        characters(),
    ]
    .map(OsString::from_vec)
    .to_vec();
    let cases: [(&[&str], &str, &str); 28] = [
        (&["serve"], "", ""),
        (&["serve"], "", "=:0"),
        (&["serve"], "tcp://", ":5"),
        (&["serve"], ":0?", "=1"),
        (&["serve"], ":0?frame=", ""),
        (&["serve"], "unix:/nowhere/", ""),
        (&["serve", ":0", "--as"], "", ""),
        (&["serve", ":0", "--as"], "greet:@", ""),
        (&["serve", ":0", "--frame"], "", ""),
        (&["serve", ":0", "--frame"], "delim:", ""),
        (&["serve", ":0", "--allow"], "", ""),
        (&["serve", ":0", "--retention"], "", ""),
        (&["serve", ":0", "--max-message"], "", ""),
        (&["serve", ":0", "--store"], "/nowhere/", "/x.db"),
        (&["serve", ":0"], "--", ""),
        (&["connect"], "", ""),
        (&["connect"], "unix:/nowhere/", ""),
        (&["connect", ":1", "--expect"], "/(", "/"),
        (&["connect", ":1", "--send"], "@/nowhere/", ""),
        (&["connect", ":1", "--send-hex"], "", ""),
        (&["probe", "--timeout", "2s"], "", ""),
        (&["probe", "--timeout", "2s"], "", ".invalid:80"),
        (&["log"], "", ":"),
        (&["log"], "req~(", ""),
        (&["log"], "since:", ""),
        (&["log"], "(", ""),
        (&["log", "--store"], "/nowhere/", ""),
        (&[], "", ""),
    ];
    for (words, before, after) in cases {
        for typed in &typed {
            let mut argument = OsString::from(before);
            argument.push(typed);
            argument.push(after);
            let mut command = home.echoic(words);
            let shown = shown_by(command.arg(argument));
            assert_inert(&shown, (words, before, after));
            assert!(!shown.is_empty(), "{words:?} prints nothing");
        }
    }
}

/// The name of a peer on a Unix socket is chosen by the peer.
#[test]
fn peer_names_escape_hostile_bytes() {
    let home = Arc::new(Home::new());
    let name = home.path().join("\u{1b}]0;t\u{7}\u{9b}2J\u{202e}x");
    let (ours, theirs) = terminal();
    let mut command = home.echoic(&["serve", "echo=unixgram:./x.sock"]);
    command.env("ECHOIC_LOG", "debug").stdin(Stdio::null());
    command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut serving = command.spawn().unwrap();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let shown = Lines::of(ours);
    shown.wait_for("recording");
    let peer = UnixDatagram::bind(&name).unwrap();
    // Often enough to cause a warning.
    for _ in 0..20 {
        peer.send_to(b"again", home.path().join("x.sock")).unwrap();
    }
    shown.wait_for("over and over");
    harness::signal(&serving, Signal::TERM);
    assert_eq!(ended(&mut serving).code(), Some(0));
    assert_inert(&shown.raw().join(&b'\n'), "serve");
    for args in [&["log"][..], &["log", "--show"], &["log", "--json"]] {
        let shown = shown_by(&mut home.echoic(args));
        assert!(!shown.is_empty(), "{args:?}");
        assert_inert(&shown, args);
    }
}

/// Each fault of a peer is recorded. Standard error has a bounded number of warnings.
#[test]
fn peers_cannot_flood_stderr() {
    let mut server = Serve::start(&["echo=:0", "echo=udp://127.0.0.1:0", "--store", "none"]);
    let socket = server.at[server.at.len() - 1];
    let mut peers = Vec::new();
    for _ in 0..300 {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.connect(socket).unwrap();
        for _ in 0..8 {
            peer.send(b"again and again").unwrap();
        }
        // The server must not drop them.
        peer.set_read_timeout(Some(SOON)).unwrap();
        for _ in 0..7 {
            peer.recv(&mut [0; 64]).unwrap();
        }
        peers.push(peer); // or another one would get its port, and its silence
    }
    for _ in 0..2000 {
        let peer = TcpStream::connect(server.at[0]).unwrap();
        rustix::net::sockopt::set_socket_linger(&peer, Some(std::time::Duration::ZERO)).unwrap();
        (&peer).write_all(b"x").unwrap();
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ends().code, Some(0));
    // A loop is eight within a second. A server that took longer over them has answered the eighth too.
    let is_silenced = |peer: &&UdpSocket| {
        peer.set_nonblocking(true).unwrap();
        peer.recv(&mut [0; 64]).is_err()
    };
    let loops = peers.iter().filter(is_silenced).count();
    assert!(loops > 100, "{loops} loops");
    let err = server.err.all();
    let looped: Vec<_> = err
        .iter()
        .filter(|line| line.contains("over and over"))
        .collect();
    assert!(looped.len() <= 40, "{} lines", looped.len());
    let more = looped.iter().filter_map(|line| line.split_once(" ("));
    let more = more.filter_map(|(_, more)| more.split(' ').next()?.parse::<usize>().ok());
    assert_eq!(looped.len() + more.sum::<usize>(), loops, "{looped:#?}");
    assert!(err.len() - looped.len() <= 10, "{err:#?}");
}

//! The tutorial that the project began with: echoic replaces its servers, and its clients are Python as the tutorial
//! writes them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    io::{Read, Write},
    net::SocketAddr,
    process::Stdio,
    sync::Arc,
    thread,
};

use self::harness::{Home, Lines, Serve, Talk, python, run, tool, tutorial_ports, wait_for_end};

/// The client of the greeting server; it sends this many bytes first.
const GREETED: &str = r"
import socket, sys
s = socket.socket()
s.connect(('127.0.0.1', int(sys.argv[1])))
s.sendall(b'x' * int(sys.argv[2]))
print(s.recv(1024))
print(s.recv(1024))
s.close()
";

/// The client of the upper-case server.
const CLIENT: &str = r"
import socket, sys
c = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
c.connect(('127.0.0.1', int(sys.argv[1])))
c.send('hello'.encode())
print(c.recv(1024).decode())
c.close()
";

/// The same, for interactive use.
const INTERACTIVE: &str = r"
import socket, sys
c = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
c.connect(('127.0.0.1', int(sys.argv[1])))
while True:
    message = input()
    if message == 'q':
        break
    c.send(message.encode())
    print(c.recv(1024).decode())
c.close()
";

#[test]
fn d11_greeting_arrives_whatever_the_peer_sent_first() {
    let serve = Serve::start(&["greet=:0"]);
    for sent in [0, 1, 100_000, 1_000_000] {
        let received = python(GREETED, &[&serve.at[0].port(), &sent], "").good();
        assert_eq!(
            received, "b'Thank you for connecting'\nb''\n",
            "after {sent} bytes"
        );
    }
    let log = serve.home.clone();
    assert_eq!(serve.stop().served, 4);
    let greetings = log.log(&["svc:greet", "rep:\"Thank you for connecting\""]);
    assert_eq!(greetings.len(), 4);
    assert!(greetings.iter().all(|greeting| greeting["req"]["len"] == 0));
}

/// Sends 100 kB, lets the server finish, and then reads its reply slowly.
const SLOW_READER: &str = r"
import socket, sys, time
s = socket.socket()
s.connect(('127.0.0.1', int(sys.argv[1])))
s.sendall(b'x' * 100000)
input()
got = 0
try:
    while True:
        data = s.recv(16384)
        got += len(data)
        if not data:
            end = 'end of file'
            break
        time.sleep(0.001)
except ConnectionResetError:
    end = 'reset'
print(got, end)
";

/// Greets with 1 MB and closes at once, as in the tutorial.
const NAIVE: &str = r"
import socket, sys
s = socket.socket()
s.bind(('127.0.0.1', 0))
s.listen(5)
print(s.getsockname()[1], flush=True)
c, addr = s.accept()
while len(c.recv(1, socket.MSG_PEEK)) == 0:
    pass
c.setblocking(False)
sent = c.send(b'y' * 1000000)
c.close()
print(sent, flush=True)
";

#[test]
fn d11_plain_close_loses_data_in_flight() {
    let mut naive = tool("python3", "python3")
        .args(["-c", NAIVE])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Lines::of(naive.stdout.take().unwrap());
    let port = lines.wait("port", |lines| lines.first()?.parse().ok());
    let (got, end) = slow_reader(port, || {
        lines.wait("close", |lines| (lines.len() == 2).then_some(()));
    });
    assert!(wait_for_end(&mut naive, harness::SOON).is_some_and(|status| status.success()));
    let sent: usize = lines.all()[1].parse().unwrap();
    assert!(
        sent > 500_000,
        "the kernel took only {sent} bytes: no test of what follows"
    );
    assert_eq!(end, "reset");
    assert!(got < sent / 2, "most of it was lost; {got} bytes were not");
}

#[test]
fn megabyte_reply_arrives_whole_before_a_close() {
    // A megabyte of reply, then a limit at which the server closes while more is on its way to it.
    let serve = Serve::start(&["echo=:0", "--frame", "line", "--max-message", "1M"]);
    let mut talk = Talk::to(serve.at[0]);
    let mut writer = talk.0.try_clone().unwrap();
    let line = [vec![b'y'; 1_000_000], vec![b'\n']].concat();
    let sent = [line.clone(), vec![b'x'; 2_000_000]].concat();
    let writing = thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut received = Vec::new();
    let mut some = [0; 16_384];
    loop {
        match talk.0.read(&mut some).unwrap() {
            0 => break,
            n => received.extend_from_slice(&some[..n]),
        }
        thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!((received.len(), received == line), (line.len(), true));
    writing.join().unwrap();
    drop(talk);
    let home = serve.home.clone();
    assert_eq!(serve.stop().served, 1);
    assert_eq!(
        home.sql("SELECT reason, sent, unsent FROM conversation"),
        ["message-too-long|1000001|0"]
    );
}

#[test]
fn slow_reader_gets_a_long_greeting_whole() {
    // Longer than an argument can be on Linux, so from a file.
    let text = "y".repeat(1_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    let greet = format!("greet:@{}", file.path().display());
    let serve = Serve::start(&[":0", "--as", &greet, "--sndbuf", "4k"]);
    assert_eq!(
        slow_reader(serve.at[0].port(), || ()),
        (text.len(), "end of file".to_owned())
    );
}

/// Returns what a slow reader receives, and how its stream ends. It starts to read after `before`.
fn slow_reader(port: u16, before: impl FnOnce()) -> (usize, String) {
    let mut reader = tool("python3", "python3")
        .args(["-c", SLOW_READER, &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = Lines::of(reader.stdout.take().unwrap());
    before();
    reader.stdin.take().unwrap().write_all(b"\n").unwrap();
    let line = output.wait_for(" ");
    assert!(wait_for_end(&mut reader, harness::SOON).is_some_and(|status| status.success()));
    let (got, end) = line.split_once(' ').unwrap();
    (got.parse().unwrap(), end.to_owned())
}

#[test]
fn hello_without_newline_is_answered_in_upper_case() {
    let serve = Serve::start(&["upper=:0"]);
    assert_eq!(python(CLIENT, &[&serve.at[0].port()], "").good(), "HELLO\n");
}

#[test]
fn interactive_client_runs_until_q() {
    let serve = Serve::start(&["upper=:0"]);
    let typed = "hello\nstraße\nwhat, q?\nq\nnot sent\n";
    let received = python(INTERACTIVE, &[&serve.at[0].port()], typed).good();
    assert_eq!(received, "HELLO\nSTRASSE\nWHAT, Q?\n");
    assert_eq!(serve.stop().served, 3);
}

#[test]
fn cut_character_is_answered_once_complete() {
    const CUT: &str = r"
import socket, sys
c = socket.socket()
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
c.connect(('127.0.0.1', int(sys.argv[1])))
received = b''
for byte in 'straße'.encode():
    c.send(bytes([byte]))
    if byte != 0xc3:
        received += c.recv(1024)
c.shutdown(socket.SHUT_WR)
print(received.decode(), c.recv(1024))
";
    let serve = Serve::start(&["upper=:0"]);
    assert_eq!(
        python(CUT, &[&serve.at[0].port()], "").good(),
        "STRASSE b''\n"
    );
    let home = serve.home.clone();
    serve.stop();
    let replies = home.log(&[]);
    let replies = replies
        .iter()
        .map(|exchange| exchange["rep"]["text"].as_str().unwrap());
    assert_eq!(replies.collect::<String>(), "STRASSE");
}

#[test]
fn clients_do_not_wait_for_each_other() {
    const TWO: &str = r"
import socket, sys
first, second = socket.socket(), socket.socket()
for c in first, second:
    c.connect(('127.0.0.1', int(sys.argv[1])))
for c, message in (second, b'b'), (first, b'a'), (second, b'd'), (first, b'c'):
    c.send(message)
    print(c.recv(1024).decode(), end='')
";
    let serve = Serve::start(&["upper=:0"]);
    assert_eq!(python(TWO, &[&serve.at[0].port()], "").good(), "BADC");
}

#[test]
fn last_line_may_lack_a_newline_and_lines_may_be_empty() {
    const LINES: &str = r"
import socket, sys
c = socket.socket()
c.connect(('127.0.0.1', int(sys.argv[1])))
c.send(b'\n')
print(c.recv(1024))
c.sendall(b'one\n\ntwo')
c.shutdown(socket.SHUT_WR)
received = b''
while data := c.recv(1024):
    received += data
print(received)
";
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    let received = python(LINES, &[&serve.at[0].port()], "").good();
    assert_eq!(received, "b'\\n'\nb'ONE\\n\\nTWO'\n");
    assert_eq!(serve.stop().served, 4);
}

#[test]
fn reply_longer_than_the_client_buffer_arrives_whole() {
    const LONG: &str = r"
import socket, sys
c = socket.socket()
c.connect(('127.0.0.1', int(sys.argv[1])))
message = ('abcdefghi ' * 300).encode()
c.sendall(message)
received = b''
while len(received) < len(message):
    received += c.recv(1024)
print(received == message.upper())
";
    let serve = Serve::start(&["upper=:0"]);
    assert_eq!(python(LONG, &[&serve.at[0].port()], "").good(), "True\n");
}

#[test]
fn echo_returns_fifty_megabytes_to_a_concurrent_reader() {
    const FIFTY: &str = r"
import hashlib, random, socket, sys, threading
c = socket.socket()
c.connect(('127.0.0.1', int(sys.argv[1])))
block = random.Random(1).randbytes(1000000)
sent, received, length = hashlib.sha256(), hashlib.sha256(), 0
def write():
    for i in range(50):
        message = bytes([i]) + block[1:]
        sent.update(message)
        c.sendall(message)
    c.shutdown(socket.SHUT_WR)
writer = threading.Thread(target=write)
writer.start()
while data := c.recv(65536):
    received.update(data)
    length += len(data)
writer.join()
print(length, sent.digest() == received.digest())
";
    let serve = Serve::start(&["echo=:0"]);
    assert_eq!(
        python(FIFTY, &[&serve.at[0].port()], "").good(),
        "50000000 True\n"
    );
    let home = serve.home.clone();
    serve.stop();
    assert_eq!(
        home.sql("SELECT sum(length(req)), sum(length(rep)) FROM run"),
        ["50000000|50000000"]
    );
}

#[test]
fn no_arguments_start_the_tutorial_servers() {
    let Some(_ports) = tutorial_ports() else {
        return;
    };
    let home = Arc::new(Home::new());
    let serve = Serve::start_in(&home, &[]);
    let ports: Vec<u16> = serve.at.iter().map(SocketAddr::port).collect();
    assert_eq!(ports, [5000, 5000, 12345]);
    assert_eq!(python(CLIENT, &[&5000], "").good(), "HELLO\n");
    assert_eq!(
        python(GREETED, &[&12345, &0], "").good(),
        "b'Thank you for connecting'\nb''\n"
    );
    let asked = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(9)\n\
                 s.sendto(b'hello', ('127.0.0.1', 5000))\nprint(s.recvfrom(1024))\n";
    assert_eq!(
        python(asked, &[], "").good(),
        "(b'HELLO', ('127.0.0.1', 5000))\n"
    );
    // Both loopback addresses, and no others.
    let table = run(tool("ss", "iproute2").args(["-Hltnp"]), b"").good();
    let of_ours = format!("pid={},", serve.id());
    let ours = table.lines().filter(|line| line.contains(&of_ours));
    assert!(ours.clone().count() >= 2, "{table}");
    for line in ours {
        assert!(
            line.contains(" 127.0.0.1:") || line.contains(" [::1]:"),
            "{line}"
        );
    }
    assert_eq!(serve.stop().served, 3);
    let mut exchanges = home.log(&["sort:-id", "proto:tcp"]);
    let greeting = exchanges.remove(0);
    assert_eq!(
        (&greeting["svc"], &greeting["ep"]),
        (&"greet".into(), &"tcp:12345".into())
    );
}

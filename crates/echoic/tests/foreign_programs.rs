//! Foreign programs with datagrams and Unix sockets, as clients and as servers: Python, the OpenBSD nc, ncat and socat.
//! (Over TCP: `clients.rs`.)
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use harness::{Home, SOON, Serve, kill, run, tool};

/// A command line for bash; `$at` is the address.
type Line = (&'static str, &'static str);

/// Each sends `hello` and prints the reply. Datagrams have no end of stream, so each needs its own way to wait for the
/// reply: ncat exits when its input ends, nc and socat wait three seconds.
const UDP_CLIENTS: [Line; 4] = [
    ("nc", "printf hello | nc.openbsd -u -w3 127.0.0.1 ${at##*:}"),
    ("ncat", "(printf hello; sleep 3) | ncat -u 127.0.0.1 ${at##*:}"),
    ("socat", "printf hello | socat -t3 - UDP4:$at"),
    ("python", "python3 -c '
import socket, sys
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(20)
u.connect((\"127.0.0.1\", int(sys.argv[1]))); u.send(b\"hello\"); print(u.recv(99).decode(), end=\"\")' ${at##*:}"),
];

const UNIX_CLIENTS: [Line; 4] = [
    ("nc", "printf hello | nc.openbsd -N -U $at"),
    ("ncat", "printf hello | ncat -U $at"),
    ("socat", "printf hello | socat -t20 - UNIX-CONNECT:$at"),
    (
        "python",
        "python3 -c '
import socket, sys
u = socket.socket(socket.AF_UNIX); u.settimeout(20)
u.connect(sys.argv[1]); u.send(b\"hello\"); print(u.recv(99).decode(), end=\"\")' $at",
    ),
];

/// The client must bind a name, or it cannot get a reply.
const UNIXGRAM_CLIENTS: [Line; 3] = [
    ("nc", "printf hello | nc.openbsd -uU -w3 -s ./nc.sock $at"),
    (
        "socat",
        "printf hello | socat -t3 - UNIX-SENDTO:$at,bind=./socat.sock",
    ),
    (
        "python",
        "python3 -c '
import socket, sys
u = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); u.settimeout(20); u.bind(\"./python.sock\")
u.sendto(b\"hello\", sys.argv[1]); print(u.recv(99).decode(), end=\"\")' $at",
    ),
];

/// Each replies with the request, or with `hello`.
const UDP_SERVERS: [Line; 4] = [
    (
        "nc",
        "(printf hello; sleep 20) | exec nc.openbsd -lu 127.0.0.1 ${at##*:}",
    ),
    ("ncat", "exec ncat -lu 127.0.0.1 ${at##*:} -e /bin/cat"),
    (
        "socat",
        "exec socat UDP4-LISTEN:${at##*:},bind=127.0.0.1 PIPE",
    ),
    (
        "python",
        "exec python3 -c '
import socket, sys
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind((\"127.0.0.1\", int(sys.argv[1])))
while True: u.sendto(*u.recvfrom(99))' ${at##*:}",
    ),
];

const UNIX_SERVERS: [Line; 4] = [
    ("nc", "printf hello | exec nc.openbsd -N -lU $at"),
    ("ncat", "exec ncat -lU $at -e /bin/cat"),
    ("socat", "exec socat UNIX-LISTEN:$at PIPE"),
    (
        "python",
        "exec python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
c = s.accept()[0]
while d := c.recv(99): c.send(d)' $at",
    ),
];

const UNIXGRAM_SERVERS: [Line; 2] = [
    ("socat", "exec socat UNIX-RECVFROM:$at PIPE"),
    (
        "python",
        "exec python3 -c '
import socket, sys
u = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); u.bind(sys.argv[1])
while True: u.sendto(*u.recvfrom(99))' $at",
    ),
];

fn bash(home: &Home, line: &str, at: &str) -> Command {
    for (program, package) in [
        ("nc.openbsd", "netcat-openbsd"),
        ("ncat", "ncat"),
        ("socat", "socat"),
    ] {
        let _ = tool(program, package);
    }
    let mut bash = tool("bash", "bash");
    home.settle(&mut bash);
    bash.args(["-c", line]).env("at", at);
    bash
}

/// Each connects to our server and gets a reply; the record has all of them.
#[track_caller]
fn check_clients(endpoint: &str, clients: &[Line]) {
    let home = Arc::new(Home::new());
    let serve = Serve::start_in(&home, &[endpoint]);
    let address = &serve.addresses[0];
    // Use the name of its bound address: socat accepts a reply from no other.
    let at = address.strip_prefix("unix:").unwrap_or(address);
    let at = at.strip_prefix("unixgram:").unwrap_or(at);
    for (name, line) in clients {
        let ran = run(&mut bash(&home, line, at), b"");
        let received = String::from_utf8_lossy(&ran.out).into_owned();
        assert_eq!(received, "HELLO", "{name} at {at}: {ran:?}");
    }
    assert_eq!(serve.stop().served, clients.len() as u64);
    assert_eq!(home.count(&["req:hello rep:HELLO"]), clients.len() as u64);
}

/// A foreign server, killed when the test ends.
struct Theirs(Child);

impl Drop for Theirs {
    fn drop(&mut self) {
        // Kill its children too: they are in its process group.
        if let Some(group) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        kill(&mut self.0);
    }
}

/// Our client connects to each of them, gets a reply, and records it.
#[track_caller]
fn check_servers(endpoint: impl Fn(&str) -> (String, String), servers: &[Line]) {
    for (name, line) in servers {
        let home = Home::new();
        let (endpoint, at) = endpoint(name);
        let mut command = bash(&home, line, &at);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let _theirs = Theirs(command.spawn().unwrap());
        let deadline = Instant::now() + SOON;
        // A try that ends before the reply comes would be the last: nc, ncat and socat answer only the first peer.
        let args = [
            "connect", &*endpoint, "--send", "hello", "--expect", "hello", "-w", "20", "--store",
            "talk.db",
        ];
        loop {
            let ran = home.run(&args);
            if ran.code == Some(0) {
                assert_eq!(ran.out, b"hello", "{name}");
                break;
            }
            // The server does not listen yet.
            assert!(Instant::now() < deadline, "{name} at {at}: {ran:?}");
            thread::sleep(Duration::from_millis(50));
        }
        // nc sends its text before it receives a request.
        let filter = if *name == "nc" {
            "rep:hello role:client"
        } else {
            "req:hello rep:hello role:client"
        };
        let recorded = home.count(&["--store", "talk.db", filter]);
        assert_eq!(recorded, 1, "{name}");
    }
}

#[test]
fn each_foreign_client_connects_over_udp() {
    check_clients("udp://127.0.0.1:0", &UDP_CLIENTS);
}

#[test]
fn each_foreign_client_connects_to_a_unix_socket() {
    check_clients("unix:./x.sock", &UNIX_CLIENTS);
}

#[test]
fn each_foreign_client_connects_to_a_unix_datagram_socket() {
    check_clients("unixgram:./x.sock", &UNIXGRAM_CLIENTS);
}

#[test]
fn each_foreign_server_is_reached_over_udp() {
    let at = |_: &str| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap().to_string();
        (format!("udp://{at}"), at)
    };
    check_servers(at, &UDP_SERVERS);
}

#[test]
fn each_foreign_server_is_reached_at_a_unix_socket() {
    check_servers(
        |name| (format!("unix:./{name}"), name.to_owned()),
        &UNIX_SERVERS,
    );
}

#[test]
fn each_foreign_server_is_reached_at_a_unix_datagram_socket() {
    check_servers(
        |name| (format!("unixgram:./{name}"), name.to_owned()),
        &UNIXGRAM_SERVERS,
    );
}

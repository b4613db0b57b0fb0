//! `--starttls`: with PostgreSQL itself, and with servers in Python that `openssl s_client -starttls` accepts too.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::home;
use crate::harness::{Home, Lines, Ran, SOON, kill, run, signal, tool, until, wait_for_end};

/// Arguments: protocol, and `offer`, `refuse` (no STARTTLS) or `inject` (plain bytes right after it agreed).
const SERVER: &str = r#"
import socket, ssl, sys
protocol, how = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
while True:
    peer, _ = listener.accept()
    try:
        words = peer.makefile("rb")
        if protocol == "smtp":
            peer.sendall(b"220-test\r\n220 ESMTP\r\n")
            assert words.readline().startswith(b"EHLO ")
            offer = b"250 SIZE 1\r\n" if how == "refuse" else b"250-SIZE 1\r\n250 STARTTLS\r\n"
            peer.sendall(b"250-test\r\n" + offer)
            if words.readline() != b"STARTTLS\r\n": continue
            more = b"250 injected\r\n" if how == "inject" else b""
            peer.sendall(b"220 go ahead\r\n" + more)
        else:
            peer.sendall(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n")
            line = words.readline()
            while b"STARTTLS" not in line:
                tag = line.split()[0]
                peer.sendall(b"* CAPABILITY IMAP4rev1 STARTTLS\r\n" + tag + b" OK done\r\n")
                line = words.readline()
            tag = line.split()[0]
            if how == "refuse":
                peer.sendall(tag + b" BAD not today\r\n")
                continue
            peer.sendall(tag + b" OK begin\r\n")
        words.close()
        with context.wrap_socket(peer, server_side=True) as secure:
            for line in secure.makefile("rb"):
                secure.sendall(b"secure " + line)
            secure.unwrap() # close_notify
    except (OSError, AssertionError):
        pass
    finally:
        peer.close()
"#;

struct Server {
    child: Child,
    port: u16,
    _out: Lines,
}

impl Server {
    fn start(home: &Home, protocol: &str, how: &str) -> Self {
        let mut child = tool("python3", "python3")
            .current_dir(home.path())
            .args(["-c", SERVER, protocol, how])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let line = out.wait_for("port ");
        let port = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Self {
            child,
            port,
            _out: out,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

fn connect(home: &Home, port: u16, protocol: &str, input: &[u8]) -> Ran {
    let at = format!("tls://localhost:{port}");
    let args = [
        "connect",
        &at,
        "--starttls",
        protocol,
        "--ca",
        "ca.pem",
        "-w",
        "20s",
    ];
    run(&mut home.echoic(&args), input)
}

fn probe(home: &Home, port: u16, protocol: &str) -> Ran {
    let at = format!("tls://localhost:{port}");
    let args = [
        "probe",
        &at,
        "--starttls",
        protocol,
        "--ca",
        "ca.pem",
        "-w",
        "20s",
    ];
    run(&mut home.echoic(&args), b"")
}

#[test]
fn smtp_and_imap_change_to_tls() {
    let (home, _) = home();
    for protocol in ["smtp", "imap"] {
        let server = Server::start(&home, protocol, "offer");
        let reply = connect(&home, server.port, protocol, b"hello\n").good();
        assert_eq!(reply, "secure hello\n", "{protocol}");
        let told = probe(&home, server.port, protocol).good();
        assert!(told.contains("verdict: trusted: "), "{protocol}: {told}");
        // That the server is one is not our word alone.
        let s_client = tool("openssl", "openssl")
            .args(["s_client", "-starttls", protocol, "-connect"])
            .arg(format!("127.0.0.1:{}", server.port))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(s_client.status.success(), "{protocol}: {s_client:?}");
        // And nothing goes out in plain text without the option.
        let at = format!("tls://localhost:{}", server.port);
        let ran = run(&mut home.echoic(&["connect", &at, "-w", "20s"]), b"");
        assert_eq!(ran.code, Some(8), "{protocol}: {ran:?}");
        assert!(ran.err.contains("does not speak TLS"), "{ran:?}");
    }
}

#[test]
fn servers_that_do_not_change_to_tls_are_told_with_8() {
    let (home, _) = home();
    for (protocol, how, part) in [
        ("smtp", "refuse", "the server does not offer STARTTLS"),
        ("smtp", "inject", "somebody in between"),
        ("imap", "refuse", "BAD not today"),
    ] {
        let server = Server::start(&home, protocol, how);
        let ran = connect(&home, server.port, protocol, b"secret\n");
        assert_eq!(ran.code, Some(8), "{protocol} {how}: {ran:?}");
        assert!(ran.err.contains(part), "{protocol} {how}: {ran:?}");
        let ran = probe(&home, server.port, protocol);
        assert_eq!(ran.code, Some(8), "{protocol} {how}: {ran:?}");
        let out = String::from_utf8_lossy(&ran.out);
        assert!(out.contains(part), "{protocol} {how}: {out}");
    }
}

/// PostgreSQL with the certificate of the tests.
struct Postgres {
    child: Child,
    port: u16,
    _directory: TempDir,
}

fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").exists());
    found.sort();
    found.pop()
}

/// The user and the group that run the server, which refuses root.
fn ids() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line
        .unwrap()
        .split(':')
        .skip(2)
        .map(|id| id.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

fn as_user(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    command.arg(program);
    command
}

impl Postgres {
    fn start(home: &Home, ssl: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            trials_skip::skip("PostgreSQL is not installed");
            return None;
        };
        let directory = TempDir::with_prefix("echoic-postgres-").unwrap();
        let data = directory.path().join("data");
        for file in ["server.pem", "server.key"] {
            fs::copy(home.path().join(file), directory.path().join(file)).unwrap();
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(directory.path().join(file), mode).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            let (user, group) = ids();
            for path in ["", "server.pem", "server.key"] {
                chown(directory.path().join(path), Some(user), Some(group)).unwrap();
            }
        }
        let made = as_user(&programs.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["--auth=trust", "--no-sync", "--locale=C"])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let path = directory.path().display();
        let child = as_user(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-k", &path.to_string()])
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                &format!("ssl={ssl}"),
            ])
            .args(["-c", &format!("ssl_cert_file={path}/server.pem")])
            .args(["-c", &format!("ssl_key_file={path}/server.key")])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("PostgreSQL listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(Self {
            child,
            port,
            _directory: directory,
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its processes end with it.
        signal(&self.child, Signal::QUIT);
        if wait_for_end(&mut self.child, SOON).is_none() {
            kill(&mut self.child);
        }
    }
}

#[test]
fn postgresql_itself_changes_to_tls_or_says_that_it_does_not() {
    let (home, _) = home();
    let Some(server) = Postgres::start(&home, "on") else {
        return;
    };
    let told = probe(&home, server.port, "postgres").good();
    assert!(told.contains("verdict: trusted: "), "{told}");
    assert!(told.contains("CN=server"), "{told}");
    // A startup packet of version 3.0 for a user that does not exist, over TLS: the server's error comes back.
    let mut packet = b"\0\0\0\0\0\x03\0\0user\0nobody\0\0".to_vec();
    packet[3] = packet.len().try_into().unwrap();
    let reply = connect(&home, server.port, "postgres", &packet);
    let text = String::from_utf8_lossy(&reply.out);
    assert!(text.contains("role \"nobody\" does not exist"), "{reply:?}");
    drop(server);
    let Some(server) = Postgres::start(&home, "off") else {
        return;
    };
    let ran = probe(&home, server.port, "postgres");
    assert_eq!(ran.code, Some(8), "{ran:?}");
    let out = String::from_utf8_lossy(&ran.out);
    assert!(out.contains("the server does not offer TLS"), "{out}");
}

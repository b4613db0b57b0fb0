//! `openssl s_server` and `openssl s_client`.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ExitStatus, Stdio},
    sync::mpsc,
    thread,
};

use crate::harness::{Home, Lines, SOON, kill, tool, wait_for_end};

/// A server that sends each line back, reversed.
pub(crate) struct SServer {
    pub(crate) port: u16,
    child: Child,
    _lines: Lines,
}

impl SServer {
    /// Starts it on a free port of loopback in the directory of `home`.
    pub(crate) fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = tool("openssl", "openssl");
        let mut child = command
            .current_dir(home.path())
            .args(["s_server", "-accept", "127.0.0.1:0", "-rev"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        let accept = lines.wait_for("ACCEPT ");
        let at: SocketAddr = accept["ACCEPT ".len()..].trim().parse().unwrap();
        Self {
            port: at.port(),
            child,
            _lines: lines,
        }
    }

    /// The endpoint by a name.
    pub(crate) fn named(&self, host: &str) -> String {
        format!("tls://{host}:{}", self.port)
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// A client that prints what it finds out, and obeys commands: `R` asks for a renegotiation.
pub(crate) struct SClient {
    child: Child,
    input: Option<ChildStdin>,
    /// What it prints, on either stream.
    pub(crate) out: Lines,
    pub(crate) err: Lines,
}

impl SClient {
    pub(crate) fn start(home: &Home, port: u16, args: &[&str]) -> Self {
        let mut command = tool("openssl", "openssl");
        let mut child = command
            .current_dir(home.path())
            .args(["s_client", "-connect"])
            .arg(format!("127.0.0.1:{port}"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            out: Lines::of(child.stdout.take().unwrap()),
            err: Lines::of(child.stderr.take().unwrap()),
            child,
        }
    }

    pub(crate) fn send(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Ends its input, and waits until it ends.
    pub(crate) fn finish(&mut self) -> ExitStatus {
        self.input = None;
        self.ends()
    }

    /// Waits until it ends by itself.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        wait_for_end(&mut self.child, SOON).unwrap()
    }
}

impl Drop for SClient {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// Talks to a server by `openssl s_client`: sends a line, and ends the input when a line has come back. Returns that line,
/// or what went wrong.
pub(crate) fn s_client(home: &Home, port: u16, args: &[&str]) -> Result<String, String> {
    let mut command = tool("openssl", "openssl");
    let mut child = command
        .current_dir(home.path())
        .args(["s_client", "-quiet", "-no_ign_eof", "-connect"])
        .arg(format!("127.0.0.1:{port}"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let err = Lines::of(child.stderr.take().unwrap());
    let mut input = child.stdin.take().unwrap();
    // It may have ended already.
    let _ = input.write_all(b"hello\n");
    let (line, first) = mpsc::sync_channel(1);
    let out = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || line.send(out.lines().next().and_then(Result::ok)));
    let reply = first.recv_timeout(SOON).unwrap();
    drop(input);
    let status = wait_for_end(&mut child, SOON).unwrap();
    reply.ok_or_else(|| {
        assert!(!status.success(), "{args:?}");
        err.all().join("\n")
    })
}

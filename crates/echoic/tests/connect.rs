//! `echoic connect` as users run it: through pipes, and on a terminal.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "connect/datagrams.rs"]
mod datagrams;
#[path = "connect/half_close.rs"]
mod half_close;
#[path = "connect/owed.rs"]
mod owed;
#[path = "connect/paste.rs"]
mod paste;
#[path = "connect/piped.rs"]
mod piped;
#[path = "connect/prompt.rs"]
mod prompt;
#[path = "connect/pty.rs"]
mod pty;
#[path = "connect/reader.rs"]
mod reader;
#[path = "connect/record.rs"]
mod record;
#[allow(dead_code, reason = "one of its functions is used here")]
#[path = "harness/repeat.rs"]
mod repeat;
#[path = "connect/scripted.rs"]
mod scripted;
#[path = "harness/terminal.rs"]
mod terminal;
#[path = "connect/terminal_input.rs"]
mod terminal_input;

use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Deadline for anything that should happen soon.
const SOON: Duration = Duration::from_secs(20);

/// The program, without this process's `ECHOIC_*` variables.
fn echoic() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoic"));
    for name in ["ECHOIC_FRAME", "ECHOIC_LOG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.arg("connect");
    command
}

/// A server for one client, on a thread of its own.
fn server<T: Send + 'static>(
    peer: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    (
        addr,
        thread::spawn(move || peer(listener.accept().unwrap().0)),
    )
}

/// A server in Python, written as in the tutorial; it is killed when the test ends.
struct Tutorial {
    process: Child,
    addr: String,
}

impl Tutorial {
    fn start(program: &str) -> Self {
        let mut process = Command::new("python3")
            .args(["-c", program])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        Self {
            process,
            addr: format!("127.0.0.1:{}", port.trim()),
        }
    }
}

impl Drop for Tutorial {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const UPPER: &str = include_str!("servers/upper.py");
const GREET: &str = include_str!("servers/greet.py");

/// Waits until a process exits.
fn ended(process: &mut Child) -> ExitStatus {
    until("the process has ended", || process.try_wait().unwrap())
}

/// Waits until `condition` returns a value.
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

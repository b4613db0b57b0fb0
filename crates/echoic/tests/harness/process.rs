//! Processes: run with a deadline, read line by line, killed by their id.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{SOON, until};

/// The result of a process that has exited.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code; none if a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    /// Returns its standard output as text; panics unless it exited with code 0.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        String::from_utf8(self.out).unwrap()
    }
}

/// Runs a command to its end, or kills it after [`SOON`] and panics.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ran {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = Pid::from_child(&child);
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // A process that does not read its input exits all the same.
    thread::spawn(move || stdin.write_all(&input));
    let (done, ended) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(SOON) else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} did not end within {SOON:?}");
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap();
    Ran {
        code: status.code(),
        out: stdout,
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Runs a program in Python, as one would type it from the tutorial.
#[track_caller]
pub(crate) fn python(program: &str, args: &[&dyn std::fmt::Display], input: &str) -> Ran {
    let mut command = tool("python3", "python3");
    command.args(["-c", program]);
    command.args(args.iter().map(ToString::to_string));
    run(&mut command, input.as_bytes())
}

/// Returns a command for a required tool; if it is missing, the panic names the package to install.
#[track_caller]
pub(crate) fn tool(name: &str, package: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|dir| dir.join(name).exists());
    assert!(there, "{name} is missing: install {package}");
    Command::new(name)
}

/// Sends a signal to a child process. With STOP it returns once all of its threads are stopped: on a busy machine they run on for a
/// moment.
#[track_caller]
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
    if signal == Signal::STOP {
        let pid = child.id();
        until("all of its threads are stopped", || is_stopped(pid));
    }
}

fn is_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, state)| state);
        state.is_some_and(|state| state.starts_with('T'))
    })
}

/// Sends a signal again and again until the process exits, at most for [`SOON`]: a program that runs late may take two signals
/// for one.
pub(crate) fn signal_to_the_end(child: &mut Child, which: Signal) -> Option<ExitStatus> {
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        signal(child, which);
        if let Some(status) = wait_for_end(child, Duration::from_millis(100)) {
            return Some(status);
        }
    }
    None
}

/// Kills a child process, in whatever state it is.
pub(crate) fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for a process to exit, at most this long.
pub(crate) fn wait_for_end(child: &mut Child, at_most: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + at_most;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return Some(status),
            None if Instant::now() > deadline => return None,
            None => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The lines that a process prints, as they come.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Arc<LineBuffer>);

#[derive(Debug, Default)]
struct LineBuffer {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Vec<u8>>,
    ended: bool,
}

impl Lines {
    /// Reads `from` to its end, on a thread of its own.
    pub(crate) fn of(from: impl Read + Send + 'static) -> Self {
        let lines = Arc::<LineBuffer>::default();
        let shared = Arc::clone(&lines);
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            // A terminal whose other side is closed returns an error: that is the end.
            while let Ok(1..) = from.read_until(b'\n', &mut line) {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                shared
                    .state
                    .lock()
                    .unwrap()
                    .lines
                    .push(std::mem::take(&mut line));
                shared.more.notify_all();
            }
            shared.state.lock().unwrap().ended = true;
            shared.more.notify_all();
        });
        Self(lines)
    }

    /// Waits until `found` returns a value for the lines so far.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, found: impl FnMut(&[String]) -> Option<T>) -> T {
        self.wait_within(SOON, what, found)
    }

    #[track_caller]
    fn wait_within<T>(
        &self,
        at_most: Duration,
        what: &str,
        mut found: impl FnMut(&[String]) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + at_most;
        let mut state = self.0.state.lock().unwrap();
        loop {
            let lines = text(&state.lines);
            if let Some(found) = found(&lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !state.ended && !left.is_zero(),
                "no {what} in:\n{}",
                lines.join("\n")
            );
            state = self.0.more.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for a line that contains this text.
    #[track_caller]
    pub(crate) fn wait_for(&self, part: &str) -> String {
        self.wait_for_within(SOON, part)
    }

    /// The same with another deadline.
    #[track_caller]
    pub(crate) fn wait_for_within(&self, at_most: Duration, part: &str) -> String {
        self.wait_within(at_most, part, |lines| {
            lines.iter().find(|line| line.contains(part)).cloned()
        })
    }

    /// Returns the lines so far.
    pub(crate) fn so_far(&self) -> Vec<String> {
        text(&self.0.state.lock().unwrap().lines)
    }

    /// Returns all lines, once the process has exited.
    #[track_caller]
    pub(crate) fn all(&self) -> Vec<String> {
        text(&self.raw())
    }

    /// Returns the whole output as bytes.
    #[track_caller]
    pub(crate) fn raw(&self) -> Vec<Vec<u8>> {
        let state = self.0.state.lock().unwrap();
        let (state, out) = self
            .0
            .more
            .wait_timeout_while(state, SOON, |state| !state.ended)
            .unwrap();
        assert!(!out.timed_out(), "the output has no end");
        state.lines.clone()
    }
}

fn text(lines: &[Vec<u8>]) -> Vec<String> {
    let text = |line: &Vec<u8>| String::from_utf8_lossy(line).into_owned();
    lines.iter().map(text).collect()
}

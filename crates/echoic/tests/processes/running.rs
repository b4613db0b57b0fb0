//! Any command of echoic as a process.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::harness::{ConsoleAt, Home, Lines, SOON, kill, plain, signal, terminal, wait_for_end};

/// A running process. It is killed when this is dropped, also by a panic.
pub(super) struct Running {
    child: Child,
    first: String,
}

impl Running {
    /// Starts one, and waits for a line with `ready`.
    #[track_caller]
    pub(super) fn start(home: &Home, args: &[&str], ready: &str) -> Self {
        Self::of(home.echoic(args), None, ready)
    }

    /// Starts a command, perhaps with a variable.
    #[track_caller]
    pub(super) fn of(mut command: Command, variable: Option<(&str, &str)>, ready: &str) -> Self {
        command.env_remove("ECHOIC_CONSOLE").envs(variable);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let first = Lines::of(child.stderr.take().unwrap()).wait_for(ready);
        Self { child, first }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, it: Signal) {
        signal(&self.child, it);
    }

    /// The console that it printed.
    pub(super) fn console(&self) -> ConsoleAt {
        let url = self.first.strip_prefix("console on ").unwrap();
        ConsoleAt::of(url.split(' ').next().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// Runs a command to its end with a terminal as standard output; returns the lines that it shows.
#[track_caller]
pub(super) fn on_terminal(home: &Home, args: &[&str]) -> Vec<String> {
    let (ours, theirs) = terminal();
    let out = Lines::of(ours);
    let mut command = home.echoic(args);
    let mut child = command.stdout(theirs).spawn().unwrap();
    command.stdout(Stdio::null());
    let ended = wait_for_end(&mut child, SOON);
    kill(&mut child);
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    let lines = out.all();
    lines
        .iter()
        .map(|line| plain(line).trim().to_owned())
        .collect()
}

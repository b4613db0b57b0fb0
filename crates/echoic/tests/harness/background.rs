//! A command that runs until it is stopped: `work`, `keep`, `console`.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{
    SOON,
    home::Home,
    http::ConsoleAt,
    process::{Lines, kill, signal, wait_for_end},
};

/// A running command. It is killed when this is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
    pub(crate) err: Lines,
}

impl Background {
    /// Starts `echoic ARGS`, and waits until it prints `ready`.
    #[track_caller]
    pub(crate) fn start(home: &Home, args: &[&str], ready: &str) -> Self {
        Self::of(&mut home.echoic(args), ready)
    }

    /// Starts a command, and waits until it prints `ready` on standard error.
    #[track_caller]
    pub(crate) fn of(command: &mut Command, ready: &str) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let err = Lines::of(child.stderr.take().unwrap());
        let started = Self { child, err };
        started.err.wait_for(ready);
        started
    }

    /// Where its routes of health are, as it prints them.
    #[track_caller]
    pub(crate) fn health(&self) -> ConsoleAt {
        health_of(&self.err)
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal(&self.child, which);
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its exit; returns its code and its lines.
    #[track_caller]
    pub(crate) fn ends(mut self) -> (Option<i32>, Vec<String>) {
        let status = wait_for_end(&mut self.child, SOON);
        let Some(status) = status else {
            kill(&mut self.child);
            panic!("it does not stop: {:?}", self.err.all());
        };
        (status.code(), self.err.all())
    }

    /// Stops it with TERM, and returns its lines.
    #[track_caller]
    pub(crate) fn stop(self) -> Vec<String> {
        self.signal(Signal::TERM);
        let (code, err) = self.ends();
        assert_eq!(code, Some(0), "{err:?}");
        err
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// Where the routes of health are, as a command prints them.
#[track_caller]
pub(crate) fn health_of(err: &Lines) -> ConsoleAt {
    let line = err.wait_for("health on http://");
    let address = line.strip_prefix("health on http://").unwrap();
    let address = address.strip_suffix("/readyz").unwrap();
    ConsoleAt {
        address: address.parse().unwrap(),
        token: String::new(),
    }
}

//! `echoic work` as a process.
#![allow(dead_code, reason = "chaos.rs uses a part of it")]

use std::process::{Child, Stdio};

use rustix::process::Signal;

use super::harness::{Home, Lines, Nats, SOON, kill, signal, wait_for_end};

/// A running worker. It is killed when this is dropped, also by a panic.
pub(super) struct Worker {
    child: Child,
    pub(super) err: Lines,
    _home: Home,
}

impl Worker {
    /// Starts one, and waits until it serves.
    #[track_caller]
    pub(super) fn start(nats: &Nats, service: &str, subject: &str) -> Self {
        Self::start_on(&nats.url(subject), service)
    }

    /// Starts one at a URL, and waits until it serves.
    #[track_caller]
    pub(super) fn start_on(url: &str, service: &str) -> Self {
        let worker = Self::begin_on(url, service);
        worker.err.wait_for("working: ");
        worker
    }

    /// Starts one at a URL, and does not wait.
    #[track_caller]
    pub(super) fn begin_on(url: &str, service: &str) -> Self {
        let home = Home::new();
        let mut command = home.echoic(&["work", service, "--on", url]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let err = Lines::of(child.stderr.take().unwrap());
        Self {
            child,
            err,
            _home: home,
        }
    }

    /// Stops it as one that hangs: it is connected, and answers nothing.
    pub(super) fn freeze(&self) {
        signal(&self.child, Signal::STOP);
    }

    pub(super) fn kill(mut self) {
        kill(&mut self.child);
    }

    /// Stops it with TERM, and returns its last line.
    #[track_caller]
    pub(super) fn stop(mut self) -> String {
        signal(&self.child, Signal::TERM);
        let status = wait_for_end(&mut self.child, SOON).expect("it stops");
        let err = self.err.all();
        assert_eq!(status.code(), Some(0), "{err:?}");
        err.last().unwrap().clone()
    }

    /// Stops it, and returns how many messages it has answered, in how many runs.
    #[track_caller]
    pub(super) fn stop_and_count(self) -> (u64, u64) {
        let last = self.stop();
        let digits = last.split(|c: char| !c.is_ascii_digit());
        let numbers: Vec<u64> = digits.filter_map(|digits| digits.parse().ok()).collect();
        assert_eq!(numbers.len(), 2, "{last}");
        (numbers[0], numbers[1])
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

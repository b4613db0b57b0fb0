//! `echoic keep` as a process.
#![allow(dead_code, reason = "chaos.rs uses a part of it")]

use std::{
    process::{Child, Stdio},
    sync::Arc,
};

use rustix::process::Signal;

use super::harness::{Home, Lines, Nats, SLOW, SOON, kill, signal, wait_for_end};

/// A running keeper of the stream `record`. It is killed when this is dropped, also by a panic.
pub(super) struct Keeper {
    child: Child,
    pub(super) err: Lines,
    home: Arc<Home>,
}

impl Keeper {
    /// Starts one that writes to the database of `home`, and waits until it is ready.
    #[track_caller]
    pub(super) fn start(nats: &Nats, home: &Arc<Home>) -> Self {
        Self::start_with(nats, home, &[])
    }

    /// The same with more arguments.
    #[track_caller]
    pub(super) fn start_with(nats: &Nats, home: &Arc<Home>, args: &[&str]) -> Self {
        Self::start_from(&nats.url("record"), home, args)
    }

    /// Starts one that reads the stream of a URL.
    #[track_caller]
    pub(super) fn start_from(url: &str, home: &Arc<Home>, args: &[&str]) -> Self {
        let mut command = home.echoic(&[&["keep", "--from", url], args].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let err = Lines::of(child.stderr.take().unwrap());
        // A cluster chooses a leader for each of its lanes before.
        err.wait_for_within(SLOW, "keeping: ");
        Self {
            child,
            err,
            home: Arc::clone(home),
        }
    }

    pub(super) fn home(&self) -> Arc<Home> {
        Arc::clone(&self.home)
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
}

impl Drop for Keeper {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

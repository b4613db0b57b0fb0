//! Helpers shared by the end-to-end tests: the program as a process, its database, and peers.
//!
//! Every wait has a deadline, every process is killed by its id, and every server is stopped in order. Its last line is
//! checked: served equals recorded plus lost, and recorded equals what `log` counts.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod background;
mod bytes;
mod home;
mod http;
mod nats;
mod peer;
mod ports;
mod process;
mod repeat;
mod serve;
mod terminal;

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    background::{Background, health_of},
    bytes::{obeyed, plain},
    home::Home,
    http::{Answer, ConsoleAt},
    nats::Nats,
    peer::{Load, Loaded, Talk},
    ports::{free_port, raise_open_files, tutorial_ports},
    process::{Lines, Ran, kill, python, run, signal, tool, wait_for_end},
    repeat::{repeat_while, stood_still, undisturbed},
    serve::{Serve, Stopped},
    terminal::terminal,
};

/// Deadline for anything that should happen soon: far longer than it takes, and bearable when a test fails.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

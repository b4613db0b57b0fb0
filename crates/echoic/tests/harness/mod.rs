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
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    background::{Background, health_of},
    bytes::{obeyed, plain},
    home::Home,
    http::{Answer, ConsoleAt},
    nats::Nats,
    peer::{FULL_AFTER, Load, Loaded, Talk, fill},
    ports::{free_port, free_ports, raise_open_files, tutorial_ports},
    process::{Lines, Ran, kill, python, run, signal, signal_to_the_end, tool, wait_for_end},
    repeat::{repeat_while, stood_still, undisturbed},
    serve::{Serve, Stopped},
    terminal::terminal,
};

/// Deadline for anything that should happen soon: far longer than it takes, and bearable when a test fails.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Deadline for what takes 10 to 20 seconds when the machine has nothing else to do: a cluster chooses its leaders, or a server is
/// taken for dead.
pub(crate) const SLOW: Duration = Duration::from_mins(2);

/// Deadline for a record to catch up with a load that was faster: what a killed keeper had comes again after ten seconds, and a busy
/// machine takes long for each of many small messages. What is never written is missing after it too.
pub(crate) const WRITTEN: Duration = Duration::from_mins(3);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(SOON, what, condition);
}

/// The same with another deadline.
#[track_caller]
pub(crate) fn until_within(at_most: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let holds = holds_within(at_most, &mut condition);
    assert!(holds, "waited in vain until {what}");
}

/// Waits until a value is the expected one, while what makes it may still be under way.
#[track_caller]
pub(crate) fn until_equal<T: Debug + PartialEq>(
    at_most: Duration,
    what: &str,
    expected: &T,
    mut value: impl FnMut() -> T,
) {
    let mut last = None;
    let is_equal = holds_within(at_most, &mut || last.insert(value()) == expected);
    assert!(is_equal, "{what}: {last:?}, expected {expected:?}");
}

/// Tries again and again, but ever less often: most conditions start a process, and what they wait for needs the machine too.
fn holds_within(at_most: Duration, condition: &mut dyn FnMut() -> bool) -> bool {
    const PAUSE_MAX: Duration = Duration::from_millis(50);
    let (since, mut pause) = (Instant::now(), Duration::from_millis(1));
    while !condition() {
        if since.elapsed() > at_most {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
    true
}

//! Processes that hang: they are connected, and do not answer.

use rustix::process::Signal;
use serde_json::Value;

use super::{
    Tiers,
    harness::{Nats, Talk, until},
    line, status,
};

/// Only something else can tell of a process that says nothing: here a console that knew it.
#[test]
fn worker_that_hangs_is_silent_with_exit_code_5_and_comes_back() {
    let nats = Nats::with_jetstream();
    let tiers = Tiers::start(&nats, "");
    let api = tiers.console.console();
    let worker = tiers.worker.id();
    let state = || {
        let listed = api.get("/api/v1/processes").json();
        let listed = listed["processes"].as_array().unwrap();
        line(listed, worker).map(|it| it["state"].clone())
    };
    until("the console knows it", || state() == Some("running".into()));
    tiers.worker.signal(Signal::STOP);
    until("the console tells", || state() == Some("silent".into()));
    // On a busy machine others may be silent for a second, too.
    until("status tells", || {
        let (lines, code, err) = status(&tiers.home, &["--on", &tiers.on]);
        let why = "1 process is connected to NATS and did not answer within 1s";
        let is_silent = |it: &Value| it["role"] == "work" && it["state"] == "silent";
        line(&lines, worker).is_some_and(is_silent) && code == Some(5) && err.contains(why)
    });
    tiers.worker.signal(Signal::CONT);
    until("it is back", || {
        status(&tiers.home, &["--on", &tiers.on]).1 == Some(0)
    });
    until("for the console too", || state() == Some("running".into()));
}

#[test]
fn what_waits_for_a_keeper_that_hangs_is_told_by_servers() {
    let nats = Nats::with_jetstream();
    let tiers = Tiers::start(&nats, "");
    tiers.keeper.signal(Signal::STOP);
    Talk::to(tiers.second.at[0]).ask("HELLO\n", "hello\n");
    let server = tiers.second.id();
    let stream = || {
        let (lines, ..) = status(&tiers.home, &["--on", &tiers.on]);
        line(&lines, server).map(|line| line["stream"].clone())
    };
    until("a batch waits", || {
        let stream = stream().unwrap_or_default();
        stream["pending"].as_u64() > Some(0) && stream["oldest_us"].as_u64() > Some(1 << 50)
    });
    tiers.keeper.signal(Signal::CONT);
    until("all is stored", || {
        stream().is_some_and(|it| it["pending"] == 0)
    });
}

/// A process that was killed is not connected any more: it is gone, and not silent.
#[test]
fn process_that_was_killed_leaves_the_list() {
    let nats = Nats::with_jetstream();
    let tiers = Tiers::start(&nats, "");
    let api = tiers.console.console();
    let count = || {
        let listed = api.get("/api/v1/processes").json();
        listed["processes"].as_array().unwrap().len()
    };
    until("all are known", || count() == 5);
    let Tiers {
        worker, on, home, ..
    } = &tiers;
    worker.signal(Signal::KILL);
    until("it leaves the list of the console", || count() == 4);
    let (lines, code, err) = status(home, &["--on", on, "--within", "3s"]);
    assert_eq!((lines.len(), code), (4, Some(0)), "{err}");
}

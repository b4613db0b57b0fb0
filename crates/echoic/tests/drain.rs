//! TERM for `work` and `keep`: what was taken is finished, and a second one ends at once.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;

use self::harness::{Background, Home, Load, Nats, Serve, Talk, WRITTEN, until, until_within};

fn worker(nats: &Nats) -> Background {
    let url = nats.url("echo");
    Background::start(&Home::new(), &["work", "echo", "--on", &url], "working: ")
}

fn keeper(nats: &Nats, home: &Home) -> Background {
    let url = nats.url("record");
    Background::start(home, &["keep", "--from", &url], "keeping: ")
}

/// Returns the first number of the last line, which begins with `stopped: `.
#[track_caller]
fn total(err: &[String]) -> u64 {
    let last = err.last().unwrap();
    let rest = last.strip_prefix("stopped: ");
    let rest = rest.unwrap_or_else(|| panic!("{err:?}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn rolling_restart_of_workers_under_load_fails_no_exchange() {
    let nats = Nats::start(&[]);
    let mut workers = vec![worker(&nats)];
    let url = nats.url("echo");
    let serve = Serve::start(&[":0", "--as", &url, "--frame", "line"]);
    let load = Load::start(serve.at[0], "w", &[1, 4, 16]);
    let (mut replies, mut answered) = (0, 0);
    for _ in 0..5 {
        replies += 1_000;
        load.wait_for(replies);
        workers.push(worker(&nats));
        answered += total(&workers.remove(0).stop());
    }
    let served = serve.stop().served;
    for peer in load.ends() {
        peer.assert_prefix();
        assert!(peer.end.is_ok() && peer.left.is_empty(), "{:?}", peer.end);
    }
    for worker in workers {
        answered += total(&worker.stop());
    }
    // On a busy machine a run may take a second, and is then given to another worker too.
    println!("{served} served, {answered} answered");
    assert!(answered >= served, "{answered} answered, {served} served");
}

/// What a stopped keeper had received is written and acknowledged: no batch is written by two.
#[test]
fn stopped_keepers_acknowledge_what_they_took_and_nothing_is_written_twice() {
    let nats = Nats::with_jetstream();
    let home = Arc::new(Home::new());
    let serve = Serve::start(&["echo=:0", "--frame", "line", "--store", &nats.url("record")]);
    let load = Load::start(serve.at[0], "k", &[1, 4, 16]);
    let (mut replies, mut written) = (0, 0);
    for _ in 0..4 {
        let keeper = keeper(&nats, &home);
        let before = home.count(&[]);
        replies += 1_000;
        load.wait_for(replies);
        until("it writes", || home.count(&[]) > before);
        written += total(&keeper.stop());
        assert_eq!(written, home.count(&[]), "what it says is in the database");
    }
    let served = serve.stop().served;
    drop(load.ends());
    let keeper = keeper(&nats, &home);
    until_within(WRITTEN, "everything is written", || {
        home.count(&[]) >= served
    });
    written += total(&keeper.stop());
    println!("{served} served, {written} written");
    assert_eq!((written, home.count(&[])), (served, served));
    // Its acknowledgements may be under way.
    until("the stream is empty", || {
        nats.stream_messages("record") == 0
    });
}

/// Sends TERM until the process has ended. Signals within 50 ms count as one.
#[track_caller]
fn interrupt(mut process: Background) -> Vec<String> {
    until("it ends by the second signal", || {
        if process.has_ended() {
            return true;
        }
        process.signal(Signal::TERM);
        std::thread::sleep(Duration::from_millis(100));
        false
    });
    let (code, err) = process.ends();
    assert_eq!(code, Some(130), "{err:?}");
    err
}

/// A NATS that hangs holds up the drain of a worker; a second signal does not wait for it.
#[test]
fn second_signal_ends_the_drain_of_a_worker_at_once() {
    let nats = Nats::start(&[]);
    let worker = worker(&nats);
    nats.freeze();
    let err = interrupt(worker);
    nats.thaw();
    assert!(
        err[1].starts_with("stopping: ") && err.len() == 2,
        "{err:?}"
    );
}

/// One signal ends it all the same, within the time that it tells the service manager.
#[test]
fn drain_of_a_worker_ends_by_itself_when_nats_hangs() {
    let nats = Nats::start(&[]);
    let worker = worker(&nats);
    nats.freeze();
    worker.signal(Signal::TERM);
    let (code, err) = worker.ends();
    nats.thaw();
    assert_eq!(code, Some(0), "{err:?}");
}

/// A store that fails holds up the drain of a keeper: one signal gives it some seconds, a second one none. What is not written
/// stays in the stream, and the next keeper writes it once.
#[test]
fn drain_of_a_keeper_whose_store_fails_ends_and_loses_nothing() {
    let Some(mut postgres) = trials_postgres::server("") else {
        return;
    };
    let database = postgres.database();
    let (nats, home) = (Nats::with_jetstream(), Home::new());
    let (from, to) = (nats.url("record"), database.url());
    let keeper = || {
        let args = ["keep", "--from", &from, "--store", &to];
        Background::start(&home, &args, "keeping: ")
    };
    let serve = Serve::start(&["echo=:0", "--frame", "line", "--store", &from]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("before\n", "before\n");
    // Two, of which one has what is recorded now. It comes to the other one when that has ended.
    let (patient, hasty) = (keeper(), keeper());
    until("both have begun", || home.count(&["--store", &to]) == 1);
    postgres.restart("", || {
        talk.ask("meanwhile\n", "meanwhile\n");
        let failing = |keeper: &Background| {
            let lines = keeper.err.clone();
            lines
                .so_far()
                .iter()
                .any(|line| line.starts_with("not writing: "))
        };
        until("one of them fails", || failing(&patient) || failing(&hasty));
        let (first, second) = if failing(&hasty) {
            (hasty, patient)
        } else {
            (patient, hasty)
        };
        first.signal(Signal::TERM);
        let (code, err) = first.ends();
        assert!(
            err.iter().any(|line| line.contains("stay in the stream")),
            "{err:?}"
        );
        println!("{code:?} {err:?}");
        until("the other one has it", || failing(&second));
        interrupt(second);
    });
    let last = keeper();
    until("it is written", || home.count(&["--store", &to]) == 2);
    drop(talk);
    serve.stop();
    last.stop();
    assert_eq!(home.count(&["--store", &to]), 2);
}

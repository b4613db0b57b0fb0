//! The N-th call of each system call fails, for every N: row 49.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers in a test file for the program"
)]

use std::{collections::BTreeMap, fmt::Write, sync::Mutex, thread};

use anyhow::Result;
use trials_crash::visit::visit;
use trials_report::{Row, Scale, program};

/// What fails, and how: errors that such a call has in its manual page.
const CALLS: [(&str, &str); 22] = [
    ("accept4", "EMFILE"),
    ("accept4", "ECONNABORTED"),
    ("recvfrom", "ECONNRESET"),
    ("sendto", "EPIPE"),
    ("epoll_wait", "EINTR"),
    ("epoll_ctl", "ENOMEM"),
    ("epoll_create1", "EMFILE"),
    ("eventfd2", "EMFILE"),
    ("socket", "EMFILE"),
    ("socketpair", "EMFILE"),
    ("bind", "EADDRINUSE"),
    ("listen", "EADDRINUSE"),
    ("setsockopt", "ENOBUFS"),
    ("getsockname", "ENOBUFS"),
    ("openat", "EMFILE"),
    ("pread64", "EIO"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("fsync", "EIO"),
    ("ftruncate", "EIO"),
    ("unlink", "EACCES"),
    ("fcntl", "ENOLCK"),
];

/// What may strike what is not ours: the words that tell, and whose it is.
const NOT_OURS: [(&str, &str); 3] = [
    (
        "error while loading shared libraries",
        "the loader, before the program begins",
    ),
    (
        "Bad read on self-pipe",
        "tokio's pipe to itself, which no network can reset",
    ),
    (
        "failed to create UnixStream",
        "tokio's, where three such calls have just succeeded; with too few files they do not, and that has its test",
    ),
];

#[test]
fn whatever_call_fails_it_is_said_and_survived() {
    let scale = Scale::asked();
    // strace counts by thread, so that a number may strike several of them.
    let numbers: Vec<usize> = scale.pick(vec![1, 4], (1..=24).collect());
    let mut runs: Vec<(&str, &str, usize)> = Vec::new();
    for (call, error) in CALLS {
        runs.extend(numbers.iter().map(|number| (call, error, *number)));
    }
    let runs = Mutex::new(runs.into_iter());
    let outcomes = Mutex::new(BTreeMap::new());
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let Some(run) = runs.lock().unwrap().next() else {
                        break;
                    };
                    let outcome = strike(run);
                    outcomes.lock().unwrap().insert(run, outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    let struck = outcomes
        .values()
        .filter(|outcome| matches!(outcome, Ok(1..)))
        .count();
    let mut failures = String::new();
    for ((call, error, number), outcome) in &outcomes {
        if let Err(why) = outcome {
            let why = format!("{why:#}");
            if !NOT_OURS.iter().any(|(words, _)| why.contains(words)) {
                let _ = writeln!(failures, "{call} {number} {error}: {why}");
            }
        }
    }
    Row {
        row: 49,
        hazard: "a system call that fails".into(),
        load: format!(
            "{} kinds of failure, at the {}th call at most; a visit of 20 exchanges each",
            CALLS.len(),
            numbers.last().unwrap()
        ),
        observed: format!(
            "{} runs, {struck} of them struck; {}",
            outcomes.len(),
            if failures.is_empty() {
                "none hung, panicked, lied or left a broken record"
            } else {
                &failures
            }
        ),
        limit: "no panic, no hang, a sound record, a truthful exit code, the reason in a sentence"
            .into(),
        control: control(),
        pass: failures.is_empty() && struck > CALLS.len(),
        scale,
    }
    .hold();
}

/// One visit; says how often something failed in it.
fn strike((call, error, number): (&str, &str, usize)) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let inject = format!("{call}:error={error}:when={number}");
    let visit = visit(&program("echoic"), folder.path(), "normal", &inject, "k1")?;
    visit.is_truthful()?;
    Ok(visit.struck)
}

/// A serve that nothing is left to but to die: the same questions must find it untruthful.
fn control() -> String {
    let folder = tempfile::tempdir().unwrap();
    let dies = visit(
        &program("echoic"),
        folder.path(),
        "normal",
        "sendto:signal=SIGABRT:when=2",
        "k1",
    )
    .unwrap();
    let why = dies
        .is_truthful()
        .expect_err("one that aborts passes for one that stops");
    format!(
        "one that aborts is found out: {}",
        why.to_string().lines().next().unwrap_or_default()
    )
}

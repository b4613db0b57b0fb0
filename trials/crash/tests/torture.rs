//! The N-th call of each system call fails, for every N: row 49.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers in a test file for the program"
)]

use std::{collections::BTreeMap, fmt::Write, sync::Mutex, thread};

use anyhow::Result;
use trials_crash::visit::visit;
use trials_report::{Row, Scale, program};

/// The calls that fail, and with which errors of their manual pages. Left out are calls that cannot fail as they are
/// used: `write` (to an eventfd, for epoll; printing has tests of its own), `futex`, `brk` (it has no error, and an
/// invented one crashes the C library), and clocks, which are read without a system call.
const CALLS: [(&str, &str); 36] = [
    ("clone3", "EAGAIN"),
    ("mmap", "ENOMEM"),
    ("mprotect", "ENOMEM"),
    ("mremap", "ENOMEM"),
    ("sigaltstack", "ENOMEM"),
    ("getrandom", "ENOSYS"),
    ("prlimit64", "EPERM"),
    ("getcwd", "ENOENT"),
    ("newfstatat", "EIO"),
    ("statx", "EIO"),
    ("flock", "ENOLCK"),
    ("lseek", "EINVAL"),
    ("fchown", "EPERM"),
    ("shutdown", "ENOTCONN"),
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

/// Failures in code that is not ours: the text that identifies them, and where they come from.
const NOT_OURS: [(&str, &str); 6] = [
    (
        "error while loading shared libraries",
        "the loader, before the program begins",
    ),
    (
        "Fatal glibc error",
        "the C library's, before the program begins",
    ),
    (
        "failed to set up alternative stack guard page",
        "the standard library's, which readies a thread for its stack to overflow and aborts if it cannot",
    ),
    ("failed to allocate an alternative stack", "the same"),
    (
        "Bad read on self-pipe",
        "tokio's pipe to itself, which no network can reset",
    ),
    (
        "failed to create UnixStream",
        "tokio's, where three such calls have just succeeded; with too few files they do not, and that has its test",
    ),
];

/// No call is made more often than this in such a visit.
const CALLS_MAX: usize = 1000;

#[test]
fn any_failing_system_call_is_reported_and_survived() {
    let scale = Scale::asked();
    let calls = Mutex::new(CALLS.into_iter());
    let outcomes = Mutex::new(BTreeMap::new());
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let Some(call) = calls.lock().unwrap().next() else {
                        break;
                    };
                    let visits = inject_each_failure(call, scale);
                    outcomes.lock().unwrap().extend(visits);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    let struck = outcomes.values().filter(|outcome| was_injected(outcome));
    let struck = struck.count();
    let mut failures = String::new();
    for ((call, error, number), outcome) in &outcomes {
        if let Err(why) = outcome {
            let why = format!("{why:#}");
            if !is_not_ours(call, &why) {
                let _ = writeln!(failures, "{call} {number} {error}: {why}");
            }
        }
    }
    Row {
        row: 49,
        hazard: "a system call that fails".into(),
        load: format!(
            "{} kinds of failure, {}; a visit of 20 exchanges each",
            CALLS.len(),
            scale.pick(
                "at the first call and the fourth",
                "at each call until none is left"
            )
        ),
        observed: format!(
            "{} runs, {struck} of them struck; {}",
            outcomes.len(),
            if failures.is_empty() {
                "none hung, panicked, reported wrongly or left a broken record"
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

type Outcomes = Vec<((&'static str, &'static str, usize), Result<usize>)>;

/// Fails a call at its first time, its second, and so on until no call is left to fail.
fn inject_each_failure((call, error): (&'static str, &'static str), scale: Scale) -> Outcomes {
    // strace counts by thread, so a number may hit several of them, and one may hit none where the next does.
    let numbers: Vec<usize> = scale.pick(vec![1, 4], (1..=CALLS_MAX).collect());
    let (mut outcomes, mut missed) = (Outcomes::new(), 0);
    for number in numbers {
        let run = (call, error, number);
        let outcome = inject_failure(run);
        missed = if was_injected(&outcome) {
            0
        } else {
            missed + 1
        };
        outcomes.push((run, outcome));
        if missed == 3 {
            break;
        }
    }
    outcomes
}

fn was_injected(outcome: &Result<usize>) -> bool {
    !matches!(outcome, Ok(0))
}

fn is_not_ours(call: &str, why: &str) -> bool {
    // The loader's first mapping fails without a message.
    let silent = call == "mmap" && why.trim_end() == "ended by a signal:";
    silent || NOT_OURS.iter().any(|(words, _)| why.contains(words))
}

/// Runs one visit; returns how often a call failed in it.
fn inject_failure((call, error, number): (&str, &str, usize)) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let inject = format!("{call}:error={error}:when={number}");
    let visit = visit(&program("echoic"), folder.path(), "normal", &inject, "k1")?;
    visit.is_truthful()?;
    Ok(visit.struck)
}

/// The control: a server that is aborted by the failure; the same checks must find it untruthful.
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
        "an abort is detected: {}",
        why.to_string().lines().next().unwrap_or_default()
    )
}

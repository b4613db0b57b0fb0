//! Readers of `serve`'s output: one that is slow, gone or full misses events and gets a count of them; serving
//! continues.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::{
    fs::File,
    io::{BufRead, BufReader, pipe},
    net::SocketAddr,
    process::{Child, Stdio},
};

use harness::{Home, Lines, Load, SOON, Talk, signal, wait_for_end};
use rustix::process::Signal;
use serde_json::Value;

/// More than twice the events that are queued for a slow watcher.
const ASKED: u64 = 600;
const LINE_BYTES: usize = 60_000;

#[test]
fn slow_event_reader_delays_no_peer_and_gets_a_missed_count() {
    let home = Home::new();
    let (read, write) = pipe().unwrap();
    let mut command = home.echoic(&[
        "serve",
        "127.0.0.1:0",
        "--frame",
        "line",
        "--store",
        "none",
        "--print",
        "--json",
    ]);
    let mut child = command
        .stdout(write)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let err = Lines::of(child.stderr.take().unwrap());
    // The parent closes its copy of the pipe, so that the end of output is seen.
    command.stdout(Stdio::null());
    let mut events = BufReader::new(read).lines().map(Result::unwrap);
    let at: SocketAddr = events.next().unwrap().parse().unwrap();
    let peak = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mut lines = status.lines();
        let peak = lines.find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // Most of it are pages of the program itself.
    let idle = peak();
    // The pipe is not read from here on; it takes 64 KiB, and the first line alone is larger.
    let mut talk = Talk::to(at);
    let line = format!("{}\n", "a".repeat(LINE_BYTES));
    for _ in 0..ASKED {
        talk.ask(&line, line.to_uppercase());
    }
    drop(talk.finish());
    let grown = peak() - idle;
    assert!(
        grown < 48 << 10,
        "72 MB were sent, and {grown} KiB are held"
    );
    signal(&child, Signal::TERM);
    let (mut shown, mut missed, mut gaps) = (0, 0, 0);
    for event in events {
        let event: Value = serde_json::from_str(&event).unwrap();
        match event["ev"].as_str().unwrap() {
            "exchange" => shown += 1,
            "gap" => {
                gaps += 1;
                missed += event["n"].as_u64().unwrap();
            }
            _ => {}
        }
    }
    assert!(wait_for_end(&mut child, SOON).is_some());
    assert!(gaps >= 1, "the control: nothing was missed");
    assert_eq!(
        shown + missed,
        ASKED,
        "{shown} shown, {missed} missed in {gaps} gaps"
    );
    assert_eq!(warnings(&err).len(), 1, "{:?}", err.all());
}

/// Returns the lines about standard output on standard error, once the process has exited.
fn warnings(err: &Lines) -> Vec<String> {
    let lines = err.all();
    let of_output = |line: &String| line.contains("standard output");
    lines.into_iter().filter(of_output).collect()
}

/// Starts `serve --json` with this as standard output; returns its address, and its standard error.
fn serve_into(home: &Home, out: impl Into<Stdio>) -> (Child, SocketAddr, Lines) {
    let mut command = home.echoic(&["serve", "127.0.0.1:0", "--frame", "line", "--json"]);
    let mut child = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    let err = Lines::of(child.stderr.take().unwrap());
    let listening = err.wait_for("listening on tcp://");
    let at = listening.trim_start_matches("listening on tcp://");
    let at = at.split(' ').next().unwrap().parse().unwrap();
    (child, at, err)
}

/// Exchanges this many lines, and stops the server in order: all are served and recorded, whatever happens to its
/// output.
fn serves(home: &Home, (mut child, at, err): (Child, SocketAddr, Lines), lines: u64) -> Lines {
    let mut talk = Talk::to(at);
    for _ in 0..lines {
        talk.ask("hello\n", "HELLO\n");
    }
    drop(talk.finish());
    signal(&child, Signal::TERM);
    let ended = wait_for_end(&mut child, SOON).unwrap();
    assert_eq!(ended.code(), Some(0), "{:?}", err.all());
    let stopped = format!("stopped: {lines} exchanges served, {lines} recorded, 0 lost");
    assert_eq!(err.all().last(), Some(&stopped));
    assert_eq!(home.count(&[]), lines);
    err
}

#[test]
fn json_gap_plus_printed_equals_served() {
    let home = Home::new();
    let path = home.path().join("events");
    let serving = serve_into(&home, File::create(&path).unwrap());
    let load = Load::start(serving.1, "peer", &[1, 16, 64]);
    load.wait_for(20_000);
    let (mut child, _, err) = serving;
    signal(&child, Signal::TERM);
    let answered: u64 = load
        .ends()
        .iter()
        .map(|peer| peer.received.len() as u64)
        .sum();
    let ended = wait_for_end(&mut child, SOON).unwrap();
    assert_eq!(ended.code(), Some(0), "{:?}", err.all());
    let (mut printed, mut missed) = (0, 0);
    for line in std::fs::read_to_string(&path).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        match event["ev"].as_str().unwrap() {
            "exchange" => printed += 1,
            "gap" => missed += event["n"].as_u64().unwrap(),
            _ => {}
        }
    }
    let served = printed + missed;
    let stopped = format!("stopped: {served} exchanges served, ");
    let last = err.all().pop().unwrap();
    assert!(last.starts_with(&stopped), "{printed} + {missed}: {last}");
    assert!(served >= answered, "{served} of {answered}");
}

#[test]
fn full_device_warns_once() {
    let home = Home::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let err = serves(&home, serve_into(&home, full), 3000);
    let warned = warnings(&err);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("No space left"), "{warned:?}");
}

#[test]
fn closed_output_warns_once() {
    let home = Home::new();
    let (read, write) = pipe().unwrap();
    drop(read);
    let err = serves(&home, serve_into(&home, write), 100);
    let warned = warnings(&err);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].contains("standard output was closed"),
        "{warned:?}"
    );
}

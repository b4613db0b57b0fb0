//! Who looks on and does not read misses events, and is told how many; whoever talks notices nothing of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::{
    io::{BufRead, BufReader, pipe},
    net::SocketAddr,
    process::Stdio,
};

use harness::{Home, SOON, Talk, signal, wait_for_end};
use rustix::process::Signal;
use serde_json::Value;

/// More than eight times the events that are held for who is behind.
const ASKED: u64 = 600;
const LINE_BYTES: usize = 60_000;

#[test]
fn who_does_not_read_the_events_hinders_nobody_and_is_told_how_many_it_missed() {
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
    ]);
    let mut child = command.stdout(write).stderr(Stdio::null()).spawn().unwrap();
    // The program's side of the pipe is the program's alone, so that its end is seen.
    command.stdout(Stdio::null());
    let mut events = BufReader::new(read).lines().map(Result::unwrap);
    let at: SocketAddr = events.next().unwrap().parse().unwrap();
    // From here on nobody reads; a pipe takes 64 KiB, the first line alone is more.
    let mut talk = Talk::to(at);
    let line = format!("{}\n", "a".repeat(LINE_BYTES));
    for _ in 0..ASKED {
        talk.ask(&line, line.to_uppercase());
    }
    drop(talk.finish());
    let grown = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = grown
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 64 << 10, "72 MiB were said, and {peak} KiB are held");
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
}

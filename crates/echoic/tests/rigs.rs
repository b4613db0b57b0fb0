//! `echoic bench` against peers whose truth is known: what it says is compared with what they really did.
//!
//! On a loaded machine a peer freezes longer, or a datagram is dropped on its way; so the truth is what the peer
//! delivered, never what it was told to deliver.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may say what it saw"
)]

#[path = "rigs/freezer.rs"]
mod freezer;
mod harness;

use std::time::Duration;

use freezer::Freezer;
use harness::Home;
use serde_json::Value;

/// The server freezes once, for more than one in a hundred of the requests.
const FREEZE: (Duration, Duration) = (Duration::from_millis(700), Duration::from_millis(600));

fn bench(args: &str) -> Value {
    let words: Vec<_> = ["bench", "-o", "json", "-q", "--no-floor"]
        .into_iter()
        .chain(args.split_whitespace())
        .collect();
    let ran = Home::new().run(&words);
    println!("{}", String::from_utf8_lossy(&ran.out));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_slice(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn figure(of: &Value, path: &str) -> f64 {
    let value = of.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no {path} in {of}"))
}

/// Within a fiftieth, or 3 ms: a request counts as answered when its reply was read, not when it was written.
fn near(told_us: f64, true_us: f64) -> bool {
    (told_us - true_us).abs() <= (true_us / 50.0).max(3_000.0)
}

/// What `percent` of a hundred do not exceed.
fn at(ascending: &[f64], percent: usize) -> f64 {
    ascending[(ascending.len() * percent).div_ceil(100) - 1]
}

#[test]
fn a_freeze_is_in_the_latencies_from_the_due_moment() {
    let freezer = Freezer::start(&[FREEZE]);
    let told = bench(&format!(
        "{} --frame line -c 4 -r 1000 -d 3s --warmup 0s --template {{now}} --expect echo",
        freezer.addr
    ));
    let truth = freezer.truth();
    assert_eq!(told["asked"], 3_000);
    assert_eq!(truth.len(), 3_000, "each request was asked once");
    let gaps = truth.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let uneven = gaps.filter(|gap| (gap - 1_000.0).abs() > 2.0).count();
    assert_eq!(uneven, 0, "requests are due a millisecond after each other");
    let mut latencies: Vec<_> = truth.iter().map(|(_, latency)| *latency).collect();
    latencies.sort_by(f64::total_cmp);
    let [p50, p90, p99] = [50, 90, 99].map(|percent| at(&latencies, percent));
    println!("truth: p50 {p50:.0} p90 {p90:.0} p99 {p99:.0} µs");
    assert!(p99 > 500e3, "the rig did freeze: {p99}");
    for (name, truth) in [("p50", p50), ("p90", p90), ("p99", p99)] {
        let told = figure(&told, &format!("/latency_due_us/{name}"));
        assert!(
            near(told, truth),
            "{name}: {told} µs, and it was {truth} µs"
        );
    }
    // The control: timed from when it was sent, p99 would be far from true.
    let sent = figure(&told, "/latency_sent_us/p99");
    assert!(sent < p99 / 4.0, "{sent} µs, and it was {p99} µs");
}

#[test]
fn a_closed_loop_hides_the_same_freeze_and_says_that_it_is_one() {
    let freezer = Freezer::start(&[FREEZE]);
    let told = bench(&format!(
        "{} --frame line -c 1 -d 2500ms --warmup 0s --template {{now}} --expect echo",
        freezer.addr
    ));
    assert_eq!(told["loop"], "closed");
    let (p99, max) = (
        figure(&told, "/latency_due_us/p99"),
        figure(&told, "/latency_due_us/max"),
    );
    assert!(max > 590e3, "one request has seen it: {max} µs");
    assert!(
        p99 < 100e3,
        "of all that were never asked none has: {p99} µs"
    );
}

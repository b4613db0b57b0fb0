//! `echoic bench` against peers with known behaviour: its report is compared with what they really did.
//!
//! On a loaded machine a peer freezes longer, or a datagram is dropped on its way; so the reference is what the peer
//! delivered, never what it was configured to deliver.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "bench_accuracy/freezer.rs"]
mod freezer;
mod harness;
#[path = "bench_accuracy/queue.rs"]
mod queue;
#[path = "bench_accuracy/unreliable.rs"]
mod unreliable;

use std::time::Duration;

use freezer::Freezer;
use harness::Home;
use queue::Queue;
use serde_json::Value;
use unreliable::{Treatment, Unreliable};

/// The server freezes once, for more than one in a hundred of the requests.
const FREEZE: (Duration, Duration) = (Duration::from_millis(700), Duration::from_millis(600));

fn bench(args: &str) -> Value {
    let (code, report) = measure(args);
    assert_eq!(code, Some(0), "{report}");
    report
}

/// Asserts the exit code and returns the report, also of a search without a result.
fn search(args: &str) -> Value {
    let (code, report) = measure(args);
    assert!(matches!(code, Some(0 | 7)), "{report}");
    report
}

fn measure(args: &str) -> (Option<i32>, Value) {
    let words: Vec<_> = ["bench", "-o", "json", "-q", "--no-floor"]
        .into_iter()
        .chain(args.split_whitespace())
        .collect();
    let ran = Home::new().run(&words);
    println!("{}", String::from_utf8_lossy(&ran.out));
    let report = serde_json::from_slice(&ran.out);
    (
        ran.code,
        report.unwrap_or_else(|error| panic!("{error}: {ran:?}")),
    )
}

fn figure(of: &Value, path: &str) -> f64 {
    let value = of.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no {path} in {of}"))
}

/// Within 2 %, or 3 ms: a request counts as answered when its reply was read, not when it was written.
fn near(reported_us: f64, true_us: f64) -> bool {
    (reported_us - true_us).abs() <= (true_us / 50.0).max(3_000.0)
}

/// Returns the value that `percent` of a hundred do not exceed.
fn at(ascending: &[f64], percent: usize) -> f64 {
    ascending[(ascending.len() * percent).div_ceil(100) - 1]
}

#[test]
fn freeze_shows_in_latency_from_the_due_time() {
    let freezer = Freezer::start(&[FREEZE]);
    let report = bench(&format!(
        "{} --frame line -c 4 -r 1000 -d 3s --warmup 0s --template {{now}} --expect echo",
        freezer.addr
    ));
    let truth = freezer.truth();
    assert_eq!(report["asked"], 3_000);
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
        let report = figure(&report, &format!("/latency_due_us/{name}"));
        assert!(
            near(report, truth),
            "{name}: {report} µs, and it was {truth} µs"
        );
    }
    // The control: measured from the time of the send, p99 would be far from true.
    let sent = figure(&report, "/latency_sent_us/p99");
    assert!(sent < p99 / 4.0, "{sent} µs, and it was {p99} µs");
}

#[test]
fn closed_loop_hides_the_freeze_and_reports_its_mode() {
    let freezer = Freezer::start(&[FREEZE]);
    let report = bench(&format!(
        "{} --frame line -c 1 -d 2500ms --warmup 0s --template {{now}} --expect echo",
        freezer.addr
    ));
    assert_eq!(report["loop"], "closed");
    let (p99, max) = (
        figure(&report, "/latency_due_us/p99"),
        figure(&report, "/latency_due_us/max"),
    );
    assert!(max > 590e3, "one request has seen it: {max} µs");
    assert!(
        p99 < 100e3,
        "of all that were never asked none has: {p99} µs"
    );
}

/// Number of request datagrams.
const ASKED: u64 = 3_000;

fn script(number: u64) -> Treatment {
    match number % 100 {
        // Counting gaps alone would miss the last ones.
        _ if number >= ASKED - 50 => Treatment::Lose,
        7 => Treatment::Lose,
        23 => Treatment::Double,
        41 => Treatment::Hold(1),
        59 => Treatment::Corrupt,
        // Two seconds at the rate below: longer than the timeout.
        77 if number < 900 => Treatment::Hold(2_000),
        _ => Treatment::Answer,
    }
}

#[test]
fn every_datagram_outcome_is_counted() {
    let peer = Unreliable::start(script);
    let report = bench(&format!(
        "udp://{} -c 1 -r 1000 -n {ASKED} --timeout 1s --template {{seq}}:hello --expect echo",
        peer.addr
    ));
    let did = peer.did();
    println!("truth: {did:?}");
    let count = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap();
    assert_eq!(count("/sent"), ASKED);
    assert_eq!(
        count("/datagrams/dropped_here"),
        0,
        "too slow to read a thousand a second"
    );
    let on_the_way = ASKED - did.received;
    assert_eq!(count("/lost"), did.lost + on_the_way);
    assert_eq!(count("/wrong"), did.corrupted);
    assert_eq!(count("/late"), did.held_long);
    assert_eq!(
        count("/ok"),
        did.received - did.lost - did.corrupted - did.held_long
    );
    assert_eq!(count("/datagrams/duplicate"), did.doubled);
    assert_eq!(count("/datagrams/reordered"), did.held + did.held_long);
    assert!(
        did.lost > 70
            && did.doubled > 25
            && did.held > 25
            && did.corrupted > 25
            && did.held_long == 9,
        "{did:?}"
    );
    // The control: subtracting received from sent is wrong by the duplicates.
    assert_ne!(ASKED - did.sent, did.lost + on_the_way);
}

#[test]
fn search_finds_the_capacity_of_a_queue() {
    let capacity = 1_600.0;
    let queue = Queue::start(Duration::from_secs(1) / 1_600);
    // A rate over the capacity shows as undelivered, long before p99 is that long; but a generator that is late by a
    // tenth of it reports that, and then the queue was not measured.
    let learnt = (0..3).find_map(|_| {
        let report = search(&format!(
            "{} --frame line -c 32 --find max --slo p99<5s,errors=0 --trial 600ms --confirm 2s --expect echo",
            queue.addr
        ));
        let found = report["search"]["found_per_s"].as_f64();
        // A hundredth more than the capacity still counts as delivered in time.
        assert!(
            found.is_none_or(|found| found < capacity * 1.02),
            "{found:?}/s of at most {capacity}/s"
        );
        found.filter(|_| report["search"]["limited_by"] != "generator")
    });
    let found = learnt.expect("the generator was the limit three times");
    assert!(
        found > capacity / 1.06,
        "{found}/s of {capacity}/s, and 5 % were promised"
    );
}

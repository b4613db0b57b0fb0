//! `echoic bench --against` and `--compare`: an existing difference is reported with its size, and none is reported
//! where there is none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "bench_accuracy/queue.rs"]
mod queue;

use std::{fs, net::TcpListener, time::Duration};

use harness::{Home, Ran};
use queue::Queue;
use serde_json::{Value, json};

/// A closed loop of one connection over a queue takes exactly the queue's time for each request.
const LOAD: &str = "--frame line -c 1 -d 300ms --warmup 0s -q --no-floor --expect echo -o json";

fn bench(home: &Home, args: &str) -> Ran {
    let words: Vec<_> = ["bench"]
        .into_iter()
        .chain(args.split_whitespace())
        .collect();
    home.run(&words)
}

#[track_caller]
fn json(ran: &Ran) -> Value {
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    serde_json::from_slice(&ran.out).unwrap_or_else(|why| panic!("{why}: {ran:?}"))
}

fn compared<'a>(report: &'a Value, figure: &str) -> &'a Value {
    let figures = report["comparison"]["figures"].as_array().unwrap();
    figures.iter().find(|of| of["figure"] == figure).unwrap()
}

fn number(of: &Value, name: &str) -> f64 {
    of[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} of {of}"))
}

#[test]
fn difference_is_detected_by_interleaved_runs() {
    let [fast, slow] = [5, 10].map(|millis| Queue::start(Duration::from_millis(millis)));
    let home = Home::new();
    let report = json(&bench(
        &home,
        &format!(
            "{} --against {} {LOAD} --report run.html",
            fast.addr, slow.addr
        ),
    ));
    let runs: Vec<_> = report["tries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["run"].as_str().unwrap())
        .collect();
    assert_eq!(runs, ["other", "repeat"].repeat(5));
    assert_eq!(report["comparison"]["in_turn"], true);
    let rate = compared(&report, "done_per_s");
    assert_eq!(rate["differs"], true, "{rate}");
    // Twice as fast, and a little less on a busy machine.
    assert!(
        number(rate, "low") > 1.3 && number(rate, "high") < 3.0,
        "{rate}"
    );
    let median = compared(&report, "p50_us");
    assert_eq!(median["differs"], true, "{median}");
    assert!(number(median, "high") < 0.8, "{median}");
    let page = fs::read_to_string(home.path().join("run.html")).unwrap();
    assert!(page.contains(&format!("Compared with {}", slow.addr)) && page.contains("times ("));
}

#[test]
fn no_difference_is_claimed_for_the_same_server() {
    let queue = Queue::start(Duration::from_millis(5));
    let home = Home::new();
    let report = json(&bench(
        &home,
        &format!("{0} --against {0} {LOAD} --repeats 6", queue.addr),
    ));
    let rate = compared(&report, "done_per_s");
    // In five of a hundred cases chance looks like a difference; then it is a small one.
    assert!(
        number(rate, "low") < 1.1 && number(rate, "high") > 0.9,
        "{rate}"
    );
    assert_eq!(report["tries"].as_array().unwrap().len(), 12);
}

#[test]
fn earlier_result_is_compared_where_possible() {
    let [fast, slow] = [5, 10].map(|millis| Queue::start(Duration::from_millis(millis)));
    let home = Home::new();
    let save = |name: &str, args: String| {
        let ran = bench(&home, &args);
        json(&ran);
        fs::write(home.path().join(name), &ran.out).unwrap();
    };
    save("old.json", format!("{} {LOAD} --repeats 5", slow.addr));
    save("once.json", format!("{} {LOAD}", slow.addr));
    let report = json(&bench(
        &home,
        &format!("{} {LOAD} --compare old.json", fast.addr),
    ));
    let rate = compared(&report, "done_per_s");
    assert_eq!(rate["differs"], true, "{rate}");
    assert!(number(rate, "ratio") > 1.3, "{rate}");
    assert_eq!(report["comparison"]["in_turn"], false);
    // A single run proves nothing, but its figures are printed.
    let report = json(&bench(
        &home,
        &format!("{} {LOAD} --compare once.json", fast.addr),
    ));
    let rate = compared(&report, "done_per_s");
    assert_eq!(
        (&rate["differs"], &rate["ratio"]),
        (&json!(null), &json!(null))
    );
    assert!(number(rate, "this") > number(rate, "other"));
    // A different load is reported.
    let report = json(&bench(
        &home,
        &format!("{} {LOAD} --compare old.json -r 50", fast.addr),
    ));
    let notes = report["comparison"]["notes"].to_string();
    assert!(
        notes.contains("not the same loop") && notes.contains("not asked at the same rate"),
        "{notes}"
    );
}

#[test]
fn incomparable_runs_are_rejected_before_measuring() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = listener.local_addr().unwrap();
    let home = Home::new();
    fs::write(home.path().join("not.json"), "{\"version\":1}").unwrap();
    fs::write(home.path().join("new.json"), "{\"version\":2,\"loop\":\"closed\",\"connections\":1,\"pipeline\":1,\"done_per_s\":1,\"latency_due_us\":{}}").unwrap();
    for (args, why) in [
        ("--compare none.json", "none.json: No such file"),
        (
            "--compare not.json",
            "not.json: expected a result of echoic bench",
        ),
        ("--compare new.json", "invalid version 2"),
        (
            "--against udp://:5000",
            "one is a stream, the other sends datagrams",
        ),
        ("--against 192.0.2.1:7", "--allow-load 192.0.2.1"),
        ("--against :5000 --repeats 4", "expected at least 5"),
        ("--against :5000 --compare old.json", "cannot be used with"),
        ("--repeats 5 --find max --slo p99<1s", "cannot be used with"),
    ] {
        let ran = bench(&home, &format!("{endpoint} {args} -q"));
        assert_eq!((ran.code, ran.out.len()), (Some(2), 0), "{args}: {ran:?}");
        assert!(ran.err.contains(why), "{args}: {}", ran.err);
        assert!(
            listener.accept().is_err(),
            "{args}: it connected all the same"
        );
    }
}

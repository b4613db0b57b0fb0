//! `echoic bench --against` and `--compare`: an existing difference is reported with its size, and none is reported
//! where there is none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "bench_accuracy/queue.rs"]
mod queue;

use std::{fs, net::TcpListener, ops::Range, time::Duration};

use harness::{Home, Ran, repeat_while};
use queue::Queue;
use serde_json::{Value, json};

/// A closed loop over a queue that is never empty takes exactly the queue's time for each request: what waits there bridges the
/// pauses of a busy machine.
const LOAD: &str =
    "--frame line -c 1 --pipeline 40 -d 500ms --warmup 0s -q --no-floor --expect echo -o json";

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

/// Whether the report claims that a figure differs, by a factor within these bounds.
fn differs(report: &Value, figure: &str, factors: &Range<f64>) -> bool {
    let of = compared(report, figure);
    let is_within = |name: &str| of[name].as_f64().is_some_and(|at| factors.contains(&at));
    of["differs"] == true && is_within("low") && is_within("high")
}

/// Makes a comparison again, up to five times in all, while it is not as it should be: where the machine stands still for a
/// moment, one of the short runs is slow or has no reply.
fn compare<T>(is_right: impl Fn(&T) -> bool, compare: impl FnMut() -> T) -> T {
    repeat_while(5, |made| !is_right(made), compare)
}

#[test]
fn difference_is_detected_by_interleaved_runs() {
    let [fast, slow] = [2, 10].map(|millis| Queue::start(Duration::from_millis(millis)));
    let home = Home::new();
    // Five times as fast. On a busy machine some runs of either are slower.
    let expected = [("done_per_s", 1.3..15.0), ("p50_us", 0.0..0.8)];
    let is_right = |report: &Value| {
        let mut expected = expected.iter();
        expected.all(|(figure, factors)| differs(report, figure, factors))
    };
    let args = format!(
        "{} --against {} {LOAD} --report run.html",
        fast.addr, slow.addr
    );
    let report = compare(is_right, || json(&bench(&home, &args)));
    assert!(is_right(&report), "{}", report["comparison"]);
    let runs: Vec<_> = report["tries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["run"].as_str().unwrap())
        .collect();
    assert_eq!(runs, ["other", "repeat"].repeat(5));
    assert_eq!(report["comparison"]["in_turn"], true);
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
    let [fast, slow] = [2, 10].map(|millis| Queue::start(Duration::from_millis(millis)));
    let home = Home::new();
    let save = |name: &str, args: String| {
        let ran = bench(&home, &args);
        json(&ran);
        fs::write(home.path().join(name), &ran.out).unwrap();
    };
    let is_faster = |[many, once]: &[Value; 2]| {
        let many = compared(many, "done_per_s");
        let once = compared(once, "done_per_s");
        let [this, other] = ["this", "other"].map(|which| once[which].as_f64());
        many["differs"] == true
            && many["ratio"].as_f64() > Some(1.3)
            && other.is_some()
            && this > other
    };
    let reports = compare(is_faster, || {
        save("old.json", format!("{} {LOAD} --repeats 5", slow.addr));
        save("once.json", format!("{} {LOAD}", slow.addr));
        ["old.json", "once.json"].map(|earlier| {
            let args = format!("{} {LOAD} --compare {earlier}", fast.addr);
            json(&bench(&home, &args))
        })
    });
    assert!(
        is_faster(&reports),
        "{:?}",
        reports.map(|report| report["comparison"].clone())
    );
    let [many, once] = reports;
    assert_eq!(many["comparison"]["in_turn"], false);
    // A single run proves nothing, but its figures are printed.
    let rate = compared(&once, "done_per_s");
    assert_eq!(
        (&rate["differs"], &rate["ratio"]),
        (&json!(null), &json!(null))
    );
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

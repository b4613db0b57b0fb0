//! The course of a `bench` run: which connections it opens and when, what it counts and displays, and how it is
//! stopped.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "bench/screen.rs"]
mod screen;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use harness::{
    Home, Lines, SOON, Serve, signal, signal_to_the_end, terminal, undisturbed, wait_for_end,
};
use rustix::process::Signal;
use screen::Screen;
use serde_json::Value;

fn bench(home: &Home, at: &str, args: &str) -> Value {
    let mut words = vec!["bench", at, "--frame", "line", "--no-floor", "-o", "json"];
    words.extend(args.split_whitespace());
    let report = home.run(&words).good();
    serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"))
}

/// A server that reports when each client connected; `answer` returns the reply to a line, or none.
fn listening(answer: fn(&str) -> Option<String>) -> (SocketAddr, Receiver<Instant>) {
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = here.local_addr().unwrap();
    let (sender, came) = sync_channel(100);
    thread::spawn(move || {
        for peer in here.incoming().map_while(Result::ok) {
            let _ = sender.send(Instant::now());
            thread::spawn(move || talk(&peer, answer));
        }
    });
    (at, came)
}

fn talk(peer: &TcpStream, answer: fn(&str) -> Option<String>) {
    let mut writer = peer;
    let lines = BufReader::new(peer).lines();
    for line in lines.map_while(Result::ok) {
        if let Some(reply) = answer(&line)
            && writer.write_all(reply.as_bytes()).is_err()
        {
            return;
        }
    }
}

fn upper(line: &str) -> Option<String> {
    Some(format!("{}\n", line.to_uppercase()))
}

/// A server that answers one line every four milliseconds, over all its connections.
fn slow_upper(line: &str) -> Option<String> {
    static CLERK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _busy = CLERK.lock().unwrap();
    thread::sleep(Duration::from_millis(4));
    upper(line)
}

fn never(_: &str) -> Option<String> {
    None
}

#[test]
fn connections_open_at_the_requested_rate() {
    let home = Home::new();
    let took = |how: &str| {
        let (at, came) = listening(upper);
        let args = format!("-c 10 -n 10 -q --expect upper {how}");
        let report = bench(&home, &at.to_string(), &args);
        assert_eq!(report["ok"], 10, "{report}");
        let came: Vec<Instant> = came.try_iter().collect();
        // The first connection only checks that a server is there.
        assert_eq!(came.len(), 11);
        came[10] - came[1]
    };
    // Nine gaps of 50 ms.
    let (ramp, rate) = (took("--ramp 500ms"), took("--conn-rate 20"));
    let least = Duration::from_millis(400);
    assert!(ramp >= least && rate >= least, "{ramp:?}, {rate:?}");
    // The control. The machine may be slow, but hardly five times in a row.
    let at_once = (0..5).map(|_| took("")).min().unwrap();
    assert!(at_once < least, "{at_once:?}");
}

#[test]
fn file_is_sent_byte_for_byte() {
    let serve = Serve::start(&[":0", "--frame", "line"]);
    let at = serve.at[0].to_string();
    std::fs::write(serve.home.path().join("message"), "from a file, ß\u{1b}").unwrap();
    let report = bench(&serve.home, &at, "-f message -n 7 -q --expect upper");
    assert_eq!((&report["ok"], &report["wrong"]), (&7.into(), &0.into()));
    let home = serve.home.clone();
    serve.stop();
    let recorded = home.log(&["from"]);
    assert_eq!(recorded.len(), 7, "{recorded:?}");
}

#[test]
fn automatic_warmup_is_not_counted() {
    let (at, _) = listening(upper);
    let begun = Instant::now();
    let report = bench(
        &Home::new(),
        &at.to_string(),
        "-c 2 -n 60 --warmup auto -q --expect upper",
    );
    assert_eq!((&report["ok"], &report["asked"]), (&60.into(), &60.into()));
    // Two windows of half a second are the fewest that can agree.
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn search_finds_the_capacity_of_a_slow_server() {
    let (at, _) = listening(slow_upper);
    let report = bench(
        &Home::new(),
        &at.to_string(),
        "--find max --slo p50<100ms --trial 700ms --confirm 1s -c 8 --drain-timeout 2s -q --expect upper",
    );
    let found = report["search"]["found_per_s"].as_f64().unwrap();
    // Four milliseconds each, or more: never above 250 a second; how far below depends on the machine.
    assert!((20.0..=262.0).contains(&found), "{report}");
    assert_eq!(report["tries"][0]["kept"], false, "{report}");
    let last = report["tries"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["run"], &last["kept"]),
        (&"confirm".into(), &true.into())
    );
}

#[test]
fn first_look_uses_one_then_eight_connections() {
    let (at, came) = listening(|line| {
        // Slow enough that half of it is no load for any machine.
        thread::sleep(Duration::from_millis(5));
        upper(line)
    });
    let home = Home::new();
    let mut words = vec!["bench"];
    let at = at.to_string();
    words.extend([at.as_str(), "--frame", "line", "--expect", "upper"]);
    let ran = harness::run(&mut home.echoic(&words), b"");
    let report: Value = serde_json::from_slice(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        (&report["loop"], &report["wrong"]),
        (&"open".into(), &0.into())
    );
    // Before each of the two runs, one connection checks that a server is there.
    assert_eq!(came.try_iter().count(), 2 + 1 + 8);
    assert!(ran.err.contains("\"ev\":\"note\""), "{}", ran.err);
    assert!(ran.err.contains("half that rate"), "{}", ran.err);
    // Out of at most 200 a second.
    let asked = report["asked_per_s"].as_f64().unwrap();
    assert!((1.0..=101.0).contains(&asked), "{report}");
}

#[test]
fn second_signal_stops_at_once() {
    let (at, _) = listening(never);
    let home = Home::new();
    let at = at.to_string();
    let mut child = home
        .echoic(&[
            "bench",
            &at,
            "--frame",
            "line",
            "--expect",
            "upper",
            "-r",
            "50",
            "-d",
            "50s",
            "--timeout",
            "50s",
            "--no-floor",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let err = Lines::of(child.stderr.take().unwrap());
    err.wait_for("\"ev\":\"progress\"");
    signal(&child, Signal::INT);
    // It waits up to 50 s for missing replies, which is why a second signal is needed.
    assert!(wait_for_end(&mut child, Duration::from_millis(700)).is_none());
    let ended = signal_to_the_end(&mut child, Signal::INT).unwrap();
    assert_eq!(ended.code(), Some(130));
}

/// Starts `bench` of a line server and waits until it runs; then sends the signal and returns the exit code and the result.
fn stopped_by(stop: Signal, args: &str) -> (Option<i32>, Value) {
    let home = Home::new();
    let mut words = vec![
        "bench",
        "--frame",
        "line",
        "--no-floor",
        "-d",
        "50s",
        "--warmup",
        "0s",
    ];
    words.extend(args.split_whitespace());
    let mut command = home.echoic(&words);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, err) = (
        Lines::of(child.stdout.take().unwrap()),
        Lines::of(child.stderr.take().unwrap()),
    );
    err.wait_for("\"ev\":\"progress\"");
    signal(&child, stop);
    let ended = wait_for_end(&mut child, SOON).unwrap();
    let result = out.wait("the result", |lines| lines.first().cloned());
    (ended.code(), serde_json::from_str(&result).unwrap())
}

#[test]
fn one_signal_ends_a_run_whose_server_does_not_answer() {
    let greet = Serve::start(&["greet=:0", "--store", "none"]);
    let (mute, _) = listening(never);
    for at in [greet.at[0], mute] {
        for (stop, load) in [(Signal::TERM, ""), (Signal::INT, "-r 50")] {
            let result = undisturbed(|| {
                let (code, result) = stopped_by(stop, &format!("{at} --timeout 50s {load}"));
                assert_eq!((code, &result["cut"]), (Some(0), &true.into()), "{result}");
                result
            });
            assert_eq!(result["verdict"], "server", "{result}");
        }
    }
    greet.stop();
}

#[test]
fn bench_of_a_closing_server_ends() {
    let greet = Serve::start(&["greet=:0", "--store", "none"]);
    let home = Home::new();
    let at = greet.at[0].to_string();
    for load in ["", "-r 50", "-c 3"] {
        let mut words = vec!["bench", &at, "-d", "1s", "--warmup", "0s", "-q"];
        words.extend(load.split_whitespace());
        let report: Value = undisturbed(|| {
            let begun = Instant::now();
            let report = home.run(&words).good();
            assert!(begun.elapsed() < Duration::from_secs(12), "{report}");
            serde_json::from_str(&report).unwrap()
        });
        assert_eq!(report["verdict"], "server", "{report}");
    }
    greet.stop();
}

/// Returns everything displayed on a terminal until the program ends.
fn watched(home: &Home, words: &[&str]) -> Vec<u8> {
    let (mut ours, theirs) = terminal();
    let mut command = home.echoic(words);
    let mut child = command
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs)
        .spawn()
        .unwrap();
    drop(command);
    let reading = thread::spawn(move || {
        let (mut all, mut room) = (Vec::new(), [0; 4096]);
        // A terminal whose other side is closed returns an error, not an end of file.
        while let Ok(n @ 1..) = ours.read(&mut room) {
            all.extend_from_slice(&room[..n]);
        }
        all
    });
    wait_for_end(&mut child, SOON).expect("it ends");
    reading.join().unwrap()
}

#[test]
fn progress_is_drawn_on_a_terminal_and_cleared() {
    let (at, _) = listening(upper);
    let at = at.to_string();
    let shown = watched(
        &Home::new(),
        &[
            "bench", &at, "--frame", "line", "-c", "4", "-r", "400", "-d", "3s", "--warmup", "1s",
            "--expect", "upper",
        ],
    );
    let screen = Screen::after(&shown);
    assert_eq!(screen.strange, Vec::<String>::new());
    assert!(screen.is_as_before(), "long lines are still cut");
    let drawn = |what: &str| screen.erased.iter().any(|line| line.contains(what));
    for what in [
        "open loop 400/s",
        "warm-up [",
        "/ 3.0 s",
        "in flight",
        "p99 a second: ▁",
    ] {
        assert!(drawn(what), "{what} in {:#?}", screen.erased);
    }
    let text = screen.text();
    assert!(text.starts_with("RESULT"), "{text}");
    assert!(!text.contains("Ctrl-C stops"), "{text}");
    // The latency distribution and its percentiles, as bars.
    assert!(text.contains('│') && text.contains("p50 ┤█"), "{text}");
}

//! `bench` against peers with known behaviour: the counts it reports are what happened.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::process::{Child, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use self::harness::{Home, Lines, Ran, Serve, kill, run, signal, tool, undisturbed, wait_for_end};

/// A misbehaving server in Python.
struct Peer {
    child: Child,
    port: u16,
}

impl Peer {
    #[track_caller]
    fn start(mode: &str) -> Self {
        let mut command = tool("python3", "python3");
        command.args([
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peer.py"),
            mode,
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        let port = lines.wait("the peer's port", |lines| lines.first()?.parse().ok());
        Self { child, port }
    }

    /// Runs bench, asserts the exit code and returns its report.
    #[track_caller]
    fn bench(&self, scheme: &str, args: &str, code: i32) -> Value {
        let endpoint = format!("{scheme}127.0.0.1:{}", self.port);
        object(&bench(&endpoint, args), code)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

fn bench(endpoint: &str, args: &str) -> Ran {
    let mut words = vec!["bench", endpoint, "--no-floor", "-q"];
    words.extend(args.split(' '));
    let home = Home::new();
    run(&mut home.echoic(&words), b"")
}

#[track_caller]
fn object(ran: &Ran, code: i32) -> Value {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    serde_json::from_slice(&ran.out).unwrap_or_else(|why| panic!("{why}: {ran:?}"))
}

/// Returns the counts with these names.
#[track_caller]
fn counts<const N: usize>(of: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| {
        of[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} in {of}"))
    })
}

/// Asserts that the counts add up.
#[track_caller]
fn adds_up(object: &Value) {
    let [asked, sent, unsent] = counts(object, ["asked", "sent", "unsent"]);
    let [ok, wrong, late, lost] = counts(object, ["ok", "wrong", "late", "lost"]);
    assert_eq!(asked, sent + unsent, "{object}");
    assert_eq!(sent, ok + wrong + late + lost, "{object}");
    assert_eq!(object["latency_due_us"]["count"], asked, "{object}");
    assert_eq!(object["latency_sent_us"]["count"], sent, "{object}");
}

#[test]
fn healthy_server_passes_under_every_framing() {
    let framings = [
        "line",
        "crlf",
        "nul",
        "delim:2d2d",
        "u8",
        "u16be",
        "u32le",
        "varint",
        "netstring",
        "content-length",
        "chunk",
        "line/crlf",
    ];
    let endpoints: Vec<String> = framings
        .iter()
        // Bytes sent by bench are those received by the server.
        .map(|framing| match framing.split_once('/') {
            Some((inbound, outbound)) => format!(":0?frame={outbound}/{inbound}"),
            None => format!(":0?frame={framing}"),
        })
        .chain([":0?frame=fixed:16".to_owned()])
        .collect();
    let mut args: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    args.extend(["--store", "none"]);
    let serve = Serve::start(&args);
    for (framing, at) in framings.iter().chain(&["fixed:16"]).zip(&serve.at) {
        let args = format!("--frame {framing} -c 3 --pipeline 4 -n 200 --expect upper");
        let object = object(&bench(&at.to_string(), &args), 0);
        adds_up(&object);
        assert_eq!(
            counts(&object, ["ok", "asked"]),
            [200, 200],
            "{framing}: {object}"
        );
        assert_eq!(object["failures"]["extra"], 0);
        assert_eq!(object["loop"], "closed");
    }
    serve.stop();
}

#[test]
fn open_and_closed_loop_print_the_documented_json() {
    let serve = Serve::start(&[":0", "--frame", "line", "--store", "none"]);
    let at = serve.at[0].to_string();
    for (rate, pipeline) in [
        ("", ""),
        (" -r 500", " --pipeline 2"),
        (" -r 500 --arrivals poisson --threads 2", ""),
    ] {
        let args = format!("--frame line -c 4 -d 1s --warmup 200ms{rate}{pipeline} -o json");
        let object = object(&bench(&at, &args), 0);
        adds_up(&object);
        assert_eq!(counts(&object, ["wrong", "lost"]), [0, 0]);
        assert!(object["done_per_s"].as_f64().unwrap() > 0.0);
        assert_eq!(object["asked_per_s"].is_null(), rate.is_empty());
        for latency in ["latency_due_us", "latency_sent_us"] {
            let shown = ["p50", "p90", "p99", "p999", "max"]
                .map(|name| object[latency][name].as_f64().unwrap());
            assert!(shown.is_sorted() && shown[0] > 0.0, "{latency}: {shown:?}");
        }
        assert!(
            object["generator"]["lag_p99_us"].is_number() && object["generator"]["cpu"].is_number()
        );
        assert!(object["verdict"].is_string());
        // A reply is never older than its request.
        assert!(
            object["latency_sent_us"]["min"].as_f64().unwrap() > 1.0,
            "{object}"
        );
        // Rejected before the load starts.
        assert_eq!(object["expect"], "upper");
    }
    // 500 a second are due within a second, within the tolerance at the edges.
    let object = object(&bench(&at, "--frame line -r 500 -d 1s"), 0);
    let [asked] = counts(&object, ["asked"]);
    assert_eq!(asked, 500);
    serve.stop();
}

#[test]
fn each_stream_fault_is_detected() {
    let seen = |mode: &str, args: &str| {
        let args = format!("--frame line --expect upper --warmup 0s {args}");
        let object = undisturbed(|| Peer::start(mode).bench("", &args, 0));
        adds_up(&object);
        object
    };
    let good = seen("good", "-c 2 --pipeline 2 -n 100");
    assert_eq!(
        counts(&good, ["ok", "wrong", "lost"]),
        [100, 0, 0],
        "the control"
    );
    assert_eq!(seen("dribble", "-n 20")["ok"], 20);

    let altered = seen("alter", "-c 2 -n 100");
    assert_eq!(counts(&altered, ["ok", "wrong", "lost"]), [90, 10, 0]);
    assert_eq!(altered["verdict"], "server");
    let samples = altered["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 5);
    let (request, reply) = (
        samples[0]["request"].as_str().unwrap(),
        samples[0]["reply"].as_str().unwrap(),
    );
    assert!(
        request.starts_with("hello ") && reply.ends_with('?'),
        "{altered}"
    );
    assert_eq!(samples[0]["expected"], request.to_uppercase());

    let swapped = seen("swap", "--pipeline 2 -n 100");
    assert_eq!(counts(&swapped, ["ok", "wrong", "lost"]), [0, 100, 0]);

    // Far longer than a reply takes, also on a busy machine.
    let dropped = seen("drop", "-n 20 --timeout 2s");
    assert_eq!(counts(&dropped, ["ok", "wrong", "lost"]), [18, 0, 2]);
    assert_eq!(dropped["failures"]["timed_out"], 2);
    // A timed-out request is in the figures with its value.
    assert!(
        (1_999_000.0..2_002_000.0).contains(&dropped["latency_sent_us"]["max"].as_f64().unwrap())
    );

    let doubled = seen("double", "-n 20 --timeout 300ms");
    let [wrong] = counts(&doubled, ["wrong"]);
    let [extra] = counts(&doubled["failures"], ["extra"]);
    assert!(
        wrong + extra > 0 && doubled["verdict"] == "server",
        "{doubled}"
    );

    let hung_up = seen("hang-up", "-n 100");
    // A request in flight is ended by the reset.
    let [closed, reset, reconnects] =
        counts(&hung_up["failures"], ["closed", "reset", "reconnects"]);
    let [ok, lost] = counts(&hung_up, ["ok", "lost"]);
    assert!(
        (9..=20).contains(&(closed + reset)) && reconnects >= 9 && ok + lost <= 100,
        "{hung_up}"
    );
}

#[test]
fn expression_waits_for_the_end_of_the_line_under_chunk() {
    use std::io::{Read, Write};
    let answered = |rest: &'static [u8], close: bool| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for peer in listener.incoming() {
                let mut peer = peer.unwrap();
                peer.set_nodelay(true).unwrap();
                while peer.read(&mut [0; 64]).is_ok_and(|n| n > 0) {
                    peer.write_all(b"OK").unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    peer.write_all(rest).unwrap();
                    if close {
                        break;
                    }
                }
            }
        });
        let ran = bench(&at, "-c 1 -n 1 --message x --expect regex:^OK$ --warmup 0");
        counts(&object(&ran, 0), ["ok", "wrong", "lost"])
    };
    assert_eq!(answered(b": no\n", false), [0, 1, 0]);
    assert_eq!(answered(b"\n", false), [1, 0, 0]);
    assert_eq!(answered(b"", true), [1, 0, 0], "the end of the stream");
}

#[test]
fn datagram_outcomes_are_counted_exactly() {
    // This many in flight fit into any socket buffer. The peer sends its late replies after 5 s: seconds after the timeout,
    // and seconds before the end.
    let args =
        "-n 1000 -r 2k --pipeline 100 --expect upper --timeout 3s --drain-timeout 10s --warmup 0s";
    let object = undisturbed(|| {
        let peer = Peer::start("datagrams");
        let mut words = vec!["bench", "--no-floor", "-q", "--template", "{seq} hello"];
        let endpoint = format!("udp://127.0.0.1:{}", peer.port);
        words.push(&endpoint);
        words.extend(args.split(' '));
        object(&run(&mut Home::new().echoic(&words), b""), 0)
    });
    adds_up(&object);
    assert_eq!(
        counts(&object, ["sent", "ok", "wrong", "late", "lost"]),
        [1000, 960, 20, 10, 10],
        "{object}"
    );
    let outcomes = &object["datagrams"];
    assert_eq!(
        counts(outcomes, ["duplicate", "truncated", "dropped_here"]),
        [10, 10, 0],
        "{object}"
    );
    // Each held one comes after the next, each late one after all that are in time.
    let [reordered, by] = counts(outcomes, ["reordered", "reordered_by"]);
    assert!(reordered == 20 && by > 1, "{object}");
    assert_eq!(
        object["verdict"], "server",
        "wrong replies weigh more than lost ones"
    );
}

#[test]
fn stall_shows_in_due_latency_and_is_hidden_by_closed_loop() {
    let run = |load: &str| {
        let peer = Peer::start("freeze");
        peer.bench(
            "",
            &format!("--frame line --expect upper --warmup 0s -d 2s {load}"),
            0,
        )
    };
    let p90 = |object: &Value, which: &str| object[which]["p90"].as_f64().unwrap();
    let open = run("-c 2 -r 300");
    adds_up(&open);
    // A quarter of the requests of two seconds were due while the server was frozen; their median wait is a quarter of
    // a second.
    assert!(p90(&open, "latency_due_us") > 150_000.0, "{open}");
    let closed = run("-c 1");
    assert!(
        p90(&closed, "latency_due_us") < 150_000.0,
        "the control: {closed}"
    );
}

#[test]
fn slo_decides_the_exit_code() {
    let serve = Serve::start(&[":0", "udp://:0", "--frame", "line", "--store", "none"]);
    let at = serve.at[0].to_string();
    let asserted = |terms: &str, code| {
        let ran = run(
            &mut Home::new().echoic(&[
                "bench",
                &at,
                "--frame",
                "line",
                "-n",
                "50",
                "--no-floor",
                "-q",
                "--assert",
                terms,
            ]),
            b"",
        );
        object(&ran, code)
    };
    assert_eq!(asserted("errors=0, p50<10s", 0)["assert"][1]["met"], true);
    let broken = asserted("errors=0, rate>50M", 7);
    assert_eq!(
        (&broken["assert"][0]["met"], &broken["assert"][1]["met"]),
        (&true.into(), &false.into())
    );
    // Nothing listens there.
    let refused = bench("127.0.0.1:1", "--frame line -n 5");
    assert_eq!(
        (refused.code, refused.out.len()),
        (Some(4), 0),
        "{refused:?}"
    );
    let beyond = bench("192.0.2.1:5000", "-n 5");
    assert_eq!(beyond.code, Some(2));
    assert!(
        beyond.err.contains("--allow-load 192.0.2.1"),
        "{}",
        beyond.err
    );
    serve.stop();
}

#[test]
fn steps_and_search_report_each_run() {
    let serve = Serve::start(&[":0", "--frame", "line", "--store", "none"]);
    let at = serve.at[0].to_string();
    let steps = object(
        &bench(
            &at,
            "--frame line -c 2 --steps 100..400:x2@400ms --order mirror",
        ),
        0,
    );
    let rates = |of: &Value| {
        let tries = of["tries"].as_array().unwrap();
        tries
            .iter()
            .map(|attempt| attempt["asked_per_s"].as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(rates(&steps), [100.0, 200.0, 400.0, 200.0, 100.0]);
    adds_up(&steps);
    // No server answers within a nanosecond: every try fails, and the search ends without a result.
    let none = object(
        &bench(
            &at,
            "--frame line --find max --slo p50<1ns --trial 100ms --confirm 100ms",
        ),
        7,
    );
    assert!(none["search"]["found_per_s"].is_null(), "{none}");
    // Each rate is lower than the one before, unless that could not be generated and is tried again.
    for tries in none["tries"].as_array().unwrap().windows(2) {
        let [before, after] =
            [&tries[0], &tries[1]].map(|one| one["asked_per_s"].as_f64().unwrap());
        let is_again = tries[0]["verdict"] == "generator";
        assert!(after < before || is_again && after <= before, "{none}");
    }
    serve.stop();
}

#[test]
fn one_signal_stops_and_prints_partial_results() {
    let serve = Serve::start(&[":0", "--frame", "line", "--store", "none"]);
    let at = serve.at[0].to_string();
    let home = Home::new();
    let mut command = home.echoic(&[
        "bench",
        &at,
        "--frame",
        "line",
        "-r",
        "100",
        "-d",
        "60s",
        "--no-floor",
    ]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, err) = (
        Lines::of(child.stdout.take().unwrap()),
        Lines::of(child.stderr.take().unwrap()),
    );
    // The run has started.
    err.wait_for("\"ev\":\"progress\"");
    signal(&child, Signal::INT);
    let ended = wait_for_end(&mut child, harness::SOON).unwrap();
    assert_eq!(ended.code(), Some(0));
    let object: Value =
        serde_json::from_str(&out.wait("the result", |lines| lines.first().cloned())).unwrap();
    adds_up(&object);
    assert_eq!(object["cut"], true);
    assert!(object["seconds"].as_f64().unwrap() < 60.0);
    serve.stop();
}

#[test]
fn unix_sockets_mixtures_and_corpora_can_be_benched() {
    let serve = Serve::start(&[
        "unix:./x.sock",
        "unixgram:./g.sock",
        ":0",
        "--frame",
        "line",
        "--store",
        "none",
    ]);
    let home = serve.home.clone();
    let bench = |words: &str| {
        let words: Vec<&str> = ["bench"].into_iter().chain(words.split(' ')).collect();
        let object = object(&home.run(&words), 0);
        adds_up(&object);
        assert_eq!(
            counts(&object, ["ok", "wrong", "lost"]),
            [60, 0, 0],
            "{words:?}: {object}"
        );
        object
    };
    bench("./x.sock --frame line -c 2 -n 60 -q");
    bench("unixgram:./g.sock -c 2 -n 60 -q");
    std::fs::write(home.path().join("corpus"), "one\ntwo\nstraße").unwrap();
    let mix = r#"{"weight":3,"template":"get {seq}","expect":"upper"}
{"message":"put","expect":"exact:PUT"}
{"message":"a","expect":"regex:^A$"}"#;
    std::fs::write(home.path().join("mix"), mix).unwrap();
    bench("./x.sock --frame line --corpus corpus --expect upper -n 60 -q --no-floor");
    bench("./x.sock --frame line --mix mix -n 60 -q --no-floor");
    bench("./x.sock --frame line --size uniform:5..300 -n 60 -q --no-floor --churn 10");
    let forms = |form: &str| {
        let ran = home.run(&[
            "bench",
            "./x.sock",
            "--frame",
            "line",
            "-n",
            "60",
            "-q",
            "--no-floor",
            "-o",
            form,
        ]);
        ran.good()
    };
    assert!(forms("text").contains("60 as expected (upper, detected)"));
    assert_eq!(forms("csv").lines().count(), 2);
    let last: Value = serde_json::from_str(forms("jsonl").lines().last().unwrap()).unwrap();
    assert_eq!((&last["ev"], &last["ok"]), (&"summary".into(), &60.into()));
    serve.stop();
}

#[test]
fn recorded_requests_are_replayed_at_their_pace() {
    let home = std::sync::Arc::new(Home::new());
    let serve = Serve::start_in(&home, &[":0", "--frame", "line"]);
    let mut talk = harness::Talk::to(serve.at[0]);
    for word in ["one", "two", "three", "four"] {
        talk.ask(format!("{word}\n"), format!("{}\n", word.to_uppercase()));
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    talk.finish();
    serve.stop();
    let serve = Serve::start(&[":0", "--frame", "line", "--store", "none"]);
    let at = serve.at[0].to_string();
    let again = |pace: &str| {
        let words = [
            "bench",
            &at,
            "--frame",
            "line",
            "--from-store",
            "-req:three",
            "--pace",
            pace,
            "--expect",
            "regex:^(ONE|TWO|FOUR)$",
            "-q",
            "--no-floor",
        ];
        let object = object(&home.run(&words), 0);
        adds_up(&object);
        assert_eq!(object["ok"], 3, "{object}");
        object["seconds"].as_f64().unwrap()
    };
    let real = again("real");
    assert!((0.45..5.0).contains(&real), "{real}");
    assert!(again("max") < real / 2.0);
    let none = home.run(&["bench", &at, "--from-store", "nothing-like-it"]);
    assert_eq!(none.code, Some(2));
    assert!(none.err.contains("no exchange"), "{}", none.err);
    serve.stop();
}

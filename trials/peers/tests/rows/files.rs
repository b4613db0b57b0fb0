//! Row 4: no file descriptor, or no memory, for one more client.

use std::{
    thread,
    time::{Duration, Instant},
};

use trials_peers::{
    Process, Serve,
    meter::time,
    naive::{ACCEPTS_AGAIN, Naive},
    namespace::alone,
    peer::{ask, call, calls, try_call},
};
use trials_report::{Row, Scale};

/// CPU time of a span as a fraction of one core: used, and wanted.
fn busy(process: Process, span: Duration) -> (f64, f64) {
    let (began, used, wanted) = (Instant::now(), process.cpu(), process.wanted());
    thread::sleep(span);
    let part = |now: Duration, then: Duration| {
        now.saturating_sub(then).as_secs_f64() / began.elapsed().as_secs_f64()
    };
    (part(process.cpu(), used), part(process.wanted(), wanted))
}

#[test]
fn file_exhaustion_delays_callers_without_busy_looping() {
    alone(
        "files::file_exhaustion_delays_callers_without_busy_looping",
        exhausted,
    );
}

fn exhausted() {
    let scale = Scale::asked();
    let (span, free) = (Duration::from_secs(scale.pick(3, 10)), 20);
    let serve = Serve::start(&["upper=:0"]);
    let server = serve.process();
    server.may_open(free);
    let held = calls(serve.at[0], 200);
    thread::sleep(Duration::from_millis(200));
    let (cpu, wanted) = busy(server, span);
    let warned = serve
        .stderr()
        .matches("cannot accept, connections wait")
        .count();
    let mut more = calls(serve.at[0], 20);
    drop(held);
    let freed = Instant::now();
    ask(&mut more[19], b"hello", b"HELLO").unwrap();
    let recovered = freed.elapsed();
    drop(more);
    for _ in 0..100 {
        ask(&mut call(serve.at[0]), b"hello", b"HELLO").unwrap();
    }
    let (stopped, _home) = serve.stop();

    let naive = Naive::start(ACCEPTS_AGAIN);
    naive.process().may_open(free);
    let _held = calls(naive.at, 200);
    thread::sleep(Duration::from_millis(200));
    let (_, naive_wanted) = busy(naive.process(), Duration::from_secs(1));
    Row {
        row: 4,
        hazard: "no file descriptor left for one more client (EMFILE)".into(),
        load: format!("200 clients, files for {free}, held for {} s", span.as_secs()),
        observed: format!(
            "{:.1} % of a core, {:.1} % wanted; warned {warned} times; the last in the queue answered {} after files were free; \
             100 of 100 new clients answered, {} recorded",
            cpu * 100.0,
            wanted * 100.0,
            time(recovered),
            stopped.recorded
        ),
        limit: "2 % of a core; once in 10 s; 1 s to recover, and what 200 clients take".into(),
        control: format!("a server that tries again at once wants {:.0} % of a core", naive_wanted * 100.0),
        pass: cpu <= 0.02
            && (1..=2).contains(&warned)
            && recovered <= Duration::from_secs(scale.pick(10, 3))
            && stopped.recorded == 101
            && naive_wanted > 0.8,
        scale,
    }
    .hold();
}

#[test]
fn accepting_continues_after_any_accept_error() {
    alone(
        "files::accepting_continues_after_any_accept_error",
        each_error,
    );
}

fn each_error() {
    let scale = Scale::asked();
    let times = scale.pick(5, 50);
    let errors = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED"];
    let mut took = Vec::new();
    for error in errors {
        // More retries than a pause of one second each would allow, if the pauses did not begin small.
        let times = if error == "ECONNABORTED" {
            times * 20
        } else {
            times.min(9)
        };
        let inject = format!("inject=accept4:error={error}:when=1..{times}");
        let strace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=accept4",
            "-e",
            &inject,
        ];
        let serve = Serve::start_under(&strace, &["upper=:0"]);
        let since = Instant::now();
        let mut peer = call(serve.at[0]);
        ask(&mut peer, b"hello", b"HELLO").unwrap();
        took.push((error, times, since.elapsed()));
        drop(peer);
        let (stopped, _home) = serve.stop();
        assert_eq!(stopped.recorded, 1, "{error}: {}", stopped.stderr);
        let warned = stopped.stderr.contains("cannot accept, connections wait");
        assert_eq!(
            warned,
            error != "ECONNABORTED",
            "{error}: {}",
            stopped.stderr
        );
    }
    // The injection works: a server whose accept always fails answers no client.
    let always = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "inject=accept4:error=EMFILE",
    ];
    let failing = Serve::start_under(&always, &["upper=:0"]);
    let mut peer = try_call(failing.at[0]).unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let unanswered = ask(&mut peer, b"hello", b"HELLO").is_err();
    let slowest = took.iter().map(|(.., time)| *time).max().unwrap();
    let list: Vec<String> = took
        .iter()
        .map(|(error, times, took)| format!("{error} ×{times}: {}", time(*took)))
        .collect();
    Row {
        row: 4,
        hazard: "accept fails".into(),
        load: "the first accepts fail, by `strace -e inject`".into(),
        observed: format!("answered and recorded after each: {}", list.join(", ")),
        limit: "10 s, which is what the pauses add up to".into(),
        control: "an accept that fails for ever: no client is answered".into(),
        pass: unanswered && slowest < Duration::from_secs(10),
        scale,
    }
    .hold();
}

//! `--health`: who asks `work`, `keep`, `serve` and `console` learns the truth, over real sockets with a real nats-server.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{net::TcpListener, sync::Arc};

use rustix::process::Signal;

use self::harness::{
    Answer, Background, ConsoleAt, Home, Load, Nats, Ran, Serve, Talk, WRITTEN, health_of, until,
    until_equal,
};

/// Waits until `/readyz` answers with this status and text.
#[track_caller]
fn wait_for_ready(at: &ConsoleAt, status: u16, part: &str) {
    until(&format!("/readyz says {status} {part}"), || {
        let answer = at.get("/readyz");
        answer.status == status && answer.body.contains(part)
    });
}

/// Returns all metrics. A process that is too busy to gather them in time says so with 503, and is asked again.
#[track_caller]
fn figures(at: &ConsoleAt) -> String {
    let mut body = String::new();
    until("the figures are told", || {
        let answer = at.get("/metrics");
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        body = answer.body;
        answer.status == 200
    });
    body
}

/// Returns the value of a metric, with its labels in the name.
#[track_caller]
fn metric(at: &ConsoleAt, name: &str) -> Option<f64> {
    let body = figures(at);
    let line = body.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.strip_prefix(' ')
    });
    line.map(|value| value.parse().unwrap())
}

/// Asserts that docs/how-to-monitor.md names only metrics that exist, of those that begin like this.
#[track_caller]
fn assert_guide_is_right(at: &ConsoleAt, beginning: &str) {
    let body = figures(at);
    let guide = include_str!("../../../docs/how-to-monitor.md");
    let words = guide.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: Vec<&str> = words.filter(|word| word.starts_with(beginning)).collect();
    assert!(!named.is_empty(), "the guide names none");
    for name in named {
        let has = |line: &str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        };
        assert!(body.lines().any(has), "{name} does not exist: {body}");
    }
}

/// Waits until a metric has this value.
#[track_caller]
fn wait_for_metric(at: &ConsoleAt, name: &str, value: f64) {
    until(&format!("{name} is {value}"), || {
        metric(at, name) == Some(value)
    });
}

/// Asserts what holds for the routes of every process.
#[track_caller]
fn assert_routes(at: &ConsoleAt) {
    assert_eq!(at.get("/livez").body, "ok\n");
    let version = format!(
        "echoic_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(metric(at, &version), Some(1.0));
    assert_eq!(at.get("/").status, 404);
    assert_eq!(at.get("/api/v1/exchanges").status, 404);
    assert_eq!(at.ask("POST", "/readyz", None).status, 405);
}

fn worker(nats: &Nats, subject: &str, more: &[&str]) -> Background {
    let url = nats.url(subject);
    let args = ["work", "upper", "--on", &url, "--health", ":0"];
    Background::start(&Home::new(), &[&args, more].concat(), "working: ")
}

fn keeper(nats: &Nats, home: &Home, store: &[&str]) -> Background {
    let url = nats.url("record");
    let args = ["keep", "--from", &url, "--health", ":0"];
    Background::start(home, &[&args, store].concat(), "keeping: ")
}

#[test]
fn worker_is_ready_while_it_is_connected_to_nats() {
    let mut nats = Nats::start(&[]);
    let worker = worker(&nats, "upper", &[]);
    let at = worker.health();
    assert_routes(&at);
    wait_for_ready(&at, 200, "ok");
    nats.kill();
    wait_for_ready(&at, 503, "not connected to NATS at nats://127.0.0.1:");
    wait_for_metric(&at, "echoic_nats_connected", 0.0);
    assert_eq!(at.get("/livez").status, 200, "it lives");
    nats.run();
    wait_for_ready(&at, 200, "ok");
    wait_for_metric(&at, "echoic_nats_connected", 1.0);
    worker.stop();
}

#[test]
fn metrics_of_a_worker_count_what_it_does() {
    let nats = Nats::start(&[]);
    let worker = worker(&nats, "upper", &[]);
    let at = worker.health();
    let serve = Serve::start(&[":0", "--as", &nats.url("upper"), "--frame", "line"]);
    let mut talk = Talk::to(serve.at[0]);
    for _ in 0..5 {
        talk.ask("hello\n", "HELLO\n");
    }
    // More, if a run took a second and was given to it again.
    until("5 messages are counted", || {
        metric(&at, "echoic_worker_messages_total") >= Some(5.0)
    });
    // Each read is a run, and so are the begin and the end of a conversation.
    assert!(metric(&at, "echoic_worker_runs_total") >= Some(5.0));
    wait_for_metric(&at, "echoic_worker_in_flight", 0.0);
    for direction in ["received", "sent"] {
        let name = format!("echoic_worker_bytes_total{{direction=\"{direction}\"}}");
        let bytes = metric(&at, &name).unwrap();
        assert!((30.0..10_000.0).contains(&bytes), "{direction}: {bytes}");
    }
    assert!(metric(&at, "echoic_worker_busy_seconds_total").unwrap() > 0.0);
    assert_guide_is_right(&at, "echoic_worker_");
    assert_guide_is_right(&at, "echoic_nats_");
    // What is no run of this version is answered, and counted.
    let failed = "echoic_worker_errors_total{kind=\"failed\"}";
    assert_eq!(metric(&at, failed), Some(0.0));
    nats.request("upper", "hello");
    wait_for_metric(&at, failed, 1.0);
    drop(talk);
    serve.stop();
    worker.stop();
}

#[test]
fn keeper_is_ready_while_nats_and_the_store_answer() {
    let Some(mut postgres) = trials_postgres::server("") else {
        return;
    };
    let database = postgres.database();
    let mut nats = Nats::with_jetstream();
    let home = Home::new();
    let url = database.url();
    let keeper = keeper(&nats, &home, &["--store", &url]);
    let at = keeper.health();
    assert_routes(&at);
    wait_for_ready(&at, 200, "ok");
    nats.kill();
    wait_for_ready(&at, 503, "not connected to NATS at nats://127.0.0.1:");
    nats.run();
    wait_for_ready(&at, 200, "ok");
    postgres.restart("", || {
        wait_for_ready(&at, 503, "the store");
        let why = at.get("/readyz").body;
        assert!(!why.contains(trials_postgres::PASSWORD), "{why}");
    });
    wait_for_ready(&at, 200, "ok");
    keeper.stop();
}

#[test]
fn metrics_of_a_keeper_count_what_it_writes() {
    let nats = Nats::with_jetstream();
    let home = Arc::new(Home::new());
    let serve = Serve::start(&["echo=:0", "--frame", "line", "--store", &nats.url("record")]);
    let load = Load::start(serve.at[0], "m", &[1, 4]);
    load.wait_for(500);
    let killed = keeper(&nats, &home, &[]);
    let at = killed.health();
    until("it writes", || {
        metric(&at, "echoic_keeper_exchanges_total").unwrap() > 0.0
    });
    let committed = metric(&at, "echoic_keeper_last_commit_timestamp_seconds").unwrap();
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((now.as_secs_f64() - committed).abs() < 60.0, "{committed}");
    let served = serve.stop().served;
    drop(load.ends());
    until_equal(WRITTEN, "written", &Some(served as f64), || {
        metric(&at, "echoic_keeper_exchanges_total")
    });
    wait_for_metric(&at, "echoic_keeper_pending", 0.0);
    wait_for_metric(&at, "echoic_keeper_unacknowledged", 0.0);
    assert_eq!(metric(&at, "echoic_store_failing"), Some(0.0));
    assert_eq!(metric(&at, "echoic_keeper_redeliveries_total"), Some(0.0));
    assert!(metric(&at, "echoic_keeper_batches_total").unwrap() > 0.0);
    assert_guide_is_right(&at, "echoic_keeper_");
    // Without a keeper, what is recorded waits in the stream, and the next one tells how much.
    drop(killed);
    for lane in 0..8 {
        nats.request(&format!("echoic.record.batches.{lane}"), "hello");
    }
    let keeper = keeper(&nats, &home, &[]);
    let at = keeper.health();
    wait_for_metric(&at, "echoic_keeper_unreadable_total", 8.0);
    wait_for_metric(&at, "echoic_keeper_pending", 0.0);
    keeper.stop();
}

/// What a keeper had received when it was killed comes again, and is counted by the one that gets it.
#[test]
fn redelivered_messages_are_counted() {
    let Some(mut postgres) = trials_postgres::server("") else {
        return;
    };
    let database = postgres.database();
    let nats = Nats::with_jetstream();
    let home = Arc::new(Home::new());
    let url = database.url();
    let store = ["--store", url.as_str()];
    let killed = keeper(&nats, &home, &store);
    let serve = Serve::start(&["echo=:0", "--frame", "line", "--store", &nats.url("record")]);
    // It cannot write what it has received, so that it has not acknowledged it either.
    postgres.restart("", || {
        Talk::to(serve.at[0]).ask("hello\n", "hello\n");
        let at = killed.health();
        wait_for_metric(&at, "echoic_keeper_unacknowledged", 1.0);
        wait_for_ready(&at, 503, "the store");
        drop(killed);
    });
    let keeper = keeper(&nats, &home, &store);
    let at = keeper.health();
    until("it comes again", || {
        metric(&at, "echoic_keeper_redeliveries_total") >= Some(1.0)
    });
    serve.stop();
    until("it is written", || home.count(&store) == 1);
    keeper.stop();
}

#[test]
fn serve_and_console_have_the_routes_too() {
    let serve = Serve::start(&["upper=:0", "--frame", "line", "--health", ":0"]);
    let at = health_of(&serve.err);
    assert_routes(&at);
    wait_for_ready(&at, 200, "ok");
    Talk::to(serve.at[0]).ask("hello\n", "HELLO\n");
    wait_for_metric(&at, "echoic_exchanges_served_total", 1.0);
    wait_for_metric(&at, "echoic_store_exchanges", 1.0);
    // It shows the record also while no server elsewhere can be controlled.
    let nats = Nats::start(&[]);
    let url = nats.url("");
    let args = ["console", "--console", ":0", "--health", ":0", "--on", &url];
    let console = Background::start(&serve.home, &args, "reading echoic.db");
    let of_console = console.health();
    assert_routes(&of_console);
    wait_for_ready(&of_console, 200, "ok");
    wait_for_metric(&of_console, "echoic_store_exchanges", 1.0);
    console.stop();
    serve.stop();
}

#[test]
fn server_without_a_record_is_ready_too() {
    let serve = Serve::start(&["upper=:0", "--store", "none", "--health", ":0"]);
    let at = health_of(&serve.err);
    assert_routes(&at);
    wait_for_ready(&at, 200, "ok");
    serve.stop();
}

/// A server whose workers are elsewhere answers nobody without them.
#[test]
fn server_is_unready_without_its_workers() {
    let mut nats = Nats::start(&[]);
    let first = worker(&nats, "upper", &[]);
    let url = nats.url("upper");
    let serve = Serve::start(&[":0", "--as", &url, "--frame", "line", "--health", ":0"]);
    let at = health_of(&serve.err);
    wait_for_ready(&at, 200, "ok");
    // Nobody calls meanwhile.
    first.stop();
    wait_for_ready(&at, 503, "/upper has no worker");
    let second = worker(&nats, "upper", &[]);
    wait_for_ready(&at, 200, "ok");
    nats.kill();
    wait_for_ready(&at, 503, "/upper cannot be reached");
    nats.run();
    wait_for_ready(&at, 200, "ok");
    second.stop();
    serve.stop();
}

/// One of two services suffices.
#[test]
fn server_is_ready_while_one_of_its_services_answers() {
    let nats = Nats::start(&[]);
    let worker = worker(&nats, "upper", &[]);
    let url = nats.url("upper");
    let serve = Serve::start(&["echo=:0", ":0", "--as", &url, "--health", ":0"]);
    let at = health_of(&serve.err);
    worker.stop();
    serve.err.wait_for("no worker serves");
    wait_for_ready(&at, 200, "ok");
    serve.stop();
}

/// Asserts that a process that stops says so.
#[track_caller]
fn assert_stopping(at: &ConsoleAt) {
    let Answer { status, body } = at.get("/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("it is stopping"), "{body}");
    assert_eq!(at.get("/livez").status, 200);
}

/// What drains is not to be given anything: the routes say so, to the end of the drain. A NATS that hangs holds it.
#[test]
fn draining_server_is_unready() {
    let nats = Nats::start(&[]);
    let worker = worker(&nats, "upper", &[]);
    let url = nats.url("upper");
    let args = [":0", "--as", &url, "--frame", "line", "--health", ":0"];
    let mut serve = Serve::start(&args);
    let at = health_of(&serve.err);
    wait_for_ready(&at, 200, "ok");
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("one\n", "ONE\n");
    nats.freeze();
    talk.send("two\n");
    serve.signal(Signal::TERM);
    serve.err.wait_for("stopping: ");
    assert_stopping(&at);
    nats.thaw();
    talk.expect_reply("TWO\n");
    assert_eq!(serve.ends_somehow(), Some(0));
    worker.stop();
}

#[test]
fn draining_worker_is_unready() {
    let nats = Nats::start(&[]);
    let worker = worker(&nats, "upper", &[]);
    let at = worker.health();
    wait_for_ready(&at, 200, "ok");
    nats.freeze();
    worker.signal(Signal::TERM);
    worker.err.wait_for("stopping: ");
    assert_stopping(&at);
    nats.thaw();
    let (code, err) = worker.ends();
    assert_eq!(code, Some(0), "{err:?}");
}

#[test]
fn address_beyond_loopback_is_taken_when_it_is_named() {
    let nats = Nats::start(&[]);
    let url = nats.url("upper");
    let args = ["work", "upper", "--on", &url, "--health", "*:0", "--quiet"];
    let worker = Background::start(&Home::new(), &args, "health on http://0.0.0.0:");
    let mut at = worker.health();
    at.address.set_ip([127, 0, 0, 1].into());
    wait_for_ready(&at, 200, "ok");
    worker.stop();
}

#[test]
fn address_that_cannot_be_had_is_an_error() {
    let nats = Nats::with_jetstream();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (subject, stream) = (nats.url("upper"), nats.url("record"));
    for (health, code, part) in [
        (taken.as_str(), 1, "cannot open --health at 127.0.0.1:"),
        ("everywhere", 2, "invalid address everywhere"),
    ] {
        for args in [
            &["work", "upper", "--on", &subject][..],
            &["keep", "--from", &stream],
            &["serve", "upper=:0"],
        ] {
            let home = Home::new();
            let Ran { code: was, err, .. } = home.run(&[args, &["--health", health]].concat());
            assert_eq!(was, Some(code), "{args:?}: {err}");
            assert!(err.contains(part), "{args:?}: {err}");
            assert!(!home.store().exists(), "{args:?} left a database");
        }
    }
}

/// Anybody may ask, so a reason has no password.
#[test]
fn reasons_have_no_password() {
    let mut nats = Nats::start(&["--user", "me", "--pass", "s3cret"]);
    let url = nats.url_as("me:s3cret", "upper");
    let args = ["work", "upper", "--on", &url, "--health", ":0"];
    let worker = Background::start(&Home::new(), &args, "working: ");
    let at = worker.health();
    nats.kill();
    wait_for_ready(&at, 503, "not connected");
    let said = at.get("/readyz").body + &at.get("/metrics").body + &worker.err.wait_for("health");
    assert!(!said.contains("s3cret"), "{said}");
    drop(worker);
}

//! `serve --as nats://…` and `work`: the service in processes of its own, over a real nats-server.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "tls/certs.rs"]
#[allow(dead_code, reason = "tls.rs uses more of it")]
mod certs;
#[path = "workers/faults.rs"]
mod faults;
mod harness;
#[path = "workers/ready.rs"]
mod ready;
#[path = "workers/refused.rs"]
mod refused;
#[path = "workers/worker.rs"]
mod worker;

use std::{sync::Arc, thread, time::Duration};

use self::{
    harness::{Home, Load, Nats, Serve, Stopped, Talk},
    worker::Worker,
};

/// Starts `echoic serve ENDPOINT --as URL` with more arguments.
#[track_caller]
fn serve(nats: &Nats, subject: &str, more: &[&str]) -> Serve {
    let url = nats.url(subject);
    Serve::start(&[&[":0", "--as", &url], more].concat())
}

#[test]
fn worker_answers_and_the_server_records() {
    let nats = Nats::start(&[]);
    let worker = Worker::start(&nats, "upper", "test.upper");
    let serve = serve(&nats, "test.upper", &["--frame", "line"]);
    serve.err.wait_for(&format!(
        "upper is answered by the workers of {}",
        nats.url("test.upper")
    ));
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("straße\n", "STRASSE\n");
    talk.ask("a\nb\nc\n", "A\nB\nC\n");
    talk.ask("last", "");
    assert_eq!(talk.finish(), b"LAST");
    let home = Arc::clone(&serve.home);
    assert_eq!(serve.stop().served, 5);
    let recorded = home.log(&["svc:upper"]);
    let replies: Vec<_> = recorded.iter().map(|one| &one["rep"]["text"]).collect();
    assert_eq!(replies, ["STRASSE\n", "A\n", "B\n", "C\n", "LAST"]);
    assert_eq!(home.sql("SELECT reason FROM conversation"), ["peer-closed"]);
    // More, if a run took a second and was given to the worker again: docs say at least once. Never fewer than were recorded.
    let (messages, _) = worker.stop_and_count();
    assert!(messages >= 5, "{messages} answered");
}

/// A character may be divided between two reads, which different workers answer: its first bytes travel with the runs.
#[test]
fn state_of_a_stream_follows_the_conversation_to_other_workers() {
    let nats = Nats::start(&[]);
    let workers = [0; 3].map(|_| Worker::start(&nats, "upper", "upper"));
    let serve = serve(&nats, "upper", &[]);
    let text = "straße ŉ ﬃ 𐐨 ".repeat(20);
    let mut talk = Talk::to(serve.at[0]);
    for character in text.chars() {
        for byte in character.to_string().bytes() {
            talk.send([byte]);
            // Not to be read together with the next: else nothing is divided.
            thread::sleep(Duration::from_millis(1));
        }
        // A stall spoils one character at most: the next does not cross with it.
        talk.expect_reply(character.to_uppercase().to_string());
    }
    talk.send(b"\xc3");
    assert_eq!(talk.finish(), b"\xc3");
    serve.stop();
    let runs = workers.map(|worker| worker.stop_and_count().1);
    println!("runs of the workers: {runs:?}");
    let busy = runs.iter().filter(|runs| **runs > 10).count();
    assert!(busy >= 2, "one worker alone: {runs:?}");
}

#[test]
fn service_that_sends_first_greets_and_closes() {
    let nats = Nats::start(&[]);
    let worker = Worker::start(&nats, r"greet:hi\n", "greet");
    let serve = serve(&nats, "greet", &[]);
    for _ in 0..3 {
        assert_eq!(Talk::to(serve.at[0]).rest(), b"hi\n");
    }
    let home = Arc::clone(&serve.home);
    serve.stop();
    let recorded = home.log(&["svc:greet"]);
    assert_eq!(recorded.len(), 3);
    assert!(recorded.iter().all(|one| one["rep"]["text"] == "hi\n"));
    assert_eq!(
        home.sql("SELECT DISTINCT reason FROM conversation"),
        ["service-closed"]
    );
    worker.stop();
}

/// Runs of messages cross, not messages: while one is with a worker, what comes is gathered.
#[test]
fn pipelined_messages_cross_in_fewer_runs() {
    let nats = Nats::start(&[]);
    let worker = Worker::start(&nats, "echo", "echo");
    let serve = serve(&nats, "echo", &["--frame", "line"]);
    let load = Load::start(serve.at[0], "deep", &[64, 64]);
    load.wait_for(20_000);
    let Stopped { served, .. } = serve.stop();
    for peer in load.ends() {
        peer.assert_prefix();
        assert!(peer.end.is_ok() && peer.left.is_empty(), "{:?}", peer.end);
    }
    let (messages, runs) = worker.stop_and_count();
    println!("{served} served; {messages} messages in {runs} runs");
    // What took a second on a busy machine was given to the worker again.
    assert!(messages >= served, "{messages} messages, {served} served");
    assert!(runs * 4 < messages, "{messages} messages in {runs} runs");
}

/// The payload of NATS is 16 KiB here, so that a message and its reply cross in many parts.
#[test]
fn run_longer_than_a_payload_is_divided() {
    let nats = Nats::with_config("max_payload: 16KB", &[]);
    let workers = [0; 2].map(|_| Worker::start(&nats, "upper", "upper"));
    // Each part waits for the one before: on a busy machine all of them take many seconds.
    let more = ["--frame", "line", "--worker-timeout", "60s"];
    let serve = serve(&nats, "upper", &more);
    let mut talk = Talk::to(serve.at[0]);
    for size in [10, 20_000, 400_000] {
        // Three times as long in upper case.
        let line = "ΐ".repeat(size / 2) + "\n";
        let answer = thread::scope(|scope| {
            let mut reader = Talk(talk.0.try_clone().unwrap());
            let expected = line.to_uppercase();
            let reading = scope.spawn(move || reader.expect_reply(expected));
            talk.send(&line);
            reading.join()
        });
        answer.unwrap();
    }
    drop(talk);
    assert_eq!(serve.stop().served, 3);
    for worker in workers {
        worker.stop();
    }
}

/// A peer that does not read stops its own conversation, up to the worker, and no other.
#[test]
fn peer_that_does_not_read_holds_up_no_other() {
    let nats = Nats::start(&[]);
    let worker = Worker::start(&nats, "echo", "echo");
    let serve = serve(&nats, "echo", &["--store", "none"]);
    let mut stuck = Talk::to(serve.at[0]);
    stuck.0.set_nonblocking(true).unwrap();
    let block = vec![b'x'; 1 << 16];
    // Full: the server reads no more of it.
    let mut sent = 0;
    let mut full_since = std::time::Instant::now();
    while full_since.elapsed() < Duration::from_millis(500) {
        match std::io::Write::write(&mut stuck.0, &block) {
            Ok(some) => {
                sent += some;
                full_since = std::time::Instant::now();
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
        assert!(sent < 1 << 28, "nothing holds it up");
    }
    let mut talk = Talk::to(serve.at[0]);
    for _ in 0..50 {
        talk.ask("hello", "hello");
    }
    drop((stuck, talk));
    serve.stop();
    worker.stop();
}

#[test]
fn option_of_an_endpoint_selects_workers_too() {
    let nats = Nats::start(&[]);
    let worker = Worker::start(&nats, "lower", "lower");
    let endpoint = format!(":0?as={}", nats.url("lower"));
    let serve = Serve::start(&[&endpoint, "echo=:0"]);
    Talk::to(serve.at[0]).ask("ABC", "abc");
    Talk::to(serve.at[1]).ask("ABC", "ABC");
    serve.stop();
    worker.stop();
}

/// UDP needs an answer at once, within the loop.
#[test]
fn datagram_endpoint_cannot_have_workers() {
    let nats = Nats::start(&[]);
    let worker = Worker::start(&nats, "upper", "upper");
    let home = Home::new();
    let url = nats.url("upper");
    let ran = home.run(&["serve", "udp://:0", "--as", &url]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    worker.stop();
}

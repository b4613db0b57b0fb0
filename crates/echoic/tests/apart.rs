//! `echoic console --on`: a console apart from its servers, over a real nats-server.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "apart/console.rs"]
mod console;
mod harness;

use std::{
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;

use self::{
    console::Console,
    harness::{Home, Nats, Serve, Talk, until},
};

/// The URL of the NATS server, without a name.
fn server_of(nats: &Nats) -> String {
    nats.url("").trim_end_matches('/').to_owned()
}

/// Two servers with a database each, of which the console reads the first.
fn two_servers(nats: &Nats) -> (Serve, Serve) {
    let on = server_of(nats);
    [(); 2]
        .map(|()| Serve::start(&["upper=127.0.0.1:0", "--frame", "line", "--on", &on]))
        .into()
}

#[test]
fn endpoints_of_all_servers_are_listed_and_the_right_one_is_paused() {
    let nats = Nats::start(&[]);
    let (first, second) = two_servers(&nats);
    let console = Console::start(&first.home, &["--on", &server_of(&nats)]);
    let (one, other) = (
        console.endpoint(first.at[0]),
        console.endpoint(second.at[0]),
    );
    assert_ne!(one["id"], other["id"]);
    assert_ne!(one["server"], other["server"]);
    let host = other["host"].as_str().unwrap();
    assert!(host.ends_with(&format!(":{}", second.id())), "{other}");
    let features = console.at.get("/api/v1/info").json()["features"].clone();
    assert_eq!(
        (&features["control"], &features["send"]),
        (&json!(true), &json!(true))
    );

    let paused = console.set(&other, "paused").json();
    assert_eq!(
        (&paused["id"], &paused["state"]),
        (&other["id"], &json!("paused"))
    );
    assert_eq!(console.endpoint(second.at[0])["state"], "paused");
    assert_eq!(console.endpoint(first.at[0])["state"], "open");
    // Accepted by the kernel alone: it is answered once the endpoint is open again.
    let mut waiting = Talk(TcpStream::connect(second.at[0]).unwrap());
    waiting.send("hello\n");
    Talk::to(first.at[0]).ask("hello\n", "HELLO\n");
    assert_eq!(console.endpoint(second.at[0])["accepted"], 0);
    assert_eq!(console.set(&other, "open").json()["state"], "open");
    waiting.expect_reply("HELLO\n");
}

#[test]
fn call_is_made_once_at_the_server_of_the_endpoint() {
    let nats = Nats::start(&[]);
    let (first, second) = two_servers(&nats);
    let console = Console::start(&first.home, &["--on", &server_of(&nats)]);
    let endpoint = console.endpoint(second.at[0])["id"].clone();
    // A reply ends the wait.
    let call = json!({"endpoint": endpoint, "messages": [{"text": "straße"}], "wait": "20s"});
    let result = console.at.submit("/api/v1/send", &call).json();
    assert_eq!(result["replies"][0]["rep"]["text"], "STRASSE\n", "{result}");
    until("it is recorded", || second.home.count(&[]) == 1);
    assert_eq!(first.home.count(&[]), 0);
    let unknown = json!({"endpoint": 99, "messages": [{"text": "x"}]});
    assert_eq!(console.at.submit("/api/v1/send", &unknown).status, 404);
    assert_eq!((second.stop().recorded, first.stop().recorded), (1, 0));
}

/// Conversations have the same ids in two databases: the record of the console tells which server is meant.
#[test]
fn send_and_close_reach_the_server_that_recorded_the_conversation() {
    let nats = Nats::start(&[]);
    let (first, second) = two_servers(&nats);
    let console = Console::start(&second.home, &["--on", &server_of(&nats)]);
    let (mut meant, mut other) = (Talk::to(second.at[0]), Talk::to(first.at[0]));
    for talk in [&mut meant, &mut other] {
        talk.ask("hello\n", "HELLO\n");
    }
    for at in [first.at[0], second.at[0]] {
        console.endpoint(at);
    }
    for home in [&first.home, &second.home] {
        until("it is recorded", || home.count(&["conv:1"]) == 1);
    }
    let sent = console
        .at
        .submit("/api/v1/conversations/1/send", &json!({"text": "pushed\n"}));
    assert_eq!(sent.json()["sent"], 7);
    meant.expect_reply("pushed\n");
    let closed = console
        .at
        .submit("/api/v1/conversations/1/close", &json!({"how": "fin"}));
    assert_eq!(closed.status, 204, "{closed:?}");
    assert_eq!(meant.rest(), b"");
    other.ask("still here\n", "STILL HERE\n");
    let unknown = console
        .at
        .submit("/api/v1/conversations/77/close", &json!({"how": "fin"}));
    assert_eq!(unknown.status, 404);
}

#[test]
fn server_that_hangs_is_an_error_and_one_that_is_killed_leaves_the_list() {
    let nats = Nats::start(&[]);
    let (first, second) = two_servers(&nats);
    let console = Console::start(&first.home, &["--on", &server_of(&nats)]);
    let (hangs, answer) = loop {
        let hangs = console.endpoint(second.at[0]);
        let since = Instant::now();
        second.signal(Signal::STOP);
        let answer = console.set(&hangs, "paused");
        // On a busy machine it may have left the list before: after 4 s.
        if answer.status != 404 || since.elapsed() < Duration::from_secs(3) {
            break (hangs, answer);
        }
        second.signal(Signal::CONT);
    };
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(
        answer.body.contains("not known whether it was done"),
        "{answer:?}"
    );
    until("it is gone", || console.endpoints().len() == 1);
    assert_eq!(console.endpoint(first.at[0])["state"], "open");
    assert_eq!(console.set(&hangs, "paused").status, 404);
    second.signal(Signal::CONT);
    console.endpoint(second.at[0]);
}

#[test]
fn console_that_only_reads_controls_nothing() {
    let nats = Nats::start(&[]);
    let (first, _second) = two_servers(&nats);
    let args = ["--on", &server_of(&nats), "--console-readonly"];
    let console = Console::start(&first.home, &args);
    let endpoint = console.endpoint(first.at[0]);
    assert_eq!(console.set(&endpoint, "paused").status, 403);
    console.stop();
}

#[test]
fn nats_that_is_not_there_is_told_without_the_password() {
    let home = Arc::new(Home::new());
    // The console wants a record.
    Serve::start_in(&home, &["upper=127.0.0.1:0"]).stop();
    for command in ["serve", "console"] {
        let on = format!("nats://me:hidden@127.0.0.1:{}", harness::free_port());
        let args: &[&str] = match command {
            "serve" => &["serve", "upper=127.0.0.1:0", "--on", &on],
            _ => &["console", "--console", ":0", "--on", &on],
        };
        let ran = home.run(args);
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(
            ran.err.contains("cannot reach NATS at nats://127.0.0.1:"),
            "{ran:?}"
        );
        assert!(!ran.err.contains("hidden"), "{ran:?}");
    }
    let ran = home.run(&["serve", "upper=:0", "--on", "nats://127.0.0.1/name"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("expected nats://HOST:PORT"), "{ran:?}");
}

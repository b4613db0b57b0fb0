//! The permissions of docs/scale-out.md, at a real nats-server: each process can do its part with them, and no other.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "apart/console.rs"]
mod console;
mod harness;
#[path = "keepers/keeper.rs"]
mod keeper;
#[path = "workers/worker.rs"]
mod worker;

use std::sync::Arc;

use self::{
    console::Console,
    harness::{Home, Nats, SLOW, Serve, Talk, until, until_within},
    keeper::Keeper,
    worker::Worker,
};

/// The page with them: its block of configuration.
const PAGE: &str = include_str!("../../../docs/scale-out.md");

/// Returns the configuration on the page, with a small payload, so that long messages cross in parts.
fn configuration() -> String {
    let begin = PAGE.find("authorization {").expect("the configuration");
    let (block, _) = PAGE[begin..].split_once("```").unwrap();
    format!("max_payload: 16KB\n{block}")
}

/// URL of a name for one of the users.
fn url(nats: &Nats, user: &str, name: &str) -> String {
    nats.url_as(&format!("{user}:{user}-secret"), name)
}

#[track_caller]
fn assert_permitted(lines: &[String]) {
    let said = lines.join("\n");
    assert!(!said.to_lowercase().contains("permission"), "{said}");
    assert!(!said.contains("-secret"), "{said}");
}

#[test]
fn each_process_works_with_the_permissions_on_the_page() {
    let nats = Nats::with_jetstream_and(&configuration(), &[]);
    let home = Arc::new(Home::new());
    let worker = Worker::start_on(&url(&nats, "worker", "upper"), "upper");
    let start = || {
        let (service, record) = (
            url(&nats, "server", "upper"),
            url(&nats, "server", "record"),
        );
        let on = url(&nats, "server", "");
        let on = on.trim_end_matches('/');
        Serve::start(&[
            ":0", "--frame", "line", "--as", &service, "--store", &record, "--on", on,
        ])
    };
    let (serve, killed) = (start(), start());
    let keeper = Keeper::start_from(&url(&nats, "keeper", "record"), &home, &[]);
    let (mut talk, mut other) = (Talk::to(serve.at[0]), Talk::to(killed.at[0]));
    other.ask("killed\n", "KILLED\n");
    for length in [10, 40_000, 200_000] {
        let line = "x".repeat(length) + "\n";
        talk.ask(&line, line.to_uppercase());
    }
    drop(talk.finish());
    until("everything is written", || home.count(&[]) == 4);

    let on = url(&nats, "console", "");
    let console = Console::start(&home, &["--on", on.trim_end_matches('/')]);
    let endpoint = console.endpoint(serve.at[0]);
    assert_ne!(console.set(&endpoint, "paused").status, 200);
    assert_eq!(console.endpoint(serve.at[0])["state"], "open");
    console.stop();

    killed.kill();
    until_within(SLOW, "the keeper has ended its conversation", || {
        home.sql("SELECT reason FROM conversation WHERE reason = 'process-died'")
            .len()
            == 1
    });
    assert_permitted(&worker.err.so_far());
    assert_permitted(&serve.err.so_far());
    serve.stop();
    assert_permitted(&keeper.err.so_far());
    worker.stop();
    keeper.stop();
}

/// What a process may not do is refused, and says so.
#[test]
fn no_process_can_do_the_part_of_another() {
    let nats = Nats::with_jetstream_and(&configuration(), &[]);
    let keeper = Keeper::start_from(&url(&nats, "keeper", "record"), &Arc::new(Home::new()), &[]);
    let home = Home::new();
    for args in [
        ["serve", ":0", "--store", &url(&nats, "worker", "record")],
        ["serve", ":0", "--store", &url(&nats, "console", "record")],
        ["keep", "--from", &url(&nats, "server", "record"), "--quiet"],
        [
            "keep",
            "--from",
            &url(&nats, "console", "record"),
            "--quiet",
        ],
    ] {
        let ran = home.run(&args);
        assert_ne!(ran.code, Some(0), "{args:?}: {ran:?}");
        assert!(!ran.err.contains("-secret"), "{ran:?}");
    }
    keeper.stop();
}

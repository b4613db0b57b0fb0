//! `log` and `console` on a PostgreSQL database that two servers record into.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{fs, process::Stdio, sync::Arc};

use rustix::process::Signal;
use serde_json::Value;
use trials_postgres::{PASSWORD, database};

use self::harness::{ConsoleAt, Home, Lines, SOON, Serve, Talk, kill, until, wait_for_end};

fn serve(home: &Arc<Home>, url: &str) -> Serve {
    let args = ["upper=:0", "--frame", "line", "--console", "off"];
    Serve::start_in(home, &[&args[..], &["--store", url]].concat())
}

/// Stops servers of one database, and checks what each says at the end.
fn stop(serves: [Serve; 2], expected: [&str; 2]) {
    for (mut serve, expected) in serves.into_iter().zip(expected) {
        serve.signal(Signal::TERM);
        let last = serve.err.wait_for("stopped: ");
        assert!(last.contains(expected), "{last}");
        assert_eq!(serve.ends_somehow(), Some(0));
    }
}

fn ids(lines: &[String]) -> Vec<u64> {
    let id = |line: &String| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64();
    lines.iter().map(|line| id(line).unwrap()).collect()
}

/// Cuts all connections of a database but the one that does so.
const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[test]
fn log_follows_waits_exports_and_deletes_beside_two_servers() {
    let Some(database) = database() else { return };
    let (home, url) = (Arc::new(Home::new()), database.url());
    let serves = [serve(&home, &url), serve(&home, &url)];
    let mut talks = serves.each_ref().map(|serve| Talk::to(serve.at[0]));
    talks[0].ask("begin\n", "BEGIN\n");
    until("it is recorded", || home.count(&["--store", &url]) == 1);
    let (mut follower, lines) = home.start(&["log", "-f", "--json", "--store", &url]);
    lines.wait_for("BEGIN");
    let wait = [
        "log",
        "wait",
        "req:login",
        "--matches",
        "2",
        "--timeout",
        "60s",
        "--json",
        "--store",
        &url,
    ];
    let (mut waiting, found) = home.start(&wait);
    for i in 0..20 {
        let line = format!("line {i}\n");
        talks[i % 2].ask(&line, line.to_uppercase());
        if i == 10 {
            // Both follow with new connections, and the servers record again.
            database.psql(CUT);
        }
    }
    for talk in &mut talks {
        talk.ask("login\n", "LOGIN\n");
    }
    lines.wait("all", |lines| (lines.len() >= 23).then_some(()));
    kill(&mut follower);
    assert_eq!(
        ids(&lines.all()),
        (1..=23).collect::<Vec<_>>(),
        "each once, in order"
    );
    let ended = wait_for_end(&mut waiting, SOON).expect("it has found two");
    assert!(ended.success());
    assert_eq!(found.all().len(), 2);

    home.run(&[
        "log",
        "--export",
        "lines.jsonl",
        "req:line",
        "--store",
        &url,
    ])
    .good();
    let exported = fs::read_to_string(home.path().join("lines.jsonl")).unwrap();
    assert_eq!(exported.lines().count(), 20);
    let deleted = home.run(&[
        "log",
        "delete",
        "req:line",
        "--confirm",
        "20",
        "--store",
        &url,
    ]);
    assert_eq!(deleted.good(), "20\n", "also while they record");
    talks[0].ask("after\n", "AFTER\n");
    until("it is recorded", || home.count(&["--store", &url]) == 4);
    for talk in talks {
        drop(talk.finish());
    }
    stop(
        serves,
        [
            "13 exchanges served, 13 recorded, 0 lost",
            "11 exchanges served, 11 recorded, 0 lost",
        ],
    );
}

#[test]
fn console_shows_live_what_other_processes_record() {
    let Some(database) = database() else { return };
    let (home, url) = (Arc::new(Home::new()), database.url());
    let serves = [serve(&home, &url), serve(&home, &url)];
    let mut command = home.echoic(&["console", "--console", ":0", "--store", &url]);
    let mut child = command
        .env_remove("ECHOIC_CONSOLE")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let err = Lines::of(child.stderr.take().unwrap());
    let line = err.wait_for("console on http://");
    let console = ConsoleAt::of(line.strip_prefix("console on ").unwrap());
    let events = Lines::of(console.events());
    events.wait_for("event: hello");
    for (i, serve) in serves.iter().enumerate() {
        let line = format!("live {i}\n");
        Talk::to(serve.at[0]).ask(&line, line.to_uppercase());
        events.wait_for(&format!("LIVE {i}"));
        database.psql(CUT);
    }
    Talk::to(serves[0].at[0]).ask("again\n", "AGAIN\n");
    events.wait_for("AGAIN");
    let info = console.get("/api/v1/info").json().to_string();
    assert!(
        info.contains("postgres") && !info.contains(PASSWORD),
        "{info}"
    );
    kill(&mut child);
    let said = err.all().join("\n");
    assert!(!said.contains(PASSWORD), "{said}");
    stop(
        serves,
        [
            "2 exchanges served, 2 recorded, 0 lost",
            "1 exchange served, 1 recorded, 0 lost",
        ],
    );
}

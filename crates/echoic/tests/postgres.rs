//! `--store postgres://…`: the program with a real server.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use trials_postgres::{Database, PASSWORD, database, server};

use self::harness::{Home, Load, Serve, Talk, until};

/// The URL without the password, as it is printed.
fn printed(database: &Database) -> String {
    database.url().replace(&format!(":{PASSWORD}"), "")
}

fn serve(home: &Arc<Home>, url: &str) -> Serve {
    Serve::start_in(
        home,
        &[
            "upper=:0",
            "--frame",
            "line",
            "--store",
            url,
            "--console",
            "127.0.0.1:0",
        ],
    )
}

#[test]
fn servers_record_into_one_database_and_log_reads_it() {
    let Some(database) = database() else { return };
    let (home, url) = (Arc::new(Home::new()), database.url());
    let (one, other) = (serve(&home, &url), serve(&home, &url));
    let recording = one.err.wait_for("recording in");
    assert!(recording.contains(&printed(&database)), "{recording}");
    let mut talks = [Talk::to(one.at[0]), Talk::to(other.at[0])];
    for i in 0..20 {
        let line = format!("line {i}\n");
        for talk in &mut talks {
            talk.ask(&line, line.to_uppercase());
        }
    }
    for talk in talks {
        drop(talk.finish());
    }
    until("everything is recorded", || {
        home.count(&["--store", &url]) == 40
    });
    let found = home.log(&["--store", &url, "req:\"line 7\""]);
    assert_eq!(found.len(), 2, "one of each server");
    assert_ne!(found[0]["conv"], found[1]["conv"]);
    let everything = home.log(&["--store", &url, "-n", "100"]);
    let ids: Vec<u64> = everything
        .iter()
        .map(|one| one["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, (1..=40).collect::<Vec<_>>());
    let tagged = home
        .run(&["log", "tag", "bug", "req:\"line 3\"", "--store", &url])
        .good();
    assert_eq!(tagged, "2\n");
    assert_eq!(home.count(&["--store", &url, "tag:bug"]), 2);

    // Nothing shows the password: the state that a server tells, and its lines.
    let status = home.run(&["status", &one.id().to_string()]);
    let told = String::from_utf8_lossy(&status.out) + status.err.as_str();
    assert!(
        told.contains(&printed(&database)) || status.code != Some(0),
        "{told}"
    );
    assert!(!told.contains(PASSWORD), "{told}");
    // Each counts what both have recorded; their last lines say what they recorded themselves.
    for mut serve in [one, other] {
        serve.signal(Signal::TERM);
        let last = serve.err.wait_for("stopped: ");
        assert!(
            last.contains("20 exchanges served, 20 recorded, 0 lost"),
            "{last}"
        );
        assert_eq!(serve.ends_somehow(), Some(0));
        let said = serve.err.all().join("\n") + &serve.out.all().join("\n");
        assert!(!said.contains(PASSWORD), "{said}");
    }
}

#[test]
fn client_records_into_a_database() {
    let Some(database) = database() else { return };
    let (home, url) = (Arc::new(Home::new()), database.url());
    let serve = Serve::start_in(&home, &["upper=:0", "--store", "none"]);
    let at = format!(":{}", serve.at[0].port());
    let ran = home.run(&["connect", &at, "--send", "hello", "--store", &url]);
    assert_eq!(ran.good(), "HELLO");
    let found = home.log(&["--store", &url]);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0]["role"], &found[0]["rep"]["text"]),
        (&Value::from("client"), &"HELLO".into())
    );
    serve.stop();
}

#[test]
fn serve_outlives_a_restart_of_the_database() {
    let Some(mut postgres) = server("") else {
        return;
    };
    let database = postgres.database();
    let (home, url) = (Arc::new(Home::new()), database.url());
    let serve = serve(&home, &url);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("before\n", "BEFORE\n");
    postgres.restart("", || {
        for i in 0..10 {
            let line = format!("meanwhile {i}\n");
            talk.ask(&line, line.to_uppercase());
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    talk.ask("after\n", "AFTER\n");
    drop(talk.finish());
    let stopped = serve.stop();
    assert_eq!(
        (stopped.served, stopped.recorded, stopped.lost),
        (12, 12, 0)
    );
}

/// Starts a server that records into a database, and a load.
fn loaded(url: &str, depths: &[usize]) -> (Serve, Load) {
    let serve = Serve::start(&["echo=:0", "--frame", "line", "--store", url]);
    let load = Load::start(serve.at[0], "l", depths);
    load.wait_for(200);
    (serve, load)
}

/// Asserts that the database has so many exchanges, each once and in order.
fn assert_recorded_once(database: &Database, recorded: u64) {
    let sums = "SELECT sum(count), count(*) = count(DISTINCT (conversation, n)) FROM echoic.run";
    assert_eq!(database.psql(sums), format!("{recorded}|t"));
    let state = "SELECT exchanges, last_exchange FROM echoic.state";
    assert_eq!(database.psql(state), format!("{recorded}|{recorded}"));
    let counted = "SELECT count(*) FROM echoic.conversation WHERE exchanges <>
        (SELECT sum(count) FROM echoic.run WHERE run.conversation = conversation.id)";
    assert_eq!(
        database.psql(counted),
        "0",
        "conversations that are not counted right"
    );
}

#[test]
fn connections_cut_under_load_lose_and_double_nothing() {
    let Some(database) = database() else { return };
    let (serve, load) = loaded(&database.url(), &[1, 4, 16]);
    for _ in 0..8 {
        let received = load.received();
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        load.wait_for(received + 200);
    }
    let stopped = serve.stop();
    assert_eq!((stopped.recorded, stopped.lost), (stopped.served, 0));
    for peer in load.ends() {
        peer.assert_prefix();
    }
    assert_recorded_once(&database, stopped.served);
    let gaps = "SELECT count(*) FROM (SELECT n, lag(n + count, 1, 1::bigint)
        OVER (PARTITION BY conversation ORDER BY n) AS expected FROM echoic.run) AS run WHERE n <> expected";
    assert_eq!(database.psql(gaps), "0", "gaps, or out of order");
}

/// It is told, what cannot be recorded is counted as lost, and recording goes on by itself.
#[test]
fn full_disk_of_the_database_is_told_and_recording_goes_on() {
    if !trials_postgres::can_mount() {
        return trials_skip::skip("this user cannot mount a disk");
    }
    let Some(mut postgres) = trials_postgres::server_on_small_disk("") else {
        return;
    };
    let database = postgres.database();
    // One at a time: recording goes on when what waits is written, which more load than the database takes would put off.
    let (mut serve, load) = loaded(&database.url(), &[1]);
    postgres.fill_disk(|| drop(serve.err.wait_for("not recording since")));
    let resumed = serve.err.wait_for("recording again");
    let received = load.received();
    load.wait_for(received + 200);
    serve.signal(Signal::TERM);
    let stopped = serve.ends();
    println!("{resumed}: {stopped:?}");
    for peer in load.ends() {
        peer.assert_prefix();
    }
    assert_eq!(stopped.served, stopped.recorded + stopped.lost);
    let recorded =
        "SELECT sum(count), count(*) = count(DISTINCT (conversation, n)) FROM echoic.run";
    assert_eq!(database.psql(recorded), format!("{}|t", stopped.recorded));
    let told = "SELECT coalesce(sum(a), 0) FROM echoic.mark WHERE what = 'gap'";
    assert_eq!(
        database.psql(told),
        stopped.lost.to_string(),
        "gaps in the record"
    );
}

#[test]
fn failures_name_the_remedy_and_hide_the_password() {
    let Some(database) = database() else { return };
    let home = Arc::new(Home::new());
    let missing = database.url().replace(&database.name, "no_such_database");
    let wrong = database.url_of(trials_postgres::USER, "hidden-and-wrong");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unreachable = format!("postgres://me:hidden@{}/e", closed.local_addr().unwrap());
    drop(closed);
    let serve = |url: &str| home.run(&["serve", "upper=:0", "--store", url]);
    let log = |url: &str| home.run(&["log", "--count", "--store", url]);
    for (ran, code, parts) in [
        (serve(&wrong), 1, ["refused the login", "PGPASSWORD"]),
        (log(&wrong), 1, ["refused the login", "PGPASSWORD"]),
        (serve(&missing), 1, ["there is no database at", "createdb"]),
        (log(&database.url()), 1, ["holds no record", "echoic serve"]),
        (serve(&unreachable), 4, ["cannot be reached", "check host"]),
        (
            log("postgres://me:hidden@no-such-host.invalid/e"),
            3,
            ["cannot be reached", "check host"],
        ),
        (
            serve("postgres://me:hidden@/e"),
            2,
            ["names no host", "before the host"],
        ),
        (
            log("postgres://me:hidden@host:port/e"),
            2,
            ["invalid store", "percent-encoded"],
        ),
        (
            log("postgres://me:hidden@host:1/e?sslmode=no"),
            2,
            ["invalid sslmode", "verify-full"],
        ),
    ] {
        assert_eq!(ran.code, Some(code), "{ran:?}");
        for part in parts {
            assert!(ran.err.contains(part), "{part}: {ran:?}");
        }
        let said = String::from_utf8_lossy(&ran.out) + ran.err.as_str();
        assert!(!said.contains("hid") && !said.contains(PASSWORD), "{said}");
    }
}

#[test]
fn password_may_be_in_the_environment_or_in_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let Some(database) = database() else { return };
    let home = Arc::new(Home::new());
    let url = printed(&database);
    let mut command = home.echoic(&["serve", "upper=:0", "--once", "--store", &url]);
    command.env("PGPASSWORD", PASSWORD);
    command.env("PGPASSFILE", "/dev/null");
    let mut child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let err = harness::Lines::of(child.stderr.take().unwrap());
    err.wait_for("recording in");
    harness::kill(&mut child);
    let file = home.path().join("passwords");
    let count = |mode: u32| {
        std::fs::write(&file, format!("127.0.0.1:*:*:*:{PASSWORD}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = home.echoic(&["log", "--count", "--store", &url]);
        command.env_remove("PGPASSWORD").env("PGPASSFILE", &file);
        harness::run(&mut command, b"")
    };
    assert_eq!(count(0o600).good(), "0\n");
    let refused = count(0o644);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("none was given"), "{refused:?}");
}

//! `serve --store nats://…` and `keep`: the record in processes of its own, over a real nats-server with JetStream.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "keepers/cluster.rs"]
mod cluster;
#[path = "keepers/faults.rs"]
mod faults;
mod harness;
#[path = "keepers/keeper.rs"]
mod keeper;
#[path = "keepers/refused.rs"]
mod refused;

use std::sync::Arc;

use self::{
    harness::{Home, Load, Nats, Ran, SLOW, Serve, Stopped, Talk, WRITTEN, until, until_within},
    keeper::Keeper,
};

/// Starts a server that records into the stream `record`.
#[track_caller]
fn serve(nats: &Nats, args: &[&str]) -> Serve {
    let url = nats.url("record");
    Serve::start(&[&["--frame", "line", "--store", &url], args].concat())
}

/// Asserts that the record has exactly these exchanges, each once and in order, and that every conversation has ended.
#[track_caller]
fn assert_recorded_once(home: &Home, served: u64, reasons: &[&str]) {
    // A keeper that was killed left the last messages to the next, which gets them a few seconds later. What is never written,
    // or twice, fails all the same.
    until_within(WRITTEN, "everything is written", || {
        home.count(&[]) >= served
    });
    let sums = "SELECT sum(count), count(*), count(DISTINCT conversation || '/' || n) FROM run";
    let sums = home.sql(sums);
    let numbers: Vec<u64> = sums[0].split('|').map(|sum| sum.parse().unwrap()).collect();
    assert_eq!((numbers[0], numbers[1]), (served, numbers[2]), "{sums:?}");
    // The numbers of a conversation have no gap, and ids follow them.
    let gaps = "SELECT count(*) FROM (SELECT n, count, id, conversation,
            lag(n + count, 1, 1) OVER (PARTITION BY conversation ORDER BY n) AS expected,
            lag(id, 1, 0) OVER (PARTITION BY conversation ORDER BY n) AS last
        FROM run) WHERE n != expected OR id <= last";
    assert_eq!(home.sql(gaps), ["0"], "gaps, or out of order");
    let unknown =
        "SELECT count(*) FROM run WHERE conversation NOT IN (SELECT id FROM conversation)";
    assert_eq!(home.sql(unknown), ["0"], "runs of unknown conversations");
    until_within(WRITTEN, "every conversation has ended", || {
        home.sql("SELECT count(*) FROM conversation WHERE ended IS NULL") == ["0"]
    });
    let ended = "SELECT DISTINCT reason FROM conversation WHERE exchanges > 0 ORDER BY reason";
    assert_eq!(home.sql(ended), reasons);
}

/// Stops a server and its load; returns how many exchanges were served. All of them were acknowledged.
#[track_caller]
fn stop(serve: Serve, load: Load) -> u64 {
    let Stopped { served, lost, .. } = serve.stop();
    assert_eq!(lost, 0);
    for peer in load.ends() {
        peer.assert_prefix();
        assert!(peer.end.is_ok() && peer.left.is_empty(), "{:?}", peer.end);
    }
    served
}

#[test]
fn keepers_write_each_exchange_once_to_postgresql_also_if_one_is_killed() {
    let Some(database) = trials_postgres::database() else {
        return;
    };
    let url = database.url();
    let (store, home) = (["--store", url.as_str()], Arc::new(Home::new()));
    let nats = Nats::with_jetstream();
    let killed = Keeper::start_with(&nats, &home, &store);
    let other = Keeper::start_with(&nats, &home, &store);
    let serve = serve(&nats, &["echo=:0"]);
    let load = Load::start(serve.at[0], "p", &[1, 4, 16]);
    load.wait_for(1_000);
    killed.kill();
    load.wait_for(3_000);
    let served = stop(serve, load);
    until_within(WRITTEN, "everything is written", || {
        home.count(&store) >= served
    });
    drop(other.stop());
    assert_eq!(home.count(&store), served);
    let ids = home.log(&["--store", &url, "-n", "1000000"]);
    let ids = ids.iter().map(|one| one["id"].as_u64().unwrap());
    assert!(ids.eq(1..=served), "ids without a gap");
}

#[test]
fn keeper_writes_what_several_servers_record() {
    let nats = Nats::with_jetstream();
    let servers = [0; 3].map(|_| serve(&nats, &["echo=:0"]));
    let keeper = Keeper::start(&nats, &Arc::new(Home::new()));
    let loads = [0, 1, 2].map(|at| Load::start(servers[at].at[0], &format!("s{at}"), &[1, 4, 16]));
    for load in &loads {
        load.wait_for(2_000);
    }
    let served = servers.into_iter().zip(loads);
    let served: u64 = served.map(|(serve, load)| stop(serve, load)).sum();
    let home = keeper.home();
    assert_recorded_once(&home, served, &["server-stopped"]);
    let conversations =
        "SELECT count(*), count(DISTINCT server), min(id) > 65536 FROM conversation";
    assert_eq!(home.sql(conversations), ["9|3|1"]);
    let last = keeper.stop();
    assert!(
        last.starts_with(&format!("stopped: {served} exchanges written")),
        "{last}"
    );
    assert_eq!(home.count(&[]), served);
    // Its acknowledgements may be under way.
    until("the stream is empty", || {
        nats.stream_messages("record") == 0
    });
}

/// The stream holds what no keeper writes, also when the server is gone.
#[test]
fn keeper_may_come_after_the_server_has_gone() {
    let nats = Nats::with_jetstream();
    let serve = serve(&nats, &["upper=:0"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("a\n", "A\n");
    talk.ask("b\nc\n", "B\nC\n");
    drop(talk.finish());
    assert_eq!(serve.stop().served, 3);
    assert!(nats.stream_messages("record") > 0);
    let keeper = Keeper::start(&nats, &Arc::new(Home::new()));
    assert_recorded_once(&keeper.home(), 3, &["peer-closed"]);
    let recorded = keeper.home().log(&["svc:upper", "rep:C"]);
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0]["req"]["text"], "c\n");
    keeper.stop();
}

/// A batch longer than a payload (16 KiB here) is stored in parts, which are gone when it is written.
#[test]
fn batch_longer_than_a_payload_is_divided() {
    let nats = Nats::with_jetstream_and("max_payload: 16KB", &[]);
    let serve = serve(&nats, &["echo=:0"]);
    let keeper = Keeper::start(&nats, &Arc::new(Home::new()));
    let mut talk = Talk::to(serve.at[0]);
    for size in [3, 12_000, 17_000, 500_000] {
        let line = "x".repeat(size) + "\n";
        talk.ask(&line, &line);
    }
    drop(talk.finish());
    assert_eq!(serve.stop().served, 4);
    assert_recorded_once(&keeper.home(), 4, &["peer-closed"]);
    let lengths = "SELECT length(req), length(rep) FROM run ORDER BY id";
    assert_eq!(
        keeper.home().sql(lengths),
        ["4|4", "12001|12001", "17001|17001", "500001|500001"]
    );
    until("the parts are deleted", || {
        nats.stream_messages("record") == 0
    });
    keeper.stop();
}

/// What cannot be read is put aside, and holds up nothing.
#[test]
fn unreadable_message_is_put_aside() {
    let nats = Nats::with_jetstream();
    let keeper = Keeper::start(&nats, &Arc::new(Home::new()));
    for lane in 0..8 {
        nats.request(&format!("echoic.record.batches.{lane}"), "hello");
    }
    let serve = serve(&nats, &["upper=:0"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("a\n", "A\n");
    drop(talk.finish());
    serve.stop();
    assert_recorded_once(&keeper.home(), 1, &["peer-closed"]);
    until("they are put aside", || nats.stream_messages("record") == 8);
    keeper
        .err
        .wait_for("cannot be read (not a message of echoic)");
    keeper.stop();
}

/// The record is read where it is written.
#[test]
fn record_is_not_read_from_the_stream() {
    let nats = Nats::with_jetstream();
    let url = nats.url("record");
    let home = Home::new();
    for args in [
        &["log", "--store", &url][..],
        &["console", "--console", "127.0.0.1:0", "--store", &url],
    ] {
        let Ran { code, err, .. } = home.run(args);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("name the --store of `echoic keep`"), "{err}");
    }
}

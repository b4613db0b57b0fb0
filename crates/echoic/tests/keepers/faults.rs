//! Keepers, NATS and servers die while they carry load.

use std::sync::Arc;

use super::{
    assert_recorded_once,
    harness::{Home, Load, Nats, SLOW, Serve, Talk, WRITTEN, until, until_within},
    keeper::Keeper,
    serve, stop,
};

/// What a keeper had not acknowledged comes again, what it had written already is dropped, and conversations that went on
/// meanwhile end as they really did.
#[test]
fn killed_keeper_under_load_writes_each_exchange_once() {
    let nats = Nats::with_jetstream();
    let home = Arc::new(Home::new());
    let mut keeper = Keeper::start(&nats, &home);
    let servers = [0; 2].map(|_| serve(&nats, &["echo=:0"]));
    let loads = [0, 1].map(|at| Load::start(servers[at].at[0], &format!("k{at}"), &[1, 4, 16]));
    let mut replies = 0;
    for round in 0..4 {
        replies += 1_500;
        for load in &loads {
            load.wait_for(replies);
        }
        if round % 2 == 0 {
            keeper.kill();
        } else {
            keeper.stop();
        }
        replies += 500;
        for load in &loads {
            load.wait_for(replies);
        }
        keeper = Keeper::start(&nats, &home);
    }
    let served = servers.into_iter().zip(loads);
    let served: u64 = served.map(|(serve, load)| stop(serve, load)).sum();
    println!("{served} served");
    assert_recorded_once(&home, served, &["server-stopped"]);
    keeper.stop();
    assert_recorded_once(&home, served, &["server-stopped"]);
}

#[test]
fn nats_killed_under_load_and_started_again_loses_no_exchange() {
    let mut nats = Nats::with_jetstream();
    let home = Arc::new(Home::new());
    let keeper = Keeper::start(&nats, &home);
    let serve = serve(&nats, &["echo=:0"]);
    let load = Load::start(serve.at[0], "n", &[1, 4, 16]);
    let mut replies = 0;
    for _ in 0..3 {
        replies += 1_500;
        load.wait_for(replies);
        nats.kill();
        nats.run();
        replies += 1_500;
        load.wait_for(replies);
    }
    let served = stop(serve, load);
    println!("{served} served");
    assert_recorded_once(&home, served, &["server-stopped"]);
    keeper.stop();
}

/// A stream that is full fails nothing for good: what is declared lost and what is recorded are all that was served, and once a
/// keeper makes room the server says so, under a load that is faster than the keeper.
#[test]
fn full_stream_under_load_is_recorded_again_when_a_keeper_comes() {
    let nats = Nats::with_jetstream();
    super::refused::create_stream(&nats, 8 << 20);
    let home = Arc::new(Home::new());
    let mut serve = serve(&nats, &["echo=:0"]);
    let load = Load::start(serve.at[0], "full", &[256, 256, 256, 256]);
    // It fills as fast as the machine serves, and must have been full for five seconds.
    serve.err.wait_for_within(SLOW, "not recording since");
    let while_full = load.received();
    let keeper = Keeper::start(&nats, &home);
    serve.err.wait_for_within(SLOW, "recording again");
    println!(
        "{while_full} replies until it was full, {} until it recorded again",
        load.received()
    );
    serve.signal(rustix::process::Signal::TERM);
    let stopped = serve.ends();
    println!("{stopped:?}");
    for peer in load.ends() {
        peer.assert_prefix();
    }
    until_within(WRITTEN, "everything is written", || {
        home.count(&[]) >= stopped.recorded
    });
    until_within(WRITTEN, "the stream is empty", || {
        nats.stream_messages("record") == 0
    });
    assert_eq!(home.count(&[]), stopped.recorded);
    keeper.stop();
}

/// A server that was killed says nothing of its end: the keeper finds out, and not before all of its batches are written.
#[test]
fn conversations_of_a_killed_server_end_as_process_died() {
    let nats = Nats::with_jetstream();
    let home = Arc::new(Home::new());
    let keeper = Keeper::start(&nats, &home);
    let serve = [0; 2].map(|_| serve(&nats, &["upper=:0"]));
    let [killed, quiet] = serve;
    let mut talks = [Talk::to(killed.at[0]), Talk::to(quiet.at[0])];
    for talk in &mut talks {
        talk.ask("a\n", "A\n");
        talk.ask("b\nc\n", "B\nC\n");
    }
    until("both are recorded", || home.count(&[]) == 6);
    killed.kill();
    let ended = "SELECT reason, exchanges, received FROM conversation WHERE ended IS NOT NULL";
    until_within(SLOW, "its conversation has ended", || {
        home.sql(ended).len() == 1
    });
    assert_eq!(home.sql(ended), ["process-died|3|6"]);
    // The other one has said as little all the time, and lives.
    let [_, mut talk] = talks;
    talk.ask("d\n", "D\n");
    drop(talk.finish());
    until("the other has ended", || home.sql(ended).len() == 2);
    let reasons = "SELECT reason FROM conversation ORDER BY reason";
    assert_eq!(home.sql(reasons), ["peer-closed", "process-died"]);
    quiet.stop();
    keeper.stop();
}

/// With strict durability a reply has left only if JetStream had its exchange.
#[test]
fn killed_server_loses_no_exchange_whose_reply_has_left() {
    let nats = Nats::with_jetstream();
    let home = Arc::new(Home::new());
    let keeper = Keeper::start(&nats, &home);
    let serve: Serve = serve(&nats, &["echo=:0", "--durability", "strict"]);
    let load = Load::start(serve.at[0], "strict", &[1, 4]);
    if !load.reaches(300) {
        // A stream that acknowledges nothing for five seconds ends conversations, and the server says so. What has left counts.
        serve.err.wait_for("not recording since");
    }
    serve.kill();
    let received: usize = load
        .ends()
        .iter()
        .map(|peer| {
            peer.assert_prefix();
            peer.received.len()
        })
        .sum();
    until_within(WRITTEN, "replies that have left are recorded", || {
        home.count(&[]) >= received as u64
    });
    let sums = "SELECT count(*) - count(DISTINCT conversation || '/' || n) FROM run";
    assert_eq!(home.sql(sums), ["0"]);
    keeper.stop();
}

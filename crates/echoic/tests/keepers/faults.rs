//! Keepers, NATS and servers die while they carry load.

use std::sync::Arc;

use super::{
    assert_recorded_once,
    harness::{Home, Load, Nats, Serve},
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

/// With strict durability a reply has left only if JetStream had its exchange.
#[test]
fn killed_server_loses_no_exchange_whose_reply_has_left() {
    let nats = Nats::with_jetstream();
    let home = Arc::new(Home::new());
    let keeper = Keeper::start(&nats, &home);
    let serve: Serve = serve(&nats, &["echo=:0", "--durability", "strict"]);
    let load = Load::start(serve.at[0], "strict", &[1, 4]);
    load.wait_for(300);
    serve.kill();
    let received: usize = load
        .ends()
        .iter()
        .map(|peer| {
            peer.assert_prefix();
            peer.received.len()
        })
        .sum();
    super::until("replies that have left are recorded", || {
        home.count(&[]) >= received as u64
    });
    let sums = "SELECT count(*) - count(DISTINCT conversation || '/' || n) FROM run";
    assert_eq!(home.sql(sums), ["0"]);
    keeper.stop();
}

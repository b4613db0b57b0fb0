//! Workers and NATS die while they carry load.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    harness::{Load, Nats, Serve, Stopped, Talk},
    serve,
    worker::Worker,
};

/// Stops the server, and asserts that every reply was right and in order, that none is missing, and that all is recorded.
#[track_caller]
fn assert_all_answered(serve: Serve, load: Load) {
    let home = Arc::clone(&serve.home);
    let Stopped { served, .. } = serve.stop();
    let mut received = 0;
    for peer in load.ends() {
        peer.assert_prefix();
        assert!(peer.end.is_ok(), "{}: {:?}", peer.name, peer.end);
        assert!(peer.left.is_empty(), "{}: {:?}", peer.name, peer.left);
        received += peer.received.len() as u64;
    }
    println!("{received} replies of {served} exchanges");
    assert_eq!(home.count(&["is:ok"]), served);
    assert_eq!(received, served);
    assert_eq!(
        home.sql("SELECT DISTINCT reason FROM conversation"),
        ["server-stopped"]
    );
}

/// The runs that a killed worker had are answered by another one.
#[test]
fn killed_worker_under_load_is_replaced_by_another() {
    let nats = Nats::start(&[]);
    let mut workers: Vec<_> = (0..3)
        .map(|_| Worker::start(&nats, "echo", "echo"))
        .collect();
    let serve = serve(&nats, "echo", &["--frame", "line"]);
    let load = Load::start(serve.at[0], "kill", &[1, 1, 4, 16, 64]);
    let mut replies = 0;
    for _ in 0..4 {
        replies += 3_000;
        load.wait_for(replies);
        workers.remove(0).kill();
        replies += 1_000;
        load.wait_for(replies);
        workers.push(Worker::start(&nats, "echo", "echo"));
    }
    load.wait_for(replies + 3_000);
    assert_all_answered(serve, load);
    for worker in workers {
        worker.stop();
    }
}

/// A worker that is stopped answers what it has received, so that nothing waits for a second worker's turn.
#[test]
fn stopped_worker_under_load_loses_nothing() {
    let nats = Nats::start(&[]);
    let mut worker = Worker::start(&nats, "echo", "echo");
    let serve = serve(&nats, "echo", &["--frame", "line"]);
    let load = Load::start(serve.at[0], "drain", &[1, 4, 16]);
    let mut replies = 0;
    for _ in 0..4 {
        replies += 2_000;
        load.wait_for(replies);
        let next = Worker::start(&nats, "echo", "echo");
        std::mem::replace(&mut worker, next).stop();
    }
    load.wait_for(replies + 2_000);
    assert_all_answered(serve, load);
    worker.stop();
}

#[test]
fn nats_killed_under_load_and_started_again_loses_nothing() {
    let mut nats = Nats::start(&[]);
    let workers = [0; 2].map(|_| Worker::start(&nats, "echo", "echo"));
    let serve = serve(
        &nats,
        "echo",
        &["--frame", "line", "--worker-timeout", "30s"],
    );
    let load = Load::start(serve.at[0], "nats", &[1, 4, 16]);
    let mut replies = 0;
    for _ in 0..3 {
        replies += 2_000;
        load.wait_for(replies);
        nats.kill();
        nats.run();
        replies += 2_000;
        load.wait_for(replies);
    }
    assert_all_answered(serve, load);
    for worker in workers {
        worker.stop();
    }
}

/// A URL of several hosts: whichever node of the cluster dies, workers and server find each other at another one.
#[test]
fn each_node_of_a_cluster_killed_in_turn_loses_no_reply() {
    let mut nodes = Nats::cluster();
    let url = Nats::cluster_url(&nodes, "echo");
    let workers = [0; 2].map(|_| Worker::start_on(&url, "echo"));
    let more = ["--frame", "line", "--worker-timeout", "60s"];
    let serve = Serve::start(&[&[":0", "--as", &url], &more[..]].concat());
    let load = Load::start(serve.at[0], "nodes", &[1, 4, 16]);
    for node in &mut nodes {
        load.wait_for(load.received() + 1_000);
        node.kill();
        load.wait_for(load.received() + 1_000);
        node.run();
    }
    assert_all_answered(serve, load);
    for worker in workers {
        worker.stop();
    }
}

/// Without any worker a conversation waits for one; it ends in time, and says why.
#[test]
fn conversation_without_a_worker_ends_as_worker_lost() {
    let nats = Nats::start(&[]);
    let worker = Worker::start(&nats, "upper", "upper");
    let more = ["--frame", "line", "--worker-timeout", "2s"];
    let serve = serve(&nats, "upper", &more);
    let mut lost = Talk::to(serve.at[0]);
    lost.ask("a\n", "A\n");
    worker.kill();
    let since = Instant::now();
    lost.send("b\n");
    assert_eq!(lost.rest(), b"");
    let took = since.elapsed();
    println!("ended after {took:?}");
    assert!(took >= Duration::from_secs(2), "{took:?}");
    serve.err.wait_for("no worker serves");
    serve.err.wait_for("answered within 2s: there is none");
    let home = Arc::clone(&serve.home);
    serve.stop();
    assert_eq!(home.sql("SELECT reason FROM conversation"), ["worker-lost"]);
    assert_eq!(home.count(&["is:unanswered", "end:error"]), 1);
}

/// One that comes back within the time: nothing is lost.
#[test]
fn conversation_waits_for_a_worker_that_comes_back() {
    let nats = Nats::start(&[]);
    let worker = Worker::start(&nats, "upper", "upper");
    let more = ["--frame", "line", "--worker-timeout", "30s"];
    let serve = serve(&nats, "upper", &more);
    let mut saved = Talk::to(serve.at[0]);
    saved.ask("c\n", "C\n");
    worker.kill();
    saved.send("d\n");
    thread::sleep(Duration::from_millis(300));
    let worker = Worker::start(&nats, "upper", "upper");
    saved.expect_reply("D\n");
    serve.err.wait_for("a worker serves");
    assert_eq!(saved.finish(), b"");
    let home = Arc::clone(&serve.home);
    serve.stop();
    assert_eq!(home.sql("SELECT reason FROM conversation"), ["peer-closed"]);
    worker.stop();
}

/// A worker that dies with a run leaves an attempt that hangs. The run is tried all the same, again and again, not only when it is
/// given to another one too: after 1 s, 3 s and 7 s.
#[test]
fn conversation_whose_worker_died_with_its_run_finds_one_that_comes_later() {
    let nats = Nats::start(&[]);
    let more = ["--frame", "line", "--worker-timeout", "6s"];
    for _ in 0..5 {
        let died = Worker::start(&nats, "upper", "upper");
        let serve = serve(&nats, "upper", &more);
        let mut talk = Talk::to(serve.at[0]);
        talk.ask("a\n", "A\n");
        died.freeze();
        let since = Instant::now();
        talk.send("b\n");
        // It has the run, and NATS does not know yet that it is dead.
        thread::sleep(Duration::from_millis(300));
        died.kill();
        serve.err.wait_for("no worker serves");
        thread::sleep(Duration::from_millis(3300).saturating_sub(since.elapsed()));
        let worker = Worker::start(&nats, "upper", "upper");
        // On a busy machine it may come too late: then it does not tell.
        if since.elapsed() < Duration::from_secs(5) {
            talk.expect_reply("B\n");
            serve.stop();
            worker.stop();
            return;
        }
    }
    panic!("the machine is too busy");
}

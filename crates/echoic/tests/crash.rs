//! The record after a crash.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;

use self::harness::{Home, Load, Serve};

/// Kills a server under load, repeatedly, on one database; returns the replies its peers had received.
fn killed_under_load(durability: &str, rounds: usize) -> (Arc<Home>, Vec<String>) {
    let home = Arc::new(Home::new());
    let mut received = Vec::new();
    for round in 0..rounds {
        let args = ["echo=:0", "--frame", "line", "--durability", durability];
        let serve = Serve::start_in(&home, &args);
        let load = Load::start(serve.at[0], &format!("round {round} peer"), &[1, 4, 16, 64]);
        // An arbitrary moment within the first few thousand replies.
        if !load.reaches(40 + 1009 * round % 3000) {
            // A disk that is busy for five seconds ends strict conversations, and the server says so. What was received counts.
            serve.err.wait_for("not recording since");
        }
        serve.kill();
        for peer in load.ends() {
            received.extend(peer.received);
        }
        assert_eq!(home.sql("PRAGMA integrity_check"), ["ok"], "round {round}");
    }
    (home, received)
}

fn recorded(home: &Home) -> HashSet<String> {
    let text = |exchange: &Value| exchange["rep"]["text"].as_str().unwrap().to_owned();
    home.log(&[]).iter().map(text).collect()
}

#[test]
fn strict_crash_loses_no_received_reply() {
    let (home, received) = killed_under_load("strict", 10);
    let recorded = recorded(&home);
    let lost: Vec<_> = received
        .iter()
        .filter(|line| !recorded.contains(*line))
        .collect();
    assert!(
        received.len() > 400,
        "{} replies are no load",
        received.len()
    );
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        received.len()
    );
    for line in received.iter().step_by(received.len() / 5) {
        let found = home.count(&[&format!("rep:\"{}\"", line.trim())]);
        assert!(found >= 1, "{line} is not found by log");
    }
    println!(
        "strict: {} replies received over 10 crashes, none lost",
        received.len()
    );
    // The next server marks each conversation without a recorded end.
    Serve::start_in(&home, &[":0"]).stop();
    assert_eq!(
        home.sql("SELECT DISTINCT reason FROM conversation"),
        ["process-died"]
    );
}

#[test]
fn normal_crash_leaves_a_sound_record_without_holes() {
    let (home, received) = killed_under_load("normal", 3);
    let recorded = recorded(&home);
    // The recorded exchanges of each conversation are a prefix, in order.
    let replies = home.log(&[]);
    let mut next = HashMap::<u64, u64>::new();
    for exchange in &replies {
        let next = next.entry(exchange["conv"].as_u64().unwrap()).or_insert(1);
        assert_eq!(exchange["n"], *next, "{exchange}");
        *next += 1;
    }
    let lost = received
        .iter()
        .filter(|line| !recorded.contains(*line))
        .count();
    println!(
        "normal: of {} replies received over 3 crashes {lost} are not recorded",
        received.len()
    );
    Serve::start_in(&home, &[":0"]).stop();
    assert_eq!(home.log(&[]).len(), replies.len());
}

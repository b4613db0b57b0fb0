//! All tiers as processes, under load, while one after the other fails: servers, workers, keepers, console, NATS and
//! PostgreSQL.
//!
//! `ECHOIC_SEED` repeats a run. `scripts/deep chaos` runs more rounds, with a cluster of NATS and a disk that is full.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "chaos/caller.rs"]
mod caller;
#[path = "apart/console.rs"]
mod console;
#[path = "chaos/fault.rs"]
mod fault;
mod harness;
#[path = "keepers/keeper.rs"]
mod keeper;
#[path = "chaos/record.rs"]
mod record;
#[path = "chaos/tiers.rs"]
mod tiers;
#[path = "workers/worker.rs"]
mod worker;

use std::time::Instant;

use self::{
    caller::{Callers, Ended},
    fault::Fault,
    harness::until,
    record::{assert_recorded, exchanges_of, wait_for_record},
    tiers::{Setting, Tiers},
};

/// Rounds of the test that runs with all others.
const ROUNDS: usize = 5;

/// Replies that each caller must get before a fault, and after it.
const BEFORE: usize = 20;
const AFTER: usize = 40;

#[test]
fn faults_across_tiers_lose_and_double_nothing() {
    let deep = std::env::var("CHAOS").ok();
    let rounds = deep.as_ref().map_or(ROUNDS, |text| text.parse().unwrap());
    let seed = std::env::var("ECHOIC_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    println!("{rounds} rounds; repeat them with ECHOIC_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let setting = Setting::of(deep.is_some());
    let Some(mut tiers) = Tiers::start(setting) else {
        return;
    };
    let mut faults = Vec::new();
    for round in 0..rounds {
        if faults.is_empty() {
            faults = Fault::all(&setting);
            dice.shuffle(&mut faults);
        }
        let fault = faults.pop().unwrap();
        println!("round {round}: {fault:?}");
        run(&mut tiers, round, fault, &mut dice);
    }
    tiers.stop();
}

/// One round: load, a fault, load, and all that was said is in the record.
#[track_caller]
fn run(tiers: &mut Tiers, round: usize, fault: Fault, dice: &mut fastrand::Rng) {
    let name = format!("round{round}x");
    let (since, before) = (Instant::now(), exchanges_of(&tiers.database, ""));
    let took = |what: &str| println!("  {what} {:.1?}", since.elapsed());
    let mut callers = Vec::new();
    for (at, server) in tiers.servers.iter().enumerate() {
        callers.push(Callers::start(
            server.address(),
            &format!("{name}s{at}"),
            &[1, 4, 16],
        ));
    }
    for some in &callers {
        some.wait_for_more(BEFORE, "before the fault");
    }
    took("loaded");
    std::thread::sleep(std::time::Duration::from_millis(dice.u64(..200)));
    let killed = fault.strike(tiers, dice);
    let killed = killed.map(|at| {
        // Its place has another server by now, which has callers too.
        let next = Callers::start(
            tiers.servers[at].address(),
            &format!("{name}n{at}"),
            &[1, 4],
        );
        std::mem::replace(&mut callers[at], next)
    });
    took("struck");
    for some in &callers {
        some.wait_for_more(AFTER, &format!("after {fault:?}"));
    }
    took("loaded again");
    until("the console answers", || {
        let path = "/api/v1/conversations";
        tiers.console.at.answers(path) && tiers.console.at.answers("/api/v1/exchanges")
    });
    took("console answers");
    let mut ends: Vec<_> = callers.into_iter().flat_map(Callers::stop).collect();
    for end in &ends {
        assert_eq!(end.ended, Ended::InOrder, "{end:?} after {fault:?}");
    }
    if let Some(killed) = killed {
        ends.extend(killed.stop());
    }
    took("callers have ended");
    wait_for_record(tiers, before, &ends);
    took("written");
    assert_recorded(tiers, &name, before, &ends);
    took("checked");
}

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

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use self::{
    caller::{Callers, Ended},
    fault::Fault,
    harness::{WRITTEN, until, until_equal},
    record::{assert_recorded, exchanges_of, wait_for_record},
    tiers::{Server, Setting, Tiers},
};

/// Rounds of the test that runs with all others.
const ROUNDS: usize = 5;

/// Replies that each caller must get before a fault, and after it.
const BEFORE: usize = 10;
const AFTER: usize = 20;

/// Lines in flight of the callers of a server.
const DEPTHS: [usize; 3] = [1, 4, 16];

/// One test at a time: each has nine processes, NATS and PostgreSQL.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn faults_across_tiers_lose_and_double_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
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
            faults = Fault::all(setting);
            dice.shuffle(&mut faults);
        }
        let fault = faults.pop().unwrap();
        let since = Instant::now();
        println!("round {round}: {fault:?}");
        run(&mut tiers, round, fault, &mut dice);
        println!("  in order after {:.1?}", since.elapsed());
    }
    tiers.stop();
}

/// New processes come before old ones are stopped. A caller whose server is stopped has all replies to what was taken from it, and
/// goes on at the new server with the rest.
#[test]
fn rolling_restart_of_every_tier_fails_no_exchange() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut tiers) = Tiers::start(Setting::of(false)) else {
        return;
    };
    let before = exchanges_of(&tiers.database, "");
    let mut callers: Vec<_> = (0..tiers.servers.len())
        .map(|at| Callers::start(tiers.servers[at].address(), &format!("rolls{at}"), &DEPTHS))
        .collect();
    let go_on = |callers: &[Callers], when: &str| {
        for some in callers {
            some.wait_for_more(AFTER, when);
        }
    };
    go_on(&callers, "at first");
    for _ in 0..tiers.workers.len() {
        let next = tiers.new_worker();
        tiers.workers.push(next);
        drop(tiers.workers.remove(0).stop());
        go_on(&callers, "after a new worker");
    }
    for _ in 0..tiers.keepers.len() {
        let next = tiers.new_keeper();
        tiers.keepers.push(next);
        drop(tiers.keepers.remove(0).stop());
        go_on(&callers, "after a new keeper");
    }
    let next = tiers.new_console();
    std::mem::replace(&mut tiers.console, next).stop();
    let mut ends = Vec::new();
    for at in 0..tiers.servers.len() {
        let server = tiers.new_server(tiers.servers[at].is_strict);
        let next = Callers::start(server.address(), &format!("rolls{at}again"), &DEPTHS);
        let old = std::mem::replace(&mut tiers.servers[at], server);
        tiers.stop_server(old);
        let told = std::mem::replace(&mut callers[at], next).ends();
        for end in &told {
            assert_eq!(end.ended, Ended::ByServer, "{end:?}");
        }
        ends.extend(told);
        go_on(&callers, "after a new server");
    }
    until("the console answers", || {
        tiers.console.at.answers("/api/v1/conversations")
    });
    for end in callers.into_iter().flat_map(Callers::stop) {
        assert_eq!(end.ended, Ended::InOrder, "{end:?}");
        ends.push(end);
    }
    wait_for_record(&tiers, before, &ends);
    assert_recorded(&tiers, "roll", before, &ends);
    // Every exchange of the record had its reply, and no line without a reply is in it.
    let received: usize = ends.iter().map(|end| end.received).sum();
    until_equal(WRITTEN, "exchanges", &(received as u64), || {
        exchanges_of(&tiers.database, "") - before
    });
    let reasons =
        "SELECT reason, count(*) FROM echoic.conversation GROUP BY reason ORDER BY reason";
    let expected = "peer-closed|6\nserver-stopped|6".to_owned();
    until_equal(WRITTEN, "reasons", &expected, || {
        tiers.database.psql(reasons)
    });
    tiers.stop();
}

/// One round: load, a fault, load, and all that was said is in the record.
#[track_caller]
fn run(tiers: &mut Tiers, round: usize, fault: Fault, dice: &mut fastrand::Rng) {
    let name = format!("round{round}x");
    let before = exchanges_of(&tiers.database, "");
    let mut callers = Vec::new();
    for (at, server) in tiers.servers.iter().enumerate() {
        callers.push(Callers::start(
            server.address(),
            &format!("{name}s{at}"),
            &DEPTHS,
        ));
    }
    for some in &callers {
        some.wait_for_more(BEFORE, "before the fault");
    }
    std::thread::sleep(std::time::Duration::from_millis(dice.u64(..200)));
    let mut said: Vec<_> = tiers.servers.iter().map(Server::failures).collect();
    let killed = fault.strike(tiers, dice);
    let killed = killed.map(|at| {
        said[at] = 0;
        // Its place has another server by now, which has callers too.
        let next = Callers::start(
            tiers.servers[at].address(),
            &format!("{name}n{at}"),
            &[1, 4],
        );
        std::mem::replace(&mut callers[at], next)
    });
    // With strict durability a server ends conversations once nothing is acknowledged for five seconds, and says so: also another
    // fault than that of NATS can take that long on a busy machine.
    let may_end = |server: &Server, said: usize| {
        server.is_strict && (fault.may_end_strict() || server.failures() > said)
    };
    for ((some, server), said) in callers.iter().zip(&tiers.servers).zip(&said) {
        let may_end = || may_end(server, *said);
        some.wait_for_more_unless(may_end, AFTER, &format!("after {fault:?}"));
    }
    until("the console answers", || {
        let path = "/api/v1/conversations";
        tiers.console.at.answers(path) && tiers.console.at.answers("/api/v1/exchanges")
    });
    let mut ends = Vec::new();
    for ((some, server), said) in callers.into_iter().zip(&tiers.servers).zip(said) {
        for end in some.stop() {
            if end.ended != Ended::InOrder {
                assert_eq!(end.ended, Ended::ByServer, "{end:?} after {fault:?}");
                let told = format!("it is told why {end:?} after {fault:?}");
                until(&told, || may_end(server, said));
            }
            ends.push(end);
        }
    }
    if let Some(killed) = killed {
        ends.extend(killed.stop());
    }
    wait_for_record(tiers, before, &ends);
    assert_recorded(tiers, &name, before, &ends);
}

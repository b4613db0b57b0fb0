//! Deterministic simulation of the server, the recorder and the client. Each world is drawn from a seed: a network that
//! delays, splits, stalls and resets, a store that is slow or fails, peers with random scripts, and a stop at a random
//! time. Each world is checked against a simple model. In worlds of [`datagrams`] the network loses, duplicates and
//! reorders instead, and in those of [`tls`] the streams are encrypted.
//!
//! A failing world prints its seed. To see its log:
//!
//! ```text
//! scripts/deep simulate 1 SEED
//! ```

/// Returns the message as an error unless the condition holds.
macro_rules! must {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

mod bug;
mod callers;
mod chance;
mod check;
mod datagrams;
mod model;
mod net;
mod peer;
mod plan;
mod steps;
mod store;
mod tls;
mod world;

use std::env;

use self::{
    bug::Bug,
    plan::Plan,
    world::{Failure, Sum, simulate},
};

/// Simulates the world of a seed, with a planted bug or none, and with or without a story (a log of its steps).
type Simulate = fn(u64, Option<Bug>, bool) -> Result<Sum, Failure>;

/// Number of worlds and the first seed, from `SIMULATE="N FIRST"`; default `500 0`.
fn worlds_and_first_seed() -> (u64, u64) {
    let text = env::var("SIMULATE").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|number| {
        number
            .parse()
            .unwrap_or_else(|_| panic!("SIMULATE={text:?} is not \"N FIRST\""))
    });
    (numbers.next().unwrap_or(500), numbers.next().unwrap_or(0))
}

/// Simulates the requested worlds. If a single world was requested and fails, prints its plan and its story.
fn check_worlds(simulate: Simulate, plan: impl Fn(u64) -> String) {
    let (worlds, first) = worlds_and_first_seed();
    let mut failing = Vec::new();
    for seed in first..first + worlds {
        if let Err(failure) = simulate(seed, None, false) {
            failing.push(format!("seed {seed}: {}", failure.what));
        }
    }
    if let [only] = &failing[..]
        && worlds == 1
    {
        let failure = simulate(first, None, true).err();
        let story = failure.map(|failure| failure.story.join("\n"));
        panic!("{}\n{}\n{only}", plan(first), story.unwrap_or_default());
    }
    let few = failing.len().min(10);
    assert!(
        failing.is_empty(),
        "{} of {worlds} worlds fail; `scripts/deep simulate 1 SEED` prints the story of one\n{}",
        failing.len(),
        failing[..few].join("\n")
    );
}

/// Number of worlds within which each planted bug has to be found.
const FOUND_WITHIN: u64 = 200;

/// Checks that the simulation finds each of these planted bugs.
fn find_bugs(simulate: Simulate, bugs: &[Bug]) {
    for bug in bugs {
        let found = (0..FOUND_WITHIN).find_map(|seed| {
            let failure = simulate(seed, Some(*bug), false).err()?;
            Some((seed, failure.what))
        });
        let (seed, what) =
            found.unwrap_or_else(|| panic!("{bug:?} is not found in {FOUND_WITHIN} worlds"));
        eprintln!("{bug:?} is found in seed {seed}: {what}");
        assert!(
            simulate(seed, None, false).is_ok(),
            "seed {seed} fails without {bug:?} too"
        );
    }
}

/// Checks that the same seed gives the same world.
fn check_replay(simulate: Simulate) {
    for seed in 0..30 {
        let again: Vec<Sum> = (0..3)
            .map(|_| simulate(seed, None, false).expect("a world without a failure"))
            .collect();
        assert!(
            again.windows(2).all(|two| two[0] == two[1]),
            "seed {seed}: {again:#?}"
        );
    }
}

#[test]
fn invariants_hold_in_every_simulated_world() {
    check_worlds(simulate, |seed| format!("{:?}", Plan::draw(seed)));
}

#[test]
fn planted_bugs_are_found() {
    find_bugs(simulate, &Bug::OF_STREAMS);
}

#[test]
fn same_seed_replays_identically() {
    check_replay(simulate);
}

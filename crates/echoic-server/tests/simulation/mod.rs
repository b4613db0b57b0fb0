//! The server, the recorder and the client in worlds that are drawn from a seed: a network that delays, divides, stalls
//! and resets, a store that is slow or fails, peers that do what they like, and a stop at any moment. Each world is
//! checked against a model that is as simple as can be. Worlds of [`datagrams`] have a network that loses, doubles and
//! reorders instead.
//!
//! A failing world prints its seed. To see its story:
//!
//! ```text
//! scripts/deep simulate 1 SEED
//! ```

/// What has to hold, or else the world fails and says so.
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
mod world;

use std::env;

use self::{
    bug::Bug,
    plan::Plan,
    world::{Failure, Sum, simulate},
};

/// Lives the world of a seed, with a bug in it if there is to be one; whether it tells its story.
type Simulate = fn(u64, Option<Bug>, bool) -> Result<Sum, Failure>;

/// How many worlds, and the first seed: `SIMULATE="N FIRST"`.
fn asked() -> (u64, u64) {
    let asked = env::var("SIMULATE").unwrap_or_default();
    let mut numbers = asked.split_whitespace().map(|number| {
        number
            .parse()
            .unwrap_or_else(|_| panic!("SIMULATE={asked:?} is not \"N FIRST\""))
    });
    (numbers.next().unwrap_or(500), numbers.next().unwrap_or(0))
}

/// Lives as many worlds as are asked for. One alone that fails tells its story, its plan first.
fn live_all(simulate: Simulate, plan: impl Fn(u64) -> String) {
    let (worlds, first) = asked();
    let mut failing = Vec::new();
    for seed in first..first + worlds {
        if let Err(failure) = simulate(seed, None, false) {
            failing.push(format!("seed {seed}: {}", failure.what));
        }
    }
    if let [only] = &failing[..]
        && worlds == 1
    {
        let told = simulate(first, None, true).err();
        let story = told.map(|failure| failure.story.join("\n"));
        panic!("{}\n{}\n{only}", plan(first), story.unwrap_or_default());
    }
    let few = failing.len().min(10);
    assert!(
        failing.is_empty(),
        "{} of {worlds} worlds fail; `scripts/deep simulate 1 SEED` tells the story of one\n{}",
        failing.len(),
        failing[..few].join("\n")
    );
}

/// The worlds among which each bug has to be found.
const FOUND_WITHIN: u64 = 200;

/// A simulation that finds nothing finds bugs neither: each of these must show.
fn find_all(simulate: Simulate, bugs: &[Bug]) {
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

/// The same seed is the same world.
fn live_again(simulate: Simulate) {
    for seed in 0..30 {
        let again: Vec<Sum> = (0..3)
            .map(|_| simulate(seed, None, false).expect("a world in order"))
            .collect();
        assert!(
            again.windows(2).all(|two| two[0] == two[1]),
            "seed {seed}: {again:#?}"
        );
    }
}

#[test]
fn invariants_hold_in_every_simulated_world() {
    live_all(simulate, |seed| format!("{:?}", Plan::draw(seed)));
}

#[test]
fn planted_bugs_are_found() {
    find_all(simulate, &Bug::OF_STREAMS);
}

#[test]
fn same_seed_replays_identically() {
    live_again(simulate);
}

//! The server, the recorder and the client in worlds that are drawn from a seed: a network that delays, divides, stalls
//! and resets, a store that is slow or fails, peers that do what they like, and a stop at any moment. Each world is
//! checked against a model that is as simple as can be.
//!
//! A failing world prints its seed. To see its story:
//!
//! ```text
//! scripts/deep simulate 1 SEED
//! ```

pub(crate) mod bug;
mod chance;
mod check;
mod gate;
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
    world::{Sum, simulate},
};

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

#[test]
fn what_must_hold_holds_in_every_world() {
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
        panic!(
            "{:?}\n{}\n{only}",
            Plan::draw(first),
            story.unwrap_or_default()
        );
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
fn first_to_find(bug: Bug) -> (u64, String) {
    (0..FOUND_WITHIN)
        .find_map(|seed| {
            let failure = simulate(seed, Some(bug), false).err()?;
            Some((seed, failure.what))
        })
        .unwrap_or_else(|| panic!("{bug:?} is not found in {FOUND_WITHIN} worlds"))
}

#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        let (seed, what) = first_to_find(bug);
        eprintln!("{bug:?} is found in seed {seed}: {what}");
        assert!(
            simulate(seed, None, false).is_ok(),
            "seed {seed} fails without {bug:?} too"
        );
    }
}

#[test]
fn a_seed_is_lived_again_exactly() {
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

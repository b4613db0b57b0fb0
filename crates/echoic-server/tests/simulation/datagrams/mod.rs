//! Worlds of datagrams: the socket's task, its guards, the recorder and the drain, on a network that loses, duplicates
//! and reorders, with a receive queue that overflows, a send buffer that fills, and ICMP errors. The peers follow a
//! script, or echo what they receive, or send from forged addresses.
//!
//! Our own client is not in these worlds: it only waits for replies, and has tests of its own.

mod bug;
mod check;
mod net;
mod plan;
mod world;

use self::{plan::Plan, world::simulate};
use super::{bug::Bug, check_replay, check_worlds, find_bugs};

#[test]
fn invariants_hold_in_every_simulated_world() {
    check_worlds(simulate, |seed| format!("{:?}", Plan::draw(seed)));
}

#[test]
fn planted_bugs_are_found() {
    find_bugs(simulate, &Bug::OF_DATAGRAMS);
}

#[test]
fn same_seed_replays_identically() {
    check_replay(simulate);
}

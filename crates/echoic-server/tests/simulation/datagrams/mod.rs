//! Worlds of datagrams: the socket's task, its guards, the recorder and the drain on a network that loses, doubles and
//! reorders, has a queue that overflows and a buffer that is full, and brings back what nobody took (ICMP). Those who
//! send are peers with a script, peers that send back whatever they get, and addresses that nobody asks from.
//!
//! Our own client is not in these worlds: with nothing but replies to wait for, it has its tests beside itself.

mod bug;
mod check;
mod net;
mod plan;
mod world;

use self::{plan::Plan, world::simulate};
use super::{bug::Bug, find_all, live_again, live_all};

#[test]
fn invariants_hold_in_every_simulated_world() {
    live_all(simulate, |seed| format!("{:?}", Plan::draw(seed)));
}

#[test]
fn planted_bugs_are_found() {
    find_all(simulate, &Bug::OF_DATAGRAMS);
}

#[test]
fn same_seed_replays_identically() {
    live_again(simulate);
}

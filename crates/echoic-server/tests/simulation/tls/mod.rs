//! Worlds over TLS: the same as those of streams, with the server and the client of echoic-wire above the network, so that
//! handshakes are delayed, split, cut and stopped too. What is checked is what is above TLS.

mod check;
mod ends;

pub(super) use self::{check::check_peer, ends::Ends};
use super::{
    bug::Bug, chance::Chance, check_replay, check_worlds, find_bugs, plan::Plan,
    world::simulate_over_tls,
};

/// Bytes in flight with which a handshake takes its time, and not all of it.
const BUFFER: usize = 600;

/// Draws a plan as for other worlds, with a limit for handshakes, and more often with a stop amid it all. Most of its
/// networks have room for a handshake.
pub(super) fn plan(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    let mut chance = Chance::new(seed.rotate_left(32));
    plan.limits.handshake_timeout = chance.ms(500..=10_000);
    if chance.once_in(2) {
        plan.stop_at = chance.ms(0..=3000);
    }
    for peer in &mut plan.peers {
        if !chance.once_in(8) {
            peer.weather.buffer += BUFFER;
        }
    }
    plan
}

#[test]
fn invariants_hold_in_every_simulated_world() {
    check_worlds(simulate_over_tls, |seed| format!("{:?}", plan(seed)));
}

#[test]
fn planted_bugs_are_found() {
    find_bugs(simulate_over_tls, &Bug::OF_STREAMS);
}

#[test]
fn same_seed_replays_identically() {
    check_replay(simulate_over_tls);
}

//! A world of datagrams, drawn from its seed.

use std::{fmt, time::Duration};

use echoic_core::limits::Limits;

use super::{
    super::{
        chance::Chance,
        plan::{Keeping, Serving, limits, stop_at},
    },
    net::Weather,
};

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) serving: Serving,
    /// Whether replies may be longer than their requests.
    pub(super) may_amplify: bool,
    pub(super) limits: Limits,
    /// A peer that is idle for this long has gone.
    pub(super) gap: Duration,
    pub(super) keeping: Keeping,
    pub(super) weather: Weather,
    pub(super) stop_at: Duration,
    pub(super) peers: Vec<PeerPlan>,
}

#[derive(Clone, Debug)]
pub(super) struct PeerPlan {
    pub(super) from: From,
    /// Whether it echoes what it receives, as another server does.
    pub(super) echoes: bool,
    pub(super) acts: Vec<Act>,
}

/// Where a peer sends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// An ordinary address.
    Somewhere,
    /// A denied network.
    Denied,
    /// A port that only servers send from, or the server's own address: forged.
    Nowhere,
    Ourselves,
}

#[derive(Clone)]
pub(super) enum Act {
    Send(Vec<u8>),
    Pause(Duration),
}

/// A datagram that is longer than the room it is read into.
const TOO_LONG: usize = (64 << 10) + 100;

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let serving = match chance.within(0..=7) {
            0..=3 => Serving::Echo,
            4..=5 => Serving::Upper,
            6 => Serving::Discard,
            _ => Serving::Greet,
        };
        let may_amplify = chance.once_in(2);
        let limits = limits(&mut chance);
        let gap = chance.ms(300..=6000);
        let keeping = Keeping::draw(&mut chance);
        let stop_at = stop_at(&mut chance);
        let weather = Weather::draw(&mut chance);
        let most = chance.one_of(&[1, 3, 12]);
        let callers = chance.within(1..=most);
        let peers = (0..callers).map(|_| PeerPlan::draw(chance.fork()));
        Self {
            serving,
            may_amplify,
            limits,
            gap,
            keeping,
            weather,
            stop_at,
            peers: peers.collect(),
        }
    }
}

impl PeerPlan {
    fn draw(mut chance: Chance) -> Self {
        let from = match chance.within(0..=15) {
            0 => From::Denied,
            1 => From::Nowhere,
            2 => From::Ourselves,
            _ => From::Somewhere,
        };
        Self {
            from,
            echoes: chance.once_in(4),
            acts: acts(&mut chance),
        }
    }
}

fn acts(chance: &mut Chance) -> Vec<Act> {
    let mut acts = Vec::new();
    if chance.once_in(2) {
        acts.push(Act::Pause(chance.ms(0..=8000)));
    }
    // A peer that repeats the same datagram is taken for a loop; one that varies them is not.
    let words = chance.one_of(&[1, 3, 1000]);
    let most = chance.one_of(&[0, 5, 200, 200, 2000, 12_000]);
    for _ in 0..chance.about(1, 40) {
        let length = if chance.once_in(200) {
            TOO_LONG
        } else {
            chance.about(1, 3000)
        };
        let word = chance.within(1..=words);
        let mut body = format!("{word:04}").into_bytes();
        body.resize(if words == 1000 { length } else { 4 + word }, b'x');
        acts.push(Act::Send(body));
        if !chance.once_in(3) {
            acts.push(Act::Pause(chance.ms(0..=most)));
        }
    }
    acts
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Self::Pause(pause) => write!(f, "Pause({pause:?})"),
        }
    }
}

//! The plan of a world, drawn from its seed: the service and its limits, the peers and their scripts, the store's moods,
//! and the time of the stop.

use std::{fmt, io::ErrorKind, time::Duration};

use echoic_core::{
    framing::{Framing, Width},
    limits::Limits,
};
use echoic_recorder::{RecorderOptions, WhenFull};

use super::{chance::Chance, net::Weather};
use crate::common::StoreMode;

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) framing: Framing,
    pub(super) serving: Serving,
    pub(super) limits: Limits,
    pub(super) keeping: Keeping,
    /// Times at which accepts fail, and how many fail.
    pub(super) failures: Vec<(Duration, usize)>,
    pub(super) stop_at: Duration,
    pub(super) peers: Vec<PeerPlan>,
}

/// Options of the recorder and moods of the store.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    pub(super) options: RecorderOptions,
    /// The store's moods, each with its start.
    pub(super) moods: Vec<(Duration, StoreMode)>,
}

/// The service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    Echo,
    Upper,
    Discard,
    Greet,
    /// Echoes from a spawned handler, some replies out of order, each after up to this many milliseconds.
    Spawned(usize),
}

#[derive(Clone, Debug)]
pub(super) struct PeerPlan {
    pub(super) calls_at: Duration,
    pub(super) weather: Weather,
    pub(super) chance: Chance,
    pub(super) acts: Vec<Act>,
    pub(super) reading: Reading,
    /// Whether the peer is our own client.
    pub(super) is_client: bool,
}

#[derive(Clone)]
pub(super) enum Act {
    Send(Vec<u8>),
    Pause(Duration),
    /// Ends its half, and waits for the end of the server's half.
    Finish,
    Reset,
    /// Closes, also with unread data.
    Close,
    /// Does nothing more.
    Idle,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    Eager,
    /// Reads this many bytes at a time, with a pause.
    Slow(usize, Duration),
    /// Stops reading after this many bytes.
    Until(usize),
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let limits = limits(&mut chance);
        let framing = framing(&mut chance, limits.message_bytes_max);
        let serving = match chance.within(0..=9) {
            0..=3 => Serving::Echo,
            4..=5 => Serving::Upper,
            6 => Serving::Discard,
            7 => Serving::Greet,
            _ => Serving::Spawned(chance.one_of(&[0, 3, 100])),
        };
        let keeping = Keeping::draw(&mut chance);
        let failures = if chance.once_in(8) {
            let times = chance.within(1..=20);
            vec![(chance.ms(0..=3000), times)]
        } else {
            Vec::new()
        };
        let stop_at = stop_at(&mut chance);
        let most = chance.one_of(&[1, 3, 12]);
        let callers = chance.within(1..=most);
        let stubborn = chance.once_in(3);
        let peers = (0..callers)
            .map(|_| {
                let chance = chance.fork();
                PeerPlan::draw(chance, framing, limits.message_bytes_max, stubborn)
            })
            .collect();
        Self {
            framing,
            serving,
            limits,
            keeping,
            failures,
            stop_at,
            peers,
        }
    }
}

impl Keeping {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        Self {
            options: options(chance),
            moods: moods(chance),
        }
    }

    /// Whether the store commits everything at the end; it may have been slow or failing before.
    pub(super) fn ends_well(&self) -> bool {
        self.moods
            .last()
            .is_none_or(|(_, mood)| *mood == StoreMode::Commits)
    }

    /// Whether the store was never slow or failing.
    pub(super) fn is_calm(&self) -> bool {
        self.moods
            .iter()
            .all(|(_, mood)| *mood == StoreMode::Commits)
    }

    /// Whether the store was never slow or failing for so long that the recorder counts it as failed.
    pub(super) fn is_patient(&self) -> bool {
        self.moods.iter().all(|(_, mood)| match mood {
            StoreMode::Commits => true,
            StoreMode::Slow(pause) => *pause * 2 < self.options.store_timeout,
            _ => false,
        })
    }
}

/// When the server is stopping: at once, amid it all, or when most is over.
pub(super) fn stop_at(chance: &mut Chance) -> Duration {
    match chance.within(0..=3) {
        0 => chance.ms(0..=200),
        1..=2 => chance.ms(0..=8000),
        _ => chance.ms(20_000..=60_000),
    }
}

pub(super) fn limits(chance: &mut Chance) -> Limits {
    Limits {
        message_bytes_max: if chance.once_in(8) {
            chance.within(4000..=9000)
        } else {
            chance.within(4..=60)
        },
        connections_max: if chance.once_in(3) {
            chance.within(1..=4)
        } else {
            1000
        },
        idle_timeout: chance.ms(1000..=20_000),
        message_timeout: chance.ms(500..=5000),
        write_timeout: chance.ms(500..=5000),
        drain_timeout: chance.ms(200..=6000),
        linger_timeout: chance.ms(700..=2000),
        ..Limits::default()
    }
}

fn framing(chance: &mut Chance, max: usize) -> Framing {
    match chance.within(0..=9) {
        0..=3 => Framing::Line,
        4 => Framing::Nul,
        5 => format!("fixed:{}", chance.within(1..=max))
            .parse()
            .expect("invariant: a framing"),
        6..=7 => Framing::Prefix(Width::U16Be),
        _ => Framing::Chunk,
    }
}

fn options(chance: &mut Chance) -> RecorderOptions {
    let tight = chance.once_in(2);
    let uncommitted_bytes_max = if tight {
        chance.about(300, 8 << 10)
    } else {
        64 << 20
    };
    RecorderOptions {
        hold_replies: chance.once_in(4),
        commit_interval: chance.ms(1..=50),
        store_timeout: chance.ms(300..=5000),
        when_full: if chance.once_in(4) {
            WhenFull::Drop
        } else {
            WhenFull::Block
        },
        uncommitted_bytes_max,
        conversation_uncommitted_bytes_max: chance.about(100, uncommitted_bytes_max.min(1 << 20)),
        shards: chance.within(1..=3),
    }
}

fn moods(chance: &mut Chance) -> Vec<(Duration, StoreMode)> {
    if chance.once_in(2) {
        return Vec::new();
    }
    let mut moods = Vec::new();
    for _ in 0..chance.within(1..=4) {
        let at = chance.ms(0..=8000);
        let mood = match chance.within(0..=3) {
            0 => StoreMode::Commits,
            1 => StoreMode::Slow(chance.ms(1..=800)),
            2 => StoreMode::Fails,
            _ => StoreMode::Hangs,
        };
        moods.push((at, mood));
    }
    moods.sort_by_key(|(at, _)| *at);
    if !chance.once_in(6) {
        moods.push((chance.ms(8000..=9000), StoreMode::Commits));
    }
    moods
}

impl PeerPlan {
    fn draw(mut chance: Chance, framing: Framing, max: usize, stubborn: bool) -> Self {
        let weather = Weather {
            buffer: chance.about(1, 64 << 10),
            delay_ms: chance.one_of(&[0, 0, 2, 40, 300]),
            ragged: chance.once_in(2),
            breaks_as: if chance.once_in(10) {
                ErrorKind::TimedOut
            } else {
                ErrorKind::ConnectionReset
            },
        };
        let is_client = chance.once_in(4);
        let reading = match chance.within(0..=9) {
            0 if stubborn => Reading::Until(chance.within(0..=200)),
            1..=2 => Reading::Slow(chance.about(1, 4000), chance.ms(1..=800)),
            _ => Reading::Eager,
        };
        Self {
            calls_at: match chance.within(0..=1) {
                0 => Duration::ZERO,
                _ => chance.ms(0..=8000),
            },
            weather,
            acts: acts(&mut chance, framing, max, is_client),
            reading,
            is_client,
            chance,
        }
    }
}

fn acts(chance: &mut Chance, framing: Framing, max: usize, is_client: bool) -> Vec<Act> {
    let mut acts = Vec::new();
    let (hasty, may_overdo) = (chance.once_in(2), chance.once_in(4));
    for _ in 0..chance.about(1, 16) {
        let pipelined = chance.about(1, 16);
        let mut bytes = Vec::new();
        for _ in 0..pipelined {
            message(chance, framing, max, may_overdo, &mut bytes);
        }
        if chance.once_in(8) {
            bytes.truncate(bytes.len().saturating_sub(chance.within(1..=3)));
        }
        let cuts = if chance.once_in(2) {
            chance.within(1..=4)
        } else {
            0
        };
        for _ in 0..cuts {
            let at = chance.within(0..=bytes.len());
            let rest = bytes.split_off(at);
            acts.push(Act::Send(std::mem::replace(&mut bytes, rest)));
            acts.push(Act::Pause(chance.ms(0..=30)));
        }
        acts.push(Act::Send(bytes));
        if !hasty {
            let most = chance.one_of(&[5, 200, 200, 2000, 12_000]);
            acts.push(Act::Pause(chance.ms(0..=most)));
        }
    }
    acts.retain(|act| !matches!(act, Act::Send(bytes) if bytes.is_empty()));
    acts.push(match chance.within(0..=9) {
        0 if !is_client => Act::Reset,
        1 if !is_client => Act::Close,
        2 => Act::Idle,
        _ => Act::Finish,
    });
    acts
}

/// Bodies often have the longest allowed length, and sometimes one byte more.
fn message(chance: &mut Chance, framing: Framing, max: usize, may_overdo: bool, out: &mut Vec<u8>) {
    let length = match chance.within(0..=5) {
        0 if may_overdo && chance.once_in(6) => max + 1,
        0 => max,
        _ => chance.within(0..=max),
    };
    let length = match framing {
        Framing::Fixed(n) => n.get() as usize,
        _ => length,
    };
    let mut body = vec![0; length];
    for piece in body.chunks_mut(8) {
        for (byte, drawn) in piece.iter_mut().zip(chance.number().to_le_bytes()) {
            *byte = b'a' + drawn % 26;
        }
    }
    match framing {
        Framing::Prefix(_) => {
            out.extend_from_slice(&(length as u16).to_be_bytes());
            out.extend(body);
        }
        Framing::Line => {
            out.extend(body);
            out.push(b'\n');
        }
        Framing::Nul => {
            out.extend(body);
            out.push(0);
        }
        _ => out.extend(body),
    }
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Self::Pause(pause) => write!(f, "Pause({pause:?})"),
            Self::Finish => f.write_str("Finish"),
            Self::Reset => f.write_str("Reset"),
            Self::Close => f.write_str("Close"),
            Self::Idle => f.write_str("Idle"),
        }
    }
}

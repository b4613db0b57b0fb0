//! Happy Eyeballs version 2 (RFC 8305): when to connect to which of a name's addresses.
//!
//! A name may have addresses of two families, and one family may be silently unreachable. Trying one address after the
//! other would then take minutes, and trying all at once would load the network. So connection attempts start 250 ms
//! apart, IPv6 first and the families alternating, and the first that connects wins.
//!
//! [`Eyeballs`] is a state machine without I/O: it takes events with their times and returns the next action.
//! [`race()`] carries the actions out. [`Eyeballs::log`] has the steps of a race.
//!
//! The synthesis of IPv6 addresses behind a NAT64 (RFC 8305 section 7) is not implemented: it needs the network's
//! prefix, and the resolvers of such networks do it themselves (DNS64, RFC 6147).

mod names;
mod race;

use std::{net::SocketAddr, time::Duration};

pub use names::{LookupFailure, lookup_family};
pub use race::{Answer, Attempt, ConnectOutcome, Race, RaceOptions, attempt, race};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// AAAA records.
    V6,
    /// A records.
    V4,
}

impl Family {
    /// Both families, in the order of the queries (RFC 8305 section 3).
    pub const BOTH: [Self; 2] = [Self::V6, Self::V4];

    /// Returns the family of an address.
    pub fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv6() { Self::V6 } else { Self::V4 }
    }
}

/// The delays of a race; the defaults are those of RFC 8305 section 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// Resolution Delay: how long IPv4 addresses that came first wait for the IPv6 ones, 50 ms.
    pub resolution: Duration,
    /// Connection Attempt Delay: from the start of one attempt to that of the next unless an attempt fails, 250 ms. At
    /// least [`Self::ATTEMPT_MIN`].
    pub attempt: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            resolution: Duration::from_millis(50),
            attempt: Duration::from_millis(250),
        }
    }
}

impl Delays {
    /// Minimum Connection Attempt Delay (RFC 8305 section 5).
    pub const ATTEMPT_MIN: Duration = Duration::from_millis(10);
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start an attempt to connect to this address. The number identifies the attempt, counted from 0.
    Start(usize, SocketAddr),
    /// Wait for an event, or until this time if there is one.
    Wait(Option<Duration>),
    /// This attempt has won; cancel the others.
    Won(usize),
    /// All attempts have failed, and no more addresses are expected.
    Failed,
}

/// A step of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The lookup of a family ended with this many new addresses; 0 also if it failed.
    Answered(Family, usize),
    /// An attempt started.
    Started(usize, SocketAddr),
    /// An attempt failed.
    Failed(usize),
    /// An attempt connected. Only the first of them wins.
    Connected(usize),
}

/// The state machine of one race. Times are since its start, and monotonic.
#[derive(Clone, Debug)]
pub struct Eyeballs {
    delays: Delays,
    /// Whether the families alternate; otherwise the addresses keep their order.
    alternate: bool,
    /// Families whose lookup has not ended.
    unresolved: Vec<Family>,
    /// All addresses so far, so that none is tried twice.
    known: Vec<SocketAddr>,
    /// Addresses without an attempt yet, in the order of the answers.
    untried: Vec<SocketAddr>,
    attempts: Vec<AttemptState>,
    /// The earliest time of the next attempt.
    next_start: Duration,
    won: Option<usize>,
    log: Vec<(Duration, Step)>,
}

#[derive(Clone, Copy, Debug)]
struct AttemptState {
    family: Family,
    running: bool,
}

impl Eyeballs {
    /// Returns a race for a name: both families have yet to be resolved.
    pub fn for_name(delays: Delays) -> Self {
        Self {
            delays: Delays {
                attempt: delays.attempt.max(Delays::ATTEMPT_MIN),
                ..delays
            },
            alternate: true,
            unresolved: Family::BOTH.to_vec(),
            known: Vec::new(),
            untried: Vec::new(),
            attempts: Vec::new(),
            next_start: Duration::ZERO,
            won: None,
            log: Vec::new(),
        }
    }

    /// Returns a race between known addresses, which keep this order.
    pub fn for_addresses(addrs: &[SocketAddr], delays: Delays) -> Self {
        let mut eyeballs = Self {
            alternate: false,
            unresolved: Vec::new(),
            ..Self::for_name(delays)
        };
        eyeballs.add(addrs);
        eyeballs
    }

    /// The lookup of one family has ended. Called once a family; `addrs` is empty if it failed or found none.
    pub fn on_addresses(&mut self, family: Family, addrs: &[SocketAddr], now: Duration) {
        self.unresolved.retain(|unresolved| *unresolved != family);
        let new = self.add(addrs);
        self.log.push((now, Step::Answered(family, new)));
        // Only IPv4 waits, and only for IPv6 (RFC 8305 section 3).
        if self.attempts.is_empty() {
            let must_wait = family == Family::V4 && self.unresolved.contains(&Family::V6);
            self.next_start = if must_wait {
                now + self.delays.resolution
            } else {
                now
            };
        }
    }

    /// An attempt has connected. The first one wins.
    pub fn on_connected(&mut self, attempt: usize, now: Duration) {
        if self.end(attempt) {
            self.won.get_or_insert(attempt);
            self.log.push((now, Step::Connected(attempt)));
        }
    }

    /// An attempt has failed. The next one may start at once.
    pub fn on_failed(&mut self, attempt: usize, now: Duration) {
        if self.end(attempt) {
            self.next_start = self.next_start.min(now);
            self.log.push((now, Step::Failed(attempt)));
        }
    }

    /// Returns what to do now. After [`Action::Start`] call it again: there may be more to do.
    pub fn poll(&mut self, now: Duration) -> Action {
        if let Some(won) = self.won {
            return Action::Won(won);
        }
        if self.untried.is_empty() {
            let pending =
                !self.unresolved.is_empty() || self.attempts.iter().any(|attempt| attempt.running);
            return if pending {
                Action::Wait(None)
            } else {
                Action::Failed
            };
        }
        if now < self.next_start {
            return Action::Wait(Some(self.next_start));
        }
        let addr = self.untried.remove(self.next_index());
        let number = self.attempts.len();
        self.attempts.push(AttemptState {
            family: Family::of(addr),
            running: true,
        });
        self.next_start = now + self.delays.attempt;
        self.log.push((now, Step::Started(number, addr)));
        Action::Start(number, addr)
    }

    /// Returns the steps so far, in order, with their times.
    pub fn log(&self) -> &[(Duration, Step)] {
        &self.log
    }

    /// Returns the addresses without an attempt.
    pub fn untried(&self) -> &[SocketAddr] {
        &self.untried
    }

    /// Returns the index in `untried` of the next address: the first one of the other family than that of the last
    /// attempt, at first IPv6 (RFC 8305 section 4, with a First Address Family Count of 1).
    fn next_index(&self) -> usize {
        let wanted = match self.attempts.last() {
            Some(AttemptState {
                family: Family::V6, ..
            }) => Family::V4,
            Some(AttemptState {
                family: Family::V4, ..
            })
            | None => Family::V6,
        };
        let wanted = |addr: &SocketAddr| Family::of(*addr) == wanted;
        if self.alternate {
            self.untried.iter().position(wanted).unwrap_or(0)
        } else {
            0
        }
    }

    /// Adds the new ones of `addrs`, and returns how many they are.
    fn add(&mut self, addrs: &[SocketAddr]) -> usize {
        let before = self.known.len();
        for addr in addrs {
            if !self.known.contains(addr) {
                self.known.push(*addr);
                self.untried.push(*addr);
            }
        }
        self.known.len() - before
    }

    /// Marks an attempt as ended. Returns whether it was running.
    fn end(&mut self, attempt: usize) -> bool {
        self.attempts
            .get_mut(attempt)
            .is_some_and(|attempt| std::mem::take(&mut attempt.running))
    }
}

#[cfg(test)]
mod tests;

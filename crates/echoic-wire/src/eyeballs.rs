//! Which of a name's addresses is called when: Happy Eyeballs version 2 (RFC 8305).
//!
//! A name may have addresses of two families, and one of the families may lead nowhere without anybody saying so.
//! Calling one address after the other would then wait for minutes; calling all at once would be rude. So they are
//! called a quarter of a second apart, IPv6 first and the families by turns, and the first to answer wins.
//!
//! [`Eyeballs`] decides and does nothing: it is told of answers and of the time, and says what to do next. [`race()`]
//! does it. What a run of it looked like can be read afterwards from [`Eyeballs::log`].
//!
//! Left out is the synthesis of addresses behind a NAT64 (RFC 8305 section 7): it needs the network's prefix, and the
//! resolvers of such networks synthesise them themselves (DNS64, RFC 6147).

mod names;
mod race;

use std::{net::SocketAddr, time::Duration};

pub use names::{LookupFailure, lookup_family};
pub use race::{Answer, Attempt, ConnectOutcome, Race, RaceOptions, attempt, race};

/// One of the two kinds of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// AAAA records.
    V6,
    /// A records.
    V4,
}

impl Family {
    /// Both, in the order in which they are asked for (RFC 8305 section 3).
    pub const BOTH: [Self; 2] = [Self::V6, Self::V4];

    /// That of an address.
    pub fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv6() { Self::V6 } else { Self::V4 }
    }
}

/// The two delays; the values of RFC 8305 section 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// IPv4 addresses that came first wait so long for the IPv6 ones: 50 ms.
    pub resolution: Duration,
    /// From the start of one call to that of the next, while none has failed: 250 ms. Never below 10 ms.
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
    /// Below this a new call every so often is a flood (RFC 8305 section 5).
    pub const ATTEMPT_MIN: Duration = Duration::from_millis(10);
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Call this address; the number names the attempt from here on, counted from 0.
    Start(usize, SocketAddr),
    /// Nothing, until something is told, or until this time if there is one.
    Wait(Option<Duration>),
    /// This attempt has won; the others are to be dropped.
    Won(usize),
    /// No address is left, and none is awaited.
    Failed,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A family's addresses came, so many of them new; 0 also if there was no answer to be had.
    Answered(Family, usize),
    /// An attempt began.
    Started(usize, SocketAddr),
    /// An attempt failed.
    Failed(usize),
    /// An attempt connected; if another had before, this one came too late.
    Connected(usize),
}

/// The state of one race. All times are since its beginning, and never go back.
#[derive(Clone, Debug)]
pub struct Eyeballs {
    delays: Delays,
    /// Whether the families take turns; otherwise the order is the caller's.
    by_turns: bool,
    /// Families whose addresses are still to come.
    awaited: Vec<Family>,
    /// Every address there ever was, so that none is called twice.
    known: Vec<SocketAddr>,
    /// Those not called yet, in the order of the answers.
    waiting: Vec<SocketAddr>,
    attempts: Vec<AttemptState>,
    /// Before this no attempt starts.
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
    /// A race for a name: the addresses of both families are still to come.
    pub fn for_name(delays: Delays) -> Self {
        Self {
            delays: Delays {
                attempt: delays.attempt.max(Delays::ATTEMPT_MIN),
                ..delays
            },
            by_turns: true,
            awaited: Family::BOTH.to_vec(),
            known: Vec::new(),
            waiting: Vec::new(),
            attempts: Vec::new(),
            next_start: Duration::ZERO,
            won: None,
            log: Vec::new(),
        }
    }

    /// A race between addresses that are known and stay in this order.
    pub fn for_addresses(addrs: &[SocketAddr], delays: Delays) -> Self {
        let mut eyes = Self {
            by_turns: false,
            awaited: Vec::new(),
            ..Self::for_name(delays)
        };
        eyes.learn(addrs);
        eyes
    }

    /// The resolver's answer for one family, once; no addresses if it had none, or failed.
    pub fn on_addresses(&mut self, family: Family, addrs: &[SocketAddr], now: Duration) {
        self.awaited.retain(|awaited| *awaited != family);
        let new = self.learn(addrs);
        self.log.push((now, Step::Answered(family, new)));
        // IPv4 alone waits a little for IPv6, and for nothing else (RFC 8305 section 3).
        if self.attempts.is_empty() {
            let hold = family == Family::V4 && self.awaited.contains(&Family::V6);
            self.next_start = if hold {
                now + self.delays.resolution
            } else {
                now
            };
        }
    }

    /// An attempt has connected. The first one told wins.
    pub fn on_connected(&mut self, attempt: usize, now: Duration) {
        if self.end(attempt) {
            self.won.get_or_insert(attempt);
            self.log.push((now, Step::Connected(attempt)));
        }
    }

    /// An attempt has failed: the next need not wait.
    pub fn on_failed(&mut self, attempt: usize, now: Duration) {
        if self.end(attempt) {
            self.next_start = self.next_start.min(now);
            self.log.push((now, Step::Failed(attempt)));
        }
    }

    /// What to do now. After [`Action::Start`] there may be more to do: ask until there is something to wait for.
    pub fn poll(&mut self, now: Duration) -> Action {
        if let Some(won) = self.won {
            return Action::Won(won);
        }
        if self.waiting.is_empty() {
            let open =
                !self.awaited.is_empty() || self.attempts.iter().any(|attempt| attempt.running);
            return if open {
                Action::Wait(None)
            } else {
                Action::Failed
            };
        }
        if now < self.next_start {
            return Action::Wait(Some(self.next_start));
        }
        let addr = self.waiting.remove(self.turn());
        let number = self.attempts.len();
        self.attempts.push(AttemptState {
            family: Family::of(addr),
            running: true,
        });
        self.next_start = now + self.delays.attempt;
        self.log.push((now, Step::Started(number, addr)));
        Action::Start(number, addr)
    }

    /// Everything that happened, in order, with its time.
    pub fn log(&self) -> &[(Duration, Step)] {
        &self.log
    }

    /// The addresses that were never called.
    pub fn untried(&self) -> &[SocketAddr] {
        &self.waiting
    }

    /// Whose turn it is among those that wait: the first of the other family than the last one called, IPv6 before any
    /// (RFC 8305 section 4, with a first address family count of 1).
    fn turn(&self) -> usize {
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
        if self.by_turns {
            self.waiting.iter().position(wanted).unwrap_or(0)
        } else {
            0
        }
    }

    /// Notes the addresses that are new; how many.
    fn learn(&mut self, addrs: &[SocketAddr]) -> usize {
        let before = self.known.len();
        for addr in addrs {
            if !self.known.contains(addr) {
                self.known.push(*addr);
                self.waiting.push(*addr);
            }
        }
        self.known.len() - before
    }

    /// Ends an attempt, if it was running.
    fn end(&mut self, attempt: usize) -> bool {
        self.attempts
            .get_mut(attempt)
            .is_some_and(|attempt| std::mem::take(&mut attempt.running))
    }
}

#[cfg(test)]
mod tests;

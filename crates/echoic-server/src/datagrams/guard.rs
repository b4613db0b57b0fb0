//! Decides which datagrams are answered. Source addresses can be forged, and two servers that answer each other do so
//! forever (CERT CA-1996-01, VU#417980).

#[doc(hidden)]
pub(super) mod oracle;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use echoic_core::event::Address;
use echoic_wire::Route;
use tokio::time::Instant;

/// How often the same datagram of one peer is answered within [`WINDOW`]; one more counts as a loop. Between two servers
/// with this rule a forged datagram causes at most 16 datagrams, itself and a first turn in lower case included.
pub(crate) const SAME_MAX: u32 = 7;

const WINDOW: Duration = Duration::from_secs(1);

/// How long the peer of a loop is not answered.
pub(crate) const SILENCE: Duration = Duration::from_mins(1);

/// Silenced peers at the same time; beyond it, the one silenced the longest is answered again.
const SILENT_MAX: usize = 4096;

/// Ports below this belong to services: echo, time, name servers and others that answer any datagram.
const UNPRIVILEGED: u16 = 1024;

/// Whether a reply along `route` goes to a possible client. `own_addresses` are this server's datagram addresses.
pub(crate) fn may_answer(route: &Route, own_addresses: &[SocketAddr]) -> bool {
    let Address::Net(peer) = &route.peer else {
        return true;
    };
    !route.is_multicast
        && peer.port() >= UNPRIVILEGED
        && is_unicast(peer.ip())
        && !is_own(peer, own_addresses)
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_multicast() || ip.octets()[0] == 0 || ip.octets()[0] >= 240),
        IpAddr::V6(ip) => !(ip.is_multicast() || ip.is_unspecified()),
    }
}

fn is_own(peer: &SocketAddr, own_addresses: &[SocketAddr]) -> bool {
    let ip = peer.ip().to_canonical();
    let mut same_port = own_addresses.iter().filter(|own| own.port() == peer.port());
    same_port.any(|own| {
        own.ip().to_canonical() == ip || own.ip().is_unspecified() && is_of_this_machine(ip)
    })
}

/// Whether the address is one of this machine: it can be bound. Called only for peers whose port is one of ours.
fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Detects datagrams that two servers send back and forth.
#[derive(Debug)]
pub(crate) struct Breaker {
    hasher: RandomState,
    sets: Box<[[Seen; WAYS]]>,
    silent: HashMap<Address, Instant>,
}

/// A datagram of a peer, identified by a keyed hash of both.
#[derive(Clone, Copy, Debug)]
struct Seen {
    tag: u64,
    since: Instant,
    times: u32,
}

/// Size of the set-associative table of datagrams: sets, and ways a set.
const SETS: usize = 1024;
const WAYS: usize = 4;

impl Breaker {
    pub(crate) fn new(now: Instant) -> Self {
        let nothing = Seen {
            tag: 0,
            since: now,
            times: 0,
        };
        Self {
            hasher: RandomState::new(),
            sets: vec![[nothing; WAYS]; SETS].into(),
            silent: HashMap::new(),
        }
    }

    /// Whether `peer` is silenced at `now`.
    pub(crate) fn is_silent(&mut self, peer: &Address, now: Instant) -> bool {
        if self.silent.is_empty() {
            return false;
        }
        match self.silent.get(peer) {
            Some(until) if *until > now => true,
            Some(_) => {
                self.silent.remove(peer);
                false
            }
            None => false,
        }
    }

    /// Counts a datagram that is about to be answered. Returns whether it is one too many; the peer is then silenced.
    ///
    /// A full set evicts the entry with the fewest repetitions, and among equals the latest. Of many loops at once, some
    /// then stay in the table long enough to be detected.
    pub(crate) fn trips(&mut self, peer: &Address, bytes: &[u8], now: Instant) -> bool {
        let tag = self.hasher.hash_one((peer, bytes));
        let set = &mut self.sets[tag as usize % SETS];
        let is_recent =
            |seen: &Seen| seen.times > 0 && now.saturating_duration_since(seen.since) < WINDOW;
        if let Some(seen) = set
            .iter_mut()
            .find(|seen| seen.tag == tag && is_recent(seen))
        {
            seen.times += 1;
            if seen.times <= SAME_MAX {
                return false;
            }
            seen.times = 0;
            self.silence(peer, now);
            return true;
        }
        let least = |seen: &&mut Seen| {
            let times = if is_recent(seen) { seen.times } else { 0 };
            (times, std::cmp::Reverse(seen.since))
        };
        if let Some(seen) = set.iter_mut().min_by_key(least) {
            *seen = Seen {
                tag,
                since: now,
                times: 1,
            };
        }
        false
    }

    fn silence(&mut self, peer: &Address, now: Instant) {
        if self.silent.len() >= SILENT_MAX {
            self.silent.retain(|_, until| *until > now);
        }
        if self.silent.len() >= SILENT_MAX {
            let first = self.silent.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(peer, _)| peer.clone()) {
                self.silent.remove(&first);
            }
        }
        self.silent.insert(peer.clone(), now + SILENCE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn loop_breaker_agrees_with_a_reference_list(
            data in prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..200),
        ) {
            oracle::check_breaker(&data);
        }
    }

    fn address(text: &str) -> Address {
        Address::Net(text.parse().unwrap())
    }

    fn answers(peer: &str, own_addresses: &[&str]) -> bool {
        let own_addresses: Vec<SocketAddr> = own_addresses
            .iter()
            .map(|own| own.parse().unwrap())
            .collect();
        let route = Route {
            peer: address(peer),
            local: address("127.0.0.1:5000"),
            is_multicast: false,
        };
        may_answer(&route, &own_addresses)
    }

    #[test]
    fn impossible_sources_are_not_answered() {
        assert!(
            answers("127.0.0.1:40000", &[])
                && answers("8.8.8.8:1024", &[])
                && answers("[::1]:5001", &[])
        );
        for peer in [
            "127.0.0.1:0",
            "127.0.0.1:7",
            "8.8.8.8:53",
            "[::1]:1023",
            "255.255.255.255:4000",
        ] {
            assert!(!answers(peer, &[]), "{peer}");
        }
        for peer in [
            "224.0.0.1:4000",
            "0.1.2.3:4000",
            "[ff02::1]:4000",
            "[::]:4000",
            "[::ffff:224.0.0.1]:4000",
        ] {
            assert!(!answers(peer, &[]), "{peer}");
        }
        let many = Route {
            peer: address("10.0.0.1:4000"),
            local: address("10.0.0.2:5000"),
            is_multicast: true,
        };
        assert!(!may_answer(&many, &[]));
    }

    #[test]
    fn own_addresses_are_not_answered() {
        let own_addresses = ["127.0.0.1:5000", "0.0.0.0:5001"];
        assert!(
            !answers("127.0.0.1:5000", &own_addresses)
                && !answers("127.0.0.9:5001", &own_addresses)
        );
        assert!(
            answers("127.0.0.2:5000", &own_addresses),
            "another program may be there"
        );
        assert!(
            answers("192.0.2.1:5001", &own_addresses),
            "another machine is"
        );
    }

    #[test]
    fn datagram_loop_is_broken_and_conversation_is_not() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        let (one, other) = (address("127.0.0.1:4000"), address("127.0.0.1:4001"));
        for i in 0..10_000_u64 {
            assert!(
                !breaker.trips(&one, &i.to_be_bytes(), start),
                "each is different"
            );
        }
        let each = |i: u32| start + WINDOW * i;
        assert!((0..50).all(|i| !breaker.trips(&one, b"now and then", each(i))));
        let tripped = (0..20).position(|_| breaker.trips(&one, b"again", each(60)));
        assert_eq!(tripped, Some(SAME_MAX as usize));
        assert!(breaker.is_silent(&one, each(60)) && !breaker.is_silent(&other, each(60)));
        assert!(!breaker.is_silent(&one, each(60) + SILENCE));
    }

    #[test]
    fn some_of_ten_thousand_loops_are_detected() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        let peer = address("127.0.0.1:4000");
        let turns = (0..20).flat_map(|_| 0..10_000_u64);
        assert!(
            turns
                .into_iter()
                .any(|circle| breaker.trips(&peer, &circle.to_be_bytes(), start))
        );
    }

    #[test]
    fn table_of_silenced_peers_is_bounded() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for port in 0..2 * SILENT_MAX as u32 {
            breaker.silence(
                &Address::Net(SocketAddr::new([10, 0, 0, 1].into(), 1024 + port as u16)),
                now,
            );
        }
        assert_eq!(breaker.silent.len(), SILENT_MAX);
    }
}

//! Reference for the loop breaker, shared by the property test and the fuzz target.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use echoic_core::event::Address;
use tokio::time::Instant;

use super::{Breaker, SAME_MAX, SILENCE, WINDOW};

/// Compares the breaker with a list: for few peers and few datagrams, a datagram is a loop exactly when it arrived more
/// than `SAME_MAX` times within `WINDOW`. Each byte of `data` encodes one datagram: peer, content, time since the last.
///
/// # Panics
///
/// Panics if the two disagree.
pub fn check_breaker(data: &[u8]) {
    let start = Instant::now();
    let mut breaker = Breaker::new(start);
    let mut list: HashMap<u8, (Instant, u32)> = HashMap::new();
    let mut silent: HashMap<u8, Instant> = HashMap::new();
    let mut now = start;
    for byte in data {
        let (peer_bit, what, pause) = (byte & 1, byte & 0b11, byte >> 2);
        now += Duration::from_millis(u64::from(pause) * 20);
        let peer = Address::Net(SocketAddr::from((
            [127, 0, 0, 1],
            4000 + u16::from(peer_bit),
        )));
        let is_silent = silent.get(&peer_bit).is_some_and(|until| *until > now);
        assert_eq!(breaker.is_silent(&peer, now), is_silent, "{data:?}");
        if is_silent {
            continue;
        }
        let (since, times) = list.entry(what).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= WINDOW {
            (*since, *times) = (now, 0);
        }
        *times += 1;
        let trips = *times > SAME_MAX;
        assert_eq!(breaker.trips(&peer, &[what], now), trips, "{data:?}");
        if trips {
            list.remove(&what);
            silent.insert(peer_bit, now + SILENCE);
        }
    }
}

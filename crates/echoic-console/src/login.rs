//! The limit of wrong tokens and passwords, by address and for all together. A request with the right token is never refused; a
//! password is not looked at while its address has too many failures.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures of one address within [`WINDOW`] after which its wrong tokens, and all its passwords, are answered with the time to wait.
const FAILURES_MAX: u32 = 10;

/// Failures of all addresses within [`WINDOW`]. It also bounds the table of addresses: what is refused is not counted.
const FAILURES_OF_ALL_MAX: u32 = 100;

/// Time over which failures are counted.
const WINDOW: Duration = Duration::from_mins(1);

/// The address that a request comes from, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) IpAddr);

/// Counts wrong tokens and passwords.
#[derive(Debug, Default)]
pub(crate) struct LoginLimit(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    of_all: Option<Count>,
    by_address: HashMap<IpAddr, Count>,
}

/// Failures since the first one of a window.
#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    failures: u32,
}

impl LoginLimit {
    /// Counts a failure, or returns how long to wait if there were too many.
    pub(crate) fn add_failure(&self, caller: Caller, now: Instant) -> Result<(), Duration> {
        self.attempt(caller, now, || false).map(drop)
    }

    /// Returns whether an attempt succeeds, by `is_right`, and counts it if not; or how long to wait if there were too many failures:
    /// then `is_right` is not asked. Attempts are made one after the other, so that many at once are not more than the limit.
    pub(crate) fn attempt(
        &self,
        caller: Caller,
        now: Instant,
        is_right: impl FnOnce() -> bool,
    ) -> Result<bool, Duration> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .by_address
            .retain(|_, count| count.left(now).is_some());
        counts.of_all = counts.of_all.filter(|count| count.left(now).is_some());
        let source = source(caller.0);
        let own = counts.by_address.get(&source).copied();
        let refused = [(own, FAILURES_MAX), (counts.of_all, FAILURES_OF_ALL_MAX)]
            .into_iter()
            .filter_map(|(count, max)| count.filter(|count| count.failures >= max)?.left(now))
            .max();
        if let Some(left) = refused {
            return Err(left);
        }
        if is_right() {
            return Ok(true);
        }
        counts.of_all = Some(Count::next(counts.of_all, now));
        counts.by_address.insert(source, Count::next(own, now));
        Ok(false)
    }
}

impl Count {
    /// Returns the count with one more failure.
    fn next(before: Option<Self>, now: Instant) -> Self {
        let Self { since, failures } = before.unwrap_or(Self {
            since: now,
            failures: 0,
        });
        Self {
            since,
            failures: failures + 1,
        }
    }

    /// Returns the rest of the window; `None` once it has passed.
    fn left(self, now: Instant) -> Option<Duration> {
        let left = WINDOW.checked_sub(now.saturating_duration_since(self.since))?;
        (!left.is_zero()).then_some(left)
    }
}

/// Returns what is counted as one address: for IPv6 its /64, since one host can use every address of it.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64))
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(ip: &str) -> Caller {
        Caller(ip.parse().unwrap())
    }

    #[test]
    fn ten_failures_refuse_one_address_for_the_rest_of_its_minute() {
        let limit = LoginLimit::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (one, other) = (caller("192.0.2.1"), caller("192.0.2.2"));
        for second in 0..10 {
            assert_eq!(limit.add_failure(one, after(second)), Ok(()));
        }
        let left = limit.add_failure(one, after(10));
        assert_eq!(left, Err(Duration::from_secs(50)));
        let mapped = caller("::ffff:192.0.2.1");
        assert!(limit.add_failure(mapped, after(10)).is_err());
        assert_eq!(limit.add_failure(other, after(10)), Ok(()));
        assert_eq!(limit.add_failure(one, after(60)), Ok(()));
    }

    #[test]
    fn attempt_beyond_the_limit_is_not_compared_and_a_right_one_not_counted() {
        let limit = LoginLimit::default();
        let now = Instant::now();
        let one = caller("192.0.2.1");
        for _ in 0..100 {
            assert_eq!(limit.attempt(one, now, || true), Ok(true));
        }
        assert!(limit.0.lock().unwrap().by_address.is_empty());
        for _ in 0..10 {
            assert_eq!(limit.attempt(one, now, || false), Ok(false));
        }
        let refused = limit.attempt(one, now, || panic!("it is compared"));
        assert_eq!(refused, Err(WINDOW));
        let other = caller("192.0.2.2");
        assert_eq!(limit.attempt(other, now, || true), Ok(true));
    }

    #[test]
    fn ipv6_addresses_of_one_64_are_one() {
        let limit = LoginLimit::default();
        let now = Instant::now();
        for host in 1..=10 {
            let one = caller(&format!("2001:db8::{host}"));
            assert_eq!(limit.add_failure(one, now), Ok(()));
        }
        assert!(limit.add_failure(caller("2001:db8::ffff"), now).is_err());
        assert!(limit.add_failure(caller("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn failures_of_many_addresses_are_limited_and_the_table_stays_small() {
        let limit = LoginLimit::default();
        let start = Instant::now();
        let mut counted = 0;
        for number in 0..5000_u32 {
            let ip = Caller(IpAddr::V4((0x0a00_0000 + number).into()));
            counted += u32::from(limit.add_failure(ip, start).is_ok());
        }
        assert_eq!(counted, FAILURES_OF_ALL_MAX);
        assert_eq!(limit.0.lock().unwrap().by_address.len(), 100);
        let later = start + WINDOW;
        assert_eq!(limit.add_failure(caller("192.0.2.1"), later), Ok(()));
        assert_eq!(limit.0.lock().unwrap().by_address.len(), 1);
    }
}

//! Limits for each source of connections: an IPv4 address or an IPv6 /64.
//!
//! Only the acceptor uses the table. A conversation holds a permit of its source and asks it for the rate limit, if
//! there is one. Without limits the table stays empty and conversations hold no permit.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use echoic_core::{ending::CloseReason, event::Address, framing::Span, limits::SourceLimits};
use tokio::time::Instant;

/// Sources in the table. Beyond it, sources without a conversation are removed, together with their rate of the last
/// second; if all have conversations, further sources share one entry.
const SOURCES_MAX: usize = 65_536;

/// The table of sources.
#[derive(Debug)]
pub(crate) struct Sources {
    limits: Arc<SourceLimits>,
    known: HashMap<IpAddr, Arc<Source>>,
    known_max: usize,
    /// The entry shared by sources that found no room in the table.
    others: Arc<Source>,
}

/// One source: its open conversations and its rate.
#[derive(Debug, Default)]
struct Source {
    open: AtomicU32,
    rate: Mutex<Rate>,
}

/// What a source sent in the last second.
#[derive(Debug, Default)]
struct Rate {
    messages: Bucket,
    bytes: Bucket,
}

/// A leaky bucket (ITU-T I.371) with a burst of one second.
#[derive(Debug, Default)]
struct Bucket {
    /// Fill level, in billionths of a message or byte: each nanosecond drains a whole number of them, so nothing is
    /// rounded.
    level: u64,
    /// Time of the last drain.
    last: Option<Instant>,
}

/// One message or byte in a [`Bucket`].
const ONE: u64 = 1_000_000_000;

/// Counts a conversation of its source until it is dropped.
#[derive(Debug)]
pub(crate) struct SourcePermit {
    source: Arc<Source>,
    limits: Arc<SourceLimits>,
}

impl Sources {
    pub(crate) fn new(limits: SourceLimits) -> Self {
        Self {
            limits: Arc::new(limits),
            known: HashMap::new(),
            known_max: SOURCES_MAX,
            others: Arc::default(),
        }
    }

    /// Returns a permit for a connection from `peer`, `None` if its source has no limits, or a close reason if the source
    /// has reached its limit.
    pub(crate) fn admit(&mut self, peer: &Address) -> Result<Option<SourcePermit>, CloseReason> {
        let Some(ip) = self.source_of(peer) else {
            return Ok(None);
        };
        let source = self.entry(ip);
        let open = source.open.fetch_add(1, Ordering::Relaxed);
        // From here on, dropping the permit decrements the count.
        let permit = SourcePermit {
            source,
            limits: Arc::clone(&self.limits),
        };
        match self.limits.connections_max {
            Some(max) if open >= max => Err(CloseReason::TooManyFromSource),
            _ => Ok(Some(permit)),
        }
    }

    fn source_of(&self, peer: &Address) -> Option<IpAddr> {
        let Address::Net(addr) = peer else {
            return None;
        };
        let exempt = addr.ip().to_canonical().is_loopback() && !self.limits.on_loopback;
        (self.limits.any() && !exempt).then(|| source(addr.ip()))
    }

    fn entry(&mut self, ip: IpAddr) -> Arc<Source> {
        if let Some(known) = self.known.get(&ip) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.known_max {
            self.known.retain(|_, source| source.is_open());
        }
        if self.known.len() >= self.known_max {
            return Arc::clone(&self.others);
        }
        Arc::clone(self.known.entry(ip).or_default())
    }
}

/// The source of an address: the IPv4 address, or the IPv6 /64.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

impl Source {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }
}

impl SourcePermit {
    /// Whether the source has a rate limit.
    pub(crate) fn has_rate_limit(&self) -> bool {
        self.limits.has_rate_limit()
    }

    /// Truncates the messages of a read to those within the rate limit. Returns whether all were.
    pub(crate) fn remove_over_rate(
        &self,
        now: Instant,
        bytes: usize,
        messages: &mut Vec<Span>,
    ) -> bool {
        if !self.has_rate_limit() {
            return false;
        }
        let mut rate = lock(&self.source.rate);
        let bytes_max = self.limits.bytes_per_second_max;
        if bytes_max.is_some_and(|max| rate.bytes.take(now, bytes, max) < bytes) {
            messages.clear();
            return true;
        }
        let Some(max) = self.limits.messages_per_second_max else {
            return false;
        };
        let count = messages.len();
        messages.truncate(rate.messages.take(now, count, max));
        messages.len() < count
    }
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        self.source.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bucket {
    /// Takes up to `wanted` now, at `per_second`; returns how many fit.
    fn take(&mut self, now: Instant, wanted: usize, per_second: u32) -> usize {
        let per_second = u64::from(per_second.max(1));
        let last = self.last.unwrap_or(now);
        let drained = now.saturating_duration_since(last).as_nanos() as u64;
        self.last = Some(last.max(now));
        self.level = self
            .level
            .saturating_sub(drained.saturating_mul(per_second));
        let room = (per_second * ONE).saturating_sub(self.level) / ONE;
        let taken = wanted.min(room as usize);
        self.level += taken as u64 * ONE;
        taken
    }
}

/// Locks, also after a panic elsewhere: the guarded values are consistent between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NANOSECOND: Duration = Duration::from_nanos(1);

    fn address(ip: &str) -> Address {
        Address::Net(SocketAddr::new(ip.parse().unwrap(), 1))
    }

    fn sources(mut limits: SourceLimits) -> Sources {
        limits.on_loopback = true;
        Sources::new(limits)
    }

    fn limit_of_three_connections() -> Sources {
        sources(SourceLimits {
            connections_max: Some(3),
            ..SourceLimits::default()
        })
    }

    #[test]
    fn connection_limit_applies_per_source() {
        let mut sources = limit_of_three_connections();
        let mut permits: Vec<_> = (0..3)
            .map(|_| sources.admit(&address("10.0.0.1")))
            .collect();
        assert!(permits.iter().all(Result::is_ok));
        for _ in 0..5 {
            let fourth = sources.admit(&address("10.0.0.1"));
            assert_eq!(fourth.map(|_| ()), Err(CloseReason::TooManyFromSource));
        }
        assert!(sources.admit(&address("10.0.0.2")).is_ok());
        permits.pop();
        assert!(sources.admit(&address("10.0.0.1")).is_ok(), "one has gone");
    }

    #[test]
    fn ipv6_source_is_the_whole_slash_64() {
        assert_eq!(
            source("2001:db8::1".parse().unwrap()),
            source("2001:db8::ffff:0:2".parse().unwrap())
        );
        assert_ne!(
            source("2001:db8::1".parse().unwrap()),
            source("2001:db8:0:1::1".parse().unwrap())
        );
        assert_eq!(
            source("::ffff:10.0.0.1".parse().unwrap()),
            source("10.0.0.1".parse().unwrap())
        );
    }

    #[test]
    fn loopback_is_exempt_by_default_and_unix_has_no_source() {
        let mut sparing = Sources::new(SourceLimits {
            connections_max: Some(0),
            ..SourceLimits::default()
        });
        for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(matches!(sparing.admit(&address(ip)), Ok(None)), "{ip}");
        }
        assert!(sparing.admit(&address("10.0.0.1")).is_err());
        assert!(matches!(
            limit_of_three_connections().admit(&Address::Unix(None)),
            Ok(None)
        ));
        let mut without = sources(SourceLimits::none());
        assert!(matches!(without.admit(&address("10.0.0.1")), Ok(None)));
        assert!(without.known.is_empty());
    }

    #[test]
    fn source_table_is_bounded_and_forgets_idle_sources() {
        let mut sources = limit_of_three_connections();
        let ip = |i: u32| Address::Net(SocketAddr::from(((i + (11 << 24)).to_be_bytes(), 1)));
        let first = sources.admit(&ip(0)).unwrap();
        for i in 1..3 * SOURCES_MAX as u32 {
            assert!(sources.admit(&ip(i)).is_ok());
            assert!(sources.known.len() <= SOURCES_MAX);
        }
        assert!(
            sources
                .known
                .contains_key(&source("11.0.0.0".parse().unwrap())),
            "it is still here"
        );
        drop(first);
    }

    /// Reconnecting does not reset the rate limit; a source without connections is forgotten only when the table is full.
    #[tokio::test(start_paused = true)]
    async fn idle_source_is_remembered_until_its_slot_is_needed() {
        let mut sources = sources(SourceLimits {
            messages_per_second_max: Some(1),
            ..SourceLimits::none()
        });
        sources.known_max = 2;
        let mut may_send = |ip: &str| {
            let permit = sources.admit(&address(ip)).unwrap().unwrap();
            let message = Span {
                start: 0,
                body_start: 0,
                body_end: 1,
                end: 1,
            };
            !permit.remove_over_rate(Instant::now(), 1, &mut vec![message])
        };
        assert!(may_send("10.0.0.1"));
        assert!(may_send("10.0.0.2"));
        assert!(!may_send("10.0.0.1"), "it has sent its one message");
        assert!(
            may_send("10.0.0.3"),
            "it has an entry, and the table has none for others"
        );
        assert!(may_send("10.0.0.1"));
    }

    #[test]
    fn sources_beyond_the_table_share_one_slot() {
        let mut sources = limit_of_three_connections();
        sources.known_max = 2;
        let own = [
            sources.admit(&address("10.0.0.1")),
            sources.admit(&address("10.0.0.2")),
        ];
        let shared: Vec<_> = (3..6)
            .map(|i| sources.admit(&address(&format!("10.0.0.{i}"))))
            .collect();
        assert!(own.iter().chain(&shared).all(Result::is_ok));
        assert!(sources.admit(&address("10.0.0.9")).is_err(), "three in all");
        assert!(
            sources.admit(&address("10.0.0.1")).is_ok(),
            "a source with an entry keeps it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn rate_limit_is_exact_in_any_second() {
        let mut bucket = Bucket::default();
        let start = Instant::now();
        for per_second in [1, 3, 7, 1000, 65_537] {
            let mut bucket = Bucket::default();
            assert_eq!(
                bucket.take(start, usize::MAX, per_second),
                per_second as usize
            );
            assert_eq!(bucket.take(start, 1, per_second), 0);
            assert_eq!(
                bucket.take(start + SECOND, usize::MAX, per_second),
                per_second as usize
            );
            // One by one, the next no sooner than the first is drained.
            let (mut bucket, one) = (Bucket::default(), SECOND / per_second + NANOSECOND);
            assert!((0..per_second).all(|_| bucket.take(start, 1, per_second) == 1));
            assert_eq!(bucket.take(start + one - 2 * NANOSECOND, 1, per_second), 0);
            // Another thread may have read its clock before, and come later.
            assert_eq!(bucket.take(start, 1, per_second), 0);
            assert_eq!(bucket.take(start + one, 9, per_second), 1, "{per_second}");
        }
        assert_eq!(bucket.take(start, 6, 10), 6);
        assert_eq!(bucket.take(start, 6, 10), 4);
        assert_eq!(bucket.take(start + SECOND / 2, 6, 10), 5);
        assert_eq!(
            bucket.take(start + 10 * SECOND, 60, 10),
            10,
            "nothing is saved up"
        );
    }
}

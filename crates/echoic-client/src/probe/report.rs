//! The result of a probe, as a value.

use std::{io, net::SocketAddr, time::Duration};

use echoic_core::{endpoint::Endpoint, event::Address};
use echoic_wire::eyeballs::{self, Answer};

use super::{
    dns::Dns,
    service::{ServiceAnswer, ServiceFailure},
    tls::{TlsAnswer, TlsFailure},
};

/// Result of a probe. All times are relative to its start.
#[derive(Debug)]
pub struct Report {
    /// The endpoint that was probed.
    pub endpoint: Endpoint,
    /// Answers of the system's resolver, one for each address family; empty if there was no name to resolve.
    pub names: Vec<Answer>,
    /// Answers of the name servers themselves, if they were queried and answered in time.
    pub dns: Option<Dns>,
    /// All attempts, in the order of their start.
    pub tries: Vec<Attempt>,
    /// What the handshakes of [`ProbeOptions::tls`](super::ProbeOptions::tls) told.
    pub tls: Vec<TlsAnswer>,
    /// The answer to [`ProbeOptions::check`](super::ProbeOptions::check), if the endpoint was reachable.
    pub answer: Option<ServiceAnswer>,
    /// Addresses that were not tried because the race ended before their turn.
    pub untried: Vec<SocketAddr>,
    /// Time limit of each wait.
    pub timeout: Duration,
    /// Duration of this round.
    pub took: Duration,
    /// Number of rounds.
    pub rounds: u32,
    /// Time spent waiting for the endpoint to become reachable, with [`ProbeOptions::wait`](super::ProbeOptions::wait).
    pub waited: Option<Duration>,
}

/// One attempt to reach one address.
#[derive(Debug)]
pub struct Attempt {
    /// The remote address.
    pub address: Address,
    /// Start time.
    pub started: Duration,
    /// End time.
    pub ended: Duration,
    /// How it ended.
    pub outcome: AttemptOutcome,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum AttemptOutcome {
    /// The connection was established.
    Connected {
        /// Local address of the connection, if it has one.
        local: Option<Address>,
        /// Maximum segment size (TCP, where the system reports it).
        mss: Option<u32>,
    },
    /// A datagram came back.
    Replied {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The network, the remote host or this one reported an error.
    Failed(io::Error),
    /// No answer within the timeout.
    Silent,
    /// Another address connected first, and this attempt was cancelled.
    Overtaken,
}

/// All attempts for one address.
#[derive(Debug)]
pub struct Summary<'a> {
    /// The address.
    pub address: &'a Address,
    /// The attempts.
    pub tries: Vec<&'a Attempt>,
    /// Number of successful attempts.
    pub good: usize,
    /// Durations of the successful attempts; `None` if there were none.
    pub span: Option<MinMedianMax>,
}

/// Minimum, median and maximum of several durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinMedianMax {
    /// The minimum.
    pub min: Duration,
    /// The median.
    pub median: Duration,
    /// The maximum.
    pub max: Duration,
}

impl Report {
    pub(super) fn new(endpoint: Endpoint, timeout: Duration) -> Self {
        Self {
            endpoint,
            names: vec![],
            dns: None,
            tries: vec![],
            tls: vec![],
            answer: None,
            untried: vec![],
            timeout,
            took: Duration::ZERO,
            rounds: 1,
            waited: None,
        }
    }

    /// Returns whether any attempt succeeded.
    pub fn is_reachable(&self) -> bool {
        self.tries.iter().any(Attempt::is_good)
    }

    /// Returns whether any attempt succeeded, a client would trust the server if there was TLS, and the answer was the
    /// expected one if there was a check.
    pub fn is_ready(&self) -> bool {
        let answer = self.answer.as_ref();
        let is_trusted = self.tls.iter().all(TlsAnswer::is_trusted);
        self.is_reachable() && is_trusted && answer.is_none_or(|answer| answer.failure.is_none())
    }

    /// Whether the time limit ended it before anything was known.
    pub(super) fn was_cut(&self) -> bool {
        let failure = self
            .answer
            .as_ref()
            .and_then(|answer| answer.failure.as_ref());
        let mut handshakes = self.tls.iter().map(|answer| &answer.failure);
        self.is_silent()
            || handshakes.any(|failure| matches!(failure, Some(TlsFailure::TimedOut)))
            || matches!(failure, Some(ServiceFailure::TimedOut))
    }

    /// Returns whether any wait ended without an answer.
    pub(super) fn is_silent(&self) -> bool {
        let names_silent = self
            .names
            .iter()
            .any(|answer| matches!(answer.found, Err(eyeballs::LookupFailure::TimedOut)));
        names_silent
            || self
                .tries
                .iter()
                .any(|tried| matches!(tried.outcome, AttemptOutcome::Silent))
    }

    /// Groups the attempts by address, in the order of the first attempt.
    pub fn by_address(&self) -> Vec<Summary<'_>> {
        let mut summaries: Vec<Summary<'_>> = vec![];
        for tried in &self.tries {
            match summaries
                .iter_mut()
                .find(|summary| *summary.address == tried.address)
            {
                Some(summary) => summary.tries.push(tried),
                None => {
                    summaries.push(Summary {
                        address: &tried.address,
                        tries: vec![tried],
                        good: 0,
                        span: None,
                    });
                }
            }
        }
        for summary in &mut summaries {
            let good = summary.tries.iter().filter(|tried| tried.is_good());
            let times: Vec<Duration> = good.map(|tried| tried.took()).collect();
            summary.good = times.len();
            summary.span = MinMedianMax::of(times);
        }
        summaries
    }
}

impl Attempt {
    /// Returns the duration of the attempt.
    pub fn took(&self) -> Duration {
        self.ended.saturating_sub(self.started)
    }

    /// Returns whether the peer answered.
    pub fn is_good(&self) -> bool {
        matches!(
            self.outcome,
            AttemptOutcome::Connected { .. } | AttemptOutcome::Replied { .. }
        )
    }
}

impl From<eyeballs::Attempt> for Attempt {
    fn from(tried: eyeballs::Attempt) -> Self {
        let eyeballs::Attempt {
            addr,
            started,
            ended,
            outcome,
        } = tried;
        Self {
            address: addr.into(),
            started,
            ended,
            outcome: outcome.into(),
        }
    }
}

impl From<eyeballs::ConnectOutcome> for AttemptOutcome {
    fn from(outcome: eyeballs::ConnectOutcome) -> Self {
        match outcome {
            eyeballs::ConnectOutcome::Connected { local, mss } => Self::Connected {
                local: local.map(Address::from),
                mss,
            },
            eyeballs::ConnectOutcome::Failed(error) => Self::Failed(error),
            eyeballs::ConnectOutcome::TimedOut => Self::Silent,
            eyeballs::ConnectOutcome::Cancelled => Self::Overtaken,
        }
    }
}

impl MinMedianMax {
    /// Computes the span of `times`; `None` if there are none.
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let (min, max) = (*times.first()?, *times.last()?);
        let median = (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2;
        Some(Self { min, median, max })
    }
}

/// Formats a duration with three digits and a unit: `0.21 ms`, `12.5 ms`, `1.5 s`.
pub fn figure(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    // A value that would round to 1000 ms is printed as 1 s.
    let (figure, unit) = if seconds < 0.9995 {
        (seconds * 1000.0, "ms")
    } else {
        (seconds, "s")
    };
    let digits = if figure < 9.995 {
        2
    } else {
        usize::from(figure < 99.95)
    };
    let text = format!("{figure:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ms: &[u64]) -> Option<MinMedianMax> {
        MinMedianMax::of(ms.iter().map(|ms| Duration::from_millis(*ms)).collect())
    }

    #[test]
    fn times_report_minimum_median_and_maximum() {
        let span = |min, median, max| {
            let [min, median, max] = [min, median, max].map(Duration::from_millis);
            Some(MinMedianMax { min, median, max })
        };
        assert_eq!(times(&[]), None);
        assert_eq!(times(&[7]), span(7, 7, 7));
        assert_eq!(times(&[9, 1, 2]), span(1, 2, 9));
        assert_eq!(times(&[9, 1, 2, 4]), span(1, 3, 9));
    }

    #[test]
    fn time_is_printed_with_three_digits() {
        for (us, text) in [
            (0, "0 ms"),
            (214, "0.21 ms"),
            (9_999, "10 ms"),
            (12_345, "12.3 ms"),
            (250_000, "250 ms"),
            (999_600, "1 s"),
            (5_000_000, "5 s"),
            (72_500_000, "72.5 s"),
            (600_000_000, "600 s"),
        ] {
            assert_eq!(figure(Duration::from_micros(us)), text);
        }
    }

    #[test]
    fn tries_are_grouped_by_address() {
        let addr = |n| Address::from(SocketAddr::from(([127, 0, 0, n], 80)));
        let tried = |n, started, outcome| Attempt {
            address: addr(n),
            started: Duration::from_millis(started),
            ended: Duration::from_millis(started + 2 * u64::from(n)),
            outcome,
        };
        let mut report = Report::new(Endpoint::Fd(3), Duration::from_secs(5));
        assert!(!report.is_reachable());
        report.tries = vec![
            tried(2, 0, AttemptOutcome::Silent),
            tried(
                1,
                5,
                AttemptOutcome::Connected {
                    local: None,
                    mss: None,
                },
            ),
            tried(
                2,
                9,
                AttemptOutcome::Connected {
                    local: None,
                    mss: None,
                },
            ),
        ];
        assert!(report.is_reachable() && report.is_silent());
        let summaries = report.by_address();
        let grouped: Vec<_> = summaries
            .iter()
            .map(|summary| {
                (
                    summary.address.clone(),
                    summary.tries.len(),
                    summary.good,
                    summary.span.unwrap().max,
                )
            })
            .collect();
        assert_eq!(
            grouped,
            [
                (addr(2), 2, 1, Duration::from_millis(4)),
                (addr(1), 1, 1, Duration::from_millis(2))
            ]
        );
    }
}

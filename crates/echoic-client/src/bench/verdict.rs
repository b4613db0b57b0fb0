//! Determines what limited a run.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use super::{figures::Figures, plan::Plan, slo::Slo, stall::Stall};

/// What limited a run, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The limit.
    pub limit: Limit,
    /// The evidence in one sentence.
    pub why: String,
}

/// What may limit a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nothing: all requests were answered.
    None,
    /// The server: it fell behind, sent wrong replies, or closed connections.
    Server,
    /// The network, or the socket of the server: datagrams were lost.
    Network,
    /// The SLO was not met, although all requests were answered.
    Slo,
    /// The load generator: the run gives no information on the server.
    Generator,
}

impl Limit {
    /// Returns the word for it in results.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "healthy",
            Self::Server => "server",
            Self::Network => "network",
            Self::Slo => "slo",
            Self::Generator => "generator",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// CPU share of a thread above which it is saturated.
const BUSY: f64 = 0.95;
/// Lag that the system causes in any case.
const LAG: Duration = Duration::from_millis(1);
/// A stall is at least this many times the median latency.
const STALL_FACTOR: u32 = 10;
/// Minimum share of requests answered in time; below it the server fell behind.
const DELIVERED: f64 = 0.99;

impl Verdict {
    /// Determines the verdict on one run.
    pub fn of(plan: &Plan, slo: Option<&Slo>, figures: &Figures) -> Self {
        let limit = by_ports(figures)
            .or_else(|| by_standstill(figures))
            .or_else(|| by_silence(plan, figures))
            .or_else(|| by_wrong(figures))
            .or_else(|| by_generator(slo, figures))
            .or_else(|| by_server(plan, figures))
            .or_else(|| by_network(figures))
            .or_else(|| by_slo(slo, figures));
        let limit = with_stall(limit, figures);
        let (limit, why) = limit.unwrap_or_else(|| {
            let why = match figures.rate {
                _ if figures.asked == 0 => "nothing was asked in so short a time",
                None => "closed loop: as fast as replies came over these connections; not what users would wait",
                Some(_) => "what was asked was answered; the server was not saturated",
            };
            (Limit::None, why.to_owned())
        });
        Self { limit, why }
    }
}

/// This machine had no local port left for a connection. It is the generator's own limit.
fn by_ports(figures: &Figures) -> Option<(Limit, String)> {
    let count = figures.failures.no_port;
    (count > 0).then(|| {
        let why = format!(
            "this machine had no free local port for {count} connection attempts (EADDRNOTAVAIL); a closed connection keeps \
             its port for a minute (TIME_WAIT): open fewer, or widen net.ipv4.ip_local_port_range"
        );
        (Limit::Generator, why)
    })
}

/// The generator did not run for a time: what it missed says nothing about the server.
fn by_standstill(figures: &Figures) -> Option<(Limit, String)> {
    figures.generator.standstill.map(|stall| {
        let (length, start) = (stall.length.as_secs_f64(), stall.start.as_secs_f64());
        let why = format!(
            "this generator did not run for {length:.1} s, {start:.1} s after the start: it was stopped, or the machine \
             suspended or overloaded"
        );
        (Limit::Generator, why)
    })
}

/// Nothing was answered at all. What the peer did instead is the evidence.
fn by_silence(plan: &Plan, figures: &Figures) -> Option<(Limit, String)> {
    let failures = &figures.failures;
    let is_failing = failures.closed + failures.reset + failures.refused > 0;
    let is_asked = figures.asked > 0 || figures.rate.is_none() || is_failing;
    let is_answered = figures.done + figures.answered() > 0;
    if !is_asked || is_answered || !plan.expect.expects_reply() {
        return None;
    }
    let seen: Vec<String> = [
        ("connections closed by the server", failures.closed),
        ("connections reset", failures.reset),
        ("connections refused or failed", failures.refused),
        ("unasked messages received", failures.extra),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(what, count)| format!("{what}: {count}"))
    .collect();
    let mut why = "nothing was answered".to_owned();
    if !seen.is_empty() {
        let _ = write!(why, " ({})", seen.join(", "));
    }
    Some((Limit::Server, why))
}

/// Adds the longest stall of the server. One that is the only thing to report is the limit; where replies always take that
/// long, it is none.
fn with_stall(limit: Option<(Limit, String)>, figures: &Figures) -> Option<(Limit, String)> {
    let median = Duration::from_nanos(figures.due.value_at_quantile(0.5));
    let is_usual = |stall: &Stall| stall.length < median * STALL_FACTOR;
    let Some(stall) = figures.stall.filter(|stall| !is_usual(stall)) else {
        return limit;
    };
    if figures.answered() == 0 {
        return limit;
    }
    match limit {
        None => Some((Limit::Server, format!("the server stalled: {stall}"))),
        Some((limit, why)) => Some((limit, format!("{why}; {stall}"))),
    }
}

/// A wrong reply is an error of the server, whatever the state of the generator.
fn by_wrong(figures: &Figures) -> Option<(Limit, String)> {
    let (wrong, extra) = (figures.wrong, figures.failures.extra);
    (wrong + extra > 0).then(|| {
        let why = format!("{wrong} replies were wrong, {extra} not asked for");
        (Limit::Server, why)
    })
}

/// Checks whether the generator kept up; if not, the figures do not describe the server.
fn by_generator(slo: Option<&Slo>, figures: &Figures) -> Option<(Limit, String)> {
    let generator = &figures.generator;
    let limit = Limit::Generator;
    if generator.busy > BUSY {
        let why = format!(
            "a thread of this generator used {:.0} % of its core; more threads, or another machine",
            generator.busy * 100.0
        );
        return Some((limit, why));
    }
    if let Some(dropped) = figures
        .outcomes
        .map(|outcomes| outcomes.dropped_here)
        .filter(|dropped| *dropped > 0)
    {
        let why = format!("{dropped} datagrams were dropped by this generator's own socket");
        return Some((limit, why));
    }
    let lag = Duration::from_nanos(generator.lag.value_at_quantile(0.99));
    let latency = Duration::from_nanos(figures.due.value_at_quantile(0.99));
    let allowed = match slo.and_then(Slo::latency) {
        Some(promised) => promised / 10,
        None => LAG.max(latency / 4),
    };
    (figures.rate.is_some() && lag > allowed).then(|| {
        let why = format!(
            "the generator itself was {:.2} ms late in one of 100 cases",
            lag.as_secs_f64() * 1e3
        );
        (limit, why)
    })
}

fn by_server(plan: &Plan, figures: &Figures) -> Option<(Limit, String)> {
    let failures = &figures.failures;
    let limit = Limit::Server;
    let is_stream = figures.outcomes.is_none();
    if is_stream && figures.lost > 0 {
        let why = format!(
            "{} requests were not answered: {} timed out, {} were cut off",
            figures.lost,
            failures.timed_out,
            failures.cut + failures.pending
        );
        return Some((limit, why));
    }
    if is_stream && failures.refused > 0 {
        let why = format!(
            "{} connection attempts were refused or failed",
            failures.refused
        );
        return Some((limit, why));
    }
    let is_behind = figures.unsent > 0 || is_stream && figures.delivered() < DELIVERED;
    if figures.rate.is_some() && is_behind {
        let backlog = figures.asked.saturating_sub(figures.done) as f64 / figures.seconds.max(1e-9);
        let why = format!(
            "{:.1} % of what was asked was answered in time; with all {} connections waiting for replies the backlog grew by {backlog:.0}/s",
            figures.delivered().min(1.0) * 100.0,
            plan.connections,
        );
        return Some((limit, why));
    }
    None
}

fn by_network(figures: &Figures) -> Option<(Limit, String)> {
    figures.outcomes.filter(|_| figures.lost + figures.late > 0).map(|_| {
        let why = format!(
            "{} datagrams were lost on the way or by the server's socket, {} came late; none was dropped here",
            figures.lost, figures.late
        );
        (Limit::Network, why)
    })
}

fn by_slo(slo: Option<&Slo>, figures: &Figures) -> Option<(Limit, String)> {
    let judged = slo?.judge(figures);
    let broken = judged.into_iter().find(|judged| !judged.met)?;
    let value = broken.value.unwrap_or_else(|| "nothing".to_owned());
    Some((
        Limit::Slo,
        format!("{} was promised, and it was {value}", broken.term),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{figures, template::Template, workload::Workload};

    fn verdict(slo: Option<&str>, change: impl FnOnce(&mut Figures)) -> Limit {
        verdict_of(slo, change).limit
    }

    fn verdict_of(slo: Option<&str>, change: impl FnOnce(&mut Figures)) -> Verdict {
        let workload = Workload::one(Template::literal("x"));
        let plan = Plan::new("5000".parse().unwrap(), "line".parse().unwrap(), workload);
        let mut figures = figures::tests::empty(10.0);
        figures.rate = Some(100.0);
        (figures.asked, figures.sent, figures.ok, figures.done) = (1000, 1000, 1000, 1000);
        figures.due.record_n(2_000_000, 1000).unwrap();
        figures.generator.lag.record_n(10_000, 1000).unwrap();
        change(&mut figures);
        let slo = slo.map(|slo| slo.parse().unwrap());
        Verdict::of(&plan, slo.as_ref(), &figures)
    }

    #[test]
    fn verdict_names_the_limiting_party() {
        assert_eq!(verdict(None, |_| {}), Limit::None);
        assert_eq!(verdict(None, |f| f.generator.busy = 0.99), Limit::Generator);
        assert_eq!(verdict(None, |f| f.wrong = 1), Limit::Server);
        assert_eq!(verdict(None, |f| f.failures.extra = 1), Limit::Server);
        assert_eq!(verdict(None, |f| f.lost = 1), Limit::Server);
        assert_eq!(verdict(None, |f| f.failures.refused = 1), Limit::Server);
        assert_eq!(
            verdict(None, |f| (f.unsent, f.done) = (100, 900)),
            Limit::Server
        );
        assert_eq!(verdict(None, |f| f.done = 900), Limit::Server);
        assert_eq!(verdict(Some("p99<1ms"), |_| {}), Limit::Slo);
        assert_eq!(verdict(Some("p99<3ms"), |_| {}), Limit::None);
        let udp = |lost, dropped_here| {
            verdict(None, |f| {
                f.outcomes = Some(figures::DatagramOutcomes {
                    dropped_here,
                    ..Default::default()
                });
                f.lost = lost;
            })
        };
        assert_eq!(udp(5, 0), Limit::Network);
        assert_eq!(udp(5, 5), Limit::Generator);
        assert_eq!(udp(0, 0), Limit::None);
    }

    #[test]
    fn silent_server_is_the_limit_and_its_verdict_says_what_it_did() {
        let why = |change: fn(&mut Figures)| {
            let verdict = verdict_of(None, |f| {
                (f.ok, f.done) = (0, 0);
                change(f);
            });
            assert_eq!(verdict.limit, Limit::Server, "{verdict:?}");
            verdict.why
        };
        assert_eq!(why(|_| {}), "nothing was answered");
        // In a closed loop, no connection was open long enough for a request.
        let closed = why(|f| (f.rate, f.asked, f.failures.closed) = (None, 0, 7));
        assert_eq!(
            closed,
            "nothing was answered (connections closed by the server: 7)"
        );
        assert_eq!(
            why(|f| (f.failures.refused, f.failures.extra) = (3, 2)),
            "nothing was answered (connections refused or failed: 3, unasked messages received: 2)"
        );
        // At so low a rate that nothing was due.
        assert_eq!(
            verdict(None, |f| (f.asked, f.ok, f.done) = (0, 0, 0)),
            Limit::None
        );
    }

    #[test]
    fn want_of_local_ports_is_the_generators_limit() {
        let ports = verdict_of(None, |f| f.failures.no_port = 7);
        assert_eq!(ports.limit, Limit::Generator);
        assert!(ports.why.contains("no free local port for 7"), "{ports:?}");
    }

    #[test]
    fn standstill_of_the_generator_is_no_stall_of_the_server() {
        let stopped = verdict_of(None, |f| {
            f.generator.standstill = Some(Stall {
                start: Duration::from_secs(2),
                length: Duration::from_secs(3),
            });
            f.lost = 5;
        });
        assert_eq!(stopped.limit, Limit::Generator);
        let text = "this generator did not run for 3.0 s, 2.0 s after the start";
        assert!(stopped.why.starts_with(text), "{stopped:?}");
    }

    #[test]
    fn stall_of_seconds_is_named() {
        let stalled = |length: u64| {
            move |f: &mut Figures| {
                f.stall = Some(Stall {
                    start: Duration::from_secs(2),
                    length: Duration::from_millis(length),
                });
            }
        };
        let verdict = verdict_of(None, stalled(3_000));
        assert_eq!(verdict.limit, Limit::Server);
        let text = "no reply for 3.0 s, 2.0 s after the start";
        assert_eq!(verdict.why, format!("the server stalled: {text}"));
        let slow = verdict_of(None, |f| {
            f.due.record_n(400_000_000, 100_000).unwrap();
            stalled(3_000)(f);
        });
        assert_eq!(slow.limit, Limit::None, "a median of 0.4 s: {slow:?}");
        let wrong = verdict_of(None, |f| {
            f.wrong = 1;
            stalled(3_000)(f);
        });
        assert!(wrong.why.ends_with(text), "{wrong:?}");
    }

    #[test]
    fn lag_is_judged_against_the_slo_or_the_latency() {
        let late =
            |lag: u64| move |f: &mut Figures| f.generator.lag.record_n(lag, 1_000_000).unwrap();
        assert_eq!(verdict(Some("p99<3ms"), late(400_000)), Limit::Generator);
        assert_eq!(verdict(None, late(400_000)), Limit::None);
        assert_eq!(verdict(None, late(1_500_000)), Limit::Generator);
    }
}

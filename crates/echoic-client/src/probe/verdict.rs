//! Interprets a report: one sentence that includes the next step.

mod names;
mod state;
mod tls;
mod unanswered;

use std::io;

use echoic_core::{
    endpoint::{Endpoint, Host},
    escape,
    event::Address,
};

pub use self::state::{Advice, State};
use self::state::{is_no_route, list, show};
use super::report::{AttemptOutcome, Report, Summary, figure};
use super::service::{ServiceAnswer, ServiceFailure};

/// Interpretation of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The result in one word.
    pub state: State,
    /// One sentence with the next step, escaped for a terminal.
    pub sentence: String,
    /// Another probe that would give more information, if any.
    pub advice: Option<Advice>,
}

impl Report {
    /// Interprets the report.
    pub fn verdict(&self) -> Verdict {
        let handshake = tls::tls(self);
        let (state, sentence, advice) = if let Some((state, sentence)) = handshake
            && (state != State::Trusted || self.answer.is_none())
        {
            (state, sentence, None)
        } else if let Some(answer) = &self.answer {
            answered(self, answer)
        } else if self.is_reachable() {
            reachable(self)
        } else if self.tries.is_empty() {
            (State::NotResolved, names::not_resolved(self), None)
        } else {
            unanswered::unanswered(self)
        };
        let sentence = match (self.waited, self.is_ready()) {
            (Some(waited), true) if self.rounds > 1 => {
                format!(
                    "{sentence} (at try {}, after {})",
                    self.rounds,
                    figure(waited)
                )
            }
            (Some(waited), false) => {
                format!(
                    "{sentence} (still so at try {}, after {})",
                    self.rounds,
                    figure(waited)
                )
            }
            _ => sentence,
        };
        Verdict {
            state,
            sentence,
            advice,
        }
    }
}

/// Explains the answer of a [`ServiceCheck`](super::ServiceCheck).
fn answered(report: &Report, answer: &ServiceAnswer) -> (State, String, Option<Advice>) {
    let tried = report.tries.iter().find(|tried| tried.is_good());
    let at = tried.map_or_else(String::new, |tried| show(&tried.address));
    let (expected, took) = (&answer.expected, figure(answer.took));
    let Some(failure) = &answer.failure else {
        let sentence = format!("ready: {at} answered with {expected} after {took}");
        return (State::Ready, sentence, None);
    };
    let reached = if matches!(
        report.endpoint,
        Endpoint::Tcp(_) | Endpoint::Tls(_) | Endpoint::Unix(_)
    ) {
        "accepts connections"
    } else {
        "answers"
    };
    let how = match failure {
        ServiceFailure::Closed => format!("the peer closed the connection after {took}"),
        ServiceFailure::Failed(error) => format!("the connection failed after {took} ({error})"),
        ServiceFailure::Other(pause) => format!("nothing more came for {}", figure(*pause)),
        ServiceFailure::TimedOut if answer.bytes == 0 => format!("no answer came within {took}"),
        ServiceFailure::TimedOut => format!("the expected answer did not come within {took}"),
    };
    let received = match answer.bytes {
        0 => "nothing".to_owned(),
        bytes => {
            let more = if bytes > answer.received.len() {
                "…"
            } else {
                ""
            };
            format!("{}{more}", escape::text(&answer.received))
        }
    };
    let next = match (report.waited, answer.bytes) {
        (None, 0) => "; a proxy may accept before its service is up: try again with --wait 30s",
        (None, _) => "; try again with --wait 30s if the service is still starting",
        _ => "",
    };
    let sentence = format!(
        "not ready: {at} {reached}, expected {expected}, received {received}: {how}{}{next}",
        answer.hint
    );
    (State::NotReady, sentence, None)
}

fn reachable(report: &Report) -> (State, String, Option<Advice>) {
    let summaries = report.by_address();
    let (good, bad): (Vec<_>, Vec<_>) = summaries.iter().partition(|summary| summary.good > 0);
    let best = good
        .iter()
        .min_by_key(|summary| summary.span.map(|span| span.min));
    let Some((best, span)) = best.and_then(|best| Some((best, best.span?))) else {
        return (State::Silent, String::new(), None);
    };
    let at = show(best.address);
    let took = figure(span.min);
    if let Some(AttemptOutcome::Replied { bytes }) = best
        .tries
        .iter()
        .find(|tried| tried.is_good())
        .map(|tried| &tried.outcome)
    {
        return (
            State::Open,
            format!(
                "open: {at} replied with {bytes} byte{} after {took}{}",
                if *bytes == 1 { "" } else { "s" },
                besides(&bad)
            ),
            None,
        );
    }
    let mut advice = None;
    let sentence = match (&report.endpoint, best.address) {
        (Endpoint::Unixgram(_), _) => {
            format!("reachable: a datagram socket is bound at {at}; nothing was sent to it")
        }
        (Endpoint::Tcp(_), Address::Net(_)) if !bad.is_empty() => {
            match one_sided(report, &good, &bad) {
                Some((sentence, advised)) => {
                    advice = advised;
                    sentence
                }
                None => format!("reachable: {at} connects in {took}{}", besides(&bad)),
            }
        }
        _ => format!("reachable: {at} connects in {took}"),
    };
    (State::Reachable, sentence, advice)
}

/// Explains the case that one address family connects and the other does not, which other programs notice as a delay.
fn one_sided(
    report: &Report,
    good: &[&Summary<'_>],
    bad: &[&Summary<'_>],
) -> Option<(String, Option<Advice>)> {
    let family = |summary: &&&Summary<'_>| family(summary.address);
    let (works, fails) = (
        good.first().as_ref().map(family)?,
        bad.first().as_ref().map(family)?,
    );
    if works == fails
        || good.iter().any(|one| family(&one) != works)
        || bad.iter().any(|one| family(&one) != fails)
    {
        return None;
    }
    let at = show(good.first()?.address);
    let not = list(bad.iter().map(|summary| summary.address));
    let last = &bad.first()?.tries.last()?.outcome;
    let is_localhost = matches!(&report.endpoint, Endpoint::Tcp(at) if matches!(&at.host, Host::Name(name) if name == "localhost"));
    let advice = matches!(last, AttemptOutcome::Overtaken).then_some(Advice::EachAlone);
    let sentence = match last {
        AttemptOutcome::Failed(error)
            if error.kind() == io::ErrorKind::ConnectionRefused
                && is_localhost
                && works == "IPv4" =>
        {
            format!(
                "reachable over IPv4 only, at {at}: localhost gave ::1 first, and the server is v4-only, so a program \
                 that tries one address is refused; connect to 127.0.0.1, or let the server listen on ::1 too"
            )
        }
        AttemptOutcome::Failed(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            format!(
                "reachable over {works} only, at {at}: {not} refused, nothing listens there; let the server listen on \
             {fails} too, or take that address from the name"
            )
        }
        AttemptOutcome::Failed(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            format!(
                "reachable over {works} only, at {at}: this machine has no source address or no free local port for {not}"
            )
        }
        AttemptOutcome::Failed(error) if is_no_route(error) => {
            format!("reachable over {works} only, at {at}: this machine has no route to {fails}")
        }
        AttemptOutcome::Overtaken => format!(
            "reachable over {works}, at {at}: {not} had not answered by then, which delays every program that does not \
             race"
        ),
        AttemptOutcome::Silent => format!(
            "reachable over {works} only, at {at}: {not} gave no answer within {}, and programs that do not race wait \
             for it; repair the route to it, or take that address from the name",
            figure(report.timeout)
        ),
        _ => return None,
    };
    Some((sentence, advice))
}

/// `, but 2 of 20 addresses do not: 192.0.2.1:80, …`
fn besides(bad: &[&Summary<'_>]) -> String {
    let bad: Vec<&Address> = bad
        .iter()
        .filter(|summary| {
            summary
                .tries
                .iter()
                .any(|tried| !matches!(tried.outcome, AttemptOutcome::Overtaken))
        })
        .map(|summary| summary.address)
        .collect();
    match bad.len() {
        0 => String::new(),
        1 => format!("; {} does not", list(bad.into_iter())),
        _ => format!("; {} do not", list(bad.into_iter())),
    }
}

fn family(address: &Address) -> &'static str {
    match address {
        Address::Net(addr) if addr.is_ipv4() => "IPv4",
        Address::Net(_) => "IPv6",
        Address::Unix(_) => "Unix",
    }
}

#[cfg(test)]
mod tests;

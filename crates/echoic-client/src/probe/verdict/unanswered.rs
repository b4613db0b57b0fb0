//! Explains why no address could be reached.

use std::{io, time::Duration};

use echoic_core::{endpoint::Endpoint, event::Address};
use echoic_wire::OtherSocketType;

use super::state::{Advice, State, is_no_route, list};
use crate::probe::report::{Attempt, AttemptOutcome, Report, figure};

/// An unanswered SYN is retransmitted after 1 s (RFC 6298): a shorter timeout cannot tell a lost packet from a filter.
const SYN_RETRY: Duration = Duration::from_secs(1);

/// Errors for which there is no [`io::ErrorKind`] (Linux).
const EPROTOTYPE: i32 = 91;

fn is_other_type(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EPROTOTYPE) || OtherSocketType::is_in(error)
}

/// Groups the addresses by how their attempts ended; the group that comes first in [`FailureKind`] determines the state.
pub(super) fn unanswered(report: &Report) -> (State, String, Option<Advice>) {
    let mut groups: Vec<(FailureKind, Vec<&Address>)> = vec![];
    for summary in report.by_address() {
        let Some(kind) = summary
            .tries
            .iter()
            .map(|tried| FailureKind::of(tried))
            .min()
        else {
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, addresses)) => addresses.push(summary.address),
            None => groups.push((kind, vec![summary.address])),
        }
    }
    groups.sort_by_key(|(kind, _)| *kind);
    let mut groups = groups.into_iter();
    let Some((kind, addresses)) = groups.next() else {
        return (State::Silent, "silent: nothing was tried".to_owned(), None);
    };
    let (state, sentence) = match &report.endpoint {
        Endpoint::Udp(_) => datagram(report, kind, &addresses),
        Endpoint::Unix(_) | Endpoint::Unixgram(_) => unix(report, kind, &addresses),
        Endpoint::Tcp(_) | Endpoint::Tls(_) | Endpoint::Fd(_) => stream(report, kind, &addresses),
    };
    let is_stream = matches!(
        report.endpoint,
        Endpoint::Tcp(_) | Endpoint::Tls(_) | Endpoint::Fd(_)
    );
    let is_short = is_stream && kind == FailureKind::Silent && report.timeout < SYN_RETRY;
    let others: Vec<String> = groups
        .map(|(kind, addresses)| format!("{} {}", list(addresses.into_iter()), kind.word()))
        .collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(" ({})", others.join(", "))
    };
    let advice = is_short.then_some(Advice::Longer);
    (state, format!("{sentence}{others}"), advice)
}

/// How an attempt ended, the most useful first: if one address does not answer and another refuses, waiting may help with
/// the former.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FailureKind {
    Silent,
    Refused,
    Gone,
    Forbidden,
    Mismatch,
    NoRoute,
    Other,
}

impl FailureKind {
    fn of(tried: &Attempt) -> Self {
        match &tried.outcome {
            AttemptOutcome::Silent
            | AttemptOutcome::Overtaken
            | AttemptOutcome::Connected { .. }
            | AttemptOutcome::Replied { .. } => Self::Silent,
            AttemptOutcome::Failed(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Self::Refused,
                io::ErrorKind::NotFound => Self::Gone,
                io::ErrorKind::PermissionDenied => Self::Forbidden,
                _ if is_other_type(error) => Self::Mismatch,
                _ if is_no_route(error) => Self::NoRoute,
                _ => Self::Other,
            },
        }
    }

    /// Returns the phrase for addresses that are listed after others.
    fn word(self) -> &'static str {
        match self {
            Self::Silent => "gave no answer",
            Self::Refused => "refused",
            Self::Gone => "is not there",
            Self::Forbidden => "is forbidden",
            Self::Mismatch => "is of another kind",
            Self::NoRoute => "is unreachable",
            Self::Other => "failed",
        }
    }
}

fn stream(report: &Report, kind: FailureKind, addresses: &[&Address]) -> (State, String) {
    let (at, timeout) = (list(addresses.iter().copied()), figure(report.timeout));
    match kind {
        FailureKind::Silent if report.timeout < SYN_RETRY => (
            State::TimedOut,
            format!(
                "timed out: no answer from {at} within {timeout}, too short to tell a slow path from a filter"
            ),
        ),
        FailureKind::Silent if addresses.iter().all(|address| address.is_local()) => (
            State::TimedOut,
            format!(
                "timed out: no answer from {at} within {timeout}, and it is this machine: the server does not accept and \
                 its queue is full, or a rule here drops its packets; look at `ss -ltn`"
            ),
        ),
        FailureKind::Silent => (
            State::Filtered,
            format!(
                "filtered: no answer from {at} within {timeout}, so it is filtered, or the host is down; try from another \
                 place, or ask the administrator of the firewall"
            ),
        ),
        FailureKind::Refused => (
            State::Refused,
            format!(
                "refused: {at} rejected the connection: nothing listens on that port, or a firewall rejects it; start the server, \
                 or look for it with `ss -ltn`"
            ),
        ),
        FailureKind::NoRoute => no_route(report, &at),
        _ => other(report, &at),
    }
}

fn datagram(report: &Report, kind: FailureKind, addresses: &[&Address]) -> (State, String) {
    let at = list(addresses.iter().copied());
    match kind {
        FailureKind::Silent => (
            State::Silent,
            format!(
                "silent: nothing came back from {at} within {}: a server may be there and have no answer to this, or \
                 a filter is; send something it answers with `echoic connect {}`",
                figure(report.timeout),
                report.endpoint
            ),
        ),
        FailureKind::Refused => (
            State::Closed,
            format!(
                "closed: {at} reported a closed port (ICMP port unreachable); start the server, or look for it \
                 with `ss -lun`"
            ),
        ),
        FailureKind::NoRoute => no_route(report, &at),
        _ => other(report, &at),
    }
}

fn unix(report: &Report, kind: FailureKind, addresses: &[&Address]) -> (State, String) {
    let at = list(addresses.iter().copied());
    match kind {
        FailureKind::Silent => (
            State::TimedOut,
            format!(
                "timed out: {at} accepted no connection within {}: the server does not accept and its queue is full; look what it \
                 is busy with",
                figure(report.timeout)
            ),
        ),
        FailureKind::Refused => (
            State::Refused,
            format!(
                "refused: nothing listens at {at}: the server has ended, or the file is not a socket; start the server"
            ),
        ),
        FailureKind::Gone => (
            State::Refused,
            format!("refused: there is nothing at {at}; start the server, or check the spelling"),
        ),
        FailureKind::Forbidden => (
            State::Refused,
            format!(
                "refused: this user may not connect to {at}; check the permissions of the file and of the directories \
                 above it"
            ),
        ),
        FailureKind::Mismatch => {
            let right = if matches!(report.endpoint, Endpoint::Unix(_)) {
                "unixgram:"
            } else {
                "unix:"
            };
            (
                State::Refused,
                format!("refused: {at} is a socket of the other kind; probe {right} instead"),
            )
        }
        FailureKind::NoRoute | FailureKind::Other => other(report, &at),
    }
}

fn no_route(report: &Report, at: &str) -> (State, String) {
    let sentence = match first_error(report, is_no_route).map(io::Error::kind) {
        Some(io::ErrorKind::HostUnreachable) => format!(
            "unreachable: {at}: no route to that host: it is down, or a router on the way forbids it; try from another \
             place, or ask the administrator of the firewall"
        ),
        Some(io::ErrorKind::AddrNotAvailable) => {
            format!(
                "unreachable: this machine has no source address for {at} (see `ip address`), or every local port is in \
                 use (see `ss -tan`, net.ipv4.ip_local_port_range)"
            )
        }
        _ => format!("unreachable: this machine has no route to {at}; look at `ip route`"),
    };
    (State::Unreachable, sentence)
}

fn other(report: &Report, at: &str) -> (State, String) {
    match first_error(report, |_| true) {
        Some(error) if error.kind() == io::ErrorKind::PermissionDenied => (
            State::Unreachable,
            format!("unreachable: a firewall rule of this machine forbids connecting to {at}"),
        ),
        Some(error) => (State::Unreachable, format!("unreachable: {at}: {error}")),
        None => (State::Unreachable, format!("unreachable: {at}")),
    }
}

fn first_error(report: &Report, wanted: impl Fn(&io::Error) -> bool) -> Option<&io::Error> {
    report.tries.iter().find_map(|tried| match &tried.outcome {
        AttemptOutcome::Failed(error) if wanted(error) => Some(error),
        _ => None,
    })
}

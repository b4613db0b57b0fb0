//! Every sentence, and that it is the right one.

use std::{net::SocketAddr, time::Duration};

use echoic_core::endpoint::UnixName;
use echoic_wire::eyeballs::{Answer, Family, LookupFailure};
use rstest::rstest;

use super::*;
use crate::probe::{Attempt, Dns, DnsAnswer, DnsFailure};

const EACH: Duration = Duration::from_secs(5);

fn report(endpoint: &str, tries: Vec<(&str, AttemptOutcome)>) -> Report {
    let mut report = Report::new(endpoint.parse().unwrap(), EACH);
    report.tries = tries
        .into_iter()
        .map(|(address, outcome)| Attempt {
            address: address.parse().unwrap(),
            started: Duration::ZERO,
            ended: Duration::from_millis(12),
            outcome,
        })
        .collect();
    report
}

fn connected() -> AttemptOutcome {
    AttemptOutcome::Connected {
        local: None,
        mss: None,
    }
}

fn failed(kind: io::ErrorKind) -> AttemptOutcome {
    AttemptOutcome::Failed(kind.into())
}

fn refused() -> AttemptOutcome {
    failed(io::ErrorKind::ConnectionRefused)
}

#[track_caller]
fn assert_verdict(report: &Report, state: State, parts: &[&str]) {
    let verdict = report.verdict();
    assert_eq!(verdict.state, state, "{}", verdict.sentence);
    for part in parts {
        assert!(
            verdict.sentence.contains(part),
            "no {part:?} in: {}",
            verdict.sentence
        );
    }
    assert!(
        !verdict.sentence.contains(char::is_control),
        "{}",
        verdict.sentence
    );
    assert!(
        verdict.sentence.starts_with(state.word()),
        "{}",
        verdict.sentence
    );
}

#[test]
fn connecting_address_is_reachable() {
    let report = report("db.test:80", vec![("192.0.2.7:80", connected())]);
    assert_verdict(
        &report,
        State::Reachable,
        &["192.0.2.7:80 connects in 12 ms"],
    );
}

#[test]
fn localhost_resolving_to_ipv6_first_is_reported() {
    let report = report(
        "localhost:80",
        vec![("[::1]:80", refused()), ("127.0.0.1:80", connected())],
    );
    assert_verdict(
        &report,
        State::Reachable,
        &[
            "localhost gave ::1 first, and the server is v4-only",
            "connect to 127.0.0.1",
        ],
    );
}

#[test]
fn single_family_is_reported_with_why_the_other_failed() {
    let of = |six| {
        report(
            "db.test:80",
            vec![("[2001:db8::7]:80", six), ("192.0.2.7:80", connected())],
        )
    };
    assert_verdict(
        &of(refused()),
        State::Reachable,
        &[
            "over IPv4 only",
            "[2001:db8::7]:80 refused",
            "listen on IPv6 too",
        ],
    );
    assert_verdict(
        &of(AttemptOutcome::Silent),
        State::Reachable,
        &["over IPv4 only", "gave no answer within 5 s"],
    );
    assert_verdict(
        &of(AttemptOutcome::Overtaken),
        State::Reachable,
        &["over IPv4, at", "had not answered by then"],
    );
    let advice = |outcome| of(outcome).verdict().advice;
    assert_eq!(advice(AttemptOutcome::Overtaken), Some(Advice::EachAlone));
    assert_eq!(advice(AttemptOutcome::Silent), None);
    assert_verdict(
        &of(failed(io::ErrorKind::NetworkUnreachable)),
        State::Reachable,
        &["this machine has no route to IPv6"],
    );
    let six_only = report(
        "db.test:80",
        vec![
            ("[2001:db8::7]:80", connected()),
            ("192.0.2.7:80", refused()),
        ],
    );
    assert_verdict(
        &six_only,
        State::Reachable,
        &["over IPv6 only", "192.0.2.7:80 refused"],
    );
}

#[test]
fn failing_addresses_are_listed_and_counted() {
    let addrs: Vec<String> = (1..=6).map(|n| format!("192.0.2.{n}:80")).collect();
    let mut tries: Vec<_> = addrs
        .iter()
        .map(|addr| (addr.as_str(), refused()))
        .collect();
    tries[0].1 = connected();
    assert_verdict(
        &report("db.test:80", tries),
        State::Reachable,
        &[
            "192.0.2.1:80 connects",
            "192.0.2.2:80, 192.0.2.3:80, 192.0.2.4:80 and 2 more do not",
        ],
    );
}

#[test]
fn address_that_answered_once_is_reachable() {
    let tries = vec![
        ("192.0.2.7:80", AttemptOutcome::Silent),
        ("192.0.2.7:80", connected()),
    ];
    assert_verdict(
        &report("192.0.2.7:80", tries),
        State::Reachable,
        &["connects in 12 ms"],
    );
}

#[rstest]
#[case(
    refused(),
    State::Refused,
    "nothing listens on that port, or a firewall rejects it; start the server"
)]
#[case(
    AttemptOutcome::Silent,
    State::Filtered,
    "no answer from 192.0.2.7:80 within 5 s, so it is filtered, or the host is down"
)]
#[case(
    failed(io::ErrorKind::NetworkUnreachable),
    State::Unreachable,
    "no route to 192.0.2.7:80; look at `ip route`"
)]
#[case(
    failed(io::ErrorKind::HostUnreachable),
    State::Unreachable,
    "no route to that host"
)]
#[case(
    failed(io::ErrorKind::AddrNotAvailable),
    State::Unreachable,
    "no source address for 192.0.2.7:80"
)]
#[case(
    failed(io::ErrorKind::PermissionDenied),
    State::Unreachable,
    "a firewall rule of this machine forbids"
)]
#[case(
    failed(io::ErrorKind::OutOfMemory),
    State::Unreachable,
    "192.0.2.7:80: out of memory"
)]
fn connect_failures_are_distinguished(
    #[case] outcome: AttemptOutcome,
    #[case] state: State,
    #[case] part: &str,
) {
    assert_verdict(
        &report("192.0.2.7:80", vec![("192.0.2.7:80", outcome)]),
        state,
        &[part],
    );
}

#[test]
fn short_timeout_is_not_reported_as_filtered() {
    let mut report = report(
        "192.0.2.7:80",
        vec![("192.0.2.7:80", AttemptOutcome::Silent)],
    );
    report.timeout = Duration::from_millis(300);
    assert_verdict(&report, State::TimedOut, &["within 300 ms, too short"]);
    assert_eq!(report.verdict().advice, Some(Advice::Longer));
    report.timeout = Duration::from_secs(5);
    assert_eq!(report.verdict().advice, None);
}

#[test]
fn timeout_on_loopback_is_reported_as_a_full_backlog() {
    assert_verdict(
        &report(":80", vec![("127.0.0.1:80", AttemptOutcome::Silent)]),
        State::TimedOut,
        &["its queue is full", "`ss -ltn`"],
    );
}

#[test]
fn mixed_timeout_and_errors_are_both_reported() {
    let tries = vec![
        (
            "[2001:db8::7]:80",
            failed(io::ErrorKind::NetworkUnreachable),
        ),
        ("192.0.2.7:80", refused()),
        ("192.0.2.8:80", AttemptOutcome::Silent),
    ];
    assert_verdict(
        &report("db.test:80", tries),
        State::Filtered,
        &[
            "no answer from 192.0.2.8:80",
            "(192.0.2.7:80 refused, [2001:db8::7]:80 is unreachable)",
        ],
    );
}

#[test]
fn udp_state_is_open_closed_or_silent_never_reachable() {
    let of = |outcome| report("udp://192.0.2.7:9", vec![("192.0.2.7:9", outcome)]);
    assert_verdict(
        &of(AttemptOutcome::Replied { bytes: 3 }),
        State::Open,
        &["192.0.2.7:9 replied with 3 bytes after 12 ms"],
    );
    assert_verdict(
        &of(AttemptOutcome::Replied { bytes: 1 }),
        State::Open,
        &["192.0.2.7:9 replied with 1 byte after 12 ms"],
    );
    assert_verdict(
        &of(refused()),
        State::Closed,
        &["reported a closed port (ICMP port unreachable)"],
    );
    assert_verdict(
        &of(AttemptOutcome::Silent),
        State::Silent,
        &["nothing came back", "or a filter is"],
    );
    assert_verdict(
        &of(failed(io::ErrorKind::PermissionDenied)),
        State::Unreachable,
        &["a firewall rule of this machine"],
    );
}

#[rstest]
#[case(
    "unix:/x",
    AttemptOutcome::Silent,
    State::TimedOut,
    "its queue is full"
)]
#[case("unix:/x", refused(), State::Refused, "nothing listens at unix:/x")]
#[case(
    "unix:/x",
    failed(io::ErrorKind::NotFound),
    State::Refused,
    "there is nothing at unix:/x"
)]
#[case(
    "unix:/x",
    failed(io::ErrorKind::PermissionDenied),
    State::Refused,
    "this user may not connect to"
)]
#[case(
    "unix:/x",
    AttemptOutcome::Failed(io::Error::from_raw_os_error(91)),
    State::Refused,
    "probe unixgram: instead"
)]
#[case(
    "unixgram:/x",
    AttemptOutcome::Failed(io::Error::from_raw_os_error(91)),
    State::Refused,
    "probe unix: instead"
)]
#[case("unixgram:/x", connected(), State::Reachable, "nothing was sent")]
fn unix_socket_states_have_their_own_sentences(
    #[case] endpoint: &str,
    #[case] outcome: AttemptOutcome,
    #[case] state: State,
    #[case] part: &str,
) {
    assert_verdict(
        &report(endpoint, vec![("unix:/x", outcome)]),
        state,
        &[part],
    );
}

#[test]
fn control_characters_in_a_path_are_escaped() {
    let mut report = report("unix:/x", vec![("unix:/x", refused())]);
    let name = UnixName::Path("/tmp/\u{1b}]0;x\u{7}\n\u{202e}".into());
    report.tries[0].address = Address::Unix(Some(name));
    assert_verdict(
        &report,
        State::Refused,
        &[r"unix:/tmp/\x1b]0;x\x07\n\u{202e}: "],
    );
}

fn unresolved(missing: fn() -> LookupFailure, dns: Option<[DnsFailure; 2]>) -> Report {
    let mut report = report("db.test:80", vec![]);
    let answer = |family| Answer {
        family,
        at: Duration::ZERO,
        found: Err(missing()),
    };
    report.names = Family::BOTH.map(answer).into();
    report.dns = dns.map(|failures| Dns {
        servers: vec![[192, 0, 2, 53].into()],
        answers: ["AAAA", "A"]
            .into_iter()
            .zip(failures)
            .map(|(kind, failure)| DnsAnswer {
                kind,
                took: Duration::ZERO,
                found: Err(failure),
            })
            .collect(),
    });
    report
}

#[rstest]
#[case(|| LookupFailure::NoName, Some(DnsFailure::NoName), "there is no such name as db.test (NXDOMAIN)")]
#[case(|| LookupFailure::NoName, None, "there is no such name as db.test (the resolver says)")]
#[case(|| LookupFailure::NoAddress(Family::V4), Some(DnsFailure::NoRecord), "neither AAAA nor A")]
#[case(|| LookupFailure::NoAddress(Family::V4), None, "neither AAAA nor A")]
#[case(|| LookupFailure::TryAgain, Some(DnsFailure::Code("SERVFAIL".into())), "the resolver failed (SERVFAIL from 192.0.2.53)")]
#[case(|| LookupFailure::TryAgain, Some(DnsFailure::Unasked("io error".into())), "the resolver failed (io error from 192.0.2.53)")]
#[case(|| LookupFailure::TimedOut, Some(DnsFailure::Silent), "the resolver is silent, 192.0.2.53 gave no answer for db.test within 5 s")]
#[case(|| LookupFailure::TimedOut, None, "the resolver is silent, the resolver gave no answer")]
#[case(|| LookupFailure::TryAgain, Some(DnsFailure::Closed), "no name server listens at 192.0.2.53 (UDP port 53 is closed)")]
#[case(|| LookupFailure::TryAgain, None, "failed or got no answer")]
#[case(|| LookupFailure::Failed(io::Error::other("out of files")), None, "db.test: out of files")]
fn resolution_failures_are_distinguished(
    #[case] missing: fn() -> LookupFailure,
    #[case] dns: Option<DnsFailure>,
    #[case] part: &str,
) {
    assert_verdict(
        &unresolved(missing, dns.map(|failure| [failure.clone(), failure])),
        State::NotResolved,
        &[part],
    );
}

#[test]
fn dns_records_hidden_by_the_system_are_reported() {
    let mut report = unresolved(
        || LookupFailure::NoName,
        Some([DnsFailure::NoRecord, DnsFailure::NoRecord]),
    );
    report.dns.as_mut().unwrap().answers[1].found = Ok(vec![]);
    assert_verdict(
        &report,
        State::NotResolved,
        &["the DNS has addresses for db.test", "nsswitch.conf"],
    );
}

#[test]
fn wait_time_and_tries_are_reported() {
    let mut report = report("192.0.2.7:80", vec![("192.0.2.7:80", refused())]);
    (report.rounds, report.waited) = (40, Some(Duration::from_secs(10)));
    assert_verdict(
        &report,
        State::Refused,
        &["(still so at try 40, after 10 s)"],
    );
    report.tries[0].outcome = connected();
    assert_verdict(&report, State::Reachable, &["(at try 40, after 10 s)"]);
    let addr: SocketAddr = "192.0.2.7:80".parse().unwrap();
    assert_eq!(report.by_address()[0].address, &Address::from(addr));
}

//! Checks whether an endpoint can be reached, and if not, why.
//!
//! [`probe()`] measures and prints nothing. Its result is a [`Report`], and the interpretation of that is a [`Verdict`].

mod datagram;
mod dns;
mod options;
mod report;
mod service;
mod stream;
mod tls;
mod verdict;

use std::time::Duration;

use echoic_core::{
    endpoint::{Endpoint, Host, HostPort},
    event::Address,
};
use echoic_wire::{eyeballs::LookupFailure, resolve};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

pub use self::{
    dns::{Dns, DnsAnswer, DnsFailure, DnsRecord},
    options::ProbeOptions,
    report::{Attempt, AttemptOutcome, MinMedianMax, Report, Summary, figure},
    service::{ServiceAnswer, ServiceCheck, ServiceFailure},
    tls::{TlsAnswer, TlsCheck, TlsFailure},
    verdict::{Advice, State, Verdict},
};

/// Time by which a round may pass the deadline of the wait, so that it tells what had no answer by then.
const GRACE: Duration = Duration::from_millis(200);

/// Time between the starts of two rounds while waiting for the endpoint.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// The last round starts this long before the end of the wait, so that the wait is used to its end.
const LAST_ROUND: Duration = Duration::from_millis(50);

/// Pause after an unexpected answer, before the service is asked again over a new connection. It doubles with each round, so
/// that a service that sends its answer in parts has more time.
const ANSWER_PAUSE: Duration = Duration::from_secs(1);

/// Time limit for the name servers, which are queried in parallel with the resolver for details (TTL, response code), once
/// the resolver has returned addresses. Counted from the start of the probe.
const DNS_TIMEOUT: Duration = Duration::from_secs(1);

/// Time limit for the check whether the DNS ports are closed, which ICMP reports at once.
const PORT_CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// Tries to reach `endpoint`, once or until it can be reached.
///
/// Ends within the sum of the timeout for the name, the staggered starts of the race (250 ms for each address) and the
/// timeout for one address; with [`ProbeOptions::wait`], within that time, and 200 ms more if it ends during a round.
pub async fn probe(endpoint: &Endpoint, options: &ProbeOptions) -> Report {
    let began = Instant::now();
    let Some(wait) = options.wait else {
        return probe_once(endpoint, options).await;
    };
    let deadline = began + wait;
    // A wait that has no room for two rounds is one round.
    let last_round = if wait > RETRY_INTERVAL {
        deadline - LAST_ROUND
    } else {
        began
    };
    let mut answer_pause = ANSWER_PAUSE;
    let mut last: Option<Report> = None;
    for rounds in 1.. {
        let round = Instant::now();
        let left = deadline.saturating_duration_since(round);
        let cut_short = left < options.timeout;
        let options = ProbeOptions {
            timeout: options.timeout.min(left),
            answer_pause: Some(answer_pause),
            ..options.clone()
        };
        let found = timeout(left + GRACE, probe_once(endpoint, &options)).await;
        let found = found.ok();
        let over = found.as_ref().is_some_and(Report::is_ready) || Instant::now() >= last_round;
        // A round that was cut short by the end of the wait has less information than the one before.
        let mut report = match (found, last.take()) {
            (Some(found), Some(last)) if cut_short && found.was_cut() => last,
            (Some(found), _) => found,
            (None, Some(last)) => last,
            (None, None) => silent(endpoint, &options).await,
        };
        report.rounds = rounds;
        report.waited = Some(began.elapsed());
        if over {
            return report;
        }
        last = Some(report);
        answer_pause = answer_pause.saturating_mul(2);
        sleep_until((round + RETRY_INTERVAL).min(last_round)).await;
    }
    unreachable!("invariant: the loop only ends by return")
}

/// Returns the report of a round that ended before it had any result: no address that needs no lookup has answered.
async fn silent(endpoint: &Endpoint, options: &ProbeOptions) -> Report {
    let addresses = match endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at)
            if !matches!(at.host, Host::Name(_)) =>
        {
            let addrs = resolve(at, options.timeout).await.unwrap_or_default();
            addrs.into_iter().map(Address::from).collect()
        }
        Endpoint::Unix(name) | Endpoint::Unixgram(name) => vec![Address::Unix(Some(name.clone()))],
        Endpoint::Tcp(_) | Endpoint::Udp(_) | Endpoint::Tls(_) | Endpoint::Fd(_) => vec![],
    };
    let tries = addresses.into_iter().map(|address| Attempt {
        address,
        started: Duration::ZERO,
        ended: options.timeout,
        outcome: AttemptOutcome::Silent,
    });
    let mut report = Report::new(endpoint.clone(), options.timeout);
    report.took = options.timeout;
    report.tries = tries.collect();
    report
}

async fn probe_once(endpoint: &Endpoint, options: &ProbeOptions) -> Report {
    let began = Instant::now();
    let mut report = Report::new(endpoint.clone(), options.timeout);
    match (endpoint, &options.check) {
        (Endpoint::Udp(at), Some(check)) => {
            for addr in stream::addresses(at, options, began, &mut report).await {
                let endpoint = Endpoint::Udp(addr.into());
                service::dial_and_ask(&endpoint, check, options, began, &mut report).await;
                if report.is_ready() {
                    break;
                }
            }
        }
        (Endpoint::Unix(_) | Endpoint::Unixgram(_), Some(check)) => {
            service::dial_and_ask(endpoint, check, options, began, &mut report).await;
        }
        _ => return probe_addresses(report, options, began).await,
    }
    report.took = began.elapsed();
    report
}

/// Tries the addresses of the report's endpoint.
async fn probe_addresses(mut report: Report, options: &ProbeOptions, began: Instant) -> Report {
    let endpoint = &report.endpoint.clone();
    match endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at) => {
            let query = dns_name(at).map(|name| tokio::spawn(dns::query(name, options.timeout)));
            if matches!(endpoint, Endpoint::Udp(_)) {
                datagram::probe(at, options, began, &mut report).await;
            } else if options.all {
                stream::connect_each(at, options, began, &mut report).await;
            } else {
                stream::race_addresses(at, options, began, &mut report).await;
            }
            if let Some(query) = query {
                report.dns = dns_answers(query, &report, began).await;
            }
        }
        Endpoint::Unix(name) | Endpoint::Unixgram(name) => {
            stream::unix(endpoint, name, options, began, &mut report).await;
        }
        Endpoint::Fd(_) => {}
    }
    report.took = began.elapsed();
    report
}

/// Waits for the answers of the name servers, within the applicable time limit.
async fn dns_answers(
    mut query: JoinHandle<Option<Dns>>,
    report: &Report,
    began: Instant,
) -> Option<Dns> {
    let resolved = report.names.iter().any(|answer| answer.found.is_ok());
    let failed = report
        .names
        .iter()
        .any(|answer| matches!(answer.found, Err(LookupFailure::TryAgain)));
    if failed && !resolved {
        let servers = dns::servers();
        let ports = servers.iter().map(|server| (*server, 53).into());
        if datagram::all_closed(ports.collect(), PORT_CHECK_TIMEOUT.min(report.timeout)).await {
            query.abort();
            return Some(Dns::closed(servers, began.elapsed()));
        }
    }
    let limit = if resolved {
        DNS_TIMEOUT
    } else {
        report.timeout + RETRY_INTERVAL
    };
    let left = (began + limit).saturating_duration_since(Instant::now());
    let answered = timeout(left, &mut query).await;
    query.abort();
    answered.ok()?.ok()?
}

/// Returns the host name if it may be sent to name servers: `localhost` must not leave the machine (RFC 6761).
fn dns_name(at: &HostPort) -> Option<String> {
    let Host::Name(name) = &at.host else {
        return None;
    };
    let last = name
        .trim_end_matches('.')
        .rsplit('.')
        .next()
        .unwrap_or_default();
    (!last.eq_ignore_ascii_case("localhost")).then(|| name.clone())
}

//! Can an endpoint be reached, and if not, why.
//!
//! [`probe()`] measures and says nothing; what it found is a [`Report`], and what that means is its [`Verdict`].

mod datagram;
mod dns;
mod options;
mod report;
mod stream;
mod verdict;

use std::time::Duration;

use echoic_core::endpoint::{Endpoint, Host, HostPort};
use echoic_wire::eyeballs::Missing;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

pub use self::{
    dns::{Dns, DnsAnswer, DnsFailure, DnsRecord},
    options::ProbeOptions,
    report::{Attempt, AttemptOutcome, Report, Span, Summary, figure},
    verdict::{Advice, State, Verdict},
};

/// From the start of one try of the whole to that of the next, while waiting.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Name servers are asked beside the resolver, for what they know besides. Once the resolver has given addresses they
/// are not waited for longer than this, counted from the beginning.
const DNS_TIMEOUT: Duration = Duration::from_secs(1);

/// Name servers that are there answer within this, or never; those that are not are told of at once.
const PORT_CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// Tries to reach `endpoint`, once or until it can be reached.
///
/// Ends within the time for the name, the starts of the race (a quarter of a second for each address) and the time
/// for one address; with [`ProbeOptions::wait`] within that.
pub async fn probe(endpoint: &Endpoint, options: &ProbeOptions) -> Report {
    let began = Instant::now();
    let Some(wait) = options.wait else {
        return once(endpoint, options).await;
    };
    let deadline = began + wait;
    let mut last: Option<Report> = None;
    for rounds in 1.. {
        let round = Instant::now();
        let left = deadline.saturating_duration_since(round);
        let cut_short = left < options.timeout;
        let options = ProbeOptions {
            timeout: options.timeout.min(left),
            ..options.clone()
        };
        let found = timeout(left, once(endpoint, &options)).await.ok();
        let over = found.as_ref().is_some_and(Report::is_reachable)
            || Instant::now() + RETRY_INTERVAL >= deadline;
        // A round that the end of the wait has cut short knows less than the one before.
        let mut report = match (found, last.take()) {
            (Some(found), Some(last)) if cut_short && found.is_silent() => last,
            (Some(found), _) => found,
            (None, Some(last)) => last,
            (None, None) => Report::silent(endpoint.clone(), &options),
        };
        report.rounds = rounds;
        report.waited = Some(began.elapsed());
        if over {
            return report;
        }
        last = Some(report);
        sleep_until(round + RETRY_INTERVAL).await;
    }
    unreachable!("invariant: the loop has no end of its own")
}

async fn once(endpoint: &Endpoint, options: &ProbeOptions) -> Report {
    let began = Instant::now();
    let mut report = Report::new(endpoint.clone(), options.timeout);
    match endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) => {
            let asked = dns_name(at).map(|name| tokio::spawn(dns::ask(name, options.timeout)));
            if matches!(endpoint, Endpoint::Udp(_)) {
                datagram::probe(at, options, began, &mut report).await;
            } else if options.all {
                stream::connect_each(at, options, began, &mut report).await;
            } else {
                stream::race_addresses(at, options, began, &mut report).await;
            }
            if let Some(asked) = asked {
                report.dns = records(asked, &report, began).await;
            }
        }
        Endpoint::Unix(name) => stream::unix(name, options, began, &mut report).await,
        Endpoint::Unixgram(name) => datagram::unix(name, began, &mut report),
        Endpoint::Fd(_) => {}
    }
    report.took = began.elapsed();
    report
}

/// What the name servers said, as long as it is worth waiting for.
async fn records(
    mut asked: JoinHandle<Option<Dns>>,
    report: &Report,
    began: Instant,
) -> Option<Dns> {
    let resolved = report.names.iter().any(|answer| answer.found.is_ok());
    let failed = report
        .names
        .iter()
        .any(|answer| matches!(answer.found, Err(Missing::Again)));
    if failed && !resolved {
        let servers = dns::servers();
        let ports = servers.iter().map(|server| (*server, 53).into());
        if datagram::all_closed(ports.collect(), PORT_CHECK_TIMEOUT.min(report.timeout)).await {
            asked.abort();
            return Some(Dns::closed(servers, began.elapsed()));
        }
    }
    let patience = if resolved {
        DNS_TIMEOUT
    } else {
        report.timeout + RETRY_INTERVAL
    };
    let left = (began + patience).saturating_duration_since(Instant::now());
    let answered = timeout(left, &mut asked).await;
    asked.abort();
    answered.ok()?.ok()?
}

/// The name, if there is one that name servers may be asked for: `localhost` never leaves the machine (RFC 6761).
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

//! Probes of stream sockets: the race of the addresses of a name, each address on its own, and Unix sockets.

use std::{collections::VecDeque, io, net::SocketAddr};

use echoic_core::{
    endpoint::{Endpoint, Host, HostPort, UnixName},
    event::Address,
};
use echoic_wire::{
    DialError, DialOptions, Link, dial,
    eyeballs::{Answer, Delays, Family, RaceOptions, attempt, lookup_family, race},
    resolve,
};
use tokio::{task::JoinSet, time::Instant};

use super::{
    options::ProbeOptions,
    report::{Attempt, AttemptOutcome, Report},
    service::ServiceFailure,
    tls::wait_for_refusal,
};

/// Maximum number of addresses tried in parallel.
const PARALLEL_MAX: usize = 32;

/// Maximum number of addresses that the time limit of a race allows for; names have fewer.
const TURNS_MAX: u32 = 64;

/// Races the addresses as other programs do, then tries the winner again up to the requested count.
pub(super) async fn race_addresses(
    at: &HostPort,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) {
    let ProbeOptions {
        timeout, explain, ..
    } = options;
    let pace = Delays::default();
    let within = *timeout * 2 + pace.attempt * TURNS_MAX;
    let race_options = RaceOptions {
        timeout: within,
        attempt_timeout: *timeout,
        delays: pace,
        explain: explain.clone(),
    };
    let race = race(at, &race_options).await;
    let winner = race
        .won
        .as_ref()
        .map(|(number, _)| race.attempts[*number].addr);
    let link = race.won.map(|(_, link)| link);
    report.names = race.answers;
    report.tries = race.attempts.into_iter().map(Attempt::from).collect();
    report.untried = race.untried;
    if let (Some(addr), Some(link)) = (winner, link)
        && (options.check.is_some() || options.tls.is_some())
    {
        talk(link, addr, options, began, report).await;
    }
    if let Some(winner) = winner
        && options.check.is_none()
    {
        for _ in 1..options.count {
            let (tried, link) = attempt(winner, *timeout, began, explain.as_ref()).await;
            drop(link);
            report.tries.push(tried.into());
        }
    }
}

/// Opens TLS over a connection and asks the service, as far as the options say.
async fn talk(
    link: Link,
    addr: SocketAddr,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) {
    let mut link = link;
    let mut handshake = None;
    if let Some(tls) = &options.tls {
        let deadline = Instant::now() + options.timeout;
        let (mut answer, opened) = tls.open(link, addr.into(), deadline, began).await;
        let Some(opened) = opened else {
            report.tls.push(answer);
            return;
        };
        link = opened;
        if options.check.is_none() {
            wait_for_refusal(&mut answer, &mut link).await;
        }
        handshake = Some(answer);
    }
    if let Some(check) = &options.check {
        let deadline = Instant::now() + options.timeout;
        let answer = check.ask(link, deadline, options.answer_pause).await;
        let is_refused = match (&mut handshake, &answer.failure) {
            (Some(handshake), Some(ServiceFailure::Failed(error))) => handshake.refuse_by(error),
            _ => false,
        };
        report.answer = (!is_refused).then_some(answer);
    }
    report.tls.extend(handshake);
}

/// Tries every address on its own, all in parallel.
pub(super) async fn connect_each(
    at: &HostPort,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) {
    for round in 0..options.count {
        let addrs = if report.tries.is_empty() {
            addresses(at, options, began, report).await
        } else {
            tried_addresses(report)
        };
        let mut waiting: VecDeque<SocketAddr> = addrs.into();
        let mut tasks = JoinSet::new();
        let mut tries: Vec<Attempt> = vec![];
        loop {
            while tasks.len() < PARALLEL_MAX
                && let Some(addr) = waiting.pop_front()
            {
                let (timeout, explain) = (options.timeout, options.explain.clone());
                tasks.spawn(async move { attempt(addr, timeout, began, explain.as_ref()).await.0 });
            }
            match tasks.join_next().await {
                Some(Ok(tried)) => tries.push(tried.into()),
                Some(Err(broken)) => resume(broken),
                None => break,
            }
        }
        tries.sort_by_key(|tried| tried.started);
        report.tries.append(&mut tries);
        // One handshake each, after the connections, whose times it would change.
        if round == 0 && options.tls.is_some() {
            for addr in good_addresses(report) {
                let (_, link) =
                    attempt(addr, options.timeout, began, options.explain.as_ref()).await;
                if let Some(link) = link {
                    talk(link, addr, options, began, report).await;
                }
            }
        }
    }
}

/// Returns the addresses that connected.
fn good_addresses(report: &Report) -> Vec<SocketAddr> {
    let addresses = report.by_address();
    let good = addresses.iter().filter(|summary| summary.good > 0);
    let addrs = good.filter_map(|summary| match summary.address {
        Address::Net(addr) => Some(*addr),
        Address::Unix(_) => None,
    });
    addrs.collect()
}

/// Resolves `at` for both address families and records the answers in the report.
pub(super) async fn addresses(
    at: &HostPort,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) -> Vec<SocketAddr> {
    let Host::Name(name) = &at.host else {
        return resolve(at, options.timeout).await.unwrap_or_default();
    };
    let look_up_family = async |family| {
        let explain = options.explain.as_ref();
        let found = lookup_family(name, at.port, family, options.timeout, explain).await;
        Answer {
            family,
            at: began.elapsed(),
            found,
        }
    };
    let (six, four) = tokio::join!(look_up_family(Family::V6), look_up_family(Family::V4));
    report.names = vec![six, four];
    report.names.sort_by_key(|answer| answer.at);
    let found = report
        .names
        .iter()
        .filter_map(|answer| answer.found.as_deref().ok());
    found.flatten().copied().collect()
}

/// Returns the addresses that were tried.
fn tried_addresses(report: &Report) -> Vec<SocketAddr> {
    let addresses = report.by_address();
    let addrs = addresses
        .iter()
        .filter_map(|summary| match summary.address {
            Address::Net(addr) => Some(*addr),
            Address::Unix(_) => None,
        });
    addrs.collect()
}

/// Connects to a Unix socket, the requested number of times. Nothing is sent to one of datagrams.
pub(super) async fn unix(
    endpoint: &Endpoint,
    name: &UnixName,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) {
    let dial_options = DialOptions {
        timeout: options.timeout,
        explain: options.explain.clone(),
        ..DialOptions::default()
    };
    for _ in 0..options.count {
        let started = began.elapsed();
        let dialled = dial(endpoint, &dial_options).await;
        let ended = began.elapsed();
        let outcome = match dialled {
            Ok(dialled) => AttemptOutcome::Connected {
                local: dialled.link.local(),
                mss: None,
            },
            Err(DialError::TimedOut { .. }) => AttemptOutcome::Silent,
            Err(DialError::Refused { attempts, .. }) => {
                let why = attempts.into_iter().next().map(|attempt| attempt.error);
                AttemptOutcome::Failed(
                    why.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()),
                )
            }
            Err(error) => AttemptOutcome::Failed(io::Error::other(error)),
        };
        let address = Address::Unix(Some(name.clone()));
        report.tries.push(Attempt {
            address,
            started,
            ended,
            outcome,
        });
    }
}

/// Resumes the panic of a task; tasks never fail otherwise.
pub(super) fn resume(broken: tokio::task::JoinError) {
    if let Ok(panic) = broken.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}

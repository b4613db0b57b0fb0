//! Streams: the race for a name, every address alone, and Unix sockets.

use std::{collections::VecDeque, io, net::SocketAddr};

use echoic_core::{
    endpoint::{Endpoint, Host, HostPort, UnixName},
    event::Address,
};
use echoic_wire::{
    DialError, DialOptions, dial,
    eyeballs::{Answer, Family, Pace, RaceOptions, call, look_up, race},
    resolve,
};
use tokio::{task::JoinSet, time::Instant};

use super::{
    options::ProbeOptions,
    report::{Attempt, AttemptOutcome, Report},
};

/// Addresses tried at a time.
const AT_A_TIME: usize = 32;

/// A race lasts no longer than if so many addresses were silent, one after the other: names have fewer.
const TURNS_MAX: u32 = 64;

/// As other programs do it; then the winner again, as often as was asked for.
pub(super) async fn race_addresses(
    at: &HostPort,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) {
    let ProbeOptions {
        timeout, explain, ..
    } = options;
    let pace = Pace::default();
    let within = *timeout * 2 + pace.attempt * TURNS_MAX;
    let race_options = RaceOptions {
        within,
        each: *timeout,
        pace,
        explain: explain.clone(),
    };
    let race = race(at, &race_options).await;
    let winner = race
        .won
        .as_ref()
        .map(|(number, _)| race.tries[*number].addr);
    drop(race.won);
    report.names = race.answers;
    report.tries = race.tries.into_iter().map(Attempt::from).collect();
    report.untried = race.untried;
    if let Some(winner) = winner {
        for _ in 1..options.count {
            let (tried, link) = call(winner, *timeout, began, explain.as_ref()).await;
            drop(link);
            report.tries.push(tried.into());
        }
    }
}

/// Every address on its own, whatever becomes of the others; all of them at the same time.
pub(super) async fn connect_each(
    at: &HostPort,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) {
    for _ in 0..options.count {
        let addrs = if report.tries.is_empty() {
            addresses(at, options, began, report).await
        } else {
            known(report)
        };
        let mut waiting: VecDeque<SocketAddr> = addrs.into();
        let mut under_way = JoinSet::new();
        let mut tries: Vec<Attempt> = vec![];
        loop {
            while under_way.len() < AT_A_TIME
                && let Some(addr) = waiting.pop_front()
            {
                let (timeout, explain) = (options.timeout, options.explain.clone());
                under_way
                    .spawn(async move { call(addr, timeout, began, explain.as_ref()).await.0 });
            }
            match under_way.join_next().await {
                Some(Ok(tried)) => tries.push(tried.into()),
                Some(Err(broken)) => resume(broken),
                None => break,
            }
        }
        tries.sort_by_key(|tried| tried.started);
        report.tries.append(&mut tries);
    }
}

/// The addresses of `at`, both families; what was said of them goes into the report.
pub(super) async fn addresses(
    at: &HostPort,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) -> Vec<SocketAddr> {
    let Host::Name(name) = &at.host else {
        return resolve(at, options.timeout).await.unwrap_or_default();
    };
    let ask = async |family| {
        let explain = options.explain.as_ref();
        let found = look_up(name, at.port, family, options.timeout, explain).await;
        Answer {
            family,
            at: began.elapsed(),
            found,
        }
    };
    let (six, four) = tokio::join!(ask(Family::V6), ask(Family::V4));
    report.names = vec![six, four];
    report.names.sort_by_key(|answer| answer.at);
    let found = report
        .names
        .iter()
        .filter_map(|answer| answer.found.as_deref().ok());
    found.flatten().copied().collect()
}

/// The addresses that were tried.
fn known(report: &Report) -> Vec<SocketAddr> {
    let addresses = report.by_address();
    let addrs = addresses
        .iter()
        .filter_map(|summary| match summary.address {
            Address::Net(addr) => Some(*addr),
            Address::Unix(_) => None,
        });
    addrs.collect()
}

/// A Unix stream socket, as often as was asked for.
pub(super) async fn unix(
    name: &UnixName,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) {
    let endpoint = Endpoint::Unix(name.clone());
    let dial_options = DialOptions {
        within: options.timeout,
        explain: options.explain.clone(),
        ..DialOptions::default()
    };
    for _ in 0..options.count {
        let started = began.elapsed();
        let dialled = dial(&endpoint, &dial_options).await;
        let ended = began.elapsed();
        let outcome = match dialled {
            Ok(dialled) => AttemptOutcome::Connected {
                local: dialled.link.local(),
                mss: None,
            },
            Err(DialError::TimedOut { .. }) => AttemptOutcome::Silent,
            Err(DialError::Refused { attempts, .. }) => {
                let why = attempts.into_iter().next().map(|attempt| attempt.why);
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

/// A task is only ever ended by its own panic, which goes on here.
pub(super) fn resume(broken: tokio::task::JoinError) {
    if let Ok(panic) = broken.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}

//! Recorded traffic as a workload: the requests of a store, at their original pace or another.

use std::{str::FromStr, sync::Arc};

use echoic_core::{
    event::Micros,
    filter::Filter,
    framing::Framing,
    store::{Order, Page, Store, StoreError},
    units::{decimal, quoted},
};
use thiserror::Error;

use super::{Load, Template, Undivided, Workload, divide};

/// Maximum number of requests read from a store.
const MESSAGES_MAX: usize = 1_000_000;
/// Number of exchanges per page.
const PAGE: usize = 500;

/// When recorded requests are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// At the recorded times, accelerated by this factor.
    Times(f64),
    /// In a closed loop.
    Max,
}

/// Error from parsing a pace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid pace {}: expected real, max, or a factor from 0.001x to 1000x such as 2x", quoted(.0))]
pub struct InvalidPace(String);

impl FromStr for Pace {
    type Err = InvalidPace;

    /// Parses `real`, `max`, or a factor such as `2x`.
    fn from_str(text: &str) -> Result<Self, InvalidPace> {
        let times = match &*text.to_ascii_lowercase() {
            "real" => return Ok(Self::Times(1.0)),
            "max" => return Ok(Self::Max),
            times => times.strip_suffix('x').and_then(decimal),
        };
        times
            .filter(|times| (0.001..=1000.0).contains(times))
            .map(Self::Times)
            .ok_or_else(|| InvalidPace(text.to_owned()))
    }
}

/// The requests of a store.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The requests.
    pub workload: Workload,
    /// Their due times.
    pub load: Load,
    /// Number of messages.
    pub count: u64,
}

/// Error that leaves no requests to replay.
#[derive(Debug, Error)]
pub enum RecordedError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request does not consist of complete messages.
    #[error("a recorded request is {0}")]
    Undivided(#[from] Undivided),
    /// No exchange matches.
    #[error("no exchange with a request matches {0}")]
    Nothing(Filter),
}

impl Recorded {
    /// Reads the requests that match `filter`, oldest first, each divided into messages by the framing. `now` is the reference
    /// time of `since:10m`.
    pub async fn read(
        store: &dyn Store,
        filter: &Filter,
        now: Micros,
        framing: Framing,
        pace: Pace,
    ) -> Result<Self, RecordedError> {
        let found = requests(store, filter, now).await?;
        let (mut messages, mut times) = (Vec::new(), Vec::new());
        let first = found.first().map_or(0, |(at, _)| *at);
        for (at, request) in found {
            let since = u64::try_from(at.saturating_sub(first)).unwrap_or(0) * 1000;
            for message in divide(&request, framing)? {
                messages.push(Template::literal(message));
                times.push(since);
            }
        }
        if messages.is_empty() {
            return Err(RecordedError::Nothing(filter.clone()));
        }
        times.sort_unstable();
        let count = messages.len() as u64;
        Ok(Self {
            workload: Workload::in_turn(messages),
            load: match pace {
                Pace::Max => Load::Closed,
                Pace::Times(factor) => {
                    let times = times.into_iter().map(|at| scaled(at, factor));
                    Load::Recorded(times.collect::<Arc<[u64]>>())
                }
            },
            count,
        })
    }
}

#[expect(clippy::cast_sign_loss, reason = "neither is below 0")]
fn scaled(nanos: u64, factor: f64) -> u64 {
    (nanos as f64 / factor) as u64
}

/// Reads the time of each request in microseconds, and its bytes, oldest first. `limit:N` selects the last N exchanges, as in
/// every list.
async fn requests(
    store: &dyn Store,
    filter: &Filter,
    now: Micros,
) -> Result<Vec<(Micros, Vec<u8>)>, StoreError> {
    let (order, limit) = match filter.limit() {
        Some(limit) => (Order::NewestFirst, limit),
        None => (Order::OldestFirst, u64::MAX),
    };
    let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut page = Page {
        order,
        beyond: None,
        until: None,
        limit: PAGE.min(left),
        now,
    };
    let mut requests = Vec::new();
    loop {
        let found = store.find(filter, page).await?;
        left -= found.exchanges.len();
        let exchanges = found
            .exchanges
            .into_iter()
            .filter(|exchange| !exchange.request.is_empty());
        requests.extend(exchanges.map(|exchange| (exchange.at, exchange.request)));
        if left == 0 || requests.len() >= MESSAGES_MAX || found.next.is_none() {
            break;
        }
        (page.beyond, page.limit) = (found.next, PAGE.min(left));
    }
    requests.truncate(MESSAGES_MAX);
    if order == Order::NewestFirst {
        requests.reverse();
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_parses_as_word_or_factor() {
        assert_eq!("real".parse(), Ok(Pace::Times(1.0)));
        assert_eq!("2.5x".parse(), Ok(Pace::Times(2.5)));
        assert_eq!("max".parse(), Ok(Pace::Max));
        for text in ["", "x", "0x", "2", "-1x"] {
            let refused = text.parse::<Pace>().unwrap_err();
            assert!(refused.to_string().contains("2x"), "{text}");
        }
    }
}

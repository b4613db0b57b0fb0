//! Recorded traffic as a workload: the requests of a store, at the pace they came or another.

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

/// Requests taken from a store at max.
const MESSAGES_MAX: usize = 1_000_000;
/// Exchanges fetched at a time.
const PAGE: usize = 500;

/// When recorded requests are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As they came, so many times as fast.
    Times(f64),
    /// As fast as replies come.
    Max,
}

/// No pace of that name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid pace {}: expected real, max, or a factor from 0.001x to 1000x such as 2x", quoted(.0))]
pub struct InvalidPace(String);

impl FromStr for Pace {
    type Err = InvalidPace;

    /// `real`, `max`, or how many times as fast: `2x`.
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
    /// What is said.
    pub workload: Workload,
    /// When it is due.
    pub load: Load,
    /// How many messages that are.
    pub count: u64,
}

/// LossReason there are no requests to say again.
#[derive(Debug, Error)]
pub enum RecordedError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request is not made of whole messages.
    #[error("a recorded request is {0}")]
    Undivided(#[from] Undivided),
    /// Nothing matches.
    #[error("no exchange with a request matches {0}")]
    Nothing(Filter),
}

impl Recorded {
    /// The requests that `filter` selects, oldest first, each divided by the framing into the messages it is of. `now` is
    /// what `since:10m` is reckoned from.
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

/// When each was asked, in microseconds, and what.
async fn requests(
    store: &dyn Store,
    filter: &Filter,
    now: Micros,
) -> Result<Vec<(Micros, Vec<u8>)>, StoreError> {
    let max = filter
        .limit()
        .map_or(MESSAGES_MAX, |limit| MESSAGES_MAX.min(limit as usize));
    let mut page = Page {
        order: Order::OldestFirst,
        beyond: None,
        limit: PAGE,
        now,
    };
    let mut requests = Vec::new();
    loop {
        let found = store.find(filter, page).await?;
        let exchanges = found
            .exchanges
            .into_iter()
            .filter(|exchange| !exchange.request.is_empty());
        requests.extend(exchanges.map(|exchange| (exchange.at, exchange.request)));
        if requests.len() >= max || found.next.is_none() {
            requests.truncate(max);
            return Ok(requests);
        }
        page.beyond = found.next;
    }
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

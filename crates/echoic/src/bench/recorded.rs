//! Recorded traffic as what is said.

use std::sync::Arc;

use echoic_client::bench::{Load, Template, Workload};
use echoic_core::{
    filter::Filter,
    framing::Framing,
    store::{Order, Page, Store, StoreError},
    units::{decimal, quoted},
};
use echoic_recorder::wall;
use tokio::runtime;

use super::said::divided;
use crate::memory::Place;

/// Requests taken from a record at most.
const MESSAGES_MAX: usize = 1_000_000;
/// Exchanges fetched at a time.
const PAGE: usize = 500;

/// When recorded requests are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// As they came, so many times as fast.
    Times(f64),
    /// As fast as replies come.
    Max,
}

/// Requests of a record.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) workload: Workload,
    pub(super) load: Load,
    pub(super) count: u64,
}

/// `real`, `max`, or how many times as fast: `2x`.
pub(super) fn pace(text: &str) -> Result<Pace, String> {
    let times = match &*text.to_ascii_lowercase() {
        "real" => return Ok(Pace::Times(1.0)),
        "max" => return Ok(Pace::Max),
        times => times.strip_suffix('x').and_then(decimal),
    };
    times
        .filter(|times| (0.001..=1000.0).contains(times))
        .map(Pace::Times)
        .ok_or_else(|| {
            format!(
                "invalid pace {}: expected real, max, or a factor from 0.001x to 1000x such as 2x",
                quoted(text)
            )
        })
}

/// The requests that `filter` selects, oldest first, each divided by the framing into the messages it is of.
pub(super) fn read(
    filter: &str,
    store: &str,
    framing: Framing,
    pace: Pace,
) -> Result<Recorded, String> {
    let filter = Filter::parse(filter).map_err(|error| error.to_string())?;
    let store = Place::parse(store).and_then(|place| place.open_to_read());
    let store = store.map_err(|failed| failed.why)?;
    let runtime = runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let found = runtime
        .block_on(all(&store, &filter))
        .map_err(|error| error.to_string())?;
    let (mut messages, mut times) = (Vec::new(), Vec::new());
    let first = found.first().map_or(0, |(at, _)| *at);
    for (at, request) in found {
        let since = u64::try_from(at.saturating_sub(first)).unwrap_or(0) * 1000;
        for message in divided(&request, framing)? {
            messages.push(Template::literal(message));
            times.push(since);
        }
    }
    if messages.is_empty() {
        return Err(format!(
            "no exchange with a request matches {filter}; `echoic log` lists what there is"
        ));
    }
    times.sort_unstable();
    let count = messages.len() as u64;
    Ok(Recorded {
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

#[expect(clippy::cast_sign_loss, reason = "neither is below 0")]
fn scaled(nanos: u64, factor: f64) -> u64 {
    (nanos as f64 / factor) as u64
}

/// When each was asked, in microseconds, and what.
async fn all(store: &impl Store, filter: &Filter) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    let most = filter
        .limit()
        .map_or(MESSAGES_MAX, |limit| MESSAGES_MAX.min(limit as usize));
    let mut page = Page {
        order: Order::OldestFirst,
        beyond: None,
        limit: PAGE,
        now: wall(),
    };
    let mut requests = Vec::new();
    loop {
        let found = store.find(filter, page).await?;
        let exchanges = found
            .exchanges
            .into_iter()
            .filter(|exchange| !exchange.request.is_empty());
        requests.extend(exchanges.map(|exchange| (exchange.at, exchange.request)));
        if requests.len() >= most || found.next.is_none() {
            requests.truncate(most);
            return Ok(requests);
        }
        page.beyond = found.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_a_word_or_a_factor() {
        assert_eq!(pace("real"), Ok(Pace::Times(1.0)));
        assert_eq!(pace("2.5x"), Ok(Pace::Times(2.5)));
        assert_eq!(pace("max"), Ok(Pace::Max));
        for text in ["", "x", "0x", "2", "-1x"] {
            assert!(pace(text).unwrap_err().contains("2x"), "{text}");
        }
    }
}

//! Waiting for exchanges: a long poll.

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State, http::StatusCode};
use echoic_core::{
    event::ExchangeId,
    store::{Order, Store, StoreError},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{sleep, timeout},
};
use utoipa::ToSchema;

use super::notices::{Noticed, Notices};
use crate::{
    extract::Query,
    json::{ExchangeJson, Preview},
    params::{self, Time},
    problem::Problem,
    search::{self, Search},
    state::App,
};

/// Most requests that wait at a time.
const WAITERS_MAX: usize = 100;

/// Longest wait.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// Most bytes of the exchanges that a request collects.
const BYTES_MAX: usize = 16 << 20;

/// How often the store is asked for its last id, for all waiters together, if nothing tells of new exchanges.
const POLL: Duration = Duration::from_millis(50);

/// The same if something does: another process may record into the store too, and a notice can be lost.
const POLL_TOLD: Duration = Duration::from_millis(250);

/// Least time between two searches of a waiter, however often exchanges are recorded.
const REST: Duration = Duration::from_millis(50);

/// Those who wait, and the last id of the store as it was a moment ago.
#[derive(Debug)]
pub(crate) struct Waiters {
    permits: Semaphore,
    newest: Mutex<Option<(Instant, ExchangeId)>>,
    notices: Notices,
    poll_told: Duration,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(WAITERS_MAX),
            newest: Mutex::default(),
            notices: Notices::default(),
            poll_told: POLL_TOLD,
        }
    }
}

impl Waiters {
    /// Returns the last id of the store, as it was at most `age` ago.
    async fn newest(&self, store: &dyn Store, age: Duration) -> Result<ExchangeId, StoreError> {
        let mut newest = self.newest.lock().await;
        if let Some((at, id)) = *newest
            && at.elapsed() < age
        {
            return Ok(id);
        }
        let id = store.last().await?.exchange;
        *newest = Some((Instant::now(), id));
        Ok(id)
    }

    /// Waits until exchanges with ids beyond `beyond` may be stored. `noticed` is told of those that this process records.
    async fn changed(
        &self,
        store: &dyn Store,
        beyond: ExchangeId,
        noticed: Option<&mut Noticed>,
    ) -> Result<(), StoreError> {
        let changed = store.changed(beyond);
        let is_told = changed.is_some() || noticed.is_some();
        let every = if is_told { self.poll_told } else { POLL };
        let polled = async {
            loop {
                sleep(every).await;
                if self.newest(store, every).await? > beyond {
                    return Ok(());
                }
            }
        };
        tokio::select! {
            () = some(changed) => Ok(()),
            () = some(noticed.map(Noticed::next)) => Ok(()),
            result = polled => result,
        }
    }
}

/// Waits for a future, or for ever.
async fn some<F: Future<Output = ()>>(future: Option<F>) {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// What to wait for
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfWait {
    /// A filter, as `echoic log` takes it.
    #[param(example = "req:login")]
    q: Option<String>,
    /// Only exchanges with a larger id. Without it, what is recorded already counts too.
    after: Option<ExchangeId>,
    /// Number of exchanges to wait for: 1 to 1000, by default 1.
    #[param(minimum = 1, maximum = 1000)]
    count: Option<usize>,
    /// How long to wait: at most `10m`, by default `10s`.
    #[param(value_type = Option<String>, example = "10s")]
    timeout: Option<Time>,
    /// Bytes of each request and reply: a number, by default 4096, or `full`.
    #[param(value_type = Option<String>, example = "full")]
    preview: Option<Preview>,
}

/// Exchanges that were waited for.
#[derive(Serialize, ToSchema)]
pub(super) struct Waited {
    /// The exchanges, oldest first.
    exchanges: Vec<ExchangeJson>,
}

/// Wait until exchanges are recorded that the filter selects
#[utoipa::path(get, path = "/api/v1/exchanges/wait", tag = "exchanges", params(OfWait),
    extensions(("x-example" = json!("GET /api/v1/exchanges/wait?q=req:login&timeout=10s"))), responses(
    (status = 200, description = "the exchanges", body = Waited),
    (status = 400, description = "a mistake in the request, or the exchanges have more than 16 MiB", body = Problem),
    (status = 408, description = "there were too few in time", body = Problem),
    (status = 429, description = "too many requests wait", body = Problem)))]
pub(super) async fn wait(
    State(app): State<Arc<App>>,
    Query(query): Query<OfWait>,
) -> Result<Json<Waited>, Problem> {
    let filter = search::filter(query.q.as_deref())?;
    let count = params::limit(Some(query.count.unwrap_or(1)))?;
    let within = query
        .timeout
        .map_or(Duration::from_secs(10), |Time(time)| time);
    if within > TIMEOUT_MAX {
        return Err(Problem::invalid("invalid timeout: expected at most 10m"));
    }
    let until = Instant::now() + within;
    let _permit = app.waiters.permits.try_acquire().map_err(|_| {
        let detail = format!("{WAITERS_MAX} requests wait already: try again later");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
    })?;
    // Before the first search, so that nothing recorded after it is missed.
    let mut noticed = app
        .recorder
        .as_ref()
        .map(|recorder| app.waiters.notices.follow(recorder));
    let mut beyond = query.after.unwrap_or(0);
    let mut found = Vec::new();
    let mut bytes = 0;
    loop {
        let searched = Instant::now();
        let search = Search {
            filter: &filter,
            order: Order::OldestFirst,
            beyond: Some(beyond),
            limit: count - found.len(),
            until,
        };
        let results = search.run(&*app.store).await?;
        beyond = results.to.max(beyond);
        let preview = query.preview.unwrap_or_default();
        for exchange in &results.exchanges {
            bytes += preview.bytes_of(exchange);
            if bytes > BYTES_MAX {
                return Err(Problem::invalid(
                    "the exchanges have more than 16 MiB: ask for a smaller preview",
                ));
            }
            found.push(ExchangeJson::new(exchange, preview)?);
        }
        if found.len() == count {
            return Ok(Json(Waited { exchanges: found }));
        }
        let left = until.saturating_duration_since(Instant::now());
        let more = async {
            if results.next.is_none() {
                let changed = app.waiters.changed(&*app.store, beyond, noticed.as_mut());
                changed.await?;
            }
            sleep(REST.saturating_sub(searched.elapsed())).await;
            Ok::<(), StoreError>(())
        };
        match timeout(left, more).await {
            Ok(result) if !left.is_zero() => result?,
            _ => {
                let detail = format!("{} of {count} exchanges were recorded in time", found.len());
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Exchanges: lists, one, and the newest.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State};
use echoic_core::{
    event::ExchangeId,
    exchange::Exchange,
    filter::{Atom, Filter},
    store::{Order, Page},
};
use echoic_recorder::wall_clock_now;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    extract::{Path, Query},
    json::{ExchangeJson, Preview},
    params::{OfFilter, OfPage},
    problem::Problem,
    search::{self, Results, Search},
    state::App,
};

/// Time to search for the newest match.
const LATEST_WITHIN: Duration = Duration::from_secs(25);

/// A page of exchanges.
#[derive(Serialize, ToSchema)]
pub(super) struct ExchangesPage {
    /// The exchanges, in the order of the page.
    exchanges: Vec<ExchangeJson>,
    /// Value of `before` or `after` for the next page; null on the last one.
    next: Option<u64>,
    /// How far the search went.
    searched: SearchedJson,
}

/// How far a search went.
#[derive(Serialize, ToSchema)]
pub(super) struct SearchedJson {
    /// The last id that it looked at.
    pub(super) to: u64,
    /// Number of ids that are left.
    pub(super) left: u64,
    /// False if it ended for want of time: then `next` is where to go on, and the page may have fewer results than there are.
    pub(super) done: bool,
}

/// A number.
#[derive(Serialize, ToSchema)]
pub(super) struct Counted {
    /// Number of exchanges that the filter selects.
    count: u64,
}

/// List exchanges, newest first
#[utoipa::path(get, path = "/api/v1/exchanges", tag = "exchanges", params(OfPage),
    extensions(("x-example" = json!("GET /api/v1/exchanges?q=rep:ERROR&limit=10"))), responses(
    (status = 200, description = "a page", body = ExchangesPage),
    (status = 400, description = "a mistake in the request", body = Problem)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(page): Query<OfPage>,
) -> Result<Json<ExchangesPage>, Problem> {
    let (filter, order, beyond) = page.parse()?;
    let search = Search {
        filter: &filter,
        order,
        beyond,
        limit: page.limit(&filter)?,
        until: Instant::now() + page.budget()?,
    };
    let results = search.run(&*app.store).await?;
    exchanges_page(&results, page.preview.unwrap_or_default()).map(Json)
}

/// Returns the JSON form of results.
pub(super) fn exchanges_page(
    results: &Results,
    preview: Preview,
) -> Result<ExchangesPage, Problem> {
    let exchanges = results.exchanges.iter();
    let exchanges = exchanges.map(|exchange| ExchangeJson::new(exchange, preview));
    Ok(ExchangesPage {
        exchanges: exchanges.collect::<Result<_, _>>()?,
        next: results.next,
        searched: SearchedJson {
            to: results.to,
            left: results.left,
            done: results.done,
        },
    })
}

/// The newest exchange that a filter selects
#[utoipa::path(get, path = "/api/v1/exchanges/latest", tag = "exchanges", params(OfFilter),
    extensions(("x-example" = json!("GET /api/v1/exchanges/latest?q=svc:upper"))), responses(
    (status = 200, description = "the exchange", body = ExchangeJson),
    (status = 404, description = "none is selected", body = Problem)))]
pub(super) async fn latest(
    State(app): State<Arc<App>>,
    Query(query): Query<OfFilter>,
) -> Result<Json<ExchangeJson>, Problem> {
    let filter = search::filter(query.q.as_deref())?;
    let search = Search {
        filter: &filter,
        order: Order::NewestFirst,
        beyond: None,
        limit: 1,
        until: Instant::now() + LATEST_WITHIN,
    };
    let results = search.run(&*app.store).await?;
    let newest = results.exchanges.first();
    let newest =
        newest.ok_or_else(|| Problem::not_found("no exchange is selected by the filter"))?;
    ExchangeJson::new(newest, Preview::FULL).map(Json)
}

/// Count the exchanges that a filter selects
#[utoipa::path(get, path = "/api/v1/exchanges/count", tag = "exchanges", params(OfFilter),
    extensions(("x-example" = json!("GET /api/v1/exchanges/count?q=is:unanswered"))), responses(
    (status = 200, description = "their number", body = Counted),
    (status = 400, description = "a mistake in the filter", body = Problem)))]
pub(super) async fn count(
    State(app): State<Arc<App>>,
    Query(query): Query<OfFilter>,
) -> Result<Json<Counted>, Problem> {
    let filter = search::filter(query.q.as_deref())?;
    let count = app.store.count(&filter, wall_clock_now()).await?;
    let most = filter.limit().unwrap_or(u64::MAX);
    Ok(Json(Counted {
        count: count.min(most),
    }))
}

/// One exchange
#[utoipa::path(get, path = "/api/v1/exchanges/{id}", tag = "exchanges", params(("id" = u64, Path, description = "its id")),
    extensions(("x-example" = json!("GET /api/v1/exchanges/17"))), responses(
    (status = 200, description = "the exchange", body = ExchangeJson),
    (status = 404, description = "it is not in the store", body = Problem)))]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
) -> Result<Json<ExchangeJson>, Problem> {
    let exchange = by_id(&app, id).await?;
    ExchangeJson::new(&exchange, Preview::FULL).map(Json)
}

/// Returns an exchange.
pub(super) async fn by_id(app: &App, id: ExchangeId) -> Result<Exchange, Problem> {
    let page = Page {
        order: Order::OldestFirst,
        beyond: Some(id.saturating_sub(1)),
        until: Some(id),
        limit: 1,
        now: wall_clock_now(),
    };
    let filter = Filter::all().and(Atom::Id([id..=id].into_iter().collect()));
    let found = app.store.find(&filter, page).await?;
    let exchange = found.exchanges.into_iter().next();
    exchange.ok_or_else(|| {
        Problem::not_found(format!(
            "exchange {id} is not in the store: it was removed, or never there"
        ))
    })
}

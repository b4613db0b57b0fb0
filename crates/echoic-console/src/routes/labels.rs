//! Tags and notes.

use std::sync::Arc;

use axum::{Json, extract::State};
use echoic_core::{
    event::ExchangeId,
    filter::Filter,
    store::{LabelChange, Labelled, Order, Page},
};
use echoic_recorder::wall_clock_now;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::{
    extract::{self, Path, Query},
    problem::Problem,
    search,
    state::App,
};

/// Most exchanges that one request labels.
const LABELLED_MAX: u64 = 10_000;

/// Exchanges that are read, and labelled, at once.
const AT_ONCE: usize = 200;

/// A change of labels.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "null is another request than no key")]
pub(super) struct LabelChangeJson {
    /// Tags to add: words of at most 64 bytes.
    #[serde(default)]
    #[schema(example = json!(["bug"]))]
    add: Vec<String>,
    /// Tags to remove.
    #[serde(default)]
    remove: Vec<String>,
    /// The new note, of at most 4096 bytes; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    note: Option<Option<String>>,
}

/// A key that is there: its value, also if that is null.
#[expect(clippy::option_option, reason = "null is another request than no key")]
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// What a change of labels did.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    /// Number of exchanges or conversations that have the labels now.
    changed: u64,
}

/// All tags.
#[derive(Serialize, ToSchema)]
pub(super) struct Tags {
    /// By name.
    tags: Vec<TagJson>,
}

/// A tag and how often it is used.
#[derive(Serialize, ToSchema)]
pub(super) struct TagJson {
    /// The tag.
    tag: String,
    /// Exchanges that have it themselves.
    exchanges: u64,
    /// Conversations that have it.
    conversations: u64,
}

/// The exchanges to label
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfLabelled {
    /// A filter, as `echoic log` takes it. It may select at most 10,000 exchanges.
    #[param(example = "rep:ERROR")]
    q: String,
}

impl LabelChangeJson {
    /// Returns the change, of what it is to label.
    fn of(self, of: Labelled) -> Result<LabelChange, Problem> {
        if self.add.is_empty() && self.remove.is_empty() && self.note.is_none() {
            return Err(Problem::invalid(
                "there is nothing to change: expected add, remove or note",
            ));
        }
        let Self { add, remove, note } = self;
        let change = LabelChange {
            of,
            add,
            remove,
            note,
        };
        let checked = change.check();
        checked.map_err(|error| Problem::invalid(error.to_string()))?;
        Ok(change)
    }
}

/// Tag an exchange, or write a note on it
#[utoipa::path(patch, path = "/api/v1/exchanges/{id}", tag = "labels", request_body = LabelChangeJson,
    params(("id" = u64, Path, description = "its id")),
    extensions(("x-example" = json!("PATCH /api/v1/exchanges/17 {\"add\":[\"bug\"],\"note\":\"wrong case\"}"))), responses(
    (status = 200, description = "it is changed", body = Changed),
    (status = 400, description = "a mistake in the request", body = Problem),
    (status = 403, description = "this console is read-only", body = Problem),
    (status = 404, description = "it is not in the store", body = Problem)))]
pub(super) async fn exchange(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    extract::Json(change): extract::Json<LabelChangeJson>,
) -> Result<Json<Changed>, Problem> {
    app.writable()?;
    let change = change.of(Labelled::Exchanges(vec![id]))?;
    let changed = app.store.label(change).await?;
    if changed == 0 {
        return Err(Problem::not_found(format!(
            "exchange {id} is not in the store"
        )));
    }
    app.hub.labels_changed(&[id], None);
    Ok(Json(Changed { changed }))
}

/// Tag a conversation, or write a note on it
#[utoipa::path(patch, path = "/api/v1/conversations/{id}", tag = "labels", request_body = LabelChangeJson,
    params(("id" = u64, Path, description = "its id")),
    extensions(("x-example" = json!("PATCH /api/v1/conversations/3 {\"add\":[\"bug\"]}"))), responses(
    (status = 200, description = "it is changed", body = Changed),
    (status = 400, description = "a mistake in the request", body = Problem),
    (status = 403, description = "this console is read-only", body = Problem),
    (status = 404, description = "it is not in the store", body = Problem)))]
pub(super) async fn conversation(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    extract::Json(change): extract::Json<LabelChangeJson>,
) -> Result<Json<Changed>, Problem> {
    app.writable()?;
    let change = change.of(Labelled::Conversation(id))?;
    let changed = app.store.label(change).await?;
    if changed == 0 {
        return Err(Problem::not_found(format!(
            "conversation {id} is not in the store"
        )));
    }
    app.hub.labels_changed(&[], Some(id));
    Ok(Json(Changed { changed }))
}

/// Tag all exchanges that a filter selects, or write a note on them
#[utoipa::path(patch, path = "/api/v1/exchanges", tag = "labels", request_body = LabelChangeJson, params(OfLabelled),
    extensions(("x-example" = json!("PATCH /api/v1/exchanges?q=rep:ERROR {\"add\":[\"bug\"]}"))), responses(
    (status = 200, description = "they are changed", body = Changed),
    (status = 400, description = "a mistake in the request, or too many exchanges", body = Problem),
    (status = 403, description = "this console is read-only", body = Problem)))]
pub(super) async fn exchanges(
    State(app): State<Arc<App>>,
    Query(query): Query<OfLabelled>,
    extract::Json(change): extract::Json<LabelChangeJson>,
) -> Result<Json<Changed>, Problem> {
    app.writable()?;
    change.clone().of(Labelled::Exchanges(Vec::new()))?;
    let filter = search::filter(Some(&query.q))?;
    let ids = matching(&app, &filter).await?;
    let mut changed = 0;
    for ids in ids.chunks(AT_ONCE) {
        let change = change.clone().of(Labelled::Exchanges(ids.to_vec()))?;
        changed += app.store.label(change).await?;
        app.hub.labels_changed(ids, None);
    }
    Ok(Json(Changed { changed }))
}

/// Returns the ids of all exchanges that the filter selects, if these are not too many. Of a filter with a limit these are the
/// first ones in its order, as in a list.
async fn matching(app: &App, filter: &Filter) -> Result<Vec<ExchangeId>, Problem> {
    let now = wall_clock_now();
    let count = app.store.count(filter, now).await?;
    let (order, most) = match filter.limit() {
        Some(limit) => (search::order(filter)?.unwrap_or(Order::NewestFirst), limit),
        None => (Order::OldestFirst, LABELLED_MAX),
    };
    let count = filter.limit().map_or(count, |limit| limit.min(count));
    if count > LABELLED_MAX {
        return Err(Problem::invalid(format!(
            "the filter selects {count} exchanges: narrow it to at most {LABELLED_MAX}"
        )));
    }
    let (mut ids, mut beyond) = (Vec::new(), None);
    loop {
        let page = Page {
            order,
            beyond,
            until: None,
            limit: AT_ONCE,
            now,
        };
        let found = app.store.find(filter, page).await?;
        ids.extend(found.exchanges.iter().map(|exchange| exchange.id));
        match found.next {
            Some(next) if (ids.len() as u64) < most => beyond = Some(next),
            _ => break,
        }
    }
    ids.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(ids)
}

/// List all tags
#[utoipa::path(get, path = "/api/v1/tags", tag = "labels",
    extensions(("x-example" = json!("GET /api/v1/tags"))), responses(
    (status = 200, description = "the tags", body = Tags)))]
pub(super) async fn tags(State(app): State<Arc<App>>) -> Result<Json<Tags>, Problem> {
    let tags = app.store.tags().await?.into_iter();
    let tags = tags.map(|count| TagJson {
        tag: count.tag,
        exchanges: count.exchanges,
        conversations: count.conversations,
    });
    Ok(Json(Tags {
        tags: tags.collect(),
    }))
}

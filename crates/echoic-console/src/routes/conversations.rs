//! Conversations: lists, one, its messages and its socket calls.

use std::{sync::Arc, time::Instant};

use axum::{Json, extract::State};
use echoic_core::{
    control::SocketCall,
    event::ConversationId,
    filter::{Atom, Filter},
    store::{ConversationPage, ListedConversation, Order, Page, Store},
};
use echoic_recorder::wall_clock_now;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::exchanges::SearchedJson;
use crate::{
    extract::{Path, Query},
    json::{ConversationJson, ExchangeJson, MarkJson, Preview},
    params::{self, OfPage},
    problem::Problem,
    search,
    state::App,
};

/// Conversations that are read at once, if each is then searched for a matching exchange.
const CANDIDATES: usize = 50;

/// A page of conversations.
#[derive(Serialize, ToSchema)]
pub(super) struct ConversationsPage {
    /// The conversations, in the order of the page.
    conversations: Vec<ConversationJson>,
    /// Value of `before` or `after` for the next page; null on the last one.
    next: Option<u64>,
    /// How far the search went, in ids of conversations.
    searched: SearchedJson,
}

/// List conversations, newest first
///
/// A condition on exchanges in the filter selects the conversations that have a matching one; `since:` and `before:` refer to the
/// opening.
#[utoipa::path(get, path = "/api/v1/conversations", tag = "conversations", params(OfPage),
    extensions(("x-example" = json!("GET /api/v1/conversations?q=end:rst"))), responses(
    (status = 200, description = "a page", body = ConversationsPage),
    (status = 400, description = "a mistake in the request", body = Problem)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(page): Query<OfPage>,
) -> Result<Json<ConversationsPage>, Problem> {
    let (filter, order, beyond) = page.parse()?;
    let limit = page.limit(&filter)?;
    let until = Instant::now() + page.budget()?;
    let last = app.store.last().await?.conversation;
    let is_sequence = !filter.steps().is_empty();
    let needs_exchange = is_sequence || *filter.expr() != filter.conversation_part();
    let mut at = beyond;
    let mut found = Vec::new();
    let (mut next, mut done) = (None, true);
    while found.len() < limit {
        let at_once = if needs_exchange { CANDIDATES } else { limit };
        let candidates = ConversationPage {
            order,
            beyond: at,
            limit: at_once,
            now: wall_clock_now(),
            without_exchanges: false,
        };
        let read = app.store.conversations(&filter, candidates).await?;
        let mut rest = read.conversations.into_iter();
        for listed in rest.by_ref() {
            at = Some(listed.conversation.id);
            if !needs_exchange || has_match(&*app.store, &filter, &listed).await? {
                found.push(ConversationJson::new(&listed)?);
            }
            if found.len() == limit || Instant::now() >= until {
                break;
            }
        }
        let has_more = rest.len() > 0 || read.next.is_some();
        next = at.filter(|_| has_more);
        if !has_more {
            break;
        }
        // After at least one candidate, so that a list in many requests ends.
        if found.len() < limit && Instant::now() >= until {
            done = false;
            break;
        }
    }
    let left = next.map_or(0, |next| match order {
        Order::NewestFirst => next.saturating_sub(1),
        Order::OldestFirst => last.saturating_sub(next),
    });
    Ok(Json(ConversationsPage {
        conversations: found,
        next,
        searched: SearchedJson {
            to: at.unwrap_or_default(),
            left,
            done,
        },
    }))
}

/// Whether a filter selects a conversation, or an exchange of it. A label can be on either.
async fn has_match(
    store: &dyn Store,
    filter: &Filter,
    listed: &ListedConversation,
) -> Result<bool, Problem> {
    let now = wall_clock_now();
    if filter.is_about_conversations() && filter.matches(&listed.conversation, now) {
        return Ok(true);
    }
    if listed.exchanges == 0 {
        return Ok(false);
    }
    let page = Page {
        order: Order::OldestFirst,
        beyond: None,
        until: None,
        limit: 1,
        now,
    };
    let found = store
        .find(&within(filter, listed.conversation.id), page)
        .await?;
    Ok(!found.exchanges.is_empty())
}

/// Returns a filter for the exchanges of one conversation alone.
fn within(filter: &Filter, id: ConversationId) -> Filter {
    filter.and(Atom::Conversation([id..=id].into_iter().collect()))
}

/// One conversation
#[utoipa::path(get, path = "/api/v1/conversations/{id}", tag = "conversations", params(("id" = u64, Path, description = "its id")),
    extensions(("x-example" = json!("GET /api/v1/conversations/3"))), responses(
    (status = 200, description = "the conversation", body = ConversationJson),
    (status = 404, description = "it is not in the store", body = Problem)))]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
) -> Result<Json<ConversationJson>, Problem> {
    let listed = by_id(&app, id).await?;
    ConversationJson::new(&listed).map(Json)
}

/// Returns a conversation.
pub(super) async fn by_id(app: &App, id: ConversationId) -> Result<ListedConversation, Problem> {
    let listed = app.store.conversation(id).await?;
    listed.ok_or_else(|| {
        Problem::not_found(format!(
            "conversation {id} is not in the store: it was removed, or never there"
        ))
    })
}

/// The exchanges of a conversation
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfMessages {
    /// Only exchanges with this number in the conversation, or a larger one.
    from: Option<u64>,
    /// Maximum number of results: 1 to 1000, by default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// A filter within the conversation.
    q: Option<String>,
    /// Bytes of each request and reply: a number, by default 4096, or `full`.
    #[param(value_type = Option<String>, example = "256")]
    preview: Option<Preview>,
}

/// A page of the exchanges of a conversation.
#[derive(Serialize, ToSchema)]
pub(super) struct MessagesPage {
    /// The exchanges, in their order.
    exchanges: Vec<ExchangeJson>,
    /// What else happened in the conversation, oldest first.
    marks: Vec<MarkJson>,
    /// Value of `from` for the next page; null on the last one.
    next: Option<u64>,
    /// Number of all exchanges of the conversation.
    total: u64,
}

/// The messages of a conversation, in their order
#[utoipa::path(get, path = "/api/v1/conversations/{id}/messages", tag = "conversations",
    params(("id" = u64, Path, description = "its id"), OfMessages),
    extensions(("x-example" = json!("GET /api/v1/conversations/3/messages?from=1&limit=50"))), responses(
    (status = 200, description = "a page", body = MessagesPage),
    (status = 404, description = "it is not in the store", body = Problem)))]
pub(super) async fn messages(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    Query(query): Query<OfMessages>,
) -> Result<Json<MessagesPage>, Problem> {
    /// Bytes after which a page ends early.
    const PAGE_BYTES_MAX: usize = 16 << 20;
    /// Exchanges that are read at once.
    const AT_ONCE: usize = 100;
    let limit = params::limit(query.limit)?;
    let filter = search::filter(query.q.as_deref())?;
    let total = by_id(&app, id).await?.exchanges;
    let marks = app.store.marks(id).await?;
    let (mut from, mut bytes) = (query.from.unwrap_or(1), 0);
    let mut found = Vec::new();
    let (mut beyond, mut has_more) = (None, true);
    while has_more && found.len() < limit && bytes < PAGE_BYTES_MAX {
        let at_once = AT_ONCE.min(limit - found.len());
        let page = if query.q.is_some() {
            let numbers = Atom::Number([from..=u64::MAX].into_iter().collect());
            let page = Page {
                order: Order::OldestFirst,
                beyond,
                until: None,
                limit: at_once,
                now: wall_clock_now(),
            };
            let filter = within(&filter, id).and(numbers);
            let found = app.store.find(&filter, page).await?;
            (beyond, has_more) = (found.next, found.next.is_some());
            found.exchanges
        } else {
            let page = app.store.messages(id, from, at_once).await?;
            // A page of large messages is short: only an empty one is the last.
            has_more = !page.is_empty();
            page
        };
        from = page.last().map_or(from, |last| last.n + 1);
        bytes += page
            .iter()
            .map(|one| one.request.len() + one.reply.len())
            .sum::<usize>();
        found.extend(page);
    }
    let preview = query.preview.unwrap_or_default();
    let exchanges = found.iter().map(|one| ExchangeJson::new(one, preview));
    Ok(Json(MessagesPage {
        exchanges: exchanges.collect::<Result<_, _>>()?,
        marks: marks.iter().map(MarkJson::from).collect(),
        next: (has_more && from <= total).then_some(from),
        total,
    }))
}

/// The socket calls of a conversation.
#[derive(Serialize, ToSchema)]
pub(super) struct Calls {
    /// The calls, oldest first.
    calls: Vec<SocketCallJson>,
}

/// A call of the socket API with its result.
#[derive(Serialize, ToSchema)]
pub(super) struct SocketCallJson {
    /// Wall-clock time after the call.
    t_us: i64,
    /// Its name.
    #[schema(example = "recv")]
    call: &'static str,
    /// Its arguments, as in C.
    #[schema(example = "11, 65536")]
    args: String,
    /// What it returned.
    #[schema(example = "6")]
    result: String,
}

impl From<SocketCall> for SocketCallJson {
    fn from(call: SocketCall) -> Self {
        let SocketCall {
            t_us,
            call,
            args,
            result,
        } = call;
        Self {
            t_us,
            call,
            args,
            result,
        }
    }
}

/// The socket calls of a conversation; none if it was not explained
#[utoipa::path(get, path = "/api/v1/conversations/{id}/calls", tag = "conversations", params(("id" = u64, Path, description = "its id")),
    extensions(("x-example" = json!("GET /api/v1/conversations/3/calls"))), responses(
    (status = 200, description = "the calls; none if it was not explained: POST /api/v1/explain notes those of the next conversation", body = Calls),
    (status = 404, description = "there is no such conversation", body = Problem)))]
pub(super) async fn calls(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
) -> Result<Json<Calls>, Problem> {
    let control = app.control.as_ref();
    let calls = match control.and_then(|control| control.socket_calls(id)) {
        Some(calls) => calls,
        // An error only if it is unknown: the page asks for the calls of each conversation that it shows.
        None => by_id(&app, id).await.map(|_| Vec::new())?,
    };
    Ok(Json(Calls {
        calls: calls.into_iter().map(SocketCallJson::from).collect(),
    }))
}

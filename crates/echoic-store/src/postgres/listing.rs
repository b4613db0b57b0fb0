//! Lists conversations, a chunk at a time.

use std::{
    collections::{BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::Arc,
};

use echoic_core::{
    event::{ConversationId, Micros},
    filter::{Expr, Filter},
    store::{
        ConversationPage, FoundConversations, ListedConversation, MessageBytes, Order, StoreError,
    },
};

use super::{
    plan::Plan,
    readers::Readers,
    row,
    runs::direction,
    snapshot::{Attempts, ReadError, Snapshot, read},
    sql::Parameters,
};
use crate::scan::ID_MAX;

/// Rows of the first chunk, and the maximum of any: some tens of milliseconds.
const CHUNK_ROWS: RangeInclusive<usize> = 64..=5_000;

/// Returns a page of conversations.
pub(super) async fn conversations(
    readers: Arc<Readers>,
    filter: Filter,
    page: ConversationPage,
) -> Result<FoundConversations, StoreError> {
    let mut listing = Listing::new(&filter, page);
    let mut attempts = Attempts::default();
    while !listing.is_done() {
        let read = match Snapshot::begin(&readers).await {
            Ok(now) => listing.chunk(now).await,
            Err(why) => Err(why),
        };
        if let Err(why) = read {
            attempts.fail(why, &readers)?;
        }
    }
    Ok(listing.into_found())
}

/// Returns one conversation, if it is stored.
pub(super) async fn conversation(
    readers: Arc<Readers>,
    id: ConversationId,
) -> Result<Option<ListedConversation>, StoreError> {
    if id > ID_MAX {
        return Ok(None);
    }
    read(&readers, async |now: Snapshot<'_>| {
        let mut parameters = Parameters::default();
        let id = parameters.id(id);
        let sql = format!(
            "SELECT {} FROM conversation c {} WHERE c.id = {id}",
            row::CONVERSATION,
            row::JOINS
        );
        let mut listed = listed(&now, &sql, &parameters).await?;
        count_open(&now, &mut listed).await?;
        now.end().await?;
        Ok(listed.pop())
    })
    .await
}

/// A list in progress.
struct Listing {
    condition: Expr,
    plan: Plan,
    now: Micros,
    order: Order,
    without_exchanges: bool,
    /// Ids still to read; `None` if all have been read.
    ids: Option<RangeInclusive<ConversationId>>,
    limit: usize,
    /// Rows of the next chunk.
    rows: usize,
    /// Conversations found; one more than `limit` shows that there is another page.
    found: Vec<ListedConversation>,
}

impl Listing {
    fn new(filter: &Filter, page: ConversationPage) -> Self {
        let condition = filter.conversation_part();
        let ids = filter.conversations().hull();
        let rows = page.limit.saturating_add(1);
        let mut listing = Self {
            plan: Plan::of_conversations(&condition, page.now),
            condition,
            now: page.now,
            order: page.order,
            without_exchanges: page.without_exchanges,
            ids: ids.map(|ids| (*ids.start()).min(ID_MAX)..=(*ids.end()).min(ID_MAX)),
            limit: page.limit,
            rows: rows.clamp(*CHUNK_ROWS.start(), *CHUNK_ROWS.end()),
            found: Vec::new(),
        };
        if let Some(beyond) = page.beyond {
            listing.go_beyond(beyond);
        }
        listing
    }

    fn is_done(&self) -> bool {
        self.ids.is_none() || self.found.len() > self.limit
    }

    fn into_found(mut self) -> FoundConversations {
        let has_more = self.found.len() > self.limit;
        self.found.truncate(self.limit);
        let last = self.found.last().map(|listed| listed.conversation.id);
        FoundConversations {
            next: last.filter(|_| has_more),
            conversations: self.found,
        }
    }

    /// Reads the next chunk.
    async fn chunk(&mut self, now: Snapshot<'_>) -> Result<(), ReadError> {
        let Some(ids) = self.ids.clone() else {
            return Ok(());
        };
        let mut parameters = self.plan.parameters.clone();
        let (low, high) = (parameters.id(*ids.start()), parameters.id(*ids.end()));
        let empty = if self.without_exchanges {
            "AND c.exchanges = 0 AND c.ended IS NOT NULL"
        } else {
            ""
        };
        let sql = format!(
            "SELECT {} {} {} WHERE c.id BETWEEN {low} AND {high} {empty} AND {} ORDER BY c.id {} LIMIT {}",
            row::CONVERSATION,
            self.plan.from,
            row::JOINS,
            self.plan.condition,
            direction(self.order),
            self.rows
        );
        let mut chunk = listed(&now, &sql, &parameters).await?;
        let last = chunk.last().map(|last| last.conversation.id);
        let is_last = chunk.len() < self.rows;
        chunk.retain(|listed| self.condition.matches(&listed.conversation, self.now));
        chunk.truncate((self.limit + 1).saturating_sub(self.found.len()));
        count_open(&now, &mut chunk).await?;
        now.end().await?;
        self.found.append(&mut chunk);
        self.rows = (self.rows * 4).min(*CHUNK_ROWS.end());
        match last {
            Some(last) if !is_last => self.go_beyond(last),
            _ => self.ids = None,
        }
        Ok(())
    }

    fn go_beyond(&mut self, id: ConversationId) {
        self.ids = self.ids.take().and_then(|ids| {
            let (low, high) = ids.into_inner();
            match self.order {
                Order::OldestFirst => Some(low.max(id.checked_add(1)?)..=high),
                Order::NewestFirst => Some(low..=high.min(id.checked_sub(1)?)),
            }
        });
    }
}

/// Reads conversations whose columns begin with those of [`row::CONVERSATION`].
async fn listed(
    now: &Snapshot<'_>,
    sql: &str,
    parameters: &Parameters,
) -> Result<Vec<ListedConversation>, ReadError> {
    let rows = now.query(sql, parameters).await?;
    let conversations = row::conversations_in(now, &rows).await?;
    let listed = conversations.into_iter().zip(&rows);
    listed
        .map(|(conversation, row)| {
            let [requests, replies] = row::BYTES;
            let bytes = MessageBytes {
                requests: row::number(row, requests)?,
                replies: row::number(row, replies)?,
            };
            Ok(ListedConversation {
                so_far: conversation.ended.is_none().then_some(bytes),
                conversation,
                exchanges: row::number(row, row::EXCHANGES)?,
            })
        })
        .collect()
}

/// Adds the exchanges of open conversations that are not counted in their rows yet (`server.tallied`).
async fn count_open(
    now: &Snapshot<'_>,
    listed: &mut [ListedConversation],
) -> Result<(), ReadError> {
    let open = listed.iter().filter(|one| one.conversation.ended.is_none());
    let ids: BTreeSet<_> = open.map(|one| one.conversation.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut parameters = Parameters::default();
    let ids = parameters.ids(ids);
    let sql = format!(
        "SELECT r.conversation, sum(r.count), sum(length(r.req)), sum(length(r.rep))
        FROM conversation c JOIN server s ON s.key = c.server JOIN run r ON r.conversation = c.id
        WHERE c.id = ANY({ids}) AND r.conversation = ANY({ids}) AND r.id > s.tallied AND r.id > (
            SELECT min(tallied) FROM server WHERE key IN (SELECT server FROM conversation WHERE id = ANY({ids}))
        ) GROUP BY r.conversation"
    );
    let mut counts = HashMap::new();
    for row in now.query(&sql, &parameters).await? {
        let bytes = MessageBytes {
            requests: row::number(&row, 2)?,
            replies: row::number(&row, 3)?,
        };
        counts.insert(row::number(&row, 0)?, (row::number(&row, 1)?, bytes));
    }
    for one in listed {
        if let (Some((exchanges, bytes)), Some(so_far)) =
            (counts.get(&one.conversation.id), &mut one.so_far)
        {
            one.exchanges = one.exchanges.saturating_add(*exchanges);
            so_far.requests = so_far.requests.saturating_add(bytes.requests);
            so_far.replies = so_far.replies.saturating_add(bytes.replies);
        }
    }
    Ok(())
}

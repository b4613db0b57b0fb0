//! A list of conversations in progress: its bounds and its position.

use std::{collections::HashMap, ops::RangeInclusive};

use echoic_core::{
    event::{ConversationId, Micros},
    exchange::Conversation,
    filter::{Expr, Filter},
    store::{ConversationPage, FoundConversations, ListedConversation, MessageBytes, Order},
};
use rusqlite::Transaction;

use super::row::{self, Lookups};
use crate::scan::ID_MAX;

/// Maximum of rows read per chunk: some tens of milliseconds.
const CHUNK_ROWS: usize = 5_000;

/// Conversations by id from the newest; the condition on exchanges is skipped if ?3 is 0.
const NEWEST_FIRST: &str =
    "SELECT id, endpoint, remote, local, opened, half_closed, ended, reason, received, sent, unsent, discarded,
        role, server, exchanges
    FROM conversation
    WHERE id BETWEEN ?1 AND ?2 AND (?3 = 0 OR (exchanges = 0 AND ended IS NOT NULL))
    ORDER BY id DESC LIMIT ?4";

/// The same from the oldest.
const OLDEST_FIRST: &str =
    "SELECT id, endpoint, remote, local, opened, half_closed, ended, reason, received, sent, unsent, discarded,
        role, server, exchanges
    FROM conversation
    WHERE id BETWEEN ?1 AND ?2 AND (?3 = 0 OR (exchanges = 0 AND ended IS NOT NULL))
    ORDER BY id LIMIT ?4";

/// A list in progress, read a chunk at a time.
pub(super) struct Listing {
    condition: Expr,
    now: Micros,
    order: Order,
    without_exchanges: bool,
    /// Ids still to read; `None` if all have been read.
    ids: Option<RangeInclusive<ConversationId>>,
    limit: usize,
    /// Conversations found; one more than `limit` shows that there is another page.
    found: Vec<ListedConversation>,
}

impl Listing {
    pub(super) fn new(filter: &Filter, page: ConversationPage) -> Self {
        let mut listing = Self {
            condition: filter.conversation_part(),
            now: page.now,
            order: page.order,
            without_exchanges: page.without_exchanges,
            ids: filter.conversations().hull().map(|ids| {
                let (low, high) = ids.into_inner();
                low.min(ID_MAX)..=high.min(ID_MAX)
            }),
            limit: page.limit,
            found: Vec::new(),
        };
        if let Some(beyond) = page.beyond {
            listing.go_beyond(beyond);
        }
        listing
    }

    pub(super) fn is_done(&self) -> bool {
        self.ids.is_none() || self.found.len() > self.limit
    }

    pub(super) fn into_found(mut self) -> FoundConversations {
        let has_more = self.found.len() > self.limit;
        self.found.truncate(self.limit);
        let last = self.found.last().map(|listed| listed.conversation.id);
        FoundConversations {
            next: last.filter(|_| has_more),
            conversations: self.found,
        }
    }

    /// Reads the next chunk.
    pub(super) fn chunk(
        &mut self,
        now: &Transaction<'_>,
        lookups: &mut Lookups,
    ) -> rusqlite::Result<()> {
        let Some(ids) = self.ids.clone() else {
            return Ok(());
        };
        lookups.refresh(now)?;
        let first = self.found.len();
        let mut statement = now.prepare_cached(match self.order {
            Order::NewestFirst => NEWEST_FIRST,
            Order::OldestFirst => OLDEST_FIRST,
        })?;
        let mut rows =
            statement.query((ids.start(), ids.end(), self.without_exchanges, CHUNK_ROWS))?;
        let (mut read, mut last) = (0, None);
        while self.found.len() <= self.limit
            && let Some(row) = rows.next()?
        {
            read += 1;
            last = Some(row.get(0)?);
            let conversation = row::conversation_in(row, now, lookups)?;
            if self.condition.matches(&conversation, self.now) {
                self.found.push(ListedConversation {
                    so_far: so_far(&conversation, row.get(8)?, row.get(9)?),
                    conversation,
                    exchanges: row.get(14)?,
                });
            }
        }
        match last {
            Some(last) if read == CHUNK_ROWS => self.go_beyond(last),
            _ => self.ids = None,
        }
        count_open(now, &mut self.found[first..])
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

/// Returns one conversation, if it is stored.
pub(super) fn one(
    now: &Transaction<'_>,
    lookups: &mut Lookups,
    id: ConversationId,
) -> rusqlite::Result<Option<ListedConversation>> {
    lookups.refresh(now)?;
    let Some(conversation) = row::conversation(now, lookups, id)? else {
        return Ok(None);
    };
    let sql = "SELECT exchanges, received, sent FROM conversation WHERE id = ?1";
    let mut listed = [now.prepare_cached(sql)?.query_row([id], |row| {
        Ok(ListedConversation {
            so_far: so_far(&conversation, row.get(1)?, row.get(2)?),
            conversation,
            exchanges: row.get(0)?,
        })
    })?];
    count_open(now, &mut listed)?;
    let [listed] = listed;
    Ok(Some(listed))
}

/// Returns the bytes of an open conversation that are counted in its row. (Those of an ended one are in its ending.)
fn so_far(conversation: &Conversation, requests: u64, replies: u64) -> Option<MessageBytes> {
    let bytes = MessageBytes { requests, replies };
    conversation.ended.is_none().then_some(bytes)
}

/// Adds the exchanges of open conversations that are not counted in their rows yet (`state.tallied`).
fn count_open(now: &Transaction<'_>, found: &mut [ListedConversation]) -> rusqlite::Result<()> {
    let mut open: HashMap<ConversationId, (&mut u64, &mut MessageBytes)> = found
        .iter_mut()
        .filter_map(|listed| {
            let counts = (&mut listed.exchanges, listed.so_far.as_mut()?);
            Some((listed.conversation.id, counts))
        })
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let sql = "SELECT conversation, sum(count), sum(length(req)), sum(length(rep)) FROM run
        WHERE id > (SELECT tallied FROM state) GROUP BY conversation";
    let mut statement = now.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some((exchanges, bytes)) = open.get_mut(&row.get(0)?) {
            **exchanges = exchanges.saturating_add(row.get(1)?);
            bytes.requests = bytes.requests.saturating_add(row.get(2)?);
            bytes.replies = bytes.replies.saturating_add(row.get(3)?);
        }
    }
    Ok(())
}

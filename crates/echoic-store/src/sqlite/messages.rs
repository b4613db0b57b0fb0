//! The messages and marks of one conversation.

use std::ops::ControlFlow;

use echoic_core::{
    event::{ConversationId, Mark, Marked, Micros},
    exchange::{Exchange, ExchangeRef},
    store::Order,
};
use rusqlite::{OptionalExtension, Transaction};

use super::{
    row::Lookups,
    search::{CHUNK_IDS, Runs},
};
use crate::{
    positions::Positions,
    scan::{ID_MAX, PAGE_BYTES_MAX},
};

/// A page of messages in progress, read a chunk at a time.
pub(super) struct Messages {
    conversation: ConversationId,
    from_n: u64,
    limit: usize,
    bytes_left: usize,
    /// Ids of runs still to read; `None` before the first chunk.
    ids: Option<(u64, u64)>,
    found: Vec<Exchange>,
    is_done: bool,
}

impl Messages {
    pub(super) fn new(conversation: ConversationId, from_n: u64, limit: usize) -> Self {
        Self {
            conversation,
            from_n,
            limit,
            bytes_left: PAGE_BYTES_MAX,
            ids: None,
            found: Vec::new(),
            is_done: limit == 0 || conversation > ID_MAX,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    pub(super) fn into_found(self) -> Vec<Exchange> {
        self.found
    }

    pub(super) fn chunk(
        &mut self,
        now: &Transaction<'_>,
        lookups: &mut Lookups,
    ) -> rusqlite::Result<()> {
        lookups.refresh(now)?;
        let (next, last) = match self.ids {
            Some(ids) => ids,
            None => self.first_ids(now, lookups.positions(self.conversation))?,
        };
        let high = last.min(next.saturating_add(CHUNK_IDS));
        let runs = Runs {
            window: (next, high),
            order: Order::OldestFirst,
            conversations: self.conversation..=self.conversation,
            times: Micros::MIN..=Micros::MAX,
            with_bytes: true,
        };
        let stopped = runs.visit(now, lookups, |_, exchanges| self.take(exchanges))?;
        let next = stopped.unwrap_or(high).saturating_add(1);
        self.is_done = self.is_done || self.is_full() || next > last;
        self.ids = Some((next, last));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.found.len() >= self.limit || self.bytes_left == 0
    }

    fn take(&mut self, exchanges: &[ExchangeRef<'_>]) -> ControlFlow<()> {
        for exchange in exchanges {
            if exchange.n >= self.from_n && !self.is_full() {
                let bytes = exchange.request.len() + exchange.reply.len();
                self.bytes_left = self.bytes_left.saturating_sub(bytes);
                self.found.push(exchange.into_owned());
            }
        }
        if self.is_full() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Returns the ids of the first run with messages of the page, and of the last run of the conversation.
    fn first_ids(
        &self,
        now: &Transaction<'_>,
        positions: &mut Positions,
    ) -> rusqlite::Result<(u64, u64)> {
        let newest: Option<u64> = now.query_row("SELECT max(id) FROM run", [], |row| row.get(0))?;
        let newest = newest.unwrap_or(0);
        let sql = "SELECT first_run, last_run FROM conversation WHERE id = ?1";
        let ids = now
            .prepare_cached(sql)?
            .query_row([self.conversation], |row| {
                let last: Option<u64> = row.get(1)?;
                Ok((row.get::<_, u64>(0)?, last.unwrap_or(newest).min(newest)))
            });
        // Without a row its opening was not recorded, and its runs may be anywhere.
        let (first, last) = ids.optional()?.unwrap_or((1, newest));
        let next = "SELECT id, n + count FROM run WHERE id BETWEEN ?1 AND ?2 AND conversation = ?3 ORDER BY id LIMIT 1";
        let mut next = now.prepare_cached(next)?;
        let mut search = positions.search(self.from_n, first, last);
        while let Some((low, high)) = search.step() {
            let run = next.query_row((low, high, self.conversation), |row| {
                Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?))
            });
            search.take(run.optional()?, positions);
        }
        Ok((search.found(), last))
    }
}

/// Returns the marks of a conversation, oldest first.
pub(super) fn marks(now: &Transaction<'_>, id: ConversationId) -> rusqlite::Result<Vec<Mark>> {
    if id > ID_MAX {
        return Ok(Vec::new());
    }
    let sql = "SELECT at, what, a, b FROM mark WHERE conversation = ?1 ORDER BY at, what";
    let mut statement = now.prepare_cached(sql)?;
    let mut rows = statement.query([id])?;
    let mut marks = Vec::new();
    while let Some(row) = rows.next()? {
        let what = match row.get_ref(1)?.as_str()? {
            "half-closed" => Marked::HalfClosed {
                received: row.get(2)?,
            },
            "gap" => Marked::Gap {
                exchanges: row.get(2)?,
                since: row.get(3)?,
            },
            "dropped" => Marked::Dropped {
                datagrams: row.get(2)?,
            },
            "silenced" => Marked::Silenced {
                for_us: row.get(2)?,
            },
            // From a newer version, which may add words.
            _ => continue,
        };
        marks.push(Mark {
            conversation: id,
            at: row.get(0)?,
            what,
        });
    }
    Ok(marks)
}

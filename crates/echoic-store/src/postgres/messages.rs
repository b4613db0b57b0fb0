//! The messages and marks of one conversation.

use std::{ops::ControlFlow, sync::Arc};

use echoic_core::{
    event::{ConversationId, Mark, Marked, Micros},
    exchange::Exchange,
    store::{Order, StoreError},
};
use tokio_postgres::Row;

use super::{
    plan::Plan,
    readers::Readers,
    row::{self, Lookups},
    runs::{ROWS_MAX, Runs, Selection, Stretch},
    snapshot::{Attempts, ReadError, Snapshot, read},
    sql::Parameters,
};
use crate::{
    positions::Positions,
    scan::{ID_MAX, PAGE_BYTES_MAX},
};

/// Returns exchanges of a conversation with the number `from_n` or a larger one.
pub(super) async fn messages(
    readers: Arc<Readers>,
    id: ConversationId,
    from_n: u64,
    limit: usize,
) -> Result<Vec<Exchange>, StoreError> {
    let mut messages = Messages {
        conversation: id,
        plan: Plan::of_conversation_ids([id]),
        from_n,
        limit,
        bytes_left: PAGE_BYTES_MAX,
        ids: None,
        found: Vec::new(),
        is_done: limit == 0 || id > ID_MAX,
    };
    let mut attempts = Attempts::default();
    while !messages.is_done {
        let read = match Snapshot::begin(&readers).await {
            Ok(now) => messages.chunk(now).await,
            Err(why) => Err(why),
        };
        if let Err(why) = read {
            attempts.fail(why, &readers)?;
        }
    }
    Ok(messages.found)
}

/// A page of messages in progress, read a chunk at a time.
struct Messages {
    conversation: ConversationId,
    plan: Plan,
    from_n: u64,
    limit: usize,
    bytes_left: usize,
    /// Ids of runs still to read; `None` before the first chunk.
    ids: Option<(u64, u64)>,
    found: Vec<Exchange>,
    is_done: bool,
}

impl Messages {
    async fn chunk(&mut self, now: Snapshot<'_>) -> Result<(), ReadError> {
        let (next, last) = match self.ids {
            Some(ids) => ids,
            None => self.first_ids(&now).await?,
        };
        let (ids, times) = (next..=last, Micros::MIN..=Micros::MAX);
        let Some(stretch) = Stretch::first(&now, Order::OldestFirst, &ids, &times).await? else {
            now.end().await?;
            self.is_done = true;
            return Ok(());
        };
        let selection = Selection {
            plan: &self.plan,
            order: Order::OldestFirst,
            rows: ROWS_MAX.min(self.limit as u64),
            with_bytes: true,
        };
        let runs = Runs::read(&now, stretch, &selection).await?;
        now.end().await?;
        let (from_n, limit) = (self.from_n, self.limit);
        runs.visit(|_, exchanges| {
            for exchange in exchanges.iter().filter(|exchange| exchange.n >= from_n) {
                if self.found.len() >= limit || self.bytes_left == 0 {
                    return ControlFlow::Break(());
                }
                let bytes = exchange.request.len() + exchange.reply.len();
                self.bytes_left = self.bytes_left.saturating_sub(bytes);
                self.found.push(exchange.into_owned());
            }
            ControlFlow::Continue(())
        })?;
        let next = runs.stopped.unwrap_or(stretch.high).saturating_add(1);
        self.is_done = self.found.len() >= limit || self.bytes_left == 0 || next > last;
        self.ids = Some((next, last));
        Ok(())
    }

    /// Returns the ids of the first run with messages of the page, and of the last run of the conversation.
    async fn first_ids(&self, now: &Snapshot<'_>) -> Result<(u64, u64), ReadError> {
        let mut parameters = Parameters::default();
        let id = parameters.id(self.conversation);
        let sql = format!(
            "SELECT state.last_exchange, c.first_run, c.last_run
            FROM state LEFT JOIN conversation c ON c.id = {id}"
        );
        let Some(row) = now.query_one(&sql, &parameters).await? else {
            return Err(row::foreign("no totals"));
        };
        let newest = row::number(&row, 0)?;
        // Without a row its opening was not recorded, and its runs may be anywhere.
        let first = row::optional_number(&row, 1)?.unwrap_or(1);
        let last = row::optional_number(&row, 2)?.unwrap_or(newest).min(newest);
        let mut positions = Lookups::of(now.readers).take_positions(self.conversation);
        let found = self.search(now, &mut positions, (first, last)).await?;
        Lookups::of(now.readers).keep_positions(self.conversation, positions);
        Ok((found, last))
    }

    async fn search(
        &self,
        now: &Snapshot<'_>,
        positions: &mut Positions,
        (first, last): (u64, u64),
    ) -> Result<u64, ReadError> {
        let mut search = positions.search(self.from_n, first, last);
        while let Some((low, high)) = search.step() {
            let mut parameters = Parameters::default();
            let id = parameters.id(self.conversation);
            let (low, high) = (parameters.id(low), parameters.id(high));
            let sql = format!(
                "SELECT id, n + count FROM run WHERE id BETWEEN {low} AND {high} AND conversation = {id}
                ORDER BY id LIMIT 1"
            );
            let run = match now.query_one(&sql, &parameters).await? {
                Some(row) => Some((row::number(&row, 0)?, row::number(&row, 1)?)),
                None => None,
            };
            search.take(run, positions);
        }
        Ok(search.found())
    }
}

/// Returns the marks of a conversation, oldest first.
pub(super) async fn marks(
    readers: Arc<Readers>,
    id: ConversationId,
) -> Result<Vec<Mark>, StoreError> {
    if id > ID_MAX {
        return Ok(Vec::new());
    }
    read(&readers, async |now: Snapshot<'_>| {
        let mut parameters = Parameters::default();
        let sql = format!(
            "SELECT at, what, a, b FROM mark WHERE conversation = {} ORDER BY at, what",
            parameters.id(id)
        );
        let rows = now.query(&sql, &parameters).await?;
        now.end().await?;
        let mut marks = Vec::new();
        for row in &rows {
            // A word of a newer version, which may add some, is left out.
            if let Some(what) = marked(row)? {
                let at = row.try_get(0)?;
                marks.push(Mark {
                    conversation: id,
                    at,
                    what,
                });
            }
        }
        Ok(marks)
    })
    .await
}

fn marked(row: &Row) -> Result<Option<Marked>, ReadError> {
    let number = || row::number(row, 2);
    Ok(match row.try_get(1)? {
        "half-closed" => Some(Marked::HalfClosed {
            received: number()?,
        }),
        "gap" => Some(Marked::Gap {
            exchanges: number()?,
            since: row.try_get(3)?,
        }),
        "dropped" => Some(Marked::Dropped {
            datagrams: number()?,
        }),
        "silenced" => Some(Marked::Silenced { for_us: number()? }),
        _ => None,
    })
}

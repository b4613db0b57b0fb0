//! Deletes single exchanges, which may lie inside runs.
//!
//! Other processes may record meanwhile: a deletion locks what an append locks, in the same order, for a short time.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use echoic_core::{
    event::{ConversationId, ExchangeId, Micros, RunEvent},
    exchange::ExchangeRef,
    filter::Filter,
    store::StoreError,
};
use tokio_postgres::Row;

use super::{
    labels,
    readers::Readers,
    row,
    rows::{ARRAY_BYTES, ROW_BYTES},
    search::Search,
    snapshot::{ReadError, Snapshot},
    sql::Parameters,
};

/// Exchanges deleted per transaction: some tens of milliseconds, during which appends wait.
const DELETED_AT_ONCE: usize = 1_000;

/// Conversations that are looked at per transaction.
const CONVERSATIONS_AT_ONCE: usize = 100;

/// Deletes the matching exchanges, if there are as many as `confirmed`, and conversations that have none left. Returns the
/// number of matching exchanges.
pub(super) async fn delete(
    readers: Arc<Readers>,
    filter: Filter,
    confirmed: u64,
    now: Micros,
) -> Result<u64, StoreError> {
    let last = Arc::clone(&readers).last().await?.exchange;
    let (mut search, mut total) = (Search::all_until(&filter, now, last), 0);
    while !search.is_done() {
        search.chunk(&readers, |_| total += 1).await?;
    }
    if total != confirmed {
        return Ok(total);
    }
    let (mut search, mut deleted) = (Search::all_until(&filter, now, last), 0);
    let mut conversations = BTreeSet::new();
    while !search.is_done() {
        let mut ids = Vec::new();
        let take = |exchange: ExchangeRef<'_>| {
            ids.push(exchange.id);
            conversations.insert(exchange.conversation.id);
        };
        search.chunk(&readers, take).await?;
        for ids in ids.chunks(DELETED_AT_ONCE) {
            let done = delete_exchanges(&readers, ids).await;
            deleted += done.map_err(|why| why.into_store_error(&readers))?;
        }
    }
    let conversations: Vec<_> = conversations.into_iter().collect();
    for ids in conversations.chunks(CONVERSATIONS_AT_ONCE) {
        let done = delete_conversations(&readers, ids).await;
        done.map_err(|why| why.into_store_error(&readers))?;
    }
    Ok(deleted)
}

/// A run with exchanges to delete.
struct Affected {
    part: i64,
    id: u64,
    count: u64,
    /// Those to delete.
    ids: Vec<i64>,
}

/// Deletes the exchanges with these ids, with their labels. What else is in their runs stays. Returns the number deleted.
async fn delete_exchanges(readers: &Readers, ids: &[ExchangeId]) -> Result<u64, ReadError> {
    let now = Snapshot::begin_change(readers).await?;
    // As an append does, before it locks anything else.
    let lock = "SELECT FROM state WHERE one = 1 FOR UPDATE";
    now.query(lock, &Parameters::default()).await?;
    let affected = affected(&now, ids).await?;
    let deleted = affected.iter().map(|run| run.ids.len() as u64).sum();
    let mut left = Vec::new();
    for run in &affected {
        if run.count > run.ids.len() as u64 {
            left.push((run, whole(&now, run).await?));
        }
    }
    delete_runs(&now, &affected).await?;
    for (run, whole) in left {
        let mut next = 0;
        for id in &run.ids {
            let at = u32::try_from(id.cast_unsigned() - run.id).unwrap_or(u32::MAX);
            whole.insert(&now, run, next..at).await?;
            next = at.saturating_add(1);
        }
        whole.insert(&now, run, next..whole.run.count).await?;
    }
    labels::remove_of_exchanges(&now, ids).await?;
    let mut parameters = Parameters::default();
    let number = parameters.id(deleted);
    let sql = format!("UPDATE state SET exchanges = exchanges - {number}");
    now.query(&sql, &parameters).await?;
    now.end().await?;
    Ok(deleted)
}

/// Returns the runs that the exchanges are in.
async fn affected(now: &Snapshot<'_>, ids: &[ExchangeId]) -> Result<Vec<Affected>, ReadError> {
    let mut parameters = Parameters::default();
    let ids = parameters.ids(ids.iter().copied());
    let sql = format!(
        "SELECT found.part::bigint, found.id, found.count::bigint, array_agg(named.id ORDER BY named.id)
        FROM unnest({ids}) AS named (id)
        CROSS JOIN LATERAL (
            SELECT part, id, count FROM run WHERE run.id <= named.id ORDER BY run.id DESC LIMIT 1
        ) AS found
        WHERE found.id + found.count > named.id
        GROUP BY found.part, found.id, found.count"
    );
    let affected = |row: &Row| {
        Ok(Affected {
            part: row.try_get(0)?,
            id: row::number(row, 1)?,
            count: row::number(row, 2)?,
            ids: row.try_get(3)?,
        })
    };
    let rows = now.query(&sql, &parameters).await?;
    rows.iter().map(affected).collect()
}

/// Bytes of a run, as an append counts them.
fn size_of(run: &str) -> String {
    format!(
        "octet_length({run}.req)::bigint + octet_length({run}.rep) + {ROW_BYTES}
        + coalesce({ARRAY_BYTES} + 4 * cardinality({run}.lengths), 0)"
    )
}

/// Deletes runs.
async fn delete_runs(now: &Snapshot<'_>, runs: &[Affected]) -> Result<(), ReadError> {
    let mut parameters = Parameters::default();
    let parts = parameters.numbers(runs.iter().map(|run| run.part).collect());
    let ids = parameters.ids(runs.iter().map(|run| run.id));
    let sql = format!(
        "WITH gone AS (
            DELETE FROM run USING unnest({parts}, {ids}) AS named (part, id)
            WHERE run.part = named.part AND run.id = named.id
            RETURNING run.part, run.count, {} AS bytes
        )
        UPDATE part SET exchanges = part.exchanges - sums.exchanges, bytes = greatest(part.bytes - sums.bytes, 0)
        FROM (SELECT part, sum(count) AS exchanges, sum(bytes) AS bytes FROM gone GROUP BY part) AS sums
        WHERE part.number = sums.part",
        size_of("run")
    );
    now.query(&sql, &parameters).await?;
    Ok(())
}

/// A run that is divided.
struct Whole {
    run: RunEvent,
    lengths: Vec<u32>,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// Reads a run.
async fn whole(now: &Snapshot<'_>, run: &Affected) -> Result<Whole, ReadError> {
    let mut parameters = Parameters::default();
    let (part, id) = (parameters.number(run.part), parameters.id(run.id));
    let sql = format!(
        "SELECT {}, r.req, r.rep FROM run r WHERE r.part = {part} AND r.id = {id}",
        row::RUN
    );
    let row = now.query_one(&sql, &parameters).await?;
    let row = row.ok_or_else(|| row::foreign("a run that cannot be found again"))?;
    let (run, lengths) = row::run(&row)?;
    Ok(Whole {
        run,
        lengths,
        request: row.try_get(10)?,
        reply: row.try_get(11)?,
    })
}

impl Whole {
    /// Inserts these exchanges of the run as a run of their own.
    async fn insert(
        &self,
        now: &Snapshot<'_>,
        of: &Affected,
        part: Range<u32>,
    ) -> Result<(), ReadError> {
        if part.is_empty() {
            return Ok(());
        }
        // Bytes of requests and of replies in some exchanges.
        let bytes = |of: Range<u32>| -> (usize, usize) {
            let lengths = self.lengths.get(2 * of.start as usize..2 * of.end as usize);
            let pairs = lengths.unwrap_or_default().chunks_exact(2);
            pairs.fold((0, 0), |(request, reply), pair| {
                (request + pair[0] as usize, reply + pair[1] as usize)
            })
        };
        let (before, own) = (bytes(0..part.start), bytes(part.clone()));
        let cut = |all: &[u8], before: usize, own: usize| -> Vec<u8> {
            all.iter().skip(before).take(own).copied().collect()
        };
        let mut parameters = Parameters::default();
        let lengths = &self.lengths[2 * part.start as usize..2 * part.end as usize];
        let lengths = lengths.iter().map(|length| i64::from(*length)).collect();
        let values = [
            parameters.number(of.part),
            parameters.id(of.id + u64::from(part.start)),
            parameters.id(self.run.conversation),
            parameters.id(self.run.n + u64::from(part.start)),
            parameters.number(i64::try_from(part.len()).unwrap_or(i64::MAX)),
            parameters.number(self.run.at),
            parameters.id(self.run.latency_ns),
            parameters.text(self.run.outcome.word()),
            // Only the first message of a run can have taken several reads.
            parameters.number(if part.start == 0 {
                self.run.reads.into()
            } else {
                1
            }),
            parameters.id(self.run.reply_offset + before.1 as u64),
            if part.len() > 1 {
                parameters.numbers(lengths)
            } else {
                "NULL".to_owned()
            },
            parameters.bytes(&cut(&self.request, before.0, own.0)),
            parameters.bytes(&cut(&self.reply, before.1, own.1)),
        ];
        let sql = format!(
            "WITH left_of_run AS (
                INSERT INTO run (part, id, conversation, n, count, at, latency_ns, outcome, reads, reply_offset, lengths, req, rep)
                VALUES ({}) RETURNING run.part, run.count, {} AS bytes
            )
            UPDATE part SET exchanges = exchanges + left_of_run.count, bytes = part.bytes + left_of_run.bytes
            FROM left_of_run WHERE part.number = left_of_run.part",
            values.join(", "),
            size_of("run")
        );
        now.query(&sql, &parameters).await?;
        Ok(())
    }
}

/// Deletes those of the conversations that have ended and have no run left, with all that belongs to them.
async fn delete_conversations(readers: &Readers, ids: &[ConversationId]) -> Result<(), ReadError> {
    let now = Snapshot::begin_change(readers).await?;
    let mut parameters = Parameters::default();
    let named = parameters.ids(ids.iter().copied());
    let sql = format!(
        "DELETE FROM conversation c WHERE c.id = ANY({named}) AND c.ended IS NOT NULL AND NOT EXISTS (
            SELECT FROM run r WHERE r.conversation = c.id AND r.id BETWEEN c.first_run AND c.last_run
        ) RETURNING c.id"
    );
    let rows = now.query(&sql, &parameters).await?;
    let deleted: Vec<u64> = rows
        .iter()
        .map(|row| row::number(row, 0))
        .collect::<Result<_, _>>()?;
    let mut parameters = Parameters::default();
    let ids = parameters.ids(deleted.iter().copied());
    for table in ["mark", "left_over", "tls"] {
        let sql = format!("DELETE FROM {table} WHERE conversation = ANY({ids})");
        now.query(&sql, &parameters).await?;
    }
    labels::remove_of_conversations(&now, &deleted).await?;
    now.end().await?;
    Ok(())
}

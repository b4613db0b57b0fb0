//! Counts of exchanges and bytes of open conversations.
//!
//! The ending of a conversation carries its byte counts. Conversations that are open when their server dies have no ending, so
//! the store counts too: in memory, written from time to time. What a lost connection left uncounted is counted again from
//! the runs.

use std::collections::HashMap;

use echoic_core::event::{Batch, ConversationId, ExchangeId, Micros, RunEvent};
use foldhash::fast::RandomState;
use tokio_postgres::{Client, Error};

/// Number of exchanges, of all servers, after which counts are written: at most this many are counted again.
const WRITE_EVERY: u64 = 65_536;

/// Counts of conversations of one server since `server.tallied`. The keys are our own ids, which no peer can choose.
#[derive(Default)]
pub(super) struct Counts {
    sums: HashMap<ConversationId, Sum, RandomState>,
    /// The last exchange when they were written; 0 before.
    written: ExchangeId,
}

/// Counts of one conversation.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) exchanges: u64,
    received: u64,
    sent: u64,
    seen: Micros,
}

impl Counts {
    pub(super) fn add(&mut self, run: &RunEvent, batch: &Batch) {
        let sum = self.sums.entry(run.conversation).or_default();
        sum.exchanges += u64::from(run.count);
        sum.received += batch.bytes(run.request).len() as u64;
        sum.sent += batch.bytes(run.reply).len() as u64;
        sum.seen = sum.seen.max(run.at);
    }

    /// Removes and returns the counts of a conversation that has ended.
    pub(super) fn take(&mut self, id: ConversationId) -> Sum {
        self.sums.remove(&id).unwrap_or_default()
    }

    /// Whether they should be written: `last` is the last exchange of the record.
    pub(super) fn is_due(&self, last: ExchangeId) -> bool {
        last >= self.written + WRITE_EVERY
    }

    /// Adds the counts to the rows of open conversations of the server with this key. All runs up to `last` are in them.
    pub(super) async fn write(
        &mut self,
        client: &Client,
        key: i64,
        last: ExchangeId,
    ) -> Result<(), Error> {
        let column = |of: fn(&Sum) -> u64| -> Vec<i64> {
            self.sums
                .values()
                .map(|sum| of(sum).cast_signed())
                .collect()
        };
        let ids: Vec<i64> = self.sums.keys().map(|id| id.cast_signed()).collect();
        let seen: Vec<i64> = self.sums.values().map(|sum| sum.seen).collect();
        let sql = "WITH counted AS (
                UPDATE conversation SET exchanges = conversation.exchanges + new.exchanges,
                    received = conversation.received + new.received, sent = conversation.sent + new.sent,
                    seen = greatest(conversation.seen, new.seen)
                FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
                    AS new (id, exchanges, received, sent, seen)
                WHERE conversation.id = new.id AND last_run IS NULL
            )
            UPDATE server SET tallied = greatest(tallied, $2) WHERE key = $1";
        client
            .execute(
                sql,
                &[
                    &key,
                    &last.cast_signed(),
                    &ids,
                    &column(|sum| sum.exchanges),
                    &column(|sum| sum.received),
                    &column(|sum| sum.sent),
                    &seen,
                ],
            )
            .await?;
        self.sums.clear();
        self.written = last;
        Ok(())
    }

    /// Counts the runs since `server.tallied` again, in one snapshot of the database.
    pub(super) async fn recount(client: &Client, key: i64) -> Result<(), Error> {
        let sql = "WITH new AS (
                SELECT run.conversation, sum(count)::bigint AS exchanges, sum(length(req))::bigint AS received,
                    sum(length(rep))::bigint AS sent, max(at) AS seen
                FROM run WHERE run.id > (SELECT tallied FROM server WHERE key = $1)
                    AND run.conversation IN (SELECT id FROM conversation WHERE server = $1 AND last_run IS NULL)
                GROUP BY run.conversation
            ), counted AS (
                UPDATE conversation SET exchanges = conversation.exchanges + new.exchanges,
                    received = conversation.received + new.received, sent = conversation.sent + new.sent,
                    seen = greatest(conversation.seen, new.seen)
                FROM new WHERE conversation.id = new.conversation AND last_run IS NULL
            )
            UPDATE server SET tallied = greatest(tallied, (SELECT last_exchange FROM state)) WHERE key = $1";
        client.execute(sql, &[&key]).await.map(drop)
    }
}

//! Counts of exchanges and bytes of open conversations.
//!
//! The ending of a conversation carries its byte counts. Conversations that are open when the server dies have no ending,
//! so the store counts too. Writing the counts with every append would cost as much as an index; they are held in memory
//! and written from time to time. After a crash the runs since then are counted again from the file.

use std::collections::HashMap;

use echoic_core::event::{Batch, ConversationId, Micros, RunEvent};
use foldhash::fast::RandomState;
use rusqlite::{Transaction, params};

use super::writer::Cache;

/// Number of exchanges after which counts are written: at most this many are counted again after a crash.
const WRITE_EVERY: u64 = 65_536;

/// Counts of conversations since [`super::writer::State::tallied`]. Each run looks its conversation up. The keys are our own
/// ids, which no peer can choose, so a fast hasher is safe; the standard one would cost some percent of an append.
#[derive(Default)]
pub(super) struct Counts(HashMap<ConversationId, Sum, RandomState>);

/// Counts of one conversation.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) exchanges: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) seen: Micros,
}

impl Counts {
    pub(super) fn add(&mut self, run: &RunEvent, batch: &Batch) {
        let sum = self.0.entry(run.conversation).or_default();
        sum.exchanges += u64::from(run.count);
        sum.received += batch.bytes(run.request).len() as u64;
        sum.sent += batch.bytes(run.reply).len() as u64;
        sum.seen = sum.seen.max(run.at);
    }

    /// Removes and returns the counts of a conversation that has ended.
    pub(super) fn take(&mut self, id: ConversationId) -> Sum {
        self.0.remove(&id).unwrap_or_default()
    }
}

impl Cache {
    /// Returns the counts, after counting again if they were discarded, or writing them if they are large.
    pub(super) fn counts(
        &mut self,
        transaction: &Transaction<'_>,
    ) -> rusqlite::Result<&mut Counts> {
        if self.counts.is_none() || self.state.last_exchange - self.state.tallied >= WRITE_EVERY {
            self.write_counts(transaction)?;
        }
        Ok(self.counts.get_or_insert_default())
    }

    /// Writes the counts to the file.
    pub(super) fn write_counts(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        match self.counts.take() {
            Some(counts) => write(transaction, &counts)?,
            None => recount(transaction, self.state.tallied)?,
        }
        self.state.tallied = self.state.last_exchange;
        self.counts = Some(Counts::default());
        Ok(())
    }
}

fn write(transaction: &Transaction<'_>, counts: &Counts) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached(
        "UPDATE conversation SET exchanges = exchanges + ?2, received = received + ?3,
            sent = sent + ?4, seen = max(seen, ?5)
         WHERE id = ?1 AND last_run IS NULL",
    )?;
    for (id, sum) in &counts.0 {
        update.execute(params![id, sum.exchanges, sum.received, sum.sent, sum.seen])?;
    }
    Ok(())
}

fn recount(transaction: &Transaction<'_>, after: u64) -> rusqlite::Result<()> {
    let sql =
        "UPDATE conversation SET exchanges = exchanges + new.runs, received = received + new.requests,
            sent = sent + new.replies, seen = max(seen, new.at)
         FROM (
            SELECT conversation, sum(count) AS runs, sum(length(req)) AS requests,
                sum(length(rep)) AS replies, max(at) AS at
            FROM run WHERE id > ?1 GROUP BY conversation
         ) AS new
         WHERE conversation.id = new.conversation AND last_run IS NULL";
    transaction.execute(sql, [after]).map(drop)
}

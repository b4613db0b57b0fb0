//! What open conversations have come to.
//!
//! A conversation that ends says itself what went through it. For those that never will, since the server died, a
//! tally is kept. Writing it down with every append would cost as much as an index; so it is kept in memory, and
//! written down once in a while. After a crash the runs since then are counted again from the file.

use std::collections::HashMap;

use echoic_core::event::{Batch, ConversationId, Micros, RunEvent};
use foldhash::fast::RandomState;
use rusqlite::{Transaction, params};

use super::writer::Memory;

/// Exchanges after which tallies are written down: at most so many are counted again after a crash.
const FOLD_EVERY: u64 = 65_536;

/// What has come to conversations since [`super::writer::State::tallied`]. It is looked into for each run, by numbers that
/// we give and no peer can choose: what the standard hasher does against peers is some hundredths of keeping a run.
#[derive(Default)]
pub(super) struct Tally(HashMap<ConversationId, Sum, RandomState>);

/// What has come to one of them.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) exchanges: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) seen: Micros,
}

impl Tally {
    pub(super) fn add(&mut self, run: &RunEvent, batch: &Batch) {
        let sum = self.0.entry(run.conversation).or_default();
        sum.exchanges += u64::from(run.count);
        sum.received += batch.bytes(run.request).len() as u64;
        sum.sent += batch.bytes(run.reply).len() as u64;
        sum.seen = sum.seen.max(run.at);
    }

    /// What has come to a conversation that is now beyond tallying.
    pub(super) fn take(&mut self, id: ConversationId) -> Sum {
        self.0.remove(&id).unwrap_or_default()
    }
}

impl Memory {
    /// The tally; counted again if it was forgotten, and written down if it is large.
    pub(super) fn tally(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<&mut Tally> {
        if self.tally.is_none() || self.state.last_exchange - self.state.tallied >= FOLD_EVERY {
            self.fold(transaction)?;
        }
        Ok(self.tally.get_or_insert_default())
    }

    /// Writes the tallies down.
    pub(super) fn fold(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        match self.tally.take() {
            Some(tally) => write(transaction, &tally)?,
            None => recount(transaction, self.state.tallied)?,
        }
        self.state.tallied = self.state.last_exchange;
        self.tally = Some(Tally::default());
        Ok(())
    }
}

fn write(transaction: &Transaction<'_>, tally: &Tally) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached(
        "UPDATE conversation SET exchanges = exchanges + ?2, received = received + ?3,
            sent = sent + ?4, seen = max(seen, ?5)
         WHERE id = ?1 AND last_run IS NULL",
    )?;
    for (id, sum) in &tally.0 {
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

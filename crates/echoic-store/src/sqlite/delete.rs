//! Deletes single exchanges, which may lie inside runs.

use std::ops::Range;

use echoic_core::{
    event::{ConversationId, ExchangeId, Outcome},
    store::StoreError,
};
use rusqlite::{Transaction, params};

use super::{labels, row, writer::Writer};

/// A run that is about to be divided.
struct Row {
    id: u64,
    conversation: ConversationId,
    n: u64,
    count: u32,
    at: i64,
    latency_ns: u64,
    outcome: Outcome,
    reads: u32,
    reply_offset: u64,
    lengths: Vec<u32>,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Writer {
    /// Deletes the exchanges with these ids, which increase, with their labels. What else is in their runs stays. Returns the
    /// number deleted.
    pub(super) fn delete_exchanges(&mut self, ids: &[ExchangeId]) -> Result<u64, StoreError> {
        self.overwrite(true)?;
        let deleted = self.transact(|transaction, cache| {
            let (mut deleted, mut rest) = (0, ids);
            while let [first, ..] = rest {
                let (of_run, count) = delete_in_run(transaction, *first, rest)?;
                deleted += count;
                rest = &rest[of_run.max(1)..];
            }
            cache.state.exchanges = cache.state.exchanges.saturating_sub(deleted);
            Ok(deleted)
        });
        self.overwrite(false)?;
        deleted
    }

    /// Deletes these conversations with all that belongs to them, those that are open excepted.
    pub(super) fn delete_conversations(
        &mut self,
        ids: &[ConversationId],
    ) -> Result<(), StoreError> {
        self.overwrite(true)?;
        let deleted = self.transact(|transaction, _| {
            for id in ids {
                let sql = "DELETE FROM conversation WHERE id = ?1 AND ended IS NOT NULL";
                if transaction.prepare_cached(sql)?.execute([id])? == 0 {
                    continue;
                }
                for sql in [
                    "DELETE FROM mark WHERE conversation = ?1",
                    "DELETE FROM left_over WHERE conversation = ?1",
                    "DELETE FROM tls WHERE conversation = ?1",
                ] {
                    transaction.prepare_cached(sql)?.execute([id])?;
                }
                labels::remove_of_conversation(transaction, *id)?;
            }
            Ok(())
        });
        self.overwrite(false)?;
        deleted
    }

    /// Whether deleted content is overwritten with zeros: what somebody deletes by name should not stay in free pages.
    fn overwrite(&mut self, overwrites: bool) -> Result<(), StoreError> {
        let set = self
            .connect()?
            .pragma_update(None, "secure_delete", overwrites);
        set.map_err(|why| self.check_error(&why))
    }
}

/// Deletes the exchange `first`, and all of `ids` that are in the same run. Returns how many of `ids` that were, and the number
/// of exchanges deleted.
fn delete_in_run(
    transaction: &Transaction<'_>,
    first: ExchangeId,
    ids: &[ExchangeId],
) -> rusqlite::Result<(usize, u64)> {
    let sql = "SELECT id, conversation, n, count, at, latency_ns, outcome, reads, reply_offset, lengths, req, rep
        FROM run WHERE id <= ?1 ORDER BY id DESC LIMIT 1";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query([first])?;
    let Some(found) = rows.next()? else {
        return Ok((1, 0));
    };
    let (run, lengths) = row::run(found)?;
    let row = Row {
        id: found.get(0)?,
        conversation: run.conversation,
        n: run.n,
        count: run.count,
        at: run.at,
        latency_ns: run.latency_ns,
        outcome: run.outcome,
        reads: run.reads,
        reply_offset: run.reply_offset,
        lengths,
        request: found.get(10)?,
        reply: found.get(11)?,
    };
    drop(rows);
    let end = row.id.saturating_add(u64::from(row.count));
    let of_run = ids.partition_point(|id| *id < end);
    if of_run == 0 {
        return Ok((1, 0));
    }
    transaction
        .prepare_cached("DELETE FROM run WHERE id = ?1")?
        .execute([row.id])?;
    let mut next = 0;
    for id in &ids[..of_run] {
        let at = u32::try_from(id - row.id).unwrap_or(u32::MAX);
        row.insert(transaction, next..at)?;
        next = at.saturating_add(1);
        labels::remove_of_exchanges(transaction, *id, *id)?;
    }
    row.insert(transaction, next..row.count)?;
    Ok((of_run, of_run as u64))
}

impl Row {
    /// Inserts these exchanges of the run as a run of their own.
    fn insert(&self, transaction: &Transaction<'_>, part: Range<u32>) -> rusqlite::Result<()> {
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
        let before = bytes(0..part.start);
        let own = bytes(part.clone());
        let cut = |all: &[u8], before: usize, own: usize| -> Vec<u8> {
            all.iter().skip(before).take(own).copied().collect()
        };
        let lengths = &self.lengths[2 * part.start as usize..2 * part.end as usize];
        let lengths: Vec<String> = lengths.iter().map(u32::to_string).collect();
        let insert = "INSERT INTO run (id, conversation, n, count, at, latency_ns, outcome, reads, reply_offset,
                lengths, req, rep)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        transaction
            .prepare_cached(insert)?
            .execute(params![
                self.id + u64::from(part.start),
                self.conversation,
                self.n + u64::from(part.start),
                part.len() as u64,
                self.at,
                self.latency_ns,
                self.outcome.word(),
                // Only the first message of a run can have taken several reads.
                if part.start == 0 { self.reads } else { 1 },
                self.reply_offset + before.1 as u64,
                (part.len() > 1).then(|| format!("[{}]", lengths.join(","))),
                cut(&self.request, before.0, own.0),
                cut(&self.reply, before.1, own.1),
            ])
            .map(drop)
    }
}

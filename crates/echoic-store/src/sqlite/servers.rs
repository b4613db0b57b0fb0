//! Servers that wrote to this database, and the ids of their batches.

use echoic_core::{
    ending::CloseReason,
    event::{Batch, ExchangeId, ServerId, ServerInfo},
    store::BATCHES_KNOWN,
};
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::writer::Writes;
use crate::batches::is_far_below;

/// Maximum of servers whose batches are remembered: the most recent ones.
const SERVERS_MAX: u32 = 16;

/// Maximum of servers whose batches are remembered when the file is opened for those of other processes.
const OTHERS_MAX: u32 = 256;

/// Number of batch ids deleted at a time.
const DELETE_EVERY: u64 = 1_024;

/// Servers seen since the file was opened, or since a commit failed.
#[derive(Default)]
pub(super) struct Servers {
    known: Vec<Known>,
    /// They are other processes: one that was taken for dead may come back.
    are_others: bool,
}

#[derive(Clone, Copy)]
struct Known {
    id: ServerId,
    key: i64,
    /// Largest number of a stored batch; 0 without one.
    newest: u64,
    /// Batch ids up to this number have been deleted.
    deleted: u64,
}

/// Result of a search for a batch.
pub(super) enum FoundBatch {
    /// It is stored, with this id of its first exchange.
    Stored(ExchangeId),
    /// It is not stored; this is the key of its server.
    New(i64),
}

impl Servers {
    pub(super) fn of(writes: Writes) -> Self {
        Self {
            known: Vec::new(),
            are_others: writes == Writes::OfOthers,
        }
    }

    pub(super) fn are_others(&self) -> bool {
        self.are_others
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// Ends the open conversations of a server that has died. Returns their number.
    pub(super) fn end(
        &mut self,
        transaction: &Transaction<'_>,
        id: ServerId,
        last: ExchangeId,
    ) -> rusqlite::Result<u64> {
        // If it comes back, it is looked for again.
        self.known.retain(|known| known.id != id);
        let of_server = "server = (SELECT key FROM server WHERE id = ?1) AND last_run IS NULL";
        end_open(transaction, of_server, &id.to_string(), last)
    }

    /// Searches for a batch, and adds its server if it is new.
    pub(super) fn find(
        &mut self,
        transaction: &Transaction<'_>,
        batch: &Batch,
    ) -> rusqlite::Result<FoundBatch> {
        let known = self.known(transaction, &batch.server)?;
        if batch.number > known.newest {
            return Ok(FoundBatch::New(known.key));
        }
        let sql = "SELECT first_id FROM batch WHERE server = ?1 AND number = ?2";
        let found = transaction
            .prepare_cached(sql)?
            .query_row((known.key, batch.number), |row| row.get(0))
            .optional()?;
        Ok(match found {
            Some(first_id) => FoundBatch::Stored(first_id),
            None if is_far_below(batch.number, known.newest) => FoundBatch::Stored(0),
            None => FoundBatch::New(known.key),
        })
    }

    /// Adds the id of a batch that is stored.
    pub(super) fn add(
        &mut self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        first_id: ExchangeId,
    ) -> rusqlite::Result<()> {
        let known = self.known(transaction, &batch.server)?;
        transaction
            .prepare_cached("INSERT INTO batch VALUES (?1, ?2, ?3)")?
            .execute((known.key, batch.number, first_id))?;
        known.newest = known.newest.max(batch.number);
        let below = known.newest.saturating_sub(BATCHES_KNOWN);
        if below >= known.deleted + DELETE_EVERY {
            transaction
                .prepare_cached("DELETE FROM batch WHERE server = ?1 AND number <= ?2")?
                .execute((known.key, below))?;
            known.deleted = below;
        }
        Ok(())
    }

    fn known(
        &mut self,
        transaction: &Transaction<'_>,
        server: &ServerInfo,
    ) -> rusqlite::Result<&mut Known> {
        let position = self.known.iter().position(|known| known.id == server.id);
        if let Some(at) = position {
            return Ok(&mut self.known[at]);
        }
        let id = server.id.to_string();
        let is_new = transaction.execute(
            "INSERT INTO server (id, name, started) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            (&id, &server.name, server.started),
        )? > 0;
        let sql = "SELECT key, coalesce((SELECT max(number) FROM batch WHERE server = key), 0)
            FROM server WHERE id = ?1";
        let (key, newest) =
            transaction.query_row(sql, [&id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if self.are_others && !is_new {
            revive(transaction, key)?;
        }
        if self.known.len() == SERVERS_MAX as usize {
            self.known.remove(0);
        }
        self.known.push(Known {
            id: server.id,
            key,
            newest,
            deleted: 0,
        });
        Ok(self.known.last_mut().expect("invariant: just pushed"))
    }
}

/// Ends open conversations that `which` selects, by the parameter 1, since their process has died. Returns their number.
pub(super) fn end_open(
    transaction: &Transaction<'_>,
    which: &str,
    parameter: &str,
    last: ExchangeId,
) -> rusqlite::Result<u64> {
    // Only the counts are known. Replies count as sent: to report a reply as unsent that the peer has received would be the worse
    // error. The counts are of requests and replies, and a client sends the requests.
    let sql = format!(
        "UPDATE conversation SET ended = seen, reason = ?2, last_run = ?3,
            received = CASE role WHEN 'client' THEN sent ELSE received END,
            sent = CASE role WHEN 'client' THEN received ELSE sent END
        WHERE {which}"
    );
    let reason = CloseReason::ProcessDied.word();
    let ended = transaction.execute(&sql, (parameter, reason, last))?;
    Ok(ended as u64)
}

/// Returns the servers that have open conversations.
pub(super) fn open(connection: &Connection) -> rusqlite::Result<Vec<ServerId>> {
    let sql = "SELECT id FROM server WHERE key IN (SELECT server FROM conversation WHERE last_run IS NULL)";
    let mut select = connection.prepare_cached(sql)?;
    let ids = select.query_map([], |row| row.get::<_, String>(0))?;
    let ids = ids.map(|id| id.map(|id| id.parse().ok()));
    ids.filter_map(Result::transpose).collect()
}

/// Opens the conversations again that were taken for those of a dead server.
fn revive(transaction: &Transaction<'_>, key: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation SET ended = NULL, reason = NULL, last_run = NULL,
            received = CASE role WHEN 'client' THEN sent ELSE received END,
            sent = CASE role WHEN 'client' THEN received ELSE sent END
        WHERE server = ?1 AND reason = ?2";
    let reason = CloseReason::ProcessDied.word();
    transaction.execute(sql, (key, reason)).map(drop)
}

/// Deletes the batch ids of all but the newest servers, and servers without conversations. Conversations are numbered in
/// the order of servers, so servers before that of the oldest conversation have none.
pub(super) fn delete_old(transaction: &Transaction<'_>, writes: Writes) -> rusqlite::Result<()> {
    let max = match writes {
        Writes::Own => SERVERS_MAX,
        Writes::OfOthers => OTHERS_MAX,
    };
    let newest = "SELECT coalesce(max(key), 0) FROM server";
    let newest: i64 = transaction.query_row(newest, [], |row| row.get(0))?;
    let before = newest.saturating_sub(i64::from(max) - 1);
    transaction.execute("DELETE FROM batch WHERE server < ?1", [before])?;
    let sql = "DELETE FROM server WHERE key < ?1
        AND key < coalesce((SELECT server FROM conversation ORDER BY id LIMIT 1), ?1)";
    transaction.execute(sql, [before]).map(drop)
}

//! Forgetting, oldest first.

use std::time::Duration;

use echoic_core::{
    event::Micros,
    store::{Retention, StoreError},
};
use rusqlite::{Connection, Transaction};

use super::{
    file::log_bytes,
    writer::{Memory, Writer, checkpoint},
};

/// Rows that one call forgets at most, of runs and of conversations: some tens of milliseconds, in which nothing
/// can be appended.
const ROWS_MAX: u32 = 20_000;

/// Payload that one call forgets at most.
const BYTES_MAX: u64 = 32 << 20;

/// What a run takes beside its payload, roughly.
const ROW_BYTES: u64 = 32;

/// Pages that one call gives back to the file system at most.
const PAGES_MAX: u64 = 8_192;

/// And in one transaction, so that the write-ahead log can be emptied in between.
const PAGES_STEP: u64 = 1_024;

impl Writer {
    /// Forgets some of what `keep` no longer covers; says how many exchanges that were.
    pub(super) fn prune(&mut self, keep: Retention, now: Micros) -> Result<u64, StoreError> {
        let old = keep.age.map_or(Micros::MIN, |age| now.saturating_sub(age));
        let excess = match keep.bytes {
            Some(bytes) => self.excess(bytes)?,
            None => 0,
        };
        let forgotten = self.transact(|transaction, memory| {
            let (before, forgotten) = doomed(transaction, memory, old, excess)?;
            if forgotten > 0 {
                transaction.execute("DELETE FROM run WHERE id < ?1", [before])?;
                memory.state.exchanges = memory.state.exchanges.saturating_sub(forgotten);
            }
            forget_conversations(
                transaction,
                before,
                if excess > 0 { Micros::MAX } else { old },
            )?;
            transaction.execute("DELETE FROM mark WHERE conversation = 0 AND at < ?1", [old])?;
            Ok(forgotten)
        })?;
        if let Some(bytes) = keep.bytes {
            self.give_back(bytes)?;
        }
        Ok(forgotten)
    }

    /// By how many bytes the record is larger than `bytes`. The write-ahead log, which forgetting makes longer, is
    /// emptied afterwards.
    fn excess(&mut self, bytes: u64) -> Result<u64, StoreError> {
        let pages = Pages::read(self.connect()?).map_err(|why| self.given_up(&why))?;
        Ok(pages.used_bytes().saturating_sub(bytes))
    }

    /// Makes the file smaller if it is larger than `bytes` and has pages to spare. A file below its limit keeps
    /// them: it will need them again, and giving back means moving the last pages to the front.
    fn give_back(&mut self, bytes: u64) -> Result<(), StoreError> {
        let path = self.path.clone();
        self.mover.wait().map_err(|why| self.given_up(&why))?; // else the file cannot be made shorter
        let connection = self.connect()?;
        let give = || -> rusqlite::Result<()> {
            let mut left = PAGES_MAX;
            loop {
                let pages = Pages::read(connection)?;
                let spare = (pages.all * pages.size)
                    .saturating_sub(bytes)
                    .div_ceil(pages.size);
                let step = spare.min(pages.free).min(left).min(PAGES_STEP);
                if step == 0 {
                    break;
                }
                connection.pragma(None, "incremental_vacuum", step, |_| Ok(()))?;
                left -= step;
            }
            // Only the checkpoint makes the file itself shorter.
            let pages = Pages::read(connection)?;
            if left < PAGES_MAX || pages.all * pages.size + log_bytes(&path) > bytes {
                checkpoint(connection, Duration::ZERO)?;
            }
            Ok(())
        };
        give().map_err(|why| self.given_up(&why))
    }
}

/// The first run to stay, and how many exchanges there are before it that have to go: those read before `old`,
/// and others until about half of `excess` bytes are free.
///
/// Half, because a run may take twice its size: pages are not filled to the last byte. Who forgets too little goes
/// on, and comes to the rest in a few calls.
fn doomed(
    transaction: &Transaction<'_>,
    memory: &Memory,
    old: Micros,
    excess: u64,
) -> rusqlite::Result<(u64, u64)> {
    let mut oldest = transaction.prepare_cached(
        "SELECT id, count, at, length(req) + length(rep) FROM run ORDER BY id LIMIT ?1",
    )?;
    let mut rows = oldest.query([ROWS_MAX + 1])?;
    let (mut exchanges, mut runs, mut bytes) = (0, 0, 0);
    while let Some(row) = rows.next()? {
        let (id, count, at): (u64, u64, Micros) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if (at >= old && bytes >= excess.div_ceil(2)) || runs == ROWS_MAX || bytes >= BYTES_MAX {
            return Ok((id, exchanges));
        }
        exchanges += count;
        runs += 1;
        bytes += row.get::<_, u64>(3)? + ROW_BYTES;
    }
    Ok((memory.state.last_exchange + 1, exchanges))
}

/// Forgets conversations that ended before `old` and of which no run is left.
fn forget_conversations(
    transaction: &Transaction<'_>,
    first_run: u64,
    old: Micros,
) -> rusqlite::Result<()> {
    let mut forget = transaction.prepare_cached(
        "DELETE FROM conversation WHERE id IN (
            SELECT id FROM conversation WHERE last_run < ?1 AND ended < ?2 ORDER BY last_run LIMIT ?3
         ) RETURNING id",
    )?;
    let mut forgotten = forget.query((first_run, old, ROWS_MAX))?;
    let mut marks = transaction.prepare_cached("DELETE FROM mark WHERE conversation = ?1")?;
    while let Some(row) = forgotten.next()? {
        marks.execute([row.get::<_, u64>(0)?])?;
    }
    Ok(())
}

/// The pages of a record.
pub(super) struct Pages {
    all: u64,
    free: u64,
    size: u64,
}

impl Pages {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let read = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        Ok(Self {
            all: read("page_count")?,
            free: read("freelist_count")?,
            size: read("page_size")?,
        })
    }

    /// Pages that will be used again do not count, nor does the write-ahead log.
    pub(super) fn used_bytes(&self) -> u64 {
        self.all.saturating_sub(self.free).saturating_mul(self.size)
    }
}

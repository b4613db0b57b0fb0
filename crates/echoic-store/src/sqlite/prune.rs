//! Retention: deletes the oldest exchanges.

use std::time::Duration;

use echoic_core::{
    event::Micros,
    store::{Retention, StoreError},
};
use rusqlite::{Connection, Transaction};

use super::{
    connection,
    file::log_bytes,
    labels,
    writer::{Cache, Writer, checkpoint},
};

/// Maximum of rows deleted per call, of runs and of conversations: some tens of milliseconds, during which appends wait.
const ROWS_MAX: u32 = 20_000;

/// Maximum of payload bytes deleted per call.
const BYTES_MAX: u64 = 32 << 20;

/// Approximate size of a run in bytes without its payload.
const ROW_BYTES: u64 = 32;

/// Maximum of pages released to the file system per call.
const PAGES_MAX: u64 = 8_192;

/// Maximum of pages released per transaction, so that the write-ahead log can be emptied in between.
const PAGES_STEP: u64 = 1_024;

/// Bytes after which the size is looked at while events are appended: some 8,000 small runs, and as many are deleted then,
/// in some milliseconds.
const CHECK_BYTES_MAX: u64 = 1 << 20;

/// Maximum of steps that delete after one append. An append may bring 30,000 runs, and a step deletes up to [`ROWS_MAX`].
const STEPS_MAX: u32 = 4;

/// The smallest log that a limit makes the store restart; below it the waits for the disk would cost too much.
const LOG_BYTES_MIN: u64 = 1 << 20;

/// The limit of the size, between the calls of [`Writer::prune`]: those come once a minute, and a second can bring tens of
/// megabytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SizeLimit {
    bytes: Option<u64>,
    /// Bytes appended since the size was looked at.
    appended: u64,
}

impl SizeLimit {
    /// Returns the length at which the write-ahead log restarts: a thirtieth of the limit, so that both together stay within
    /// a tenth above it.
    pub(super) fn log_bytes(self) -> u32 {
        let bytes = self.bytes.map_or(u64::MAX, |bytes| bytes / 32);
        let within = bytes.clamp(LOG_BYTES_MIN, connection::LOG_BYTES.into());
        u32::try_from(within).unwrap_or(connection::LOG_BYTES)
    }
}

impl Writer {
    /// Counts bytes that are about to be appended, and deletes the oldest runs where they would exceed the limit.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<(), StoreError> {
        let Some(limit) = self.size_limit.bytes else {
            return Ok(());
        };
        let appended = &mut self.size_limit.appended;
        *appended += bytes as u64;
        if *appended < CHECK_BYTES_MAX.min(limit / 64) {
            return Ok(());
        }
        // In memory a batch is larger than in the file.
        let room = (bytes as u64).min(limit / 4);
        *appended = 0;
        for _ in 0..STEPS_MAX {
            let excess = self.excess(limit - room)?;
            if excess == 0 || self.delete(Micros::MIN, excess)? == 0 || excess < limit / 64 {
                break;
            }
        }
        Ok(())
    }

    fn set_size_limit(&mut self, bytes: Option<u64>) -> Result<(), StoreError> {
        if self.size_limit.bytes != bytes {
            self.size_limit.bytes = bytes;
            self.connect()?;
            self.limit_log()?;
        }
        Ok(())
    }

    /// Deletes a bounded number of rows beyond `retention`. Returns the number of exchanges deleted.
    pub(super) fn prune(&mut self, retention: Retention, now: Micros) -> Result<u64, StoreError> {
        self.set_size_limit(retention.bytes)?;
        let old = retention
            .age
            .map_or(Micros::MIN, |age| now.saturating_sub(age));
        let excess = match retention.bytes {
            Some(bytes) => self.excess(bytes)?,
            None => 0,
        };
        let deleted = self.delete(old, excess)?;
        if let Some(bytes) = retention.bytes {
            self.shrink(bytes)?;
        }
        Ok(deleted)
    }

    /// Deletes what is older than `old`, and the oldest runs of `excess` bytes. Returns the number of exchanges deleted.
    fn delete(&mut self, old: Micros, excess: u64) -> Result<u64, StoreError> {
        self.transact(|transaction, cache| {
            let (before, deleted) = first_to_retain(transaction, cache, old, excess)?;
            if deleted > 0 {
                transaction.execute("DELETE FROM run WHERE id < ?1", [before])?;
                labels::remove_of_exchanges(transaction, 0, before.saturating_sub(1))?;
                cache.state.exchanges = cache.state.exchanges.saturating_sub(deleted);
            }
            delete_conversations(
                transaction,
                before,
                if excess > 0 { Micros::MAX } else { old },
            )?;
            transaction.execute("DELETE FROM mark WHERE conversation = 0 AND at < ?1", [old])?;
            Ok(deleted)
        })
    }

    /// Returns by how many bytes the database exceeds `bytes`. The write-ahead log does not count: deleting makes it longer,
    /// and it is emptied afterwards.
    fn excess(&mut self, bytes: u64) -> Result<u64, StoreError> {
        let pages = Pages::read(self.connect()?).map_err(|why| self.check_error(&why))?;
        Ok(pages.used_bytes().saturating_sub(bytes))
    }

    /// Releases free pages if the file is larger than `bytes`. A file below its limit retains them: it will need them again,
    /// and releasing them means moving the last pages to the front.
    fn shrink(&mut self, bytes: u64) -> Result<(), StoreError> {
        let path = self.path.clone();
        self.checkpointer
            .wait()
            .map_err(|why| self.check_error(&why))?; // a running checkpoint prevents truncation
        let connection = self.connect()?;
        let shrink = || -> rusqlite::Result<()> {
            let mut left = PAGES_MAX;
            loop {
                let pages = Pages::read(connection)?;
                let excess = (pages.all * pages.size)
                    .saturating_sub(bytes)
                    .div_ceil(pages.size);
                let step = excess.min(pages.free).min(left).min(PAGES_STEP);
                if step == 0 {
                    break;
                }
                connection.pragma(None, "incremental_vacuum", step, |_| Ok(()))?;
                left -= step;
            }
            // Only a checkpoint truncates the file.
            let pages = Pages::read(connection)?;
            if left < PAGES_MAX || pages.all * pages.size + log_bytes(&path) > bytes {
                checkpoint(connection, Duration::ZERO)?;
            }
            Ok(())
        };
        shrink().map_err(|why| self.check_error(&why))
    }
}

/// Returns the first run to retain, and the number of exchanges before it: those older than `old`, and others until about
/// half of `excess` bytes are free.
///
/// Half, because a run may take twice its size, since pages are not completely filled. Later calls delete the rest.
fn first_to_retain(
    transaction: &Transaction<'_>,
    cache: &Cache,
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
    Ok((cache.state.last_exchange + 1, exchanges))
}

/// Deletes conversations without runs that ended before `old`.
fn delete_conversations(
    transaction: &Transaction<'_>,
    first_run: u64,
    old: Micros,
) -> rusqlite::Result<()> {
    let mut delete = transaction.prepare_cached(
        "DELETE FROM conversation WHERE id IN (
            SELECT id FROM conversation WHERE last_run < ?1 AND ended < ?2 ORDER BY last_run LIMIT ?3
         ) RETURNING id",
    )?;
    let mut deleted = delete.query((first_run, old, ROWS_MAX))?;
    let mut marks = transaction.prepare_cached("DELETE FROM mark WHERE conversation = ?1")?;
    let mut left_over =
        transaction.prepare_cached("DELETE FROM left_over WHERE conversation = ?1")?;
    let mut tls = transaction.prepare_cached("DELETE FROM tls WHERE conversation = ?1")?;
    while let Some(row) = deleted.next()? {
        labels::remove_of_conversation(transaction, row.get(0)?)?;
        left_over.execute([row.get::<_, u64>(0)?])?;
        tls.execute([row.get::<_, u64>(0)?])?;
        marks.execute([row.get::<_, u64>(0)?])?;
    }
    Ok(())
}

/// Page counts of a database.
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

    /// Returns the bytes in use, without free pages and the write-ahead log.
    pub(super) fn used_bytes(&self) -> u64 {
        self.all.saturating_sub(self.free).saturating_mul(self.size)
    }
}

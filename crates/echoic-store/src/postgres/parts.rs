//! Partitions of the runs, and retention.
//!
//! Runs go into one partition until it is old or large, and then into the next, which was made ahead. Retention drops whole
//! partitions; only from the one that runs go into it deletes single runs.

use echoic_core::{event::Micros, store::Retention};
use tokio_postgres::{Error, error::SqlState};

use super::{rows::ROW_BYTES, writer::Session};

/// Size of a partition without a limit of the record.
const PART_BYTES_MAX: u64 = 1 << 30;

/// Smallest size of a partition.
const PART_BYTES_MIN: u64 = 128 << 10;

/// Number of partitions of a record that has reached a limit: by so much it may fall below its size.
const PARTS: u64 = 16;

/// Longest time that runs go into one partition, and the shortest, in seconds.
const PART_SECONDS_MAX: f64 = 86_400.0;
const PART_SECONDS_MIN: f64 = 60.0;

/// Maximum of rows deleted at a time.
const ROWS_MAX: i64 = 20_000;

/// Maximum of partitions dropped, or of times that runs are deleted, after one append.
const STEPS_MAX: u32 = 8;

/// Limits of the partition that runs go into, and of the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    bytes: Option<u64>,
    part_bytes: u64,
    part_seconds: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(Retention {
            age: None,
            bytes: None,
        })
    }
}

impl Limits {
    pub(super) fn of(retention: Retention) -> Self {
        let part_bytes = retention.bytes.map_or(PART_BYTES_MAX, |bytes| {
            (bytes / PARTS).clamp(PART_BYTES_MIN, PART_BYTES_MAX)
        });
        let part_seconds = retention.age.map_or(PART_SECONDS_MAX, |age| {
            (age as f64 / 1e6 / PARTS as f64).clamp(PART_SECONDS_MIN, PART_SECONDS_MAX)
        });
        Self {
            bytes: retention.bytes,
            part_bytes,
            part_seconds,
        }
    }
}

/// How full the partition is that runs go into, and the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) part_bytes: u64,
    /// Time since its first run.
    pub(super) part_seconds: f64,
    /// Whether there is one ahead.
    pub(super) has_next: bool,
    pub(super) all_bytes: u64,
}

impl Room {
    /// Whether runs should go into the next partition.
    pub(super) fn is_used_up(&self, limits: Limits) -> bool {
        self.part_bytes >= limits.part_bytes || self.part_seconds >= limits.part_seconds
    }
}

/// The oldest partition with runs.
struct Oldest {
    number: i32,
    is_current: bool,
    newest: Option<Micros>,
    /// Bytes of the record.
    all_bytes: u64,
}

impl Session {
    /// Makes the next partition, and deletes the oldest runs of a record that is over its limit.
    pub(super) async fn after_append(&mut self, room: Room, limits: Limits) -> Result<(), Error> {
        if !room.has_next {
            // A role that may not do so goes on with the same partition.
            let made = self.client.execute("SELECT make_part()", &[]).await;
            made.map(drop).or_else(unless_lost)?;
        }
        let Some(limit) = limits.bytes.filter(|limit| room.all_bytes > *limit) else {
            return Ok(());
        };
        for _ in 0..STEPS_MAX {
            if self.delete_oldest(Micros::MIN, Some(limit)).await?.0 == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Deletes a bounded number of exchanges beyond `retention`, and what is left without them. Returns their number.
    pub(super) async fn prune(&mut self, retention: Retention, now: Micros) -> Result<u64, Error> {
        let age = retention.age;
        let old = age.map_or(Micros::MIN, |age| now.saturating_sub(age));
        let (deleted, is_over) = self.delete_oldest(old, retention.bytes).await?;
        self.delete_left(if is_over { Micros::MAX } else { old }, old)
            .await?;
        Ok(deleted)
    }

    /// Drops the oldest partition if all of its runs are older than `old` or the record exceeds `limit`; deletes such runs from
    /// the one that runs go into. Returns the number of exchanges, and whether the record was over its limit.
    async fn delete_oldest(
        &mut self,
        old: Micros,
        limit: Option<u64>,
    ) -> Result<(u64, bool), Error> {
        loop {
            let oldest = self.oldest().await?;
            let excess = limit.map_or(0, |limit| oldest.all_bytes.saturating_sub(limit));
            let deleted = if oldest.is_current {
                self.delete_runs(oldest.number, old, excess).await?
            } else if excess > 0 || oldest.newest.is_none_or(|newest| newest < old) {
                match self.drop_part(oldest.number).await? {
                    // It was empty.
                    Some(0) => continue,
                    dropped => dropped.unwrap_or(0),
                }
            } else {
                0
            };
            return Ok((deleted, excess > 0));
        }
    }

    async fn oldest(&self) -> Result<Oldest, Error> {
        let sql =
            "SELECT number, number = state.part, newest, (SELECT sum(bytes)::bigint FROM part)
            FROM part JOIN state ON number <= state.part ORDER BY number LIMIT 1";
        let row = self.client.query_one(sql, &[]).await?;
        Ok(Oldest {
            number: row.get(0),
            is_current: row.get(1),
            newest: row.get(2),
            all_bytes: row.get::<_, i64>(3).cast_unsigned(),
        })
    }

    /// Drops a partition. `None` if a search that is going on uses it: whoever comes after us would wait for that too.
    async fn drop_part(&mut self, number: i32) -> Result<Option<u64>, Error> {
        let transaction = self.client.transaction().await?;
        let dropped = async {
            transaction
                .batch_execute("SET LOCAL lock_timeout = 200")
                .await?;
            let sql = "SELECT drop_part($1)";
            transaction.query_one(sql, &[&number]).await
        };
        match dropped.await {
            Ok(row) => {
                transaction.commit().await?;
                Ok(Some(row.get::<_, i64>(0).cast_unsigned()))
            }
            Err(why) if why.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                transaction.rollback().await?;
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }

    /// Deletes the oldest runs of a partition: those before `old`, and about half of `excess` bytes. Later calls delete the rest.
    async fn delete_runs(&mut self, part: i32, old: Micros, excess: u64) -> Result<u64, Error> {
        let transaction = self.client.transaction().await?;
        let sql = "SELECT last_exchange FROM state FOR UPDATE";
        let last: i64 = transaction.query_one(sql, &[]).await?.get(0);
        let sql = "SELECT id, count, at,
                length(req)::bigint + length(rep) + coalesce(24 + 4 * cardinality(lengths), 0)
            FROM run WHERE part = $1 ORDER BY id LIMIT $2";
        let rows = transaction.query(sql, &[&part, &(ROWS_MAX + 1)]).await?;
        let (mut before, mut exchanges, mut bytes) = (last + 1, 0, 0);
        for (row, at) in rows.iter().zip(0..) {
            let time: Micros = row.get(2);
            if (time >= old && bytes >= excess.div_ceil(2)) || at == ROWS_MAX {
                before = row.get(0);
                break;
            }
            exchanges += i64::from(row.get::<_, i32>(1));
            bytes += row.get::<_, i64>(3).cast_unsigned() + ROW_BYTES;
        }
        if exchanges > 0 {
            let sql = "DELETE FROM run WHERE part = $1 AND id < $2";
            transaction.execute(sql, &[&part, &before]).await?;
            let sql = "WITH left_over AS (SELECT min(id) AS first, min(at) AS oldest FROM run WHERE part = $1)
                UPDATE part SET exchanges = exchanges - $2, bytes = greatest(bytes - $3, 0),
                    first_id = left_over.first, oldest = left_over.oldest,
                    newest = CASE WHEN left_over.first IS NULL THEN NULL ELSE newest END
                FROM left_over WHERE number = $1";
            let bytes = bytes.cast_signed();
            transaction
                .execute(sql, &[&part, &exchanges, &bytes])
                .await?;
            let sql = "UPDATE state SET exchanges = exchanges - $1";
            transaction.execute(sql, &[&exchanges]).await?;
        }
        transaction.commit().await?;
        Ok(exchanges.cast_unsigned())
    }

    /// Deletes labels of exchanges that are gone, conversations that ended before `ended` and have none left, and gaps before
    /// `old`.
    async fn delete_left(&mut self, ended: Micros, old: Micros) -> Result<(), Error> {
        let sql = "SELECT coalesce(min(first_id), (SELECT last_exchange + 1 FROM state)) FROM part";
        let first: i64 = self.client.query_one(sql, &[]).await?.get(0);
        let sql = "WITH of_notes AS (DELETE FROM exchange_note WHERE exchange < $1)
            DELETE FROM exchange_tag WHERE exchange < $1";
        self.client.execute(sql, &[&first]).await?;
        let sql = "WITH gone AS (
                DELETE FROM conversation WHERE id IN (
                    SELECT id FROM conversation WHERE last_run < $1 AND ended < $2 ORDER BY last_run LIMIT $3
                ) RETURNING id
            ), of_marks AS (DELETE FROM mark USING gone WHERE conversation = gone.id),
            of_left_over AS (DELETE FROM left_over USING gone WHERE conversation = gone.id),
            of_tls AS (DELETE FROM tls USING gone WHERE conversation = gone.id),
            of_tags AS (DELETE FROM conversation_tag USING gone WHERE conversation = gone.id)
            DELETE FROM conversation_note USING gone WHERE conversation = gone.id";
        self.client
            .execute(sql, &[&first, &ended, &ROWS_MAX])
            .await?;
        let sql = "DELETE FROM mark WHERE conversation = 0 AND at < $1";
        self.client.execute(sql, &[&old]).await.map(drop)
    }
}

/// Ignores an error after which the connection goes on.
fn unless_lost(why: Error) -> Result<(), Error> {
    if why.as_db_error().is_some() && !why.is_closed() {
        return Ok(());
    }
    Err(why)
}

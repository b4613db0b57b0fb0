//! The writer: its connection, its cached state, and commits.

mod succession;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use echoic_core::{
    event::{EndpointInfo, ServerId},
    store::{Durability, LabelChange, StoreError},
};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    carried::Carried,
    checkpointer::Checkpointer,
    connection,
    counts::Counts,
    error::{failed, is_unsafe, store_error, system_error, write_error},
    file::{self, Lock},
    labels,
    open_files::OpenFiles,
    prune::SizeLimit,
    servers::{self, Servers},
    worker::Work,
};
use crate::{FileChange, OnFileChange};

/// Interval of looking at all files of the store, also without appends. After a commit only the database is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whose events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// Those of this process.
    Own,
    /// Those of other processes, which live longer or shorter than this one.
    OfOthers,
}

/// Owns the connection for writing.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    durability: Durability,
    /// `None` after an error that made it unsafe; opened again before its next use.
    connection: Option<Connection>,
    /// Length of the write-ahead log in pages.
    log_pages: Arc<AtomicU32>,
    pub(super) checkpointer: Checkpointer,
    pub(super) cache: Cache,
    pub(super) size_limit: SizeLimit,
    /// Whether commits sync: the last value of `PRAGMA synchronous`.
    syncs: bool,
    /// Error of a sync that failed between appends. The next append returns it.
    failed: Option<StoreError>,
    /// Whether to remove the file on close.
    discarded: bool,
    files: OpenFiles,
    looked_at: Instant,
    /// State when the database was last seen at its path.
    seen: State,
    /// Set from when the database was closed because its path did not name it any more, until a new one has this.
    carried: Option<Carried>,
    on_change: OnFileChange,
    /// Declared last, so that it is released after the file is closed.
    lock: Lock,
}

/// State cached in memory. Valid as of the last commit; discarded when a commit fails.
#[derive(Default)]
pub(super) struct Cache {
    pub(super) state: State,
    pub(super) endpoints: HashMap<EndpointInfo, i64>,
    pub(super) servers: Servers,
    pub(super) counts: Option<Counts>,
}

/// The changing columns of the table `state`.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    pub(super) exchanges: u64,
    pub(super) last_exchange: u64,
    pub(super) last_conversation: u64,
    pub(super) tallied: u64,
}

impl State {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT exchanges, last_exchange, last_conversation, tallied FROM state";
        connection.query_row(sql, [], |row| {
            Ok(Self {
                exchanges: row.get(0)?,
                last_exchange: row.get(1)?,
                last_conversation: row.get(2)?,
                tallied: row.get(3)?,
            })
        })
    }

    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        let sql =
            "UPDATE state SET exchanges = ?, last_exchange = ?, last_conversation = ?, tallied = ?";
        let row = (
            self.exchanges,
            self.last_exchange,
            self.last_conversation,
            self.tallied,
        );
        connection.prepare_cached(sql)?.execute(row).map(drop)
    }
}

impl Writer {
    /// Opens the database and ends the conversations left open in it, unless they are of other processes. Returns their number.
    pub(super) fn open(
        path: &Path,
        durability: Durability,
        on_change: OnFileChange,
        lock: Lock,
        writes: Writes,
    ) -> Result<(Self, u64), StoreError> {
        let log_pages = Arc::default();
        let connection = connection::open_to_write(path, &log_pages)?;
        let mut writer = Self {
            path: path.to_owned(),
            durability,
            connection: Some(connection),
            files: OpenFiles::at(path),
            looked_at: Instant::now(),
            seen: State::default(),
            carried: None,
            on_change,
            log_pages,
            checkpointer: Checkpointer::new(path),
            cache: Cache {
                servers: Servers::of(writes),
                ..Cache::default()
            },
            size_limit: SizeLimit::default(),
            syncs: false,
            failed: None,
            discarded: false,
            lock,
        };
        let begun = writer.checkpointer.reset();
        begun.map_err(|why| system_error(path, &why))?;
        let recovered = writer.transact(|transaction, cache| {
            cache.write_counts(transaction)?;
            // Any change: SQLite syncs the log and its directory entry when it writes the first page. That happens now rather than
            // at the first append.
            transaction.execute("UPDATE state SET synced = synced + 1", [])?;
            servers::delete_old(transaction, writes)?;
            if writes == Writes::OfOthers {
                return Ok(0);
            }
            let all = "last_run IS NULL AND ?1 = ''";
            servers::end_open(transaction, all, "", cache.state.last_exchange)
        })?;
        Ok((writer, recovered))
    }

    /// Runs `work` in a transaction with the configured durability.
    pub(super) fn transact<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Cache) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let done = self.commit(self.durability == Durability::Strict, work)?;
        self.look()?;
        Ok(done)
    }

    fn commit<T>(
        &mut self,
        syncs: bool,
        work: impl FnOnce(&Transaction<'_>, &mut Cache) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.connect()?;
        let Self {
            connection,
            cache,
            log_pages,
            checkpointer,
            durability,
            ..
        } = self;
        let connection = connection
            .as_mut()
            .expect("invariant: connect has opened it");
        let done = (|| {
            if self.syncs != syncs {
                // Must not change inside a transaction. FULL syncs the log after the commit, including all earlier
                // commits; NORMAL leaves that to the next checkpoint.
                let level = if syncs { "FULL" } else { "NORMAL" };
                connection.pragma_update(None, "synchronous", level)?;
                self.syncs = syncs;
            }
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if cache.counts.is_none() {
                cache.endpoints.clear();
                cache.servers.clear();
                cache.state = State::read(&transaction)?;
            }
            let done = work(&transaction, cache)?;
            cache.state.write(&transaction)?;
            transaction.commit()?;
            if *durability == Durability::Normal && !syncs {
                checkpointer.request_sync();
            }
            checkpointer.poll(connection, log_pages.load(Ordering::Relaxed))?;
            Ok(done)
        })();
        match done {
            Ok(done) => Ok(done),
            Err(why) => {
                // The cached state was not committed.
                cache.counts = None;
                if !connection.is_autocommit() {
                    self.connection = None;
                }
                Err(self.check_error(&why))
            }
        }
    }

    /// Converts an error, and closes the connection if it is unsafe after it.
    pub(super) fn check_error(&mut self, why: &rusqlite::Error) -> StoreError {
        if is_unsafe(why) {
            self.connection = None;
        }
        write_error(&self.path, why)
    }

    /// Returns the connection, opened again if necessary.
    pub(super) fn connect(&mut self) -> Result<&Connection, StoreError> {
        if self.connection.is_none() {
            // Its checkpoints are in doubt too, and it would block this one.
            let _ = self.checkpointer.stop();
            if self.carried.is_none() && self.files.is_gone() {
                let path = self.path.clone();
                (self.on_change)(&FileChange::Renamed { path, to: None });
                self.carried = Some(Carried::ids(self.seen));
            }
            if let Some(carried) = self.carried.take() {
                let opened = self.open_successor(&carried);
                if opened.is_err() {
                    self.carried = Some(carried);
                }
                self.connection = Some(opened?);
                self.limit_log()?;
                return Ok(self.connection.as_ref().expect("invariant: just opened"));
            }
            let connection = connection::open_to_write(&self.path, &self.log_pages)?;
            self.syncs = false;
            // After a failed sync the system may have dropped dirty pages and will not report it again. The log can
            // still be read: it is rewritten and synced, copied into the database and synced there.
            self.rewrite_log(&connection)?;
            let done = checkpoint(&connection, connection::BUSY);
            if !done.map_err(|why| write_error(&self.path, &why))? {
                let what = "after a failed write, readers prevent a checkpoint of the log";
                return Err(failed(&self.path, what));
            }
            let begun = self.checkpointer.reset();
            begun.map_err(|why| system_error(&self.path, &why))?;
            self.files = OpenFiles::at(&self.path);
            self.connection = Some(connection);
            self.limit_log()?;
        }
        Ok(self.connection.as_ref().expect("invariant: just opened"))
    }

    /// Applies the limit of the log, which depends on that of the database.
    pub(super) fn limit_log(&mut self) -> Result<(), StoreError> {
        let bytes = self.size_limit.log_bytes();
        self.checkpointer.limit_log(bytes);
        let Some(connection) = &self.connection else {
            return Ok(());
        };
        connection
            .pragma_update(None, "journal_size_limit", 2 * bytes)
            .map_err(|why| self.check_error(&why))
    }

    /// Makes the log durable before its checkpoint: a power loss during the copy would leave the database partly copied,
    /// without a log to repair it.
    fn rewrite_log(&self, connection: &Connection) -> Result<(), StoreError> {
        let refused = |why: rusqlite::Error| write_error(&self.path, &why);
        // Prevents other processes from writing to it.
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(refused)?;
        let rewritten = file::rewrite_log(&self.path);
        connection.execute_batch("ROLLBACK").map_err(refused)?;
        rewritten.map_err(|why| system_error(&self.path, &why))
    }

    /// Writes a change of labels. Returns the number of exchanges or conversations in the store that it was for.
    pub(super) fn label(&mut self, change: &LabelChange) -> Result<u64, StoreError> {
        // Before the transaction: one that fails discards the cached state.
        let checked = change.check().map_err(labels::invalid);
        checked.map_err(|why| store_error(&self.path, &why))?;
        self.transact(|transaction, _| labels::apply(transaction, change))
    }

    /// Returns the servers elsewhere that have open conversations.
    pub(super) fn open_servers(&mut self) -> Result<Vec<ServerId>, StoreError> {
        if !self.cache.servers.are_others() {
            return Ok(Vec::new());
        }
        let found = servers::open(self.connect()?);
        found.map_err(|why| self.check_error(&why))
    }

    /// Ends the open conversations of a server elsewhere that has died.
    pub(super) fn end_server(&mut self, server: ServerId) -> Result<u64, StoreError> {
        self.transact(|transaction, cache| {
            cache.write_counts(transaction)?;
            let last = cache.state.last_exchange;
            cache.servers.end(transaction, server, last)
        })
    }

    /// Removes the file on close, if the store is empty.
    pub(super) fn discard(&mut self) -> Result<(), StoreError> {
        self.discarded = self.transact(|transaction, _| {
            let sql = "SELECT last_exchange + last_conversation = 0 FROM state";
            transaction.query_row(sql, [], |row| row.get(0))
        })?;
        Ok(())
    }
}

/// Copies the log into the database and truncates it. Waits up to `timeout` for readers that still need it. Returns whether
/// it succeeded.
pub(super) fn checkpoint(connection: &Connection, timeout: Duration) -> rusqlite::Result<bool> {
    connection.busy_timeout(timeout)?;
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    let busy = connection.query_row(sql, [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(connection::BUSY)?;
    busy.map(|busy| !busy)
}

impl Work for Writer {
    /// With traffic each append polls the checkpointer and looks at the file; this is for the time without appends.
    fn due(&self) -> Option<Instant> {
        let look = self.looked_at + LOOK_EVERY;
        Some(self.checkpointer.due().map_or(look, |due| due.min(look)))
    }

    fn overdue(&mut self) {
        let polled = match &self.connection {
            Some(connection) => self
                .checkpointer
                .poll(connection, self.log_pages.load(Ordering::Relaxed))
                .map_err(|why| self.check_error(&why)),
            None => self.connect().map(drop),
        };
        let looked = polled.and_then(|()| match self.connection {
            Some(_) => self.look(),
            None => Ok(()),
        });
        self.looked_at = Instant::now();
        // The next append returns the error, unless a retry succeeds before. The promised sync is retried.
        self.failed = looked.err();
        if self.failed.is_some() {
            self.checkpointer.retry_sync();
        }
    }

    fn finish(mut self) -> Result<(), StoreError> {
        if self.discarded {
            let _ = self.checkpointer.stop();
            drop(self.connection.take());
            return file::remove(&self.path, &self.lock);
        }
        let failed = self.failed.take();
        if let Err(why) = self.checkpointer.stop() {
            self.check_error(&why); // the pages are still in the log
        }
        self.commit(true, |transaction, cache| cache.write_counts(transaction))?;
        self.checkpointer
            .stop()
            .map_err(|why| self.check_error(&why))?;
        // Readers may prevent the truncation of the log; then it stays, and belongs to the database as before.
        let emptied = checkpoint(self.connect()?, Duration::ZERO);
        let emptied = emptied.map_err(|why| write_error(&self.path, &why))?;
        if emptied && self.files.is_gone() {
            // SQLite removes the log only beside its database.
            drop(self.connection.take());
            file::remove_left_log(&self.path).map_err(|why| system_error(&self.path, &why))?;
        }
        failed.map_or(Ok(()), Err)
    }
}

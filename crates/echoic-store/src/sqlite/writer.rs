//! The one who writes: its connection, and what it knows by heart.

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
    ending::CloseReason,
    event::{EndpointInfo, Role},
    store::{Durability, StoreError},
};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    connection,
    file::{self, Lock},
    mover::Mover,
    problem::{failed, is_ruinous, problem, system_problem},
    servers::{self, Servers},
    tally::Tally,
    worker::Work,
};

/// Owns the connection that writes.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    durability: Durability,
    /// None after a failure that leaves it in doubt; made anew before it is needed.
    connection: Option<Connection>,
    /// How many pages are in the write-ahead log.
    log_pages: Arc<AtomicU32>,
    pub(super) mover: Mover,
    pub(super) memory: Memory,
    /// Whether commits sync now, as `PRAGMA synchronous` was last told.
    syncs: bool,
    /// A sync failed in the quiet: what was promised is in doubt, and the next append has to say so.
    failed: Option<StoreError>,
    /// Nothing is to be left of it.
    discarded: bool,
    /// Given back last: who finds it free finds the file closed.
    lock: Lock,
}

/// What the writer knows without asking the file. Valid as of the last commit; forgotten when one fails.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) state: State,
    pub(super) endpoints: HashMap<EndpointInfo, i64>,
    pub(super) servers: Servers,
    pub(super) tally: Option<Tally>,
}

/// The row of the table `state`, as far as it changes.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    pub(super) exchanges: u64,
    pub(super) last_exchange: u64,
    pub(super) last_conversation: u64,
    pub(super) tallied: u64,
}

impl State {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
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

    fn write(self, connection: &Connection) -> rusqlite::Result<()> {
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
    /// Opens the record and ends what was left open in it; says how many conversations that were.
    pub(super) fn open(
        path: &Path,
        durability: Durability,
        lock: Lock,
    ) -> Result<(Self, u64), StoreError> {
        let log_pages = Arc::default();
        let mut writer = Self {
            path: path.to_owned(),
            durability,
            connection: Some(connection::to_write(path, &log_pages)?),
            log_pages,
            mover: Mover::new(path),
            memory: Memory::default(),
            syncs: false,
            failed: None,
            discarded: false,
            lock,
        };
        let begun = writer.mover.begin();
        begun.map_err(|why| system_problem(path, &why))?;
        let recovered = writer.transact(|transaction, memory| {
            memory.fold(transaction)?;
            // A change, whatever it is: the log is begun with its first page, and SQLite syncs that beginning, and its
            // name. So it does now, and not when the first exchange is to be kept.
            transaction.execute("UPDATE state SET synced = synced + 1", [])?;
            // Their tally is what is known. What was said counts as sent: nobody knows better, and calling a
            // reply unsent that the peer may well have is the worse mistake.
            // A tally goes by requests and replies, and a client sent the requests.
            let sql = "UPDATE conversation SET received = sent, sent = received
                WHERE last_run IS NULL AND role = ?";
            transaction.execute(sql, [Role::Client.word()])?;
            let sql = "UPDATE conversation SET ended = seen, reason = ?, last_run = ? WHERE last_run IS NULL";
            let lost = transaction.execute(sql, (CloseReason::ProcessDied.word(), memory.state.last_exchange))?;
            servers::forget_old(transaction)?;
            Ok(lost as u64)
        })?;
        Ok((writer, recovered))
    }

    /// Does `work` in a transaction, as durable as was promised; all of it or nothing.
    pub(super) fn transact<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Memory) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        self.commit(self.durability == Durability::Strict, work)
    }

    fn commit<T>(
        &mut self,
        syncs: bool,
        work: impl FnOnce(&Transaction<'_>, &mut Memory) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.connect()?;
        let Self {
            connection,
            memory,
            log_pages,
            mover,
            durability,
            ..
        } = self;
        let connection = connection.as_mut().expect("invariant: connect has made it");
        let done = (|| {
            if self.syncs != syncs {
                // Not to be changed inside a transaction. FULL syncs the log after the commit, and with this
                // commit all those before it; NORMAL leaves that to the next checkpoint.
                let level = if syncs { "FULL" } else { "NORMAL" };
                connection.pragma_update(None, "synchronous", level)?;
                self.syncs = syncs;
            }
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if memory.tally.is_none() {
                memory.endpoints.clear();
                memory.servers.clear();
                memory.state = State::read(&transaction)?;
            }
            let done = work(&transaction, memory)?;
            memory.state.write(&transaction)?;
            transaction.commit()?;
            if *durability == Durability::Normal && !syncs {
                mover.owes();
            }
            mover.look(connection, log_pages.load(Ordering::Relaxed))?;
            Ok(done)
        })();
        match done {
            Ok(done) => Ok(done),
            Err(why) => {
                // What it remembers was never committed.
                memory.tally = None;
                if !connection.is_autocommit() {
                    self.connection = None;
                }
                Err(self.given_up(&why))
            }
        }
    }

    /// What became of a failure, in our words. A connection that must not be trusted after it is given up.
    pub(super) fn given_up(&mut self, why: &rusqlite::Error) -> StoreError {
        if is_ruinous(why) {
            self.connection = None;
        }
        problem(&self.path, why)
    }

    /// Makes sure of a connection that can be trusted.
    pub(super) fn connect(&mut self) -> Result<&Connection, StoreError> {
        if self.connection.is_none() {
            // What it copied is in no less doubt, and it would be in the way.
            let _ = self.mover.stop();
            let connection = connection::to_write(&self.path, &self.log_pages)?;
            self.syncs = false;
            // After a failed sync the system may have dropped what it could not write and will not say so
            // again. The log can still be read: made safe again, copied into the record and synced there.
            self.renew(&connection)?;
            let done = checkpoint(&connection, connection::BUSY);
            if !done.map_err(|why| problem(&self.path, &why))? {
                let what = "after a failed write, readers keep the log from being saved";
                return Err(failed(&self.path, what));
            }
            let begun = self.mover.begin();
            begun.map_err(|why| system_problem(&self.path, &why))?;
            self.connection = Some(connection);
        }
        Ok(self.connection.as_ref().expect("invariant: just made"))
    }

    /// Makes the log safe before anything is copied from it: a loss of power amid that would leave the record
    /// half copied, and what is to repair it not there.
    fn renew(&self, connection: &Connection) -> Result<(), StoreError> {
        let refused = |why: rusqlite::Error| problem(&self.path, &why);
        // So that nobody else writes to it.
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(refused)?;
        let renewed = file::renew_log(&self.path);
        connection.execute_batch("ROLLBACK").map_err(refused)?;
        renewed.map_err(|why| system_problem(&self.path, &why))
    }

    /// Has the file taken away at the end, unless something is in it.
    pub(super) fn discard(&mut self) -> Result<(), StoreError> {
        self.discarded = self.transact(|transaction, _| {
            let sql = "SELECT last_exchange + last_conversation = 0 FROM state";
            transaction.query_row(sql, [], |row| row.get(0))
        })?;
        Ok(())
    }
}

/// Copies the log into the record and empties it; waits so long for readers that still need it. Says whether it
/// was done.
pub(super) fn checkpoint(connection: &Connection, patience: Duration) -> rusqlite::Result<bool> {
    connection.busy_timeout(patience)?;
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    let busy = connection.query_row(sql, [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(connection::BUSY)?;
    busy.map(|busy| !busy)
}

impl Work for Writer {
    /// With traffic it is the next append that looks after the sync of the one before; this is for the quiet after it.
    fn due(&self) -> Option<Instant> {
        self.mover.due()
    }

    fn overdue(&mut self) {
        let looked = match &self.connection {
            Some(connection) => self
                .mover
                .look(connection, self.log_pages.load(Ordering::Relaxed))
                .map_err(|why| self.given_up(&why)),
            None => self.connect().map(drop),
        };
        // Said by the next append, if there is one before it is well again. It is tried again in a while, since what
        // was promised is still owed.
        self.failed = looked.err();
        if self.failed.is_some() {
            self.mover.owes_again();
        }
    }

    fn finish(mut self) -> Result<(), StoreError> {
        if self.discarded {
            let _ = self.mover.stop();
            drop(self.connection.take());
            return file::remove(&self.path, &self.lock);
        }
        let failed = self.failed.take();
        if let Err(why) = self.mover.stop() {
            self.given_up(&why); // what was to be copied is still in the log
        }
        self.commit(true, |transaction, memory| memory.fold(transaction))?;
        self.mover.stop().map_err(|why| self.given_up(&why))?;
        // Readers may keep the log from being emptied; then it stays, and belongs to the record as before.
        let emptied = checkpoint(self.connect()?, Duration::ZERO);
        emptied.map_err(|why| problem(&self.path, &why))?;
        failed.map_or(Ok(()), Err)
    }
}

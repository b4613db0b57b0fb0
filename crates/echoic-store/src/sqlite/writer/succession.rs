//! What the writer does when its files are renamed or removed: it goes on in a new file at the same path.

use std::time::Instant;

use echoic_core::store::{Durability, StoreError};
use rusqlite::Connection;

use super::{
    super::{
        carried::Carried,
        connection,
        error::{failed, foreign, system_error, write_error},
        file::{self, Lock},
        open_files::{Look, OpenFiles},
    },
    Cache, LOOK_EVERY, State, Writer, checkpoint,
};
use crate::FileChange;

impl Writer {
    /// Looks after each commit whether the path still names the database, and goes on in a new one if not. So what was
    /// committed is in a file that was in its place after the commit, or in the new one.
    pub(super) fn look(&mut self) -> Result<(), StoreError> {
        let look = if self.looked_at.elapsed() >= LOOK_EVERY {
            self.looked_at = Instant::now();
            self.files.look(&self.lock)
        } else if self.files.is_gone() {
            Look::Gone
        } else {
            Look::InPlace
        };
        match look {
            Look::InPlace => {
                self.seen = self.cache.state;
                Ok(())
            }
            Look::WithoutLog => self.reopen(),
            Look::Gone => self.change_file(),
        }
    }

    /// Opens the database again: its log is written to files that no other process will find.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.empty_log()?;
        self.connection = None;
        if !self.lock.is_of(&self.path) {
            self.lock = Lock::acquire(&self.path)?;
        }
        self.connection = Some(connection::open_to_write(&self.path, &self.log_pages)?);
        self.begin()?;
        self.limit_log()
    }

    /// Completes the database, closes it, and goes on in a new one. The old one first: its log has the name that the new
    /// one's will have.
    fn change_file(&mut self) -> Result<(), StoreError> {
        let change = self.files.change();
        let is_removed = matches!(change, FileChange::Removed { .. });
        let syncs = self.durability == Durability::Strict;
        self.commit(syncs, |transaction, cache| cache.write_counts(transaction))?;
        let state = self.cache.state;
        let since = is_removed.then_some(self.seen.last_exchange);
        let carried =
            Carried::read(self.connect()?, state, since).map_err(|why| self.check_error(&why))?;
        if !is_removed {
            self.empty_log()?;
        }
        let _ = self.checkpointer.stop();
        self.connection = None;
        self.carried = Some(carried);
        (self.on_change)(&change);
        file::remove_left_log(&self.path).map_err(|why| system_error(&self.path, &why))?;
        self.connect().map(drop)
    }

    /// Copies the whole log into the database.
    fn empty_log(&mut self) -> Result<(), StoreError> {
        self.checkpointer
            .stop()
            .map_err(|why| self.check_error(&why))?;
        let done = checkpoint(self.connect()?, connection::BUSY);
        if !done.map_err(|why| self.check_error(&why))? {
            let what = "it was renamed, and readers prevent a checkpoint of its log";
            return Err(failed(&self.path, what));
        }
        Ok(())
    }

    /// Opens the file that takes the place of the old one, and writes what goes along.
    pub(super) fn open_successor(&mut self, carried: &Carried) -> Result<Connection, StoreError> {
        let path = self.path.clone();
        if !self.lock.is_of(&path) {
            self.lock = Lock::acquire(&path)?;
        }
        if connection::peek(&path)? == connection::Origin::Nothing {
            file::create(&path)?;
        }
        let failed = |why: rusqlite::Error| write_error(&path, &why);
        let mut connection = connection::open_to_write(&path, &self.log_pages)?;
        if !carried.is_of(&connection).map_err(failed)? {
            return Err(foreign(&path, "another record has taken its place"));
        }
        if self.durability == Durability::Strict {
            connection
                .pragma_update(None, "synchronous", "FULL")
                .map_err(failed)?;
        }
        carried.write(&mut connection).map_err(failed)?;
        (self.on_change)(&FileChange::Continued { path });
        self.cache = Cache::default();
        self.seen = State::read(&connection).map_err(|why| write_error(&self.path, &why))?;
        self.begin()?;
        self.syncs = self.durability == Durability::Strict;
        Ok(connection)
    }

    /// Starts over with a connection that was just opened.
    fn begin(&mut self) -> Result<(), StoreError> {
        self.syncs = false;
        self.files = OpenFiles::at(&self.path);
        let begun = self.checkpointer.reset();
        begun.map_err(|why| system_error(&self.path, &why))
    }
}

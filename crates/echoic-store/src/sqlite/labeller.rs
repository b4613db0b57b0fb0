//! The labeller: a connection that writes tags and notes and nothing else, beside the process that records.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use echoic_core::store::{LabelChange, StoreError, StoreErrorKind};
use rusqlite::{Connection, TransactionBehavior, config::DbConfig};

use super::{
    connection,
    error::{failed, system_error, write_error},
    file::{self, Lock},
    labels,
    open_files::OpenFiles,
    worker::Work,
    writer::checkpoint,
};

/// Owns a connection for labels. Whoever records may hold the lock of the store meanwhile.
pub(super) struct Labeller {
    path: PathBuf,
    connection: Connection,
    files: OpenFiles,
}

impl Labeller {
    /// Opens the database. If no process has migrated it to the schema that has labels, this does, under the lock.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = match connection::open_to_label(path)? {
            Some(connection) => connection,
            None => {
                migrate(path)?;
                let migrated = connection::open_to_label(path)?;
                migrated.ok_or_else(|| failed(path, "it still has no tables for labels"))?
            }
        };
        Ok(Self {
            path: path.to_owned(),
            connection,
            files: OpenFiles::at(path),
        })
    }

    /// Writes a change in one transaction, and makes it durable. Returns the number of exchanges or conversations in the
    /// store that it was for.
    pub(super) fn label(&mut self, change: &LabelChange) -> Result<u64, StoreError> {
        // The file was renamed or removed: the labels are for the record that the path names now.
        if self.files.is_gone() {
            *self = Self::open(&self.path)?;
        }
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior);
        let done = transaction.and_then(|transaction| {
            let found = labels::apply(&transaction, change)?;
            transaction.commit()?;
            Ok(found)
        });
        let found = done.map_err(|why| write_error(&self.path, &why))?;
        // After the commit: within it whoever records would wait for the disk too (`synchronous` is NORMAL). The log is never
        // locked, so that it may be opened and closed (see `checkpointer`).
        let synced = File::open(file::beside(&self.path, "-wal")).and_then(|log| log.sync_data());
        match synced {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(system_error(&self.path, &why))
            }
            _ => Ok(found),
        }
    }
}

/// Migrates the database. The process that holds the lock would have done so, unless its echoic is older.
fn migrate(path: &Path) -> Result<(), StoreError> {
    let lock = Lock::acquire(path).map_err(|why| match why.kind {
        StoreErrorKind::Held { pid } => {
            let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("pid {pid}"));
            let what = format!(
                "it has no tables for tags and notes yet, and an older echoic records into it ({holder}): start that one anew with this version"
            );
            failed(path, what)
        }
        _ => why,
    })?;
    let connection = connection::open_to_write(path, &Arc::default())?;
    let closed = connection.close();
    drop(lock);
    closed.map_err(|(_, why)| write_error(path, &why))
}

impl Work for Labeller {
    /// Copies the log into the database only where no process records: one that does must be the only one to copy, since it
    /// knows whether a sync has failed (see `checkpointer`).
    fn finish(self) -> Result<(), StoreError> {
        let Self {
            path, connection, ..
        } = self;
        let failed = |why: rusqlite::Error| write_error(&path, &why);
        let lock = Lock::acquire(&path).ok();
        if lock.is_some() {
            checkpoint(&connection, Duration::ZERO).map_err(failed)?;
            let option = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            connection.set_db_config(option, false).map_err(failed)?;
        }
        connection.close().map_err(|(_, why)| failed(why))
    }
}

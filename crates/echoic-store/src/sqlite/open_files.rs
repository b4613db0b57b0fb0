//! Whether the path of a store still names the files that are open.
//!
//! A file can be renamed or removed while it is open. Its connection would go on with it, and whoever opens the path later
//! would find nothing. So the path is looked at from time to time: a call of stat(2) a file, on the store's own threads.

use std::path::{Path, PathBuf};

use super::file::{FileId, Lock, beside};
use crate::FileChange;

/// The path of a database, and the identity of the files that were there when it was opened.
#[derive(Debug)]
pub(super) struct OpenFiles {
    path: PathBuf,
    database: Option<FileId>,
    log: Option<FileId>,
}

/// Result of a look at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Everything is where it was.
    InPlace,
    /// The database is, but its log or the lock file is not.
    WithoutLog,
    /// The database is not.
    Gone,
}

impl OpenFiles {
    /// Notes the files at `path`, which was just opened.
    pub(super) fn at(path: &Path) -> Self {
        // SQLite does not tell which file it has opened. One that is renamed before this line counts as gone.
        let file = |path: &Path| FileId::at(path).ok().flatten();
        Self {
            path: path.to_owned(),
            database: file(path),
            log: file(&beside(path, "-wal")),
        }
    }

    /// Whether the path names another file, or none. An error that tells nothing about it counts as no.
    pub(super) fn is_gone(&self) -> bool {
        FileId::at(&self.path).is_ok_and(|there| there.is_none() || there != self.database)
    }

    /// Looks at all files.
    pub(super) fn look(&self, lock: &Lock) -> Look {
        let log = FileId::at(&beside(&self.path, "-wal"));
        if self.is_gone() {
            Look::Gone
        } else if log.is_ok_and(|there| there != self.log) || !lock.is_of(&self.path) {
            Look::WithoutLog
        } else {
            Look::InPlace
        }
    }

    /// Returns what has become of the database. Its connection must still be open.
    pub(super) fn change(&self) -> FileChange {
        let path = self.path.clone();
        if cfg!(not(target_os = "linux")) {
            return FileChange::Renamed { path, to: None };
        }
        match self.database.and_then(FileId::path) {
            Some(to) => FileChange::Renamed { path, to: Some(to) },
            None => FileChange::Removed { path },
        }
    }
}

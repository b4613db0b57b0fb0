//! Errors of stores: location and kind.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// An error of a store. Its text names no command-line option: a program adds advice by [`StoreError::kind`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", self.kind.describe(&self.location))]
pub struct StoreError {
    /// Location of the store.
    pub location: StoreLocation,
    /// Kind of the error.
    pub kind: StoreErrorKind,
}

impl StoreError {
    /// Creates an error of the store at `location`.
    pub fn new(location: impl Into<StoreLocation>, kind: StoreErrorKind) -> Self {
        Self {
            location: location.into(),
            kind,
        }
    }
}

/// Location of a store, for messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreLocation {
    /// A file.
    Path(PathBuf),
    /// A server's URL, without its password.
    Url(String),
    /// The memory of this process.
    Memory,
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
            Self::Memory => f.write_str("memory"),
        }
    }
}

impl From<&Path> for StoreLocation {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

/// The kinds of errors. No peer can cause any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// There is no store at this location.
    Missing,
    /// Another process has opened it for writing.
    Held {
        /// The process, if it could be determined.
        pid: Option<u32>,
    },
    /// It is not a store of echoic, or it is damaged. It is left unchanged.
    Foreign {
        /// What is wrong with it.
        what: String,
    },
    /// It was written by a newer echoic.
    Newer {
        /// Its schema version.
        found: u32,
        /// The newest version that this echoic knows.
        known: u32,
    },
    /// It was written by an older echoic, whose schema is no longer read.
    Older {
        /// Its schema version.
        found: u32,
        /// The oldest version that this echoic reads.
        known: u32,
    },
    /// No space is left on the disk (ENOSPC).
    Full,
    /// The quota of the user or the group is used up (EDQUOT).
    OverQuota,
    /// It cannot be written: permissions, a read-only file system, or it was opened for reading.
    ReadOnly {
        /// The error of the system.
        what: String,
    },
    /// A database that holds no record.
    NoRecord,
    /// The name of its host was not resolved.
    NotResolved {
        /// The error of the system.
        what: String,
    },
    /// There is no connection to it, or it was lost.
    Unreachable {
        /// The error of the system or the database.
        what: String,
    },
    /// It gave no answer in time, or something else held it for too long.
    TimedOut {
        /// What was waited for.
        what: String,
    },
    /// It refused the login: no such user, or another password.
    Denied {
        /// The error of the database.
        what: String,
    },
    /// The user may log in, but not do that.
    Forbidden {
        /// The error of the database.
        what: String,
    },
    /// A tag or a note that cannot be stored; nothing was changed.
    InvalidLabel {
        /// What is wrong with it.
        what: String,
    },
    /// Reading or writing failed.
    Failed {
        /// The error of the system or the database.
        what: String,
    },
    /// It passes the record on to another store, which is to be asked.
    Elsewhere,
    /// [`Store::close`](super::Store::close) was called.
    Closed,
}

impl StoreErrorKind {
    fn describe(&self, at: &StoreLocation) -> String {
        match self {
            Self::Missing => format!("there is no database at {at}"),
            Self::Held { pid: Some(pid) } => format!("{at} is held by another echoic (pid {pid})"),
            Self::Held { pid: None } => format!("{at} is held by another echoic"),
            Self::Foreign { what } => {
                format!("{at} is not a database echoic can read ({what}); it was left as it is")
            }
            Self::Newer { found, known } => format!(
                "{at} was written by a newer echoic (schema {found}, this one knows {known})"
            ),
            Self::Older { found, known } => format!(
                "{at} was written by an older echoic (schema {found}, this one reads {known} and later)"
            ),
            Self::Full => format!("the disk under {at} is full: No space left on device (ENOSPC)"),
            Self::OverQuota => {
                format!("the quota of the disk under {at} is used up: Disk quota exceeded (EDQUOT)")
            }
            Self::ReadOnly { what } => format!("{at} cannot be written: {what}"),
            Self::NoRecord => format!("the database {at} holds no record of echoic"),
            Self::NotResolved { what } | Self::Unreachable { what } => {
                format!("{at} cannot be reached: {what}")
            }
            Self::TimedOut { what } => format!("{at} gave no answer in time: {what}"),
            Self::Denied { what } => format!("{at} refused the login: {what}"),
            Self::Forbidden { what } => format!("{at} does not permit that: {what}"),
            Self::InvalidLabel { what } => format!("{what}; nothing in {at} was changed"),
            Self::Failed { what } => format!("{at} failed: {what}"),
            Self::Elsewhere => format!("{at} passes the record on: it is read where it is kept"),
            Self::Closed => format!("the store {at} is closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_its_location_and_no_option() {
        let what = || "why".to_owned();
        for kind in [
            StoreErrorKind::Missing,
            StoreErrorKind::Held { pid: Some(7) },
            StoreErrorKind::Held { pid: None },
            StoreErrorKind::Foreign { what: what() },
            StoreErrorKind::Newer { found: 9, known: 2 },
            StoreErrorKind::Older { found: 1, known: 3 },
            StoreErrorKind::Full,
            StoreErrorKind::OverQuota,
            StoreErrorKind::ReadOnly { what: what() },
            StoreErrorKind::NoRecord,
            StoreErrorKind::NotResolved { what: what() },
            StoreErrorKind::Unreachable { what: what() },
            StoreErrorKind::TimedOut { what: what() },
            StoreErrorKind::Denied { what: what() },
            StoreErrorKind::Forbidden { what: what() },
            StoreErrorKind::InvalidLabel { what: what() },
            StoreErrorKind::Failed { what: what() },
            StoreErrorKind::Elsewhere,
            StoreErrorKind::Closed,
        ] {
            let locations = [
                (Path::new("a/b.db").into(), "a/b.db"),
                (
                    StoreLocation::Url("postgres://db/echoic".into()),
                    "postgres://db/echoic",
                ),
                (StoreLocation::Memory, "memory"),
            ];
            for (location, text) in locations {
                let message = StoreError::new(location, kind.clone()).to_string();
                assert!(
                    message.contains(text) && !message.contains("--"),
                    "{message}"
                );
            }
        }
    }
}

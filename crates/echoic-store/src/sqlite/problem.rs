//! What SQLite says, as what it means to somebody who runs a server.

use std::{io, path::Path};

use echoic_core::store::{StoreError, StoreErrorKind};
use rusqlite::{Error, ErrorCode, ffi};

/// A failure at `path`, in our words.
pub(super) fn problem(path: &Path, error: &Error) -> StoreError {
    let what = error.to_string();
    let kind = match error {
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..) => StoreErrorKind::Foreign { what },
        _ => match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreErrorKind::ReadOnly { what }
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                StoreErrorKind::Foreign { what }
            }
            _ => StoreErrorKind::Failed { what },
        },
    };
    StoreError::new(path, kind)
}

/// A failure at `path` that neither SQLite nor the system has words for.
pub(super) fn failed(path: &Path, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(path, StoreErrorKind::Failed { what })
}

/// The file at `path` is not a record of ours.
pub(super) fn foreign(path: &Path, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(path, StoreErrorKind::Foreign { what })
}

/// The file at `path` cannot be written.
pub(super) fn read_only(path: &Path, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(path, StoreErrorKind::ReadOnly { what })
}

/// A failure of the system at `path`.
pub(super) fn system_problem(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::new(path, StoreErrorKind::Full)
        }
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory => read_only(path, error.to_string()),
        _ => failed(path, error.to_string()),
    }
}

/// A sync that failed, as SQLite says it: whatever the reason, what was to be synced is in doubt.
pub(super) fn sync_failed(error: &io::Error) -> Error {
    let code = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
    Error::SqliteFailure(code, Some(error.to_string()))
}

/// Whether the connection that failed so must not be trusted with the next commit: after a failed write or sync
/// nobody knows what is on the disk, and asking the system to sync again would say yes to what it has dropped.
pub(super) fn is_ruinous(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}

//! What SQLite says, as what it means to somebody who runs a server.

use std::{io, path::Path};

use echoic_core::store::StoreError;
use rusqlite::{Error, ErrorCode, ffi};

/// A failure at `path`, in our words.
pub(super) fn problem(path: &Path, error: &Error) -> StoreError {
    let (path, what) = (path.to_owned(), error.to_string());
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..) => StoreError::Foreign { path, what },
        _ => match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreError::ReadOnly { path, what }
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                StoreError::Foreign { path, what }
            }
            _ => StoreError::Failed { path, what },
        },
    }
}

/// A failure of the system at `path`.
pub(super) fn system_problem(path: &Path, error: &io::Error) -> StoreError {
    let (path, what) = (path.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory => StoreError::ReadOnly { path, what },
        _ => StoreError::Failed { path, what },
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

//! Converts errors of SQLite and the system into store errors.

use std::{io, path::Path};

use echoic_core::store::{InvalidLabel, StoreError, StoreErrorKind};
use rusqlite::{Error, ErrorCode, ffi};

use super::file;

/// Converts an error of SQLite at `path`.
pub(super) fn store_error(path: &Path, error: &Error) -> StoreError {
    let what = error.to_string();
    let kind = match error {
        Error::ToSqlConversionFailure(why) if why.is::<InvalidLabel>() => {
            let what = why.to_string();
            StoreErrorKind::InvalidLabel { what }
        }
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        // The statements are ours: the schema in the file is damaged.
        | Error::SqlInputError { .. } => StoreErrorKind::Foreign { what },
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

/// Converts an error of SQLite at `path` of a connection that writes. Names a full disk or quota where SQLite does not.
pub(super) fn write_error(path: &Path, error: &Error) -> StoreError {
    let is_io = error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
    let why = is_io.then(|| file::probe_error(path)).flatten();
    match why.map(|why| why.kind()) {
        Some(io::ErrorKind::StorageFull) => StoreError::new(path, StoreErrorKind::Full),
        Some(io::ErrorKind::QuotaExceeded) => StoreError::new(path, StoreErrorKind::OverQuota),
        _ => store_error(path, error),
    }
}

/// Returns an error at `path` with the text `what`.
pub(super) fn failed(path: &Path, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(path, StoreErrorKind::Failed { what })
}

/// Returns the error that the file at `path` is not one of ours.
pub(super) fn foreign(path: &Path, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(path, StoreErrorKind::Foreign { what })
}

/// Returns the error that the file at `path` cannot be written.
pub(super) fn read_only(path: &Path, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(path, StoreErrorKind::ReadOnly { what })
}

/// Converts an error of the operating system at `path`.
pub(super) fn system_error(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull => StoreError::new(path, StoreErrorKind::Full),
        io::ErrorKind::QuotaExceeded => StoreError::new(path, StoreErrorKind::OverQuota),
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory => read_only(path, error.to_string()),
        _ => failed(path, error.to_string()),
    }
}

/// Returns the error of a failed sync in the form of SQLite. Whatever the cause, the data may not be on disk.
pub(super) fn sync_failed(error: &io::Error) -> Error {
    let code = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
    Error::SqliteFailure(code, Some(error.to_string()))
}

/// Whether the connection must not be used after this error. After a failed write or sync the content of the disk is
/// unknown, and another sync would succeed even for data that the system has dropped.
pub(super) fn is_unsafe(error: &Error) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_for_the_cause_of_an_error_leaves_no_file() {
        let dir = tempfile::TempDir::new().unwrap();
        let error = Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_WRITE), None);
        let told = write_error(&dir.path().join("a.db"), &error);
        assert!(
            matches!(told.kind, StoreErrorKind::Failed { .. }),
            "{told}: this disk has room"
        );
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn full_disk_and_quota_are_told_with_the_error_of_the_system() {
        for (kind, text) in [
            (io::ErrorKind::StorageFull, "No space left on device"),
            (io::ErrorKind::QuotaExceeded, "Disk quota exceeded"),
        ] {
            let told = system_error(Path::new("a.db"), &kind.into()).to_string();
            assert!(told.contains(text) && told.contains("a.db"), "{told}");
        }
    }
}

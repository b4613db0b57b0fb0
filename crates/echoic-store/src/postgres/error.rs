//! Converts errors of PostgreSQL into store errors.

use std::{error::Error, io};

use echoic_core::{
    escape,
    store::{StoreError, StoreErrorKind},
};
use tokio_postgres::error::SqlState;

use super::PostgresUrl;

/// Converts an error of the database at `url`.
pub(super) fn store_error(url: &PostgresUrl, error: &tokio_postgres::Error) -> StoreError {
    let kind = match error.as_db_error() {
        Some(db) => database_kind(db.code(), escape::text(db.message().as_bytes()).to_string()),
        None => connection_kind(error),
    };
    StoreError::new(url.location(), kind)
}

/// Returns the kind of an error that the database has told.
fn database_kind(code: &SqlState, what: String) -> StoreErrorKind {
    // The first two characters are the class.
    let class = code.code().get(..2).unwrap_or_default();
    match code.code() {
        // invalid_catalog_name
        "3D000" => StoreErrorKind::Missing,
        // disk_full
        "53100" => StoreErrorKind::Full,
        // insufficient_privilege; read_only_sql_transaction (a standby server)
        "42501" => StoreErrorKind::Forbidden { what },
        "25006" => StoreErrorKind::ReadOnly { what },
        // admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections
        "57P01" | "57P02" | "57P03" | "53300" => StoreErrorKind::Unreachable { what },
        // query_canceled, lock_not_available, idle_in_transaction_session_timeout
        "57014" | "55P03" | "25P03" => StoreErrorKind::TimedOut { what },
        // Invalid password, no such role.
        _ if class == "28" => StoreErrorKind::Denied { what },
        _ if class == "08" => StoreErrorKind::Unreachable { what },
        // A table or a column is missing. The statements are ours: the schema in the database is damaged.
        "3F000" => StoreErrorKind::Foreign { what },
        _ if class == "42" => StoreErrorKind::Foreign { what },
        _ => StoreErrorKind::Failed { what },
    }
}

/// Returns the kind of an error of the connection.
fn connection_kind(error: &tokio_postgres::Error) -> StoreErrorKind {
    let what = escape::text(described(error).as_bytes()).to_string();
    let mut source = error.source();
    while let Some(why) = source {
        if let Some(why) = why.downcast_ref::<io::Error>() {
            return match why.kind() {
                io::ErrorKind::TimedOut => StoreErrorKind::TimedOut { what },
                _ if what.contains("failed to lookup address") => {
                    StoreErrorKind::NotResolved { what }
                }
                _ => StoreErrorKind::Unreachable { what },
            };
        }
        source = why.source();
    }
    // The library has no kinds for these.
    if what.contains("password missing") {
        let what = "it asks for a password, and none was given".to_owned();
        return StoreErrorKind::Denied { what };
    }
    if what.contains("TLS") || error.is_closed() {
        return StoreErrorKind::Unreachable { what };
    }
    StoreErrorKind::Failed { what }
}

/// Returns the texts of an error and of its causes.
fn described(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(why) = source {
        let why_text = why.to_string();
        if !text.ends_with(&why_text) {
            text += ": ";
            text += &why_text;
        }
        source = why.source();
    }
    text
}

/// Whether the connection was lost, so that another one may work.
pub(super) fn is_lost(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::Unreachable { .. })
}

/// Returns an error with the text `what`.
pub(super) fn failed(url: &PostgresUrl, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(url.location(), StoreErrorKind::Failed { what })
}

/// Returns the error that the database holds something that is not ours.
pub(super) fn foreign(url: &PostgresUrl, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(url.location(), StoreErrorKind::Foreign { what })
}

/// Returns the error that it cannot be written.
pub(super) fn read_only(url: &PostgresUrl, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(url.location(), StoreErrorKind::ReadOnly { what })
}

/// Returns the error that it gave no answer in time.
pub(super) fn timed_out(url: &PostgresUrl, what: impl Into<String>) -> StoreError {
    let what = what.into();
    StoreError::new(url.location(), StoreErrorKind::TimedOut { what })
}

//! Parses `--store` and `--retention`, and opens stores. No other file names a concrete store.

use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use echoic_core::{
    store::{Durability, Retention, Store},
    units::{Bytes, Span, quoted},
};
use echoic_store::{MemoryStore, OnFileChange, SqliteReader, SqliteStore};
use tokio::time::timeout;

use crate::{exit::CliError, term};

/// The location of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// A file of SQLite: a path, or `sqlite:PATH`.
    Sqlite(PathBuf),
    /// The memory of the process: `memory`.
    Memory,
    /// No store: `none`.
    None,
}

/// Bytes that `--store memory` may hold.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// Time a store has to commit the last batches, and again to close.
pub(crate) const STORE_DEADLINE: Duration = Duration::from_secs(10);

const EXPECTED: &str = "expected a path, sqlite:PATH, memory or none";

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once("://"), text.strip_prefix("sqlite:")) {
            ("" | "sqlite:", ..) => Err(format!("invalid store {text:?}: {EXPECTED}")),
            ("none", ..) => Ok(Self::None),
            ("memory", ..) => Ok(Self::Memory),
            (_, Some((scheme, _)), _) if is_scheme(scheme) => Err(format!(
                "invalid store {scheme}://: not supported in this version; {EXPECTED}"
            )),
            (_, _, path) => Ok(Self::Sqlite(path.unwrap_or(text).into())),
        }
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl StoreUrl {
    /// Opens the store for writing; only one process can hold it.
    pub(crate) fn open(&self, durability: Durability) -> Result<Option<Arc<dyn Store>>, CliError> {
        match self {
            Self::Sqlite(path) => {
                let store = SqliteStore::open_observed(path, durability, report_changes())?;
                warn_of_folder(path);
                Ok(Some(Arc::new(store)))
            }
            Self::Memory => Ok(Some(Arc::new(MemoryStore::new(MEMORY_BYTES_MAX)))),
            Self::None => Ok(None),
        }
    }

    /// Opens the store for reading, also while a `serve` writes it.
    pub(crate) fn open_to_read(&self) -> Result<Arc<dyn Store>, CliError> {
        match self {
            Self::Sqlite(path) => Ok(Arc::new(SqliteReader::open_observed(
                path,
                report_changes(),
            )?)),
            Self::Memory | Self::None => Err(CliError::usage(
                "invalid --store: expected a file; memory and none cannot be read by another process",
            )),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => {
                let text = path.to_string_lossy();
                let is_plain = text.parse().as_ref() == Ok(self);
                let prefix = if is_plain { "" } else { "sqlite:" };
                write!(f, "{prefix}{text}")
            }
            Self::Memory => f.write_str("memory"),
            Self::None => f.write_str("none"),
        }
    }
}

/// Reports a file that is renamed or removed while it is open, also with `--quiet`: what follows is in another one.
fn report_changes() -> OnFileChange {
    Arc::new(|change| term::note(&change.to_string()))
}

/// Closes a store that was never used. A file that was created for it is removed.
pub(crate) async fn discard(store: Option<Arc<dyn Store>>) {
    let Some(store) = store else {
        return;
    };
    match timeout(STORE_DEADLINE, store.discard()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("{error}"),
        Err(_) => tracing::warn!("{}", unclosed()),
    }
}

/// Closes the store. Gives up after [`STORE_DEADLINE`]; data already appended is unaffected.
pub(crate) async fn close(store: Option<Arc<dyn Store>>) -> Result<(), String> {
    let Some(store) = store else {
        return Ok(());
    };
    let closed = timeout(STORE_DEADLINE, store.close()).await;
    let closed = closed.map_err(|_| unclosed())?;
    closed.map_err(|error| error.to_string())
}

fn unclosed() -> String {
    format!(
        "the store was not closed within {} s",
        STORE_DEADLINE.as_secs()
    )
}

/// Warns if other users may replace the file: its folder is writable for all and not sticky (chmod(2)). Such a folder is
/// not refused, since container volumes are often writable for all and have no other users.
fn warn_of_folder(path: &Path) {
    const STICKY: u32 = 0o1000;
    const OTHERS_WRITE: u32 = 0o002;
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let Some(folder) = real.parent() else {
        return;
    };
    let mode = fs::metadata(folder).map_or(0, |folder| folder.permissions().mode());
    if mode & (STICKY | OTHERS_WRITE) == OTHERS_WRITE {
        tracing::warn!(
            "any user may write to {0} and replace the record: chmod o-w {0}, or name a file elsewhere (--store)",
            folder.display()
        );
    }
}

/// Parses `--retention`: an age, a size, both separated by a comma, or `off` (also `all`). A number needs a unit, since it
/// could be either.
pub(crate) fn retention(text: &str) -> Result<Retention, String> {
    let mut retention = Retention {
        age: None,
        bytes: None,
    };
    if ["off", "all"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
    {
        return Ok(retention);
    }
    let has_unit = |part: &str| part.ends_with(char::is_alphabetic);
    for part in text.split(',').map(str::trim) {
        if let (true, Ok(Span(age)), None) = (has_unit(part), part.parse(), retention.age) {
            retention.age = Some(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        } else if let (true, Ok(Bytes(bytes)), None) =
            (has_unit(part), part.parse(), retention.bytes)
        {
            retention.bytes = Some(bytes);
        } else {
            return Err(format!(
                "invalid retention {}: expected an age or a size with a unit, or both, for example 7d, 2G or 7d,2G, or off",
                quoted(if part.is_empty() { text } else { part })
            ));
        }
    }
    Ok(retention)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_argument_is_a_file_unless_a_known_word() {
        let sqlite = |path: &str| Ok(StoreUrl::Sqlite(path.into()));
        for (text, expected, printed) in [
            ("none", Ok(StoreUrl::None), "none"),
            ("memory", Ok(StoreUrl::Memory), "memory"),
            ("a/b.db", sqlite("a/b.db"), "a/b.db"),
            ("sqlite:a/b.db", sqlite("a/b.db"), "a/b.db"),
            ("sqlite:none", sqlite("none"), "sqlite:none"),
            ("sqlite:memory", sqlite("memory"), "sqlite:memory"),
            ("sqlite:sqlite:x", sqlite("sqlite:x"), "sqlite:sqlite:x"),
            ("./a://b.db", sqlite("./a://b.db"), "./a://b.db"),
        ] {
            let parsed = text.parse::<StoreUrl>();
            assert_eq!(parsed, expected);
            assert_eq!(parsed.unwrap().to_string(), printed);
        }
    }

    #[test]
    fn unsupported_store_scheme_is_refused() {
        for scheme in ["postgres", "postgresql", "nats", "sqlite"] {
            let refused = format!("{scheme}://host/x")
                .parse::<StoreUrl>()
                .unwrap_err();
            let expected = format!("invalid store {scheme}://");
            assert!(refused.contains(&expected), "{refused}");
        }
        for empty in ["", "sqlite:"] {
            let refused = empty.parse::<StoreUrl>().unwrap_err();
            assert!(refused.contains("expected a path"), "{refused}");
        }
    }

    #[test]
    fn retention_is_an_age_a_size_or_both() {
        let week = Some(7 * 86_400 * 1_000_000);
        for (text, age, bytes) in [
            ("7d,2G", week, Some(2 << 30)),
            ("1.5GB, 1w", week, Some(3 << 29)),
            ("7m", Some(420_000_000), None),
            ("7M", None, Some(7 << 20)),
            ("off", None, None),
            ("all", None, None),
        ] {
            assert_eq!(retention(text), Ok(Retention { age, bytes }), "{text}");
        }
        for (text, part) in [
            ("soon", "soon"),
            ("7d,2", "2"),
            ("100", "100"),
            ("7d,", "7d,"),
            ("7d,8d", "8d"),
            ("", "\"\""),
        ] {
            let error = retention(text).unwrap_err();
            let expected = format!("invalid retention {part}: expected an age");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}

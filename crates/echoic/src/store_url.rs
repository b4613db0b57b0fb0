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
    store::{Durability, Retention, Store, StoreError},
    units::{Bytes, Span, quoted},
};
use echoic_nats::{Connection, NatsUrl, RemoteStore};
use echoic_store::{
    MemoryStore, OnFileChange, PostgresMode, PostgresStore, PostgresUrl, SqliteReader, SqliteStore,
    UrlError,
};
use tokio::time::timeout;

use crate::{exit::CliError, password, service_choice::client_name, term};

/// The location of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// A file of SQLite: a path, or `sqlite:PATH`.
    Sqlite(PathBuf),
    /// A database of PostgreSQL: `postgres://…`.
    Postgres(Box<PostgresUrl>),
    /// The memory of the process: `memory`.
    Memory,
    /// A stream of NATS, from which `echoic keep` writes the record elsewhere: `nats://HOST:PORT/STREAM`.
    Nats(NatsUrl),
    /// No store: `none`.
    None,
}

/// Bytes that `--store memory` may hold.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// Time a store has to commit the last batches, and again to close.
pub(crate) const STORE_DEADLINE: Duration = Duration::from_secs(10);

const EXPECTED: &str = "expected a path, sqlite:PATH, postgres://USER@HOST:PORT/DATABASE, nats://HOST:PORT/STREAM, memory or none";

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once("://"), text.strip_prefix("sqlite:")) {
            ("" | "sqlite:", ..) => Err(format!("invalid store {text:?}: {EXPECTED}")),
            ("none", ..) => Ok(Self::None),
            ("memory", ..) => Ok(Self::Memory),
            (_, Some(("postgres" | "postgresql", _)), _) => {
                postgres(text).map(|url| Self::Postgres(Box::new(url)))
            }
            (_, Some(("nats", _)), _) => {
                let url = text.parse::<NatsUrl>();
                url.map(Self::Nats).map_err(|error| error.to_string())
            }
            (_, Some((scheme, _)), _) if is_scheme(scheme) => Err(format!(
                "invalid store {scheme}://: not supported in this version; {EXPECTED}"
            )),
            (_, _, path) => Ok(Self::Sqlite(path.unwrap_or(text).into())),
        }
    }
}

/// Parses the URL of a database. No error contains its password.
fn postgres(text: &str) -> Result<PostgresUrl, String> {
    let mut url: PostgresUrl = text.parse().map_err(|error: UrlError| match error {
        UrlError::NoHost(_) => {
            format!("invalid store: {error}; expected postgres://HOST:PORT/DATABASE, with USER:PASSWORD@ before the host")
        }
        UrlError::SslMode(_) | UrlError::Other { .. } => format!("invalid store: {error}"),
    })?;
    let found = if url.has_password() {
        None
    } else {
        password::of(login(&url.login()))
    };
    if let Some(password) = found {
        url.set_password(&password);
    }
    Ok(url)
}

fn login<'a>(of: &'a echoic_store::Login<'_>) -> password::Login<'a> {
    password::Login {
        host: &of.host,
        port: of.port,
        database: of.database,
        user: of.user,
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl StoreUrl {
    /// Opens the store for writing. Only one process can write a file; any number can write a database. A stream is opened by
    /// [`open_remote`], when there is a runtime.
    pub(crate) fn open(&self, durability: Durability) -> Result<Option<Arc<dyn Store>>, CliError> {
        match self {
            Self::Sqlite(path) => {
                let store = SqliteStore::open_observed(path, durability, report_changes())?;
                warn_of_folder(path);
                Ok(Some(Arc::new(store)))
            }
            Self::Postgres(url) => {
                let store = PostgresStore::open(url, PostgresMode::Write(durability))?;
                Ok(Some(Arc::new(store)))
            }
            Self::Memory => Ok(Some(Arc::new(MemoryStore::new(MEMORY_BYTES_MAX)))),
            Self::Nats(_) | Self::None => Ok(None),
        }
    }

    /// Opens the store for writing what other processes record. Only one process can write a file.
    pub(crate) fn open_to_keep(&self, durability: Durability) -> Result<Arc<dyn Store>, CliError> {
        match self {
            Self::Sqlite(path) => {
                let store = SqliteStore::open_for_others(path, durability, report_changes())?;
                warn_of_folder(path);
                Ok(Arc::new(store))
            }
            Self::Postgres(url) => {
                let store = PostgresStore::open(url, PostgresMode::Write(durability))?;
                Ok(Arc::new(store))
            }
            Self::Memory | Self::Nats(_) | Self::None => Err(CliError::usage(format!(
                "invalid --store {self}: expected a file or postgres://… to write to"
            ))),
        }
    }

    /// Whether the process that writes to the store can read it.
    pub(crate) fn is_readable(&self) -> bool {
        matches!(self, Self::Sqlite(_) | Self::Postgres(_) | Self::Memory)
    }

    /// Opens the store for reading, also while a `serve` writes it. What was opened is read to its end, and a search goes on in
    /// the file that has taken its place.
    pub(crate) fn open_to_read(&self) -> Result<Arc<dyn Store>, CliError> {
        self.open_with(|path| SqliteReader::open_observed(path, report_changes()))
    }

    /// Opens the store for reading. Each call reads the file that is at the path then.
    pub(crate) fn open_to_follow(&self) -> Result<Arc<dyn Store>, CliError> {
        self.open_with(|path| SqliteReader::follow(path, report_changes()))
    }

    /// Opens what another process can read too: a file with `open_file`, or a database.
    fn open_with(
        &self,
        open_file: impl FnOnce(&Path) -> Result<SqliteReader, StoreError>,
    ) -> Result<Arc<dyn Store>, CliError> {
        match self {
            Self::Sqlite(path) => Ok(Arc::new(open_file(path)?)),
            Self::Postgres(url) => {
                let store = PostgresStore::open(url, PostgresMode::Read)?;
                Ok(Arc::new(store))
            }
            Self::Nats(url) => Err(CliError::usage(format!(
                "invalid --store {url}: {}; name the --store of `echoic keep`",
                "a stream passes the record on, and is not read"
            ))),
            Self::Memory | Self::None => Err(CliError::usage(
                "invalid --store: expected a file or postgres://…; memory and none cannot be read by another process",
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
            Self::Postgres(url) => write!(f, "{url}"),
            Self::Nats(url) => url.fmt(f),
            Self::Memory => f.write_str("memory"),
            Self::None => f.write_str("none"),
        }
    }
}

/// A stream of NATS as a store.
pub(crate) struct Remote {
    pub(crate) store: Arc<dyn Store>,
    /// Its connection, with the stream in the URL.
    pub(crate) connection: Connection,
}

/// Opens the store if it is a stream of NATS.
pub(crate) async fn open_remote(store: &StoreUrl) -> Result<Option<Remote>, CliError> {
    let StoreUrl::Nats(url) = store else {
        return Ok(None);
    };
    let store = RemoteStore::open(url, &client_name("serve")).await?;
    Ok(Some(Remote {
        connection: store.connection().clone(),
        store: Arc::new(store),
    }))
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
            (
                "nats://me:hidden@host/record",
                Ok(StoreUrl::Nats(
                    "nats://me:hidden@host/record".parse().unwrap(),
                )),
                "nats://host:4222/record",
            ),
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
        for scheme in ["mysql", "redis", "sqlite"] {
            let refused = format!("{scheme}://host/x")
                .parse::<StoreUrl>()
                .unwrap_err();
            let expected = format!("invalid store {scheme}://");
            assert!(refused.contains(&expected), "{refused}");
        }
        let refused = "nats://me:hidden@host".parse::<StoreUrl>().unwrap_err();
        assert!(refused.contains("nats://HOST:PORT/NAME"), "{refused}");
        assert!(!refused.contains("hidden"), "{refused}");
        for empty in ["", "sqlite:"] {
            let refused = empty.parse::<StoreUrl>().unwrap_err();
            assert!(refused.contains("expected a path"), "{refused}");
        }
    }

    #[test]
    fn database_url_is_printed_without_its_password() {
        let store: StoreUrl = "postgres://me:secret@127.0.0.1:5433/echoic"
            .parse()
            .unwrap();
        assert_eq!(store.to_string(), "postgres://me@127.0.0.1:5433/echoic");
        assert!(!format!("{store:?}").contains("secret"));
        for (text, part) in [
            ("postgres://me:secret@/echoic", "names no host"),
            ("postgres://me:secret@host:port/echoic", "invalid URL"),
        ] {
            let refused = text.parse::<StoreUrl>().unwrap_err();
            assert!(refused.starts_with("invalid store: "), "{refused}");
            assert!(refused.contains(part), "{refused}");
            assert!(!refused.contains("sec"), "{refused}");
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

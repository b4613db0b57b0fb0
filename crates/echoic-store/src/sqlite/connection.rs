//! Opens connections: checks the file and its schema, and configures SQLite.

use std::{
    ffi::c_int,
    fmt::Write,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use echoic_core::{
    event,
    store::{StoreError, StoreErrorKind},
};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, config::DbConfig, hooks::Wal};

use super::{
    error::{failed, foreign, is_unsafe, read_only, store_error, system_error, write_error},
    file::log_bytes,
};

mod schema {
    refinery::embed_migrations!("schema");
}

/// The newest schema known to this version: the number of the last file in `schema/`, which sets it as `user_version`.
pub(super) const SCHEMA: u32 = 6;

/// The schema that has the table `left_over`.
pub(super) const SCHEMA_LEFT_OVER: u32 = 4;

/// The schema that has the tables of labels.
pub(super) const SCHEMA_LABELS: u32 = 5;

/// The schema that has the table `tls`.
pub(super) const SCHEMA_TLS: u32 = 6;

/// The oldest schema that is read. Those before it were never released.
const SCHEMA_OLDEST: u32 = 3;

/// The application id of our files, "echo", also known to file(1).
const APPLICATION: i32 = i32::from_be_bytes(*b"echo");

/// Time an append waits for another process's lock, for example of a sqlite3 shell, before it fails.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// Maximum size of a file that is checked completely when it is opened for writing (about 0.1 s). In a larger one only the
/// newest rows are checked, to bound the time of a start.
const CHECKED_BYTES_MAX: u64 = 32 << 20;

/// Page size in bytes. A page of SQLite's default size holds one run of 16 lines and is then half empty; one of this size
/// holds seven. Most of the cost of recording is the system's cost per page (docs/performance.md). Larger pages gain
/// little more, and a commit writes at least three.
pub(super) const PAGE_BYTES: u32 = 16_384;

/// Size of the write-ahead log at which it restarts from its beginning ([`super::checkpointer`]).
pub(super) const LOG_BYTES: u32 = 32 << 20;

/// Maximum size of the write-ahead log. Its file is not truncated below this when the log restarts: overwriting allocated
/// blocks costs the file system a fraction of allocating new ones, at each sync too.
pub(super) const LOG_BYTES_MAX: u32 = 2 * LOG_BYTES;

/// Page cache of a connection that writes, in KiB. Written pages are rarely read again, and a cache of this size mostly
/// fits into the cache of a core.
const CACHED_KIB: i32 = 2_048;

/// Minimum length of a database file: one page of the smallest size.
const SHORTEST: u64 = 512;

/// State of the file at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// No file.
    Nothing,
    /// An empty file: from mktemp(1), or a store whose creation was interrupted.
    Empty,
    /// A file of ours.
    Record,
}

/// Determines the kind of a file without changing or locking it.
///
/// Reading its first bytes directly would be simpler but wrong: closing that handle would release the locks of any
/// connection this process has to the file (fcntl(2)).
pub(super) fn peek(path: &Path) -> Result<Origin, StoreError> {
    match fs::metadata(path) {
        Ok(file) if file.is_dir() => return Err(foreign(path, "it is a directory")),
        // A lock file beside a pipe or a device would be left behind, and SQLite reports only "disk I/O error".
        Ok(file) if !file.is_file() => {
            return Err(foreign(path, "it is a pipe, a socket or a device"));
        }
        Ok(file) if file.len() == 0 && log_bytes(path) > 0 => {
            return Err(foreign(
                path,
                "it is empty, and the write-ahead log beside it is not",
            ));
        }
        Ok(file) if file.len() == 0 => return Ok(Origin::Empty),
        // SQLite would treat it as empty.
        Ok(file) if file.len() < SHORTEST => {
            return Err(foreign(path, "it is too short to be one"));
        }
        Ok(_) => {}
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Origin::Nothing),
        Err(why) => return Err(system_error(path, &why)),
    }
    let inspect = || {
        let connection = immutable(path)?;
        // Without this SQLite rejects a file that is shorter than its header says. A crash during a checkpoint leaves such
        // a file; the rest is in the log, which is not read here.
        connection.pragma_update(None, "writable_schema", true)?;
        let application: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let things: u32 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((application, things))
    };
    match inspect().map_err(|why| store_error(path, &why))? {
        (APPLICATION, _) => Ok(Origin::Record),
        (0, 0) => Ok(Origin::Empty),
        _ => Err(foreign(path, "it is another program's database")),
    }
}

/// Opens a connection for writing and migrates the file to the newest schema. After each commit it sets `log_pages` to the
/// length of the log.
pub(super) fn open_to_write(
    path: &Path,
    log_pages: &Arc<AtomicU32>,
) -> Result<Connection, StoreError> {
    let refused = |why: Error| write_error(path, &why);
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(refused)?;
    if connection.is_readonly("main").map_err(refused)? {
        return Err(read_only(path, "the file is read-only"));
    }
    let schema = schema_version(path, &connection)?;
    if schema == 0 {
        initialize(&connection).map_err(refused)?;
    }
    let journal = configure(&connection).map_err(refused)?;
    if journal != "wal" {
        let what = format!(
            "no write-ahead log is possible there (the journal mode is {journal}); is it a network file system?"
        );
        return Err(failed(path, what));
    }
    if schema < SCHEMA {
        // All or none: a partial migration would be rejected at every later start.
        let done = schema::migrations::runner()
            .set_grouped(true)
            .run(&mut connection);
        done.map_err(|why| migration_error(path, &why))?;
    }
    check_event_version(path, &connection)?;
    check(path, &connection)?;
    let noted = Arc::clone(log_pages);
    let note = move |_: &mut Wal, pages: c_int| {
        noted.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    };
    connection.wal_hook(Some(note)).map_err(refused)?;
    Ok(connection)
}

/// Opens a connection that writes labels beside a process that records. `None`: the file has no tables for them yet.
///
/// It never copies the log into the database, neither after a commit nor when it is closed. SQLite would, and ignore a
/// failure: but pages of the log that a failed sync has lost must not be copied, and only the process that records knows of
/// such a failure ([`super::checkpointer`]).
pub(super) fn open_to_label(path: &Path) -> Result<Option<Connection>, StoreError> {
    drop(open_to_read(path)?);
    let refused = |why: Error| write_error(path, &why);
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(refused)?;
    if connection.is_readonly("main").map_err(refused)? {
        return Err(read_only(path, "the file is read-only"));
    }
    if schema_version(path, &connection)? < SCHEMA_LABELS {
        return Ok(None);
    }
    let prepare = || {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "synchronous", "NORMAL")
    };
    prepare().map_err(refused)?;
    Ok(Some(connection))
}

/// Result of a checkpoint, in pages.
#[derive(Clone, Copy, Default)]
pub(super) struct Checkpoint {
    /// Pages of the log that are in the database file.
    pub(super) copied: u32,
    /// Length of the log at that time.
    pub(super) log: u32,
}

/// Copies as much of the log into the database file as possible. SQLite would do so by itself, but ignore a failure. After
/// a failed sync the system may have dropped data that it could not write, and reports success at the next sync: ignoring
/// the failure would mean treating lost data as safe.
pub(super) fn checkpoint_passive(connection: &Connection) -> rusqlite::Result<Checkpoint> {
    let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        // Both are -1 where there is no log.
        let (log, copied) = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
        let pages = |pages| u32::try_from(pages).unwrap_or(0);
        Ok(Checkpoint {
            copied: pages(copied),
            log: pages(log),
        })
    });
    match done {
        Err(why) if is_unsafe(&why) => Err(why),
        // A reader, or a full disk: the log grows on, and the next commit tries again.
        Err(_) => Ok(Checkpoint {
            copied: 0,
            log: u32::MAX,
        }),
        Ok(checkpoint) => Ok(checkpoint),
    }
}

/// Opens a connection that checkpoints the log while another one writes.
pub(super) fn open_to_checkpoint(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    Ok(connection)
}

/// Opens a connection for reading.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    match peek(path)? {
        Origin::Record => {}
        Origin::Nothing => {
            return Err(StoreError::new(path, StoreErrorKind::Missing));
        }
        Origin::Empty => return Err(foreign(path, "nothing is in it yet")),
    }
    let prepare = |connection: Connection| {
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))?;
        Ok(connection)
    };
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(prepare);
    let connection = match connection {
        // In a read-only directory SQLite cannot create the index of the log. If there is no log, no process is writing
        // either.
        Err(why) if is_access_denied(&why) && log_bytes(path) == 0 => {
            immutable(path).and_then(prepare)
        }
        other => other,
    };
    let connection = connection.map_err(|why| store_error(path, &why))?;
    if schema_version(path, &connection)? == 0 {
        return Err(foreign(path, "nothing is in it yet"));
    }
    check_event_version(path, &connection)?;
    Ok(connection)
}

fn is_access_denied(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    )
}

fn open(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    // The file may have been crafted by an attacker (sqlite.org/security.html).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Opens a connection that assumes that no process changes the file: it uses no locks, no log and no other file.
fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(byte.into());
            }
            _ => write!(uri, "%{byte:02x}").expect("invariant: writing to a string cannot fail"),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Sets the properties of a new file that cannot be changed later.
fn initialize(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    // Pages freed by pruning are reused. Pages beyond the limit can be released only with this mode, which must be set
    // before the first table.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "application_id", APPLICATION)
}

/// Configures a connection for writing. Returns the journal mode that results.
fn configure(connection: &Connection) -> rusqlite::Result<String> {
    let mut journal = String::new();
    // Runs the statement to its end: its first row says "wal" before the change is on disk.
    connection.pragma(None, "journal_mode", "WAL", |row| {
        journal = row.get(0)?;
        Ok(())
    })?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "cache_size", -CACHED_KIB)?;
    Ok(journal)
}

/// Returns the schema of the file: one that is only read may be older than [`SCHEMA`].
pub(super) fn schema(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn schema_version(path: &Path, connection: &Connection) -> Result<u32, StoreError> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    check_version(path, found, SCHEMA_OLDEST, SCHEMA)
}

fn check_event_version(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let found = connection.query_row("SELECT event_version FROM state", [], |row| row.get(0));
    check_version(path, found, event::VERSION, event::VERSION).map(drop)
}

/// Rejects versions above `known`, and versions below `oldest` except 0, which is an empty file.
fn check_version(
    path: &Path,
    found: rusqlite::Result<u32>,
    oldest: u32,
    known: u32,
) -> Result<u32, StoreError> {
    match found.map_err(|why| store_error(path, &why))? {
        found if found > known => Err(StoreError::new(
            path,
            StoreErrorKind::Newer { found, known },
        )),
        found if found > 0 && found < oldest => Err(StoreError::new(
            path,
            StoreErrorKind::Older {
                found,
                known: oldest,
            },
        )),
        found => Ok(found),
    }
}

/// Checks the integrity of the file, as far as possible in bounded time.
fn check(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let inspect = || {
        let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let depth = if pages * page <= CHECKED_BYTES_MAX {
            "PRAGMA quick_check(1)"
        } else {
            "SELECT 'ok', (SELECT rep FROM run ORDER BY id DESC LIMIT 1),
                (SELECT remote FROM conversation ORDER BY id DESC LIMIT 1)"
        };
        connection.query_row(depth, [], |row| row.get::<_, String>(0))
    };
    match inspect().map_err(|why| store_error(path, &why))? {
        sound if sound == "ok" => Ok(()),
        what => Err(foreign(path, what)),
    }
}

fn migration_error(path: &Path, error: &refinery::Error) -> StoreError {
    match error.kind() {
        refinery::error::Kind::Connection(_, why) => match why.downcast_ref::<Error>() {
            Some(why) => write_error(path, why),
            None => failed(path, why.to_string()),
        },
        _ => failed(path, error.to_string()),
    }
}

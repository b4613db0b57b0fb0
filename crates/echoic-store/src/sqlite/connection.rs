//! Connections: whose file it is, how SQLite is told to treat it, which schema it has.

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
    file::log_bytes,
    problem::{failed, foreign, is_ruinous, problem, read_only, system_problem},
};

mod schema {
    refinery::embed_migrations!("schema");
}

/// The newest schema known here: the number of the last file in `schema/`, which sets it as `user_version`.
const SCHEMA: u32 = 3;

/// The oldest schema that is read. Those before it were never released.
const SCHEMA_OLDEST: u32 = 3;

/// "echo": how the file says whose it is, to us and to file(1).
const APPLICATION: i32 = i32::from_be_bytes(*b"echo");

/// How long a person's sqlite3 shell may hold the file before an append fails.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// A record up to this size is checked whole when it is opened to be written (about 0.1 s); a larger one only
/// where it will be written next, since every start would wait for the rest.
const CHECKED_BYTES_MAX: u64 = 32 << 20;

/// A page of SQLite's default size holds one run of 16 lines and is then half empty. Of this size it holds seven, and
/// most of what recording costs is the system's price for a page (docs/performance.md). Larger ones gain little more,
/// and a commit writes at least three of them.
pub(super) const PAGE_BYTES: u32 = 16_384;

/// The write-ahead log is begun again when it has grown to this ([`super::mover`]).
pub(super) const LOG_BYTES: u32 = 32 << 20;

/// Nor does it grow beyond this, and its file is left as long as it was: to write over blocks that are there costs the
/// file system a fraction of what new ones do, at each sync too.
pub(super) const LOG_BYTES_MAX: u32 = 2 * LOG_BYTES;

/// Pages kept in memory, for each connection that writes. What is written is rarely looked at again, so more of them
/// would only be further away when they are used for the next: of these, a core's cache holds the most.
const CACHED_KIB: i32 = 2_048;

/// The shortest file that has a database in it: one page of the smallest size.
const SHORTEST: u64 = 512;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// No file.
    Nothing,
    /// A file with nothing in it: one from mktemp(1), or a record that was never begun.
    Empty,
    /// A record of ours.
    Record,
}

/// Looks whose file it is and touches nothing, not even by a lock.
///
/// Reading its first bytes ourselves would be simpler and wrong: closing our handle would give up the locks of
/// any connection this process has to the file.
pub(super) fn peek(path: &Path) -> Result<Origin, StoreError> {
    match fs::metadata(path) {
        Ok(file) if file.is_dir() => return Err(foreign(path, "it is a directory")),
        Ok(file) if file.len() == 0 && log_bytes(path) > 0 => {
            return Err(foreign(
                path,
                "it is empty, and the write-ahead log beside it is not",
            ));
        }
        Ok(file) if file.len() == 0 => return Ok(Origin::Empty),
        // SQLite would take it for an empty one.
        Ok(file) if file.len() < SHORTEST => {
            return Err(foreign(path, "it is too short to be one"));
        }
        Ok(_) => {}
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Origin::Nothing),
        Err(why) => return Err(system_problem(path, &why)),
    }
    let look = || {
        let connection = immutable(path)?;
        // Without this a file is refused that is shorter than its header says, which is what a crash while the
        // log was being copied leaves; the log, not looked at here, has the rest.
        connection.pragma_update(None, "writable_schema", true)?;
        let application: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let things: u32 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((application, things))
    };
    match look().map_err(|why| problem(path, &why))? {
        (APPLICATION, _) => Ok(Origin::Record),
        (0, 0) => Ok(Origin::Empty),
        _ => Err(foreign(path, "it is another program's database")),
    }
}

/// A connection to write by, to a record of the newest schema. After each commit `log_pages` says how long the log is.
pub(super) fn to_write(path: &Path, log_pages: &Arc<AtomicU32>) -> Result<Connection, StoreError> {
    let refused = |why: Error| problem(path, &why);
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(refused)?;
    if connection.is_readonly("main").map_err(refused)? {
        return Err(read_only(path, "the file is read-only"));
    }
    let schema = schema_version(path, &connection)?;
    if schema == 0 {
        claim(&connection).map_err(refused)?;
    }
    let journal = settle(&connection).map_err(refused)?;
    if journal != "wal" {
        let what = format!(
            "no write-ahead log is possible there (the journal is {journal}); is it a network file system?"
        );
        return Err(failed(path, what));
    }
    if schema < SCHEMA {
        // All or none: half a migration would be refused for ever after.
        let done = schema::migrations::runner()
            .set_grouped(true)
            .run(&mut connection);
        done.map_err(|why| migration_problem(path, &why))?;
    }
    known_events(path, &connection)?;
    check(path, &connection)?;
    let noted = Arc::clone(log_pages);
    let note = move |_: &mut Wal, pages: c_int| {
        noted.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    };
    connection.wal_hook(Some(note)).map_err(refused)?;
    Ok(connection)
}

/// How much of the log is in the record.
#[derive(Clone, Copy, Default)]
pub(super) struct Copied {
    pub(super) pages: u32,
    /// The length of the log when it was copied.
    pub(super) of: u32,
}

/// Copies what can be of the log into the record; says how much of it is there now. SQLite would do so by
/// itself, and keep to itself if that fails. But after a failed sync the system may have dropped what it could not
/// write, and answers the next sync as if nothing had been: whoever has not heard of it takes for safe what is not.
pub(super) fn copy_log(connection: &Connection) -> rusqlite::Result<Copied> {
    let copied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        // Both are -1 where there is no log.
        let (of, pages) = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
        let known = |pages| u32::try_from(pages).unwrap_or(0);
        Ok(Copied {
            pages: known(pages),
            of: known(of),
        })
    });
    match copied {
        Err(why) if is_ruinous(&why) => Err(why),
        // A reader, or a disk without room: the log grows on, and the next commit tries again.
        Err(_) => Ok(Copied {
            pages: 0,
            of: u32::MAX,
        }),
        Ok(copied) => Ok(copied),
    }
}

/// A connection that copies the log beside the one that writes.
pub(super) fn to_move(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    Ok(connection)
}

/// A connection to read by.
pub(super) fn to_read(path: &Path) -> Result<Connection, StoreError> {
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
        // A record in a directory that cannot be written to, where the index of the log cannot be made. If there
        // is no log, nobody is writing it either.
        Err(why) if is_out_of_reach(&why) && log_bytes(path) == 0 => {
            immutable(path).and_then(prepare)
        }
        other => other,
    };
    let connection = connection.map_err(|why| problem(path, &why))?;
    if schema_version(path, &connection)? == 0 {
        return Err(foreign(path, "nothing is in it yet"));
    }
    known_events(path, &connection)?;
    Ok(connection)
}

fn is_out_of_reach(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    )
}

fn open(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    // The file may have been made by somebody else to harm us (sqlite.org/security.html).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// A connection that takes the file for one that nobody changes: no locks, no log, no other file.
fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(byte.into());
            }
            _ => write!(uri, "%{byte:02x}").expect("invariant: a string takes all"),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Makes an empty file ours. What is told here cannot be told later.
fn claim(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    // Pages that pruning frees are used again; those beyond the limit can be given back only if the file was
    // made to know who refers to a page.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "application_id", APPLICATION)
}

/// Says how to go about writing; returns the journal mode that came of it.
fn settle(connection: &Connection) -> rusqlite::Result<String> {
    let mut journal = String::new();
    // To the end of the statement, not to its first row: that says "wal" before the change is on the disk.
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

fn schema_version(path: &Path, connection: &Connection) -> Result<u32, StoreError> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    known(path, found, SCHEMA_OLDEST, SCHEMA)
}

fn known_events(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let found = connection.query_row("SELECT event_version FROM state", [], |row| row.get(0));
    known(path, found, event::VERSION, event::VERSION).map(drop)
}

/// Refuses versions beyond `known`, and those before `oldest` but 0: an empty file.
fn known(
    path: &Path,
    found: rusqlite::Result<u32>,
    oldest: u32,
    known: u32,
) -> Result<u32, StoreError> {
    match found.map_err(|why| problem(path, &why))? {
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

/// Whether the record is sound, as far as that can be told in bounded time.
fn check(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let look = || {
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
    match look().map_err(|why| problem(path, &why))? {
        sound if sound == "ok" => Ok(()),
        what => Err(foreign(path, what)),
    }
}

fn migration_problem(path: &Path, error: &refinery::Error) -> StoreError {
    match error.kind() {
        refinery::error::Kind::Connection(_, why) => match why.downcast_ref::<Error>() {
            Some(why) => problem(path, why),
            None => failed(path, why.to_string()),
        },
        _ => failed(path, error.to_string()),
    }
}

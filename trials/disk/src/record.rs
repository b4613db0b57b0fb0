//! The contents of a record, and the figures that a server reports.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

/// The contents of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Recorded exchanges.
    pub exchanges: u64,
    /// Exchanges missing according to its gaps.
    pub missing: u64,
    /// The close reasons of its conversations, each once.
    pub endings: Vec<String>,
}

/// Reads a copy of the record at `path`, with its WAL, as it is on the disk; it must be sound.
pub fn read(path: &Path) -> Result<Record> {
    let place = tempfile::tempdir()?;
    let copy = place.path().join("echoic.db");
    fs::copy(path, &copy)?;
    let log = |path: &Path| path.with_extension("db-wal");
    if log(path).exists() {
        fs::copy(log(path), log(&copy))?;
    }
    let record = Connection::open(&copy)?;
    let check: String = record.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    ensure!(check == "ok", "{check}");
    let one = |sql| record.query_row(sql, [], |row| row.get::<_, u64>(0));
    let exchanges = one("SELECT coalesce(sum(count), 0) FROM run")?;
    let missing = one("SELECT coalesce(sum(a), 0) FROM mark WHERE what = 'gap'")?;
    let mut endings =
        record.prepare("SELECT DISTINCT coalesce(reason, 'open') FROM conversation ORDER BY 1")?;
    let endings = endings.query_map([], |row| row.get(0))?;
    let endings = endings.collect::<Result<_, _>>()?;
    Ok(Record {
        exchanges,
        missing,
        endings,
    })
}

/// Returns the figures of a server's last line: served, recorded, lost.
pub fn last_words(stderr: &str) -> Result<[u64; 3]> {
    let last = stderr.lines().last().unwrap_or_default();
    let figures = last
        .strip_prefix("stopped: ")
        .with_context(|| format!("it did not stop in order: {stderr}"))?;
    let figures = figures
        .split_whitespace()
        .filter_map(|word| word.parse().ok());
    let figures: Vec<u64> = figures.take(3).collect();
    figures
        .try_into()
        .ok()
        .with_context(|| format!("figures are missing: {last}"))
}

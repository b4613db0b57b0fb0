//! What a record says of itself, and what a serve said of it.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

/// What a record holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Exchanges that are there.
    pub exchanges: u64,
    /// Exchanges that it says are missing.
    pub missing: u64,
    /// How its conversations ended, each once.
    pub endings: Vec<String>,
}

/// Looks into a copy of the record at `path`, with its log, as it lies there; it has to be sound.
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

/// The figures of a serve's last line: served, recorded, lost.
pub fn last_words(said: &str) -> Result<[u64; 3]> {
    let last = said.lines().last().unwrap_or_default();
    let figures = last
        .strip_prefix("stopped: ")
        .with_context(|| format!("it did not stop in order: {said}"))?;
    let figures = figures
        .split_whitespace()
        .filter_map(|word| word.parse().ok());
    let figures: Vec<u64> = figures.take(3).collect();
    figures
        .try_into()
        .ok()
        .with_context(|| format!("figures are missing: {last}"))
}

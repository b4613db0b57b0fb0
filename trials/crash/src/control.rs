//! The positive control: a program that writes the same schema with `synchronous=OFF`, which echoic never does.

use std::{
    fs,
    io::{Write, stdout},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use echoic_core::store::{Durability, Store};
use echoic_store::SqliteStore;
use futures_executor::block_on;
use rusqlite::Connection;

use crate::{
    history::{History, options},
    message,
    program::{Running, SOON},
    trace,
};

/// Records one exchange a commit at a given `synchronous` level, and reports each commit on standard output.
pub fn write(folder: &Path, level: &str, commits: u64) -> Result<()> {
    let path = folder.join("echoic.db");
    block_on(SqliteStore::open(&path, Durability::Strict)?.close())?;
    let record = Connection::open(&path)?;
    record.pragma_update(None, "synchronous", level)?;
    record.pragma_update(None, "wal_autocheckpoint", 20)?;
    for id in 1..=commits {
        let reply = message("k0p0", id - 1, 300).to_uppercase();
        record.execute_batch("BEGIN")?;
        record.execute(
            "INSERT INTO run VALUES (?1, 1, ?1, 1, ?1, 0, 'ok', 1, 0, NULL, ?2, ?3)",
            (
                id,
                reply.to_lowercase().into_bytes(),
                reply.clone().into_bytes(),
            ),
        )?;
        record.execute("UPDATE state SET exchanges = ?1, last_exchange = ?1", [id])?;
        record.execute_batch("COMMIT")?;
        let mut out = stdout().lock();
        out.write_all(reply.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// Traces this program (`myself`) in that mode.
pub fn trace(myself: &Path, folder: &Path, level: &str, commits: u64) -> Result<History> {
    let folder = folder.canonicalize()?;
    let log = folder.join("trace");
    let trace = log.to_str().context("a folder named in UTF-8")?;
    let commits = commits.to_string();
    let args = ["control", ".", level, &commits];
    let options = options(trace);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut writer = Running::traced(&options, myself, &args, &folder)?;
    std::io::copy(&mut writer.lines, &mut std::io::sink())?;
    let ended = writer.end(SOON)?;
    ensure!(
        ended.code == Some(0),
        "the control failed: {}",
        ended.stderr
    );
    let steps = trace::read(&fs::read_to_string(&log)?, &folder, 0)?;
    Ok(History {
        steps,
        lives: Vec::new(),
        stall: std::time::Duration::ZERO,
    })
}

//! Checks what is found in a folder after a crash.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use echoic_core::{
    filter::Filter,
    store::{Durability, Order, Page, Store},
};
use echoic_store::SqliteStore;
use futures_executor::block_on;
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{disk::Files, tokens};

/// Returns the numbers of the replies in a record; an error if it is not sound.
pub fn examine(folder: &Path, files: &Files) -> Result<HashSet<String>> {
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(look(folder)?.replies)
}

/// Returns the contents of a folder's record; an error if it is not sound.
pub fn look(folder: &Path) -> Result<Found> {
    let path = folder.join("echoic.db");
    let found = by_sqlite(&path).context("by SQLite")?;
    by_echoic(&path, found.exchanges).context("by echoic")?;
    Ok(found)
}

/// The contents of a record.
#[derive(Debug, Default)]
pub struct Found {
    /// The numbers of the replies.
    pub replies: HashSet<String>,
    /// Number of exchanges.
    pub exchanges: u64,
}

fn by_sqlite(path: &Path) -> Result<Found> {
    if fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return Ok(Found::default());
    }
    let record = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Work on a copy: echoic must find the files as the crash left them.
    record.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let check: String = record.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    ensure!(check == "ok", "integrity_check: {check}");
    // The schema is created in several commits: the next process to open the file continues.
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'run'";
    if record.query_row(sql, [], |row| row.get::<_, u32>(0))? == 0 {
        return Ok(Found::default());
    }
    let mut found = Found::default();
    let mut said_by_peer: HashMap<String, u64> = HashMap::new();
    let mut rows = record.prepare("SELECT id, count, req, rep FROM run NOT INDEXED ORDER BY id")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (id, count): (u64, u64) = (row.get(0)?, row.get(1)?);
        let (request, reply): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
        ensure!(
            id == found.exchanges + 1,
            "exchange {} is followed by {id}",
            found.exchanges
        );
        ensure!(
            request.to_ascii_uppercase() == reply,
            "the reply of exchange {id} is not the upper case of its request"
        );
        let before = found.replies.len();
        for token in tokens(&reply) {
            let (peer, number) = token.split_once('-').context("a number")?;
            let next = said_by_peer.entry(peer.to_owned()).or_default();
            ensure!(
                number.parse() == Ok(*next),
                "{peer}: {number} comes where {next} should"
            );
            *next += 1;
            found.replies.insert(token.to_owned());
        }
        ensure!(
            (found.replies.len() - before) as u64 == count,
            "exchange {id} has not {count} messages"
        );
        found.exchanges += count;
    }
    let counted: (u64, u64) =
        record.query_row("SELECT exchanges, last_exchange FROM state", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    ensure!(
        counted == (found.exchanges, found.exchanges),
        "{} exchanges are there, and {counted:?} are counted",
        found.exchanges
    );
    Ok(found)
}

/// Opens it as the next server would.
fn by_echoic(path: &Path, exchanges: u64) -> Result<()> {
    let store = SqliteStore::open(path, Durability::Off)?;
    let last = block_on(store.last())?.exchange;
    if last != exchanges {
        bail!("the last exchange is {last}, and {exchanges} are there");
    }
    let filter = Filter::parse("")?;
    let page = Page {
        order: Order::NewestFirst,
        beyond: None,
        until: None,
        limit: 100,
        now: 0,
    };
    let found = block_on(store.find(&filter, page))?.exchanges;
    let ids = found.iter().map(|exchange| exchange.id);
    ensure!(
        ids.eq((1..=exchanges).rev().take(100)),
        "echoic does not find them in order"
    );
    block_on(store.close())?;
    Ok(())
}

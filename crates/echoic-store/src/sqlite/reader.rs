//! The reader: the connection that finds and lists, one chunk at a time.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use echoic_core::{
    event::{ConversationId, ExchangeId, Micros},
    exchange::{Conversation, Exchange},
    store::{Gap, Last, Order, Stats, StoreError},
};
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{
    connection,
    error::store_error,
    listing::Listing,
    open_files::OpenFiles,
    prune::Pages,
    row::{self, Lookups},
    scan::Scan,
    worker::Work,
};
use crate::{FileChange, OnFileChange};

/// Maximum of ids, and so of rows, per chunk: some tens of milliseconds.
const CHUNK_IDS: u64 = 20_000;

/// Approximate payload bytes per chunk.
const CHUNK_BYTES: usize = 8 << 20;

/// Maximum of databases that are open because they took the place of each other and are not read yet.
const SUCCESSORS_MAX: u32 = 8;

/// Maximum of conversations for which a search is narrowed to their runs. With more, some are likely open all the time.
const CONVERSATIONS_NARROWED_MAX: u64 = 64;

/// Runs by id from the newest; the bounds of ids, conversations and times are always given.
const NEWEST_FIRST: &str =
    "SELECT id, conversation, n, count, at, latency_ns, outcome, reads, reply_offset,
        lengths, req, rep
    FROM run
    WHERE id BETWEEN ?1 AND ?2 AND conversation BETWEEN ?3 AND ?4 AND at BETWEEN ?5 AND ?6
    ORDER BY id DESC";

/// The same from the oldest.
const OLDEST_FIRST: &str =
    "SELECT id, conversation, n, count, at, latency_ns, outcome, reads, reply_offset,
        lengths, req, rep
    FROM run
    WHERE id BETWEEN ?1 AND ?2 AND conversation BETWEEN ?3 AND ?4 AND at BETWEEN ?5 AND ?6
    ORDER BY id";

/// Owns the connection for reading.
pub(super) struct Reader {
    path: PathBuf,
    connection: Connection,
    lookups: Lookups,
    files: OpenFiles,
    on_change: OnFileChange,
    /// Whether `on_change` knows that the path does not name the file any more.
    is_told: bool,
    /// The database that has taken its place.
    next: Option<Box<Self>>,
    /// Set if the ids of the file begin anew, since a new server made it: an id of the file before that a search goes on
    /// from, and the last id of this one that was returned.
    renumbered: Option<(ExchangeId, ExchangeId)>,
}

impl Reader {
    pub(super) fn open(path: &Path, on_change: OnFileChange) -> Result<Self, StoreError> {
        let connection = connection::open_to_read(path)?;
        let has_left_over = connection::has_left_over(&connection);
        Ok(Self {
            path: path.to_owned(),
            connection,
            lookups: Lookups::new(has_left_over.map_err(|why| store_error(path, &why))?),
            files: OpenFiles::at(path),
            on_change,
            is_told: false,
            next: None,
            renumbered: None,
        })
    }

    /// Whether another database has taken the place of the one being read, which is complete then. It is opened, so that
    /// it can be read even if it is renamed too.
    pub(super) fn has_successor(&mut self) -> bool {
        self.find_successor(SUCCESSORS_MAX)
    }

    fn find_successor(&mut self, left: u32) -> bool {
        if let Some(next) = &mut self.next {
            // It may be renamed too before this one is read to its end.
            if left > 0 {
                next.find_successor(left - 1);
            }
            return true;
        }
        if !self.files.is_gone() {
            return false;
        }
        if !self.is_told {
            self.is_told = true;
            (self.on_change)(&self.files.change());
        }
        // Not before it has the ids and conversations that go along: then something is in it.
        let has_begun = |next: &Self| {
            let sql = "SELECT last_exchange + last_conversation > 0 FROM state";
            let begun = next.connection.query_row(sql, [], |row| row.get(0));
            begun.unwrap_or(false)
        };
        let next = Self::open(&self.path, Arc::clone(&self.on_change)).ok();
        self.next = next.filter(has_begun).map(Box::new);
        self.next.is_some()
    }

    /// Returns the id from which a search goes on that has returned `beyond`.
    pub(super) fn beyond(&self, beyond: ExchangeId) -> ExchangeId {
        match self.renumbered {
            Some((before, returned)) if before == beyond => returned,
            _ => beyond,
        }
    }

    /// Reads the successor from now on. `beyond` is the last id that was returned.
    pub(super) fn change(&mut self, beyond: ExchangeId) {
        let Some(next) = self.next.take() else {
            return;
        };
        *self = *next;
        let is_renumbered = self.last().is_ok_and(|last| last.exchange < beyond);
        self.renumbered = is_renumbered.then_some((beyond, 0));
        let path = self.path.clone();
        (self.on_change)(&FileChange::Continued { path });
    }

    pub(super) fn last(&self) -> Result<Last, StoreError> {
        let sql = "SELECT last_exchange, last_conversation FROM state";
        let last = self.connection.query_row(sql, [], |row| {
            Ok(Last {
                exchange: row.get(0)?,
                conversation: row.get(1)?,
            })
        });
        last.map_err(|why| store_error(&self.path, &why))
    }

    /// Returns the number of exchanges.
    pub(super) fn total(&self) -> Result<u64, StoreError> {
        let total = self
            .connection
            .query_row("SELECT exchanges FROM state", [], |row| row.get(0));
        total.map_err(|why| store_error(&self.path, &why))
    }

    pub(super) fn conversation(
        &mut self,
        id: ConversationId,
    ) -> Result<Option<Conversation>, StoreError> {
        let found = row::conversation(&self.connection, &mut self.lookups, id);
        found.map_err(|why| store_error(&self.path, &why))
    }

    /// Returns gaps that begin within `times`, newest first.
    pub(super) fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> Result<Vec<Gap>, StoreError> {
        let read = || {
            let sql = "SELECT b, a FROM mark WHERE conversation = 0 AND what = 'gap' AND b BETWEEN ?1 AND ?2
                 ORDER BY b DESC LIMIT ?3";
            let mut statement = self.connection.prepare_cached(sql)?;
            let bounds = (times.start(), times.end(), limit as u64);
            let gaps = statement.query_map(bounds, |row| {
                Ok(Gap {
                    since: row.get(0)?,
                    exchanges: row.get(1)?,
                })
            })?;
            gaps.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|why| store_error(&self.path, &why))
    }

    /// Reads the next chunk of a list of conversations. Returns the list with it.
    pub(super) fn list(&mut self, mut listing: Listing) -> Result<Listing, StoreError> {
        let Self {
            connection,
            lookups,
            ..
        } = self;
        // One snapshot: the count of a conversation comes from two tables.
        let read = connection
            .transaction()
            .and_then(|now| listing.chunk(&now, lookups));
        read.map_err(|why| store_error(&self.path, &why))?;
        Ok(listing)
    }

    /// Returns totals of the database.
    pub(super) fn stats(&mut self) -> Result<Stats, StoreError> {
        let mut read = || {
            let now = self.connection.transaction()?;
            let mut stats = Stats::default();
            let one = |sql: &str| now.query_row(sql, [], |row| row.get(0));
            stats.exchanges = one("SELECT exchanges FROM state")?;
            stats.conversations = one("SELECT count(*) FROM conversation")?;
            let at = |sql: &str| now.query_row(sql, [], |row| row.get(0)).optional();
            stats.oldest = at("SELECT at FROM run ORDER BY id LIMIT 1")?;
            stats.newest = at("SELECT at FROM run ORDER BY id DESC LIMIT 1")?;
            stats.bytes = Pages::read(&now)?.used_bytes();
            Ok(stats)
        };
        read().map_err(|why| store_error(&self.path, &why))
    }

    /// Reads the next chunk of a search. Returns the search and the exchanges found.
    pub(super) fn find(&mut self, mut scan: Scan) -> Result<(Scan, Vec<Exchange>), StoreError> {
        let mut found = Vec::new();
        self.chunk(&mut scan, |exchange| found.push(exchange))?;
        if let (Some((_, returned)), Some(last)) = (&mut self.renumbered, found.last()) {
            *returned = last.id.max(*returned);
        }
        Ok((scan, found))
    }

    /// Reads the next chunk of a search. Returns the search and the number of exchanges found.
    pub(super) fn count(&mut self, mut scan: Scan) -> Result<(Scan, u64), StoreError> {
        let mut found = 0;
        self.chunk(&mut scan, |_| found += 1)?;
        Ok((scan, found))
    }

    fn chunk(&mut self, scan: &mut Scan, take: impl FnMut(Exchange)) -> Result<(), StoreError> {
        let Self {
            connection,
            lookups,
            ..
        } = self;
        // One snapshot: a run and its conversation belong together.
        let read = connection
            .transaction()
            .and_then(|now| read(&now, lookups, scan, take));
        read.map_err(|why| store_error(&self.path, &why))
    }
}

impl Work for Reader {
    fn finish(self) -> Result<(), StoreError> {
        let path = self.path;
        self.connection
            .close()
            .map_err(|(_, why)| store_error(&path, &why))
    }
}

fn read(
    now: &Transaction<'_>,
    lookups: &mut Lookups,
    scan: &mut Scan,
    mut take: impl FnMut(Exchange),
) -> rusqlite::Result<()> {
    if scan.cursor.is_none() {
        narrow(now, scan)?;
    }
    let Some(window) = window(now, scan)? else {
        scan.stop(false);
        return Ok(());
    };
    let mut conversations: HashMap<ConversationId, Option<Arc<Conversation>>> = HashMap::new();
    let newest_first = scan.order == Order::NewestFirst;
    let mut statement = now.prepare_cached(if newest_first {
        NEWEST_FIRST
    } else {
        OLDEST_FIRST
    })?;
    let (low, high) = window;
    let mut rows = statement.query((
        low,
        high,
        scan.conversations.start(),
        scan.conversations.end(),
        scan.times.start(),
        scan.times.end(),
    ))?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let (id, conversation): (u64, ConversationId) = (row.get(0)?, row.get(1)?);
        scan.cursor = Some(id);
        let conversation = match conversations.get(&conversation) {
            Some(known) => known.clone(),
            None => {
                let found = row::conversation(now, lookups, conversation)?
                    .unwrap_or_else(|| crate::unknown(conversation));
                let found = scan.may_match(&found).then(|| Arc::new(found));
                conversations.insert(conversation, found.clone());
                found
            }
        };
        let Some(conversation) = conversation else {
            continue;
        };
        let (mut exchanges, read) = row::exchanges(row, &conversation)?;
        bytes += read;
        if newest_first {
            exchanges.reverse();
        }
        let mut exchanges = exchanges.into_iter();
        while !scan.is_full() {
            match exchanges.next() {
                Some(exchange) if scan.accepts(&exchange) => take(exchange),
                Some(_) => {}
                None => break,
            }
        }
        if scan.is_full() {
            let left = exchanges.any(|exchange| scan.ids.contains(&exchange.id));
            let more = left || self::window(now, scan)?.is_some();
            scan.stop(more);
            return Ok(());
        }
        if bytes >= CHUNK_BYTES {
            return Ok(());
        }
    }
    scan.cursor = Some(if newest_first { low } else { high });
    Ok(())
}

/// Returns the ids of runs that the next chunk covers, beginning at an existing run; `None` if no run is left.
fn window(now: &Transaction<'_>, scan: &Scan) -> rusqlite::Result<Option<(u64, u64)>> {
    let (&low, &high) = (scan.ids.start(), scan.ids.end());
    let id = |sql, bounds: (u64, u64)| -> rusqlite::Result<Option<u64>> {
        now.prepare_cached(sql)?.query_row(bounds, |row| row.get(0))
    };
    // The smallest id may be inside a run that begins before it. Ids begin at 1: a row with id 0 is from another program,
    // and searching "before 0" would not end.
    let first = id(
        "SELECT max(id) FROM run WHERE id BETWEEN ?1 AND ?2",
        (1, low),
    )?
    .unwrap_or_else(|| low.max(1));
    let window = match scan.order {
        Order::NewestFirst => {
            let from = scan.cursor.map_or(high, |cursor| cursor.saturating_sub(1));
            let top = id(
                "SELECT max(id) FROM run WHERE id BETWEEN ?1 AND ?2",
                (first, from),
            )?;
            top.map(|top| (first.max(top.saturating_sub(CHUNK_IDS)), top))
        }
        Order::OldestFirst => {
            let from = scan.cursor.map_or(first, |cursor| cursor.saturating_add(1));
            let bottom = id(
                "SELECT min(id) FROM run WHERE id BETWEEN ?1 AND ?2",
                (from, high),
            )?;
            bottom.map(|bottom| (bottom, high.min(bottom.saturating_add(CHUNK_IDS))))
        }
    };
    Ok(window)
}

/// Narrows a search to the runs of the conversations selected by id.
fn narrow(now: &Transaction<'_>, scan: &mut Scan) -> rusqlite::Result<()> {
    let (from, to) = (*scan.conversations.start(), *scan.conversations.end());
    if to - from >= CONVERSATIONS_NARROWED_MAX {
        return Ok(());
    }
    let sql = "SELECT min(first_run), max(last_run), count(*) - count(last_run) FROM conversation
        WHERE id BETWEEN ?1 AND ?2";
    let known = now.query_row(sql, (from, to), |row| {
        let open: u64 = row.get(2)?;
        Ok((
            row.get::<_, Option<u64>>(0)?,
            row.get::<_, Option<u64>>(1)?.filter(|_| open == 0),
        ))
    });
    // Without a row for any of them their openings were not recorded, and their runs may be anywhere.
    if let Some((Some(first), last)) = known.optional()? {
        scan.narrow(first, last.unwrap_or(u64::MAX));
    }
    Ok(())
}

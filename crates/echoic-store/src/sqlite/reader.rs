//! The reader: the connection that finds and lists, one chunk at a time.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use echoic_core::{
    event::{ConversationId, ExchangeId, Mark, Micros},
    exchange::{Exchange, ExchangeRef},
    store::{Gap, Last, ListedConversation, SeriesBuilder, Stats, StoreError, TagCount},
};
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{
    connection,
    error::store_error,
    labels,
    listing::{self, Listing},
    messages::{self, Messages},
    open_files::OpenFiles,
    prune::Pages,
    row::Lookups,
    search,
    worker::Work,
};
use crate::{FileChange, OnFileChange, scan::Scan};

/// Maximum of databases that are open because they took the place of each other and are not read yet.
const SUCCESSORS_MAX: u32 = 8;

/// An exchange and its conversation.
pub(super) type ExchangeOf = (ExchangeId, ConversationId);

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
        let mut lookups = Lookups::default();
        let refreshed = lookups.refresh(&connection);
        refreshed.map_err(|why| store_error(path, &why))?;
        Ok(Self {
            path: path.to_owned(),
            connection,
            lookups,
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

    /// Whether a search that ends with the id `until` reaches the end of the file.
    pub(super) fn ends_by(&self, until: Option<ExchangeId>) -> bool {
        until.is_none_or(|until| self.last().is_ok_and(|last| last.exchange <= until))
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
    ) -> Result<Option<ListedConversation>, StoreError> {
        self.read(|now, lookups| listing::one(now, lookups, id))
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
        // One snapshot: the count of a conversation comes from two tables.
        self.read(|now, lookups| listing.chunk(now, lookups))?;
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
        self.chunk(&mut scan, |exchange| found.push(exchange.into_owned()))?;
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

    /// Reads the next chunk of a search. Returns the search and what it finds: the ids of exchanges, and their conversations.
    pub(super) fn ids(&mut self, mut scan: Scan) -> Result<(Scan, Vec<ExchangeOf>), StoreError> {
        let mut found = Vec::new();
        self.chunk(&mut scan, |exchange| {
            found.push((exchange.id, exchange.conversation.id));
        })?;
        Ok((scan, found))
    }

    /// Reads the next chunk of a search, and counts what it finds.
    pub(super) fn series(
        &mut self,
        mut scan: Scan,
        mut series: SeriesBuilder,
    ) -> Result<(Scan, SeriesBuilder), StoreError> {
        self.chunk(&mut scan, |exchange| series.add(&exchange))?;
        Ok((scan, series))
    }

    fn chunk(
        &mut self,
        scan: &mut Scan,
        take: impl FnMut(ExchangeRef<'_>),
    ) -> Result<(), StoreError> {
        // One snapshot: a run and its conversation belong together.
        self.read(|now, lookups| search::chunk(now, lookups, scan, take))
    }

    /// Reads the next chunk of the messages of a conversation.
    pub(super) fn messages(&mut self, mut messages: Messages) -> Result<Messages, StoreError> {
        self.read(|now, lookups| messages.chunk(now, lookups))?;
        Ok(messages)
    }

    /// Returns the marks of a conversation, oldest first.
    pub(super) fn marks(&mut self, id: ConversationId) -> Result<Vec<Mark>, StoreError> {
        self.read(|now, _| messages::marks(now, id))
    }

    /// Returns all tags in use.
    pub(super) fn tags(&mut self) -> Result<Vec<TagCount>, StoreError> {
        self.read(|now, lookups| {
            lookups.refresh(now)?;
            if lookups.has_label_tables() {
                labels::tags(now)
            } else {
                Ok(Vec::new())
            }
        })
    }

    /// Runs `work` in one snapshot.
    fn read<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Lookups) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let Self {
            connection,
            lookups,
            ..
        } = self;
        let read = connection.transaction().and_then(|now| work(&now, lookups));
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

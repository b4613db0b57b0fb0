//! Reads the runs that a search covers, a chunk at a time.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::{ControlFlow, RangeInclusive},
    sync::Arc,
};

use echoic_core::{
    event::{ConversationId, Micros},
    exchange::{Conversation, ExchangeRef, split_run},
    store::{Labels, Order},
};
use rusqlite::Transaction;

use super::{
    labels,
    row::{self, Lookups},
    sequence,
};
use crate::scan::{ID_MAX, Scan};

/// Maximum of ids, and so of rows, per chunk: some tens of milliseconds.
pub(super) const CHUNK_IDS: u64 = 20_000;

/// Approximate payload bytes per chunk.
const CHUNK_BYTES: usize = 8 << 20;

/// Maximum of conversations for which a search is narrowed to their runs. With more, some are likely open all the time.
const CONVERSATIONS_NARROWED_MAX: u64 = 64;

/// Reads the next chunk of `scan` and calls `take` with each exchange found.
pub(super) fn chunk(
    now: &Transaction<'_>,
    lookups: &mut Lookups,
    scan: &mut Scan,
    mut take: impl FnMut(ExchangeRef<'_>),
) -> rusqlite::Result<()> {
    lookups.refresh(now)?;
    if scan.cursor.is_none() {
        narrow(now, lookups, scan)?;
    }
    let Some(mut window) = window(now, scan)? else {
        scan.stop(false);
        return Ok(());
    };
    if scan.sequence.is_some() {
        match sequence::resolve(now, lookups, scan, window)? {
            Some(resolved) => window = resolved,
            None => return Ok(()),
        }
    }
    let runs = Runs::of(scan, window);
    let mut left = false;
    let stopped = runs.visit(now, lookups, |conversation, exchanges| {
        if !scan.may_match(conversation) {
            return ControlFlow::Continue(());
        }
        let mut exchanges = exchanges.iter();
        while !scan.is_full() {
            match exchanges.next() {
                Some(exchange) if scan.accepts(exchange) => take(*exchange),
                Some(_) => {}
                None => break,
            }
        }
        left = exchanges.any(|exchange| scan.ids.contains(&exchange.id));
        if scan.is_full() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    let (low, high) = window;
    scan.cursor = Some(stopped.unwrap_or(match scan.order {
        Order::NewestFirst => low,
        Order::OldestFirst => high,
    }));
    if scan.is_full() {
        let more = left || self::window(now, scan)?.is_some();
        scan.stop(more);
    }
    Ok(())
}

/// The runs of some ids.
pub(super) struct Runs {
    pub(super) window: (u64, u64),
    pub(super) order: Order,
    pub(super) conversations: RangeInclusive<ConversationId>,
    pub(super) times: RangeInclusive<Micros>,
    /// Whether the bytes of messages are read; if not, they have their lengths and are zero.
    pub(super) with_bytes: bool,
}

impl Runs {
    pub(super) fn of(scan: &Scan, window: (u64, u64)) -> Self {
        Self {
            window,
            order: scan.order,
            conversations: scan.conversations.clone(),
            times: scan.times.clone(),
            with_bytes: scan.with_bytes,
        }
    }

    fn sql(&self) -> String {
        let bytes = if self.with_bytes {
            "req, rep"
        } else {
            // SQLite does not read the pages of a value for its length.
            "length(req), length(rep)"
        };
        let order = match self.order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        format!(
            "SELECT id, conversation, n, count, at, latency_ns, outcome, reads, reply_offset, lengths, {bytes}
            FROM run
            WHERE id BETWEEN ?1 AND ?2 AND conversation BETWEEN ?3 AND ?4 AND at BETWEEN ?5 AND ?6
            ORDER BY id {order}"
        )
    }

    /// Calls `visit` with the exchanges of each run, until it breaks or the chunk has many bytes. Returns the id of the run
    /// after which it stopped, or `None` if it has read all.
    pub(super) fn visit(
        &self,
        now: &Transaction<'_>,
        lookups: &mut Lookups,
        mut visit: impl FnMut(&Arc<Conversation>, &[ExchangeRef<'_>]) -> ControlFlow<()>,
    ) -> rusqlite::Result<Option<u64>> {
        let labels = self.labels(now, lookups)?;
        let mut conversations: HashMap<ConversationId, Arc<Conversation>> = HashMap::new();
        let mut statement = now.prepare_cached(&self.sql())?;
        let mut rows = statement.query((
            self.window.0,
            self.window.1,
            self.conversations.start(),
            self.conversations.end(),
            self.times.start(),
            self.times.end(),
        ))?;
        let (mut bytes, mut zeros) = (0, Vec::new());
        while let Some(row) = rows.next()? {
            let (id, conversation): (u64, ConversationId) = (row.get(0)?, row.get(1)?);
            let conversation = match conversations.get(&conversation) {
                Some(known) => known,
                None => {
                    let found = row::conversation(now, lookups, conversation)?
                        .unwrap_or_else(|| crate::unknown(conversation));
                    conversations
                        .entry(conversation)
                        .or_insert_with(|| Arc::new(found))
                }
            };
            let (run, lengths) = row::run(row)?;
            let (request, reply) = if self.with_bytes {
                let (request, reply) = (row.get_ref(10)?.as_blob()?, row.get_ref(11)?.as_blob()?);
                bytes += request.len() + reply.len();
                (request, reply)
            } else {
                let (request, reply): (usize, usize) = (row.get(10)?, row.get(11)?);
                if zeros.len() < request.max(reply) {
                    zeros = vec![0; request.max(reply)];
                }
                (&zeros[..request], &zeros[..reply])
            };
            let exchanges = split_run(&run, id, request, reply, &lengths, conversation);
            let mut exchanges: Vec<ExchangeRef<'_>> = exchanges.collect();
            if !labels.is_empty() {
                for exchange in &mut exchanges {
                    exchange.labels = labels.get(&exchange.id).unwrap_or_else(|| Labels::none());
                }
            }
            if self.order == Order::NewestFirst {
                exchanges.reverse();
            }
            if visit(conversation, &exchanges).is_break() || bytes >= CHUNK_BYTES {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Returns the labels of the exchanges of all runs.
    fn labels(
        &self,
        now: &Transaction<'_>,
        lookups: &Lookups,
    ) -> rusqlite::Result<BTreeMap<u64, Labels>> {
        if !lookups.has_label_tables() {
            return Ok(BTreeMap::new());
        }
        let (low, high) = self.window;
        // The last run may have exchanges with larger ids than its own.
        let next: Option<u64> = now
            .prepare_cached("SELECT min(id) FROM run WHERE id > ?1")?
            .query_row([high], |row| row.get(0))?;
        labels::of_exchanges(now, low, next.map_or(ID_MAX, |next| next - 1))
    }
}

/// Returns the ids of runs that the next chunk covers, beginning at an existing run; `None` if no run is left.
pub(super) fn window(
    now: &Transaction<'_>,
    scan: &mut Scan,
) -> rusqlite::Result<Option<(u64, u64)>> {
    let ids = scan.ids.clone();
    if scan.ranges.is_none() {
        return window_of(now, scan, ids);
    }
    while let Some(range) = scan
        .ranges
        .as_ref()
        .and_then(|ranges| ranges.front().cloned())
    {
        let within = *range.start().max(ids.start())..=*range.end().min(ids.end());
        if !within.is_empty()
            && let Some(window) = window_of(now, scan, within)?
        {
            return Ok(Some(window));
        }
        scan.ranges.as_mut().and_then(VecDeque::pop_front);
    }
    Ok(None)
}

fn window_of(
    now: &Transaction<'_>,
    scan: &Scan,
    ids: RangeInclusive<u64>,
) -> rusqlite::Result<Option<(u64, u64)>> {
    let (low, high) = ids.into_inner();
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
            let before = scan.cursor.map_or(high, |cursor| cursor.saturating_sub(1));
            let top = id(
                "SELECT max(id) FROM run WHERE id BETWEEN ?1 AND ?2",
                (first, high.min(before)),
            )?;
            top.map(|top| (first.max(top.saturating_sub(CHUNK_IDS)), top))
        }
        Order::OldestFirst => {
            let after = scan.cursor.map_or(first, |cursor| cursor.saturating_add(1));
            let bottom = id(
                "SELECT min(id) FROM run WHERE id BETWEEN ?1 AND ?2",
                (first.max(after), high),
            )?;
            bottom.map(|bottom| (bottom, high.min(bottom.saturating_add(CHUNK_IDS))))
        }
    };
    Ok(window)
}

/// Narrows a search to the runs of the conversations selected by id, and to what has the labels it requires.
fn narrow(now: &Transaction<'_>, lookups: &Lookups, scan: &mut Scan) -> rusqlite::Result<()> {
    let labelled = labels::narrow(now, scan.filter.expr(), lookups.has_label_tables())?;
    scan.ranges = labelled.map(|ids| {
        let ids = ids.iter();
        match scan.order {
            Order::OldestFirst => ids.collect(),
            Order::NewestFirst => ids.collect::<Vec<_>>().into_iter().rev().collect(),
        }
    });
    let (from, to) = (*scan.conversations.start(), *scan.conversations.end());
    if to - from >= CONVERSATIONS_NARROWED_MAX {
        return Ok(());
    }
    let sql = "SELECT min(first_run), max(last_run), count(*) - count(last_run) FROM conversation
        WHERE id BETWEEN ?1 AND ?2";
    let (first, last) = now.query_row(sql, (from, to), |row| {
        let open: u64 = row.get(2)?;
        let last: Option<u64> = row.get(1)?;
        Ok((row.get::<_, Option<u64>>(0)?, last.filter(|_| open == 0)))
    })?;
    // Without a row for any of them their openings were not recorded, and their runs may be anywhere.
    if let Some(first) = first {
        scan.narrow(first, last.unwrap_or(u64::MAX));
    }
    Ok(())
}

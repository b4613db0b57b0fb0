//! Looks for the steps of a sequence (`A THEN B`) in the file.

use std::{collections::HashSet, ops::ControlFlow};

use echoic_core::{
    event::{ConversationId, Micros},
    store::Order,
};
use rusqlite::{OptionalExtension, Transaction};

use super::{
    row::Lookups,
    search::{CHUNK_IDS, Runs},
};
use crate::{
    scan::Scan,
    sequence::{Pending, Sequence},
};

/// Does a part of the work for the chunk `window`. Returns the ids for which it is done, or `None` if there is more to do.
pub(super) fn resolve(
    now: &Transaction<'_>,
    lookups: &mut Lookups,
    scan: &mut Scan,
    window: (u64, u64),
) -> rusqlite::Result<Option<(u64, u64)>> {
    let Some(mut sequence) = scan.sequence.take() else {
        return Ok(Some(window));
    };
    let resolved = resolve_in(&mut sequence, now, lookups, scan, window);
    scan.sequence = Some(sequence);
    resolved
}

fn resolve_in(
    sequence: &mut Sequence,
    now: &Transaction<'_>,
    lookups: &mut Lookups,
    scan: &Scan,
    window: (u64, u64),
) -> rusqlite::Result<Option<(u64, u64)>> {
    let mut pending = match sequence.pending.take() {
        Some(pending) => pending,
        None => candidates(sequence, now, lookups, scan, window)?,
    };
    if !pending.is_done() {
        read(sequence, now, lookups, &mut pending, scan.now)?;
    }
    if pending.is_done() {
        return Ok(Some(pending.window));
    }
    sequence.pending = Some(pending);
    Ok(None)
}

/// Finds the conversations with a match of the last step.
fn candidates(
    sequence: &mut Sequence,
    now: &Transaction<'_>,
    lookups: &mut Lookups,
    scan: &Scan,
    window: (u64, u64),
) -> rusqlite::Result<Pending> {
    sequence.forget_many();
    let mut found = HashSet::new();
    let stopped = Runs::of(scan, window).visit(now, lookups, |conversation, exchanges| {
        let mut matching = exchanges.iter().filter(|exchange| scan.selects(exchange));
        if scan.may_match(conversation) && matching.next().is_some() {
            found.insert(conversation.id);
        }
        ControlFlow::Continue(())
    })?;
    let (low, high) = window;
    // Runs that are appended meanwhile belong to the next chunk.
    let window = match (scan.order, stopped) {
        (Order::NewestFirst, stopped) => (stopped.unwrap_or(low), high),
        (Order::OldestFirst, Some(stopped)) => (low, stopped),
        (Order::OldestFirst, None) => (low, newest(now, high)?),
    };
    let (_, end) = window;
    let mut next = end.saturating_add(1);
    let mut missing = HashSet::new();
    for id in found {
        if let Some(read) = sequence.missing_from(id, end) {
            missing.insert(id);
            next = next.min(read.max(first_run(now, id)?));
        }
    }
    Ok(Pending {
        window,
        conversations: missing,
        next,
    })
}

/// Looks for the steps in a part of the runs.
fn read(
    sequence: &mut Sequence,
    now: &Transaction<'_>,
    lookups: &mut Lookups,
    pending: &mut Pending,
    at: Micros,
) -> rusqlite::Result<()> {
    let (_, end) = pending.window;
    let high = end.min(pending.next.saturating_add(CHUNK_IDS));
    let ids = pending.conversations.iter().copied();
    let runs = Runs {
        window: (pending.next, high),
        order: Order::OldestFirst,
        conversations: ids.clone().min().unwrap_or(0)..=ids.max().unwrap_or(0),
        times: Micros::MIN..=Micros::MAX,
        with_bytes: sequence.with_bytes,
    };
    let stopped = runs.visit(now, lookups, |conversation, exchanges| {
        let id = conversation.id;
        if pending.conversations.contains(&id) && sequence.take(exchanges, at) {
            pending.conversations.remove(&id);
        }
        if pending.conversations.is_empty() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    // A run that was read is read to its end, and no other begins before the next id.
    sequence.advance(pending, stopped.unwrap_or(high).saturating_add(1));
    Ok(())
}

fn first_run(now: &Transaction<'_>, id: ConversationId) -> rusqlite::Result<u64> {
    let sql = "SELECT first_run FROM conversation WHERE id = ?1";
    let found = now.prepare_cached(sql)?.query_row([id], |row| row.get(0));
    // Without a row its opening was not recorded, and its runs may be anywhere.
    Ok(found.optional()?.unwrap_or(1))
}

/// Returns the id of the newest run up to `high`.
fn newest(now: &Transaction<'_>, high: u64) -> rusqlite::Result<u64> {
    let sql = "SELECT max(id) FROM run WHERE id <= ?1";
    let newest: Option<u64> = now
        .prepare_cached(sql)?
        .query_row([high], |row| row.get(0))?;
    Ok(newest.unwrap_or(high))
}

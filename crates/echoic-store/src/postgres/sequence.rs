//! Looks for the steps of a sequence (`A THEN B`) in the database.

use std::{
    collections::{BTreeSet, HashSet},
    ops::ControlFlow,
};

use echoic_core::{
    event::{ConversationId, Micros},
    store::Order,
};

use super::{
    plan::Plan,
    row,
    runs::{ROWS_MAX, Runs, Selection, Stretch},
    snapshot::{ReadError, Snapshot},
    sql::Parameters,
};
use crate::{
    scan::Scan,
    sequence::{Pending, Sequence},
};

/// Does a part of the work for the chunk `stretch`. Returns the ids for which it is done, or `None` if there is more to do.
pub(super) async fn resolve(
    now: &Snapshot<'_>,
    scan: &mut Scan,
    plan: &Plan,
    stretch: Stretch,
) -> Result<Option<Stretch>, ReadError> {
    let Some(mut sequence) = scan.sequence.take() else {
        return Ok(Some(stretch));
    };
    let resolved = resolve_in(&mut sequence, now, scan, plan, stretch).await;
    scan.sequence = Some(sequence);
    resolved
}

async fn resolve_in(
    sequence: &mut Sequence,
    now: &Snapshot<'_>,
    scan: &Scan,
    plan: &Plan,
    stretch: Stretch,
) -> Result<Option<Stretch>, ReadError> {
    let mut pending = match sequence.pending.take() {
        Some(pending) => pending,
        None => candidates(sequence, now, scan, plan, stretch).await?,
    };
    if !pending.is_done() {
        read(sequence, now, &mut pending, scan.now).await?;
    }
    if pending.is_done() {
        let (low, high) = pending.window;
        return Ok(Some(Stretch {
            low,
            high,
            ..stretch
        }));
    }
    sequence.pending = Some(pending);
    Ok(None)
}

/// Finds the conversations with a match of the last step.
async fn candidates(
    sequence: &mut Sequence,
    now: &Snapshot<'_>,
    scan: &Scan,
    plan: &Plan,
    stretch: Stretch,
) -> Result<Pending, ReadError> {
    sequence.forget_many();
    let selection = Selection {
        plan,
        order: scan.order,
        rows: ROWS_MAX,
        with_bytes: scan.with_bytes,
    };
    let runs = Runs::read(now, stretch, &selection).await?;
    let mut found = BTreeSet::new();
    runs.visit(|conversation, exchanges| {
        let mut matching = exchanges.iter().filter(|exchange| scan.selects(exchange));
        if scan.may_match(conversation) && matching.next().is_some() {
            found.insert(conversation.id);
        }
        ControlFlow::Continue(())
    })?;
    // Runs that are appended meanwhile belong to the next chunk.
    let window = match scan.order {
        Order::NewestFirst => (runs.stopped.unwrap_or(stretch.low), stretch.high),
        Order::OldestFirst => (stretch.low, runs.stopped.unwrap_or(stretch.high)),
    };
    let (_, end) = window;
    let mut next = end.saturating_add(1);
    let missing: Vec<_> = found
        .into_iter()
        .filter_map(|id| Some((id, sequence.missing_from(id, end)?)))
        .collect();
    let mut conversations = HashSet::new();
    let ids = missing.iter().map(|(id, _)| *id);
    let first_runs = first_runs(now, ids).await?;
    for (id, read) in missing {
        conversations.insert(id);
        // Without a row its opening was not recorded, and its runs may be anywhere.
        let first = first_runs.iter().find(|(of, _)| *of == id);
        next = next.min(read.max(first.map_or(1, |(_, first)| *first)));
    }
    Ok(Pending {
        window,
        conversations,
        next,
    })
}

/// Looks for the steps in a part of the runs.
async fn read(
    sequence: &mut Sequence,
    now: &Snapshot<'_>,
    pending: &mut Pending,
    at: Micros,
) -> Result<(), ReadError> {
    let (_, end) = pending.window;
    let (ids, times) = (pending.next..=end, Micros::MIN..=Micros::MAX);
    let Some(stretch) = Stretch::first(now, Order::OldestFirst, &ids, &times).await? else {
        sequence.advance(pending, end.saturating_add(1));
        return Ok(());
    };
    let plan = Plan::of_conversation_ids(pending.conversations.iter().copied());
    let selection = Selection {
        plan: &plan,
        order: Order::OldestFirst,
        rows: ROWS_MAX,
        with_bytes: sequence.with_bytes,
    };
    let runs = Runs::read(now, stretch, &selection).await?;
    runs.visit(|conversation, exchanges| {
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
    let last = runs.stopped.unwrap_or(stretch.high);
    sequence.advance(pending, last.saturating_add(1));
    Ok(())
}

async fn first_runs(
    now: &Snapshot<'_>,
    ids: impl IntoIterator<Item = ConversationId>,
) -> Result<Vec<(ConversationId, u64)>, ReadError> {
    let mut parameters = Parameters::default();
    let ids = parameters.ids(ids);
    let sql = format!("SELECT id, first_run FROM conversation WHERE id = ANY({ids})");
    let rows = now.query(&sql, &parameters).await?;
    let first_run = |row: &tokio_postgres::Row| Ok((row::number(row, 0)?, row::number(row, 1)?));
    rows.iter().map(first_run).collect()
}

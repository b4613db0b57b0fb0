//! Reads runs: some ids at a time, within one partition.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{ControlFlow, RangeInclusive},
    sync::Arc,
};

use echoic_core::{
    event::{ConversationId, ExchangeId, Micros},
    exchange::{Conversation, ExchangeRef, split_run},
    store::{Labels, Order},
};
use tokio_postgres::Row;

use super::{
    labels,
    plan::Plan,
    row,
    snapshot::{ReadError, Snapshot},
    sql::Parameters,
};

/// Maximum of ids that a statement covers: a tenth of a second, also if its condition selects nothing.
const STRETCH_IDS: u64 = 250_000;

/// Maximum of rows that are read at once.
pub(super) const ROWS_MAX: u64 = 20_000;

/// Approximate payload bytes that are read at once.
const BYTES_MAX: u64 = 8 << 20;

/// Ids of runs within one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) part: i32,
    pub(super) low: u64,
    pub(super) high: u64,
}

impl Stretch {
    /// Returns the first ids, in the direction of `order`, among `ids` that a partition with runs of `times` has; `None` if
    /// none has any.
    pub(super) async fn first(
        now: &Snapshot<'_>,
        order: Order,
        ids: &RangeInclusive<ExchangeId>,
        times: &RangeInclusive<Micros>,
    ) -> Result<Option<Self>, ReadError> {
        let mut parameters = Parameters::default();
        let (low, high) = (parameters.id(*ids.start()), parameters.id(*ids.end()));
        let (first, last) = (
            parameters.number(*times.start()),
            parameters.number(*times.end()),
        );
        let sql = format!(
            "SELECT number, first_id, last_id FROM part
            WHERE last_id >= {low} AND first_id <= {high} AND newest >= {first} AND oldest <= {last}
            ORDER BY number {} LIMIT 1",
            direction(order)
        );
        let Some(row) = now.query_one(&sql, &parameters).await? else {
            return Ok(None);
        };
        let low = row::number(&row, 1)?.max(*ids.start());
        let high = row::number(&row, 2)?.min(*ids.end());
        Ok(Some(Self {
            part: row.try_get(0)?,
            low: match order {
                Order::OldestFirst => low,
                Order::NewestFirst => low.max(high.saturating_sub(STRETCH_IDS)),
            },
            high: match order {
                Order::OldestFirst => high.min(low.saturating_add(STRETCH_IDS)),
                Order::NewestFirst => high,
            },
        }))
    }

    /// Extends it to the run that the exchange with its smallest id is in.
    pub(super) async fn include_run(&mut self, now: &Snapshot<'_>) -> Result<(), ReadError> {
        let mut parameters = Parameters::default();
        let (part, low) = (parameters.number(self.part.into()), parameters.id(self.low));
        let sql = format!("SELECT max(id) FROM run WHERE part = {part} AND id <= {low}");
        if let Some(row) = now.query_one(&sql, &parameters).await?
            && let Some(id) = row::optional_number(&row, 0)?
        {
            self.low = id;
        }
        Ok(())
    }

    /// Returns the condition for its runs.
    pub(super) fn condition(&self, parameters: &mut Parameters) -> String {
        let part = parameters.number(self.part.into());
        let (low, high) = (parameters.id(self.low), parameters.id(self.high));
        format!("r.part = {part} AND r.id BETWEEN {low} AND {high}")
    }
}

pub(super) fn direction(order: Order) -> &'static str {
    match order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    }
}

/// Which runs of a stretch are read, and how.
pub(super) struct Selection<'a> {
    pub(super) plan: &'a Plan,
    pub(super) order: Order,
    /// Maximum of rows.
    pub(super) rows: u64,
    /// Whether the bytes of messages are read; if not, they have their lengths and are zero.
    pub(super) with_bytes: bool,
}

/// Runs that were read, with what belongs to them.
pub(super) struct Runs {
    rows: Vec<Row>,
    conversations: HashMap<ConversationId, Arc<Conversation>>,
    labels: BTreeMap<ExchangeId, Labels>,
    order: Order,
    with_bytes: bool,
    /// Id of the last run that was read, if there may be more.
    pub(super) stopped: Option<u64>,
}

impl Runs {
    /// Reads runs of a stretch, until there are many rows or bytes.
    pub(super) async fn read(
        now: &Snapshot<'_>,
        mut stretch: Stretch,
        selection: &Selection<'_>,
    ) -> Result<Self, ReadError> {
        let mut stopped = None;
        if selection.with_bytes {
            stopped = fitting(now, stretch, selection).await?;
            match (stopped, selection.order) {
                (Some(last), Order::OldestFirst) => stretch.high = last,
                (Some(last), Order::NewestFirst) => stretch.low = last,
                (None, _) => {}
            }
        }
        let plan = selection.plan;
        let mut parameters = plan.parameters.clone();
        let within = stretch.condition(&mut parameters);
        let sql = format!(
            "SELECT {}, {} {} WHERE {within} AND {} ORDER BY r.id {} LIMIT {}",
            row::RUN,
            if selection.with_bytes {
                "r.req, r.rep"
            } else {
                // The database does not read a long value for its length.
                "octet_length(r.req), octet_length(r.rep)"
            },
            plan.from,
            plan.condition,
            direction(selection.order),
            selection.rows,
        );
        let rows = now.query(&sql, &parameters).await?;
        if !selection.with_bytes && rows.len() as u64 == selection.rows {
            stopped = rows.last().map(|last| row::number(last, 0)).transpose()?;
        }
        let mut ids = BTreeSet::new();
        for row in &rows {
            ids.insert(row::number(row, 1)?);
        }
        let conversations = if ids.is_empty() {
            HashMap::new()
        } else {
            row::conversations(now, &ids).await?
        };
        Ok(Self {
            labels: labels_of(now, &rows).await?,
            rows,
            conversations,
            order: selection.order,
            with_bytes: selection.with_bytes,
            stopped,
        })
    }

    /// Calls `visit` with the exchanges of each run, until it breaks. Returns the id of the run at which it did.
    pub(super) fn visit(
        &self,
        mut visit: impl FnMut(&Arc<Conversation>, &[ExchangeRef<'_>]) -> ControlFlow<()>,
    ) -> Result<Option<u64>, ReadError> {
        let (mut zeros, mut unknown) = (Vec::new(), HashMap::new());
        for row in &self.rows {
            let (run, lengths) = row::run(row)?;
            let id = row::number(row, 0)?;
            let conversation = match self.conversations.get(&run.conversation) {
                Some(known) => known,
                None => unknown
                    .entry(run.conversation)
                    .or_insert_with(|| Arc::new(crate::unknown(run.conversation))),
            };
            let (request, reply): (&[u8], &[u8]) = if self.with_bytes {
                (row.try_get(10)?, row.try_get(11)?)
            } else {
                let (request, reply): (i32, i32) = (row.try_get(10)?, row.try_get(11)?);
                let request = request.max(0).cast_unsigned() as usize;
                let reply = reply.max(0).cast_unsigned() as usize;
                if zeros.len() < request.max(reply) {
                    zeros = vec![0; request.max(reply)];
                }
                (&zeros[..request], &zeros[..reply])
            };
            let exchanges = split_run(&run, id, request, reply, &lengths, conversation);
            let mut exchanges: Vec<ExchangeRef<'_>> = exchanges.collect();
            if !self.labels.is_empty() {
                for exchange in &mut exchanges {
                    let labels = self.labels.get(&exchange.id);
                    exchange.labels = labels.unwrap_or_else(|| Labels::none());
                }
            }
            if self.order == Order::NewestFirst {
                exchanges.reverse();
            }
            if visit(conversation, &exchanges).is_break() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

/// Returns the id of the last run that is read now, if a part of the runs is left for later.
async fn fitting(
    now: &Snapshot<'_>,
    stretch: Stretch,
    selection: &Selection<'_>,
) -> Result<Option<u64>, ReadError> {
    let plan = selection.plan;
    let mut parameters = plan.parameters.clone();
    let within = stretch.condition(&mut parameters);
    let direction = direction(selection.order);
    let last = match selection.order {
        Order::OldestFirst => "max",
        Order::NewestFirst => "min",
    };
    let first = format!(
        "SELECT r.id, octet_length(r.req) AS req, octet_length(r.rep) AS rep
        {} WHERE {within} AND {} ORDER BY r.id {direction} LIMIT {}",
        plan.from, plan.condition, selection.rows
    );
    // Mostly all fit, which a sum tells: a running one takes several times as long.
    let sql = format!("SELECT count(*), sum(req) + sum(rep), {last}(id) FROM ({first}) AS first");
    let Some(row) = now.query_one(&sql, &parameters).await? else {
        return Ok(None);
    };
    if row::optional_number(&row, 1)?.unwrap_or(0) < BYTES_MAX {
        let is_cut = row::number(&row, 0)? == selection.rows;
        return Ok(row::optional_number(&row, 2)?.filter(|_| is_cut));
    }
    // The first row always fits.
    let sql = format!(
        "SELECT count(*), count(*) FILTER (WHERE before < {BYTES_MAX}), {last}(id) FILTER (WHERE before < {BYTES_MAX})
        FROM (
            SELECT id, sum(req) OVER by_id + sum(rep) OVER by_id - req - rep AS before
            FROM ({first}) AS first WINDOW by_id AS (ORDER BY id {direction})
        ) AS summed"
    );
    let Some(row) = now.query_one(&sql, &parameters).await? else {
        return Ok(None);
    };
    let (all, fitting) = (row::number(&row, 0)?, row::number(&row, 1)?);
    if all == fitting && all < selection.rows {
        return Ok(None);
    }
    row::optional_number(&row, 2)
}

/// Returns the labels of the exchanges of all runs.
async fn labels_of(
    now: &Snapshot<'_>,
    rows: &[Row],
) -> Result<BTreeMap<ExchangeId, Labels>, ReadError> {
    let (mut low, mut high) = (u64::MAX, 0);
    for row in [rows.first(), rows.last()].into_iter().flatten() {
        let (id, count) = (row::number(row, 0)?, row.try_get::<_, i32>(3)?);
        low = low.min(id);
        high = high.max(id.saturating_add(count.max(0).cast_unsigned().into()));
    }
    if low > high {
        return Ok(BTreeMap::new());
    }
    labels::of_exchanges(now, low, high).await
}

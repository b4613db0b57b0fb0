//! Gaps of the record, and its totals.

use std::{ops::RangeInclusive, sync::Arc};

use echoic_core::{
    event::Micros,
    store::{Gap, Stats, StoreError},
};
use tokio_postgres::Row;

use super::{
    readers::Readers,
    row,
    snapshot::{Snapshot, read},
    sql::Parameters,
};

/// Returns gaps that begin within `times`, newest first.
pub(super) async fn gaps(
    readers: Arc<Readers>,
    times: RangeInclusive<Micros>,
    limit: usize,
) -> Result<Vec<Gap>, StoreError> {
    let (mut parameters, limit) = (Parameters::default(), limit as u64);
    let (first, last) = (
        parameters.number(*times.start()),
        parameters.number(*times.end()),
    );
    let sql = format!(
        "SELECT b, a FROM mark WHERE conversation = 0 AND what = 'gap' AND b BETWEEN {first} AND {last}
        ORDER BY b DESC LIMIT {}",
        parameters.id(limit)
    );
    read(&readers, async |now: Snapshot<'_>| {
        let rows = now.query(&sql, &parameters).await?;
        now.end().await?;
        let gap = |row: &Row| {
            Ok(Gap {
                since: row.try_get(0)?,
                exchanges: row::number(row, 1)?,
            })
        };
        rows.iter().map(gap).collect()
    })
    .await
}

/// Returns totals of the database.
pub(super) async fn stats(readers: Arc<Readers>) -> Result<Stats, StoreError> {
    read(&readers, async |now: Snapshot<'_>| {
        let end = |direction: &str| {
            format!(
                "(SELECT at FROM run WHERE part = (
                    SELECT number FROM part WHERE exchanges > 0 ORDER BY number {direction} LIMIT 1
                ) ORDER BY id {direction} LIMIT 1)"
            )
        };
        let sql = format!(
            "SELECT (SELECT exchanges FROM state), (SELECT count(*) FROM conversation),
                (SELECT coalesce(sum(bytes), 0)::bigint FROM part), {}, {}",
            end("ASC"),
            end("DESC")
        );
        let row = now.query_one(&sql, &Parameters::default()).await?;
        now.end().await?;
        let Some(row) = row else {
            return Err(row::foreign("no totals"));
        };
        let mut stats = Stats::default();
        stats.exchanges = row::number(&row, 0)?;
        stats.conversations = row::number(&row, 1)?;
        stats.bytes = row::number(&row, 2)?;
        stats.oldest = row.try_get(3)?;
        stats.newest = row.try_get(4)?;
        Ok(stats)
    })
    .await
}

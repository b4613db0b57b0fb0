//! Counts exchanges over time.

use std::{ops::Range, sync::Arc};

use echoic_core::{
    event::Micros,
    filter::Filter,
    store::{Series, SeriesBuilder, StoreError},
};

use super::{readers::Readers, search::Search};

/// Counts the exchanges that `filter` selects within `times`, in steps of `step` microseconds.
pub(super) async fn series(
    readers: Arc<Readers>,
    filter: Filter,
    times: Range<Micros>,
    step: Micros,
    now: Micros,
) -> Result<Series, StoreError> {
    let mut search = Search::all_within(&filter, now, &times);
    let mut series = SeriesBuilder::new(times, step);
    while !search.is_done() {
        search
            .chunk(&readers, |exchange| series.add(&exchange))
            .await?;
    }
    Ok(series.finish())
}

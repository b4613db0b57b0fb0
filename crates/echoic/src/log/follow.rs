//! Follows the record: prints new exchanges as they are recorded.

use std::{
    thread,
    time::{Duration, Instant},
};

use echoic_core::{event::ExchangeId, store::Order};
use tokio::time::timeout;

use super::{Limits, Log, Printer, Stop};
use crate::stdout_reader;

/// Interval between queries for new exchanges, and between looks at the reader of standard output.
const EVERY: Duration = Duration::from_millis(200);

/// Longest time without a query: a store may lose the notice of an exchange.
const QUIET: Duration = Duration::from_secs(2);

impl Log {
    /// Prints the matches with ids beyond `last` as they come, until the limit is reached or the reader of standard output has
    /// left. Both end the command at once, also while nothing comes.
    pub(super) fn follow(
        &self,
        printer: &mut Printer,
        mut last: ExchangeId,
        limits: &Limits,
    ) -> Result<(), Stop> {
        while printer.printed < limits.in_all {
            last = self.print_beyond(printer, last, limits)?;
            if printer.printed < limits.in_all {
                self.wait_beyond(last, Duration::MAX)?;
            }
        }
        Ok(())
    }

    /// Prints the matches with ids beyond `last`. Returns the id from which to go on.
    pub(super) fn print_beyond(
        &self,
        printer: &mut Printer,
        last: ExchangeId,
        limits: &Limits,
    ) -> Result<ExchangeId, Stop> {
        // Asked for first: the query below then has all matches up to it, and need not look at them again.
        let newest = self.newest()?;
        let left = limits.in_all - printer.printed;
        let largest = self.pages(Order::OldestFirst, Some(last), left, |exchange| {
            printer.print(&exchange, &self.filter)
        })?;
        printer.flush()?;
        Ok(last.max(newest).max(largest))
    }

    /// Waits until there may be exchanges beyond the id `last`, at most for `time` and [`QUIET`], unless the reader of standard output leaves.
    pub(super) fn wait_beyond(&self, last: ExchangeId, time: Duration) -> Result<(), Stop> {
        let Some(mut changed) = self.store.changed(last) else {
            return wait(EVERY.min(time));
        };
        let until = Instant::now() + time.min(QUIET);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let change = async { timeout(EVERY.min(left), &mut changed).await };
            let is_changed = self.runtime.block_on(change).is_ok();
            if stdout_reader::has_left(Duration::ZERO) {
                return Err(Stop::Reader);
            }
            if is_changed || left.is_zero() {
                return Ok(());
            }
        }
    }
}

/// Waits, unless the reader of standard output leaves.
fn wait(time: Duration) -> Result<(), Stop> {
    let began = Instant::now();
    if stdout_reader::has_left(time) {
        return Err(Stop::Reader);
    }
    // Waiting for the reader may fail, which must not make a busy loop.
    thread::sleep(time.saturating_sub(began.elapsed()));
    Ok(())
}

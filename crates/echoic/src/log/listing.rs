//! Lists what is recorded when the command starts.

use echoic_core::{
    event::ExchangeId,
    exchange::Exchange,
    filter::{Sort, SortKey},
    store::Order,
};

use super::{Limits, Log, Printer, Stop};
use crate::exit::CliError;

/// The most exchanges that a `sort:` by latency or size reads into memory.
const SORTED_MAX: usize = 1_000_000;

/// The most exchanges that a list of the last ones reads into memory; it looks for the first of more.
const COLLECTED_MAX: u64 = 1_000;

/// The result of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Every match up to this id has been considered: what follows has larger ids.
    pub(super) last: ExchangeId,
    /// The limit left out earlier matches.
    pub(super) has_earlier: bool,
}

impl Log {
    pub(super) fn list(&self, printer: &mut Printer, limits: &Limits) -> Result<Listed, Stop> {
        // Ids increase in the order of commits, so the lists below have all matches up to this one, and maybe later ones.
        let newest = self.newest()?;
        let (largest, has_earlier) = match self.filter.sort() {
            None
            | Some(Sort {
                key: SortKey::Id | SortKey::Time,
                descending: false,
            }) => self.oldest_first(printer, limits.listed)?,
            Some(Sort {
                key: SortKey::Id | SortKey::Time,
                descending: true,
            }) => self.newest_first(printer, limits.listed)?,
            Some(sort) => self.sorted(printer, sort, limits)?,
        };
        printer.flush()?;
        Ok(Listed {
            last: newest.max(largest),
            has_earlier,
        })
    }

    /// Prints the last `limit` matches, oldest first. Returns the largest id, and whether there are earlier ones.
    fn oldest_first(&self, printer: &mut Printer, limit: u64) -> Result<(ExchangeId, bool), Stop> {
        if limit > COLLECTED_MAX {
            let beyond = if limit == u64::MAX {
                None
            } else {
                self.before_the_last(limit)?
            };
            let largest = self.pages(Order::OldestFirst, beyond, limit, |exchange| {
                printer.print(&exchange, &self.filter)
            })?;
            return Ok((largest, beyond.is_some()));
        }
        let (mut last, largest) = self.last(limit.saturating_add(1))?;
        let has_earlier = last.len() as u64 > limit;
        last.truncate(limit as usize);
        printer.make_room(&last);
        let mut oldest_first = last.iter().rev();
        oldest_first.try_for_each(|exchange| printer.print(exchange, &self.filter))?;
        Ok((largest, has_earlier))
    }

    /// Returns the last matches, newest first, and the largest id.
    fn last(&self, limit: u64) -> Result<(Vec<Exchange>, ExchangeId), Stop> {
        let mut last = Vec::new();
        let largest = self.pages(Order::NewestFirst, None, limit, |exchange| {
            last.push(exchange);
            Ok(())
        })?;
        Ok((last, largest))
    }

    /// Returns the id of the match before the last `limit` ones, if there is one.
    pub(super) fn before_the_last(&self, limit: u64) -> Result<Option<ExchangeId>, Stop> {
        let (mut count, mut smallest) = (0, 0);
        self.pages(
            Order::NewestFirst,
            None,
            limit.saturating_add(1),
            |exchange| {
                (count, smallest) = (count + 1, exchange.id);
                Ok(())
            },
        )?;
        Ok((count > limit).then_some(smallest))
    }

    fn newest_first(&self, printer: &mut Printer, limit: u64) -> Result<(ExchangeId, bool), Stop> {
        let mut printed = 0;
        let with_one_more = limit.saturating_add(1);
        let largest = self.pages(Order::NewestFirst, None, with_one_more, |exchange| {
            printed += 1;
            if printed > limit {
                return Ok(());
            }
            printer.print(&exchange, &self.filter)
        })?;
        Ok((largest, printed > limit))
    }

    /// Prints matches by latency or size: `limit:N` the first N in this order, `-n N` the last N that were recorded.
    fn sorted(
        &self,
        printer: &mut Printer,
        sort: Sort,
        limits: &Limits,
    ) -> Result<(ExchangeId, bool), Stop> {
        let mut all = Vec::new();
        let last = limits.last.unwrap_or(u64::MAX);
        let largest = self.pages(Order::NewestFirst, None, last, |exchange| {
            if all.len() == SORTED_MAX {
                let why = format!(
                    "more than {SORTED_MAX} exchanges match: narrow the filter to have them sorted"
                );
                return Err(Stop::Failed(CliError::usage(why)));
            }
            all.push(exchange);
            Ok(())
        })?;
        all.reverse();
        all.sort_by_key(|exchange| match sort.key {
            SortKey::Latency => exchange.latency_ns,
            SortKey::Size => (exchange.request.len() + exchange.reply.len()) as u64,
            SortKey::Id | SortKey::Time => exchange.id,
        });
        if sort.descending {
            all.reverse();
        }
        let has_more = all.len() as u64 > limits.listed;
        all.truncate(usize::try_from(limits.listed).unwrap_or(usize::MAX));
        printer.make_room(&all);
        all.iter()
            .try_for_each(|exchange| printer.print(exchange, &self.filter))?;
        Ok((largest, has_more))
    }
}

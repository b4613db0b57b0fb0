//! `echoic log`: lists, shows, counts and follows recorded exchanges.

use std::{
    sync::{Arc, mpsc::RecvTimeoutError},
    time::Duration,
};

use echoic_core::{
    event::{ExchangeId, Micros},
    exchange::Exchange,
    filter::{Filter, Sort, SortKey},
    store::{ConversationPage, Found, Order, Page, Store},
    units::Hex,
};
use echoic_recorder::wall_clock_now;
use tokio::runtime::{Builder, Runtime};

use crate::{
    cli::LogArgs,
    exit::{CliError, CommandResult, Exit},
    pretty,
    term::{self, OutputError, Payload},
};

/// Exchanges per query.
const PAGE: usize = 500;

/// Exchanges listed on a terminal without a `limit:`.
const LISTED: u64 = 50;

/// The most exchanges that a `sort:` by latency or size reads into memory.
const SORTED_MAX: usize = 1_000_000;

/// The most conversations without an exchange that are listed; the newest are.
const LISTED_MAX: usize = 1000;

/// Gaps in the record that are printed one by one; earlier ones are summed up.
const GAPS_MAX: usize = 5;

/// Interval between queries for new exchanges.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// Lists, shows, counts or follows the exchanges that match the filter.
pub(crate) fn run(args: &LogArgs) -> CommandResult {
    let filter = Filter::parse(&joined(&args.filter))?;
    let log = Log {
        runtime: Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(CliError::system)?,
        store: args.store.open_to_read()?,
        filter,
    };
    if args.count {
        let count = log
            .runtime
            .block_on(log.store.count(&log.filter, wall_clock_now()))?;
        let mut payload = Payload::new(args.json);
        let printed = payload.line(format_args!("{count}"));
        if let Err(error) = printed.and_then(|()| payload.flush()) {
            return error.into_result(Exit::Done);
        }
        return log
            .gaps(None)
            .and_then(|()| log.conversations_without_exchange(None))
            .or_else(Stop::into_outcome);
    }
    let mut printer = Printer {
        payload: Payload::new(args.json),
        show: args.show,
        printed: 0,
        oldest: None,
    };
    let limit = match log.filter.limit() {
        Some(limit) => limit,
        None if printer.payload.pretty && !args.show => LISTED,
        None => u64::MAX,
    };
    log.list(&mut printer, limit, args.follow)
}

/// Joins the arguments to one filter. A shell removes the quotes of `hex:'ff fe'`; an argument that is all bytes gets them
/// back.
fn joined(words: &[String]) -> String {
    let is_bytes = |word: &str| {
        let bytes = word.trim_start_matches(['-', '!']).strip_prefix("hex:");
        bytes.is_some_and(|bytes| bytes.contains(' ') && bytes.parse::<Hex>().is_ok())
    };
    let quoted = words.iter().map(|word| match word.split_once(':') {
        Some((key, bytes)) if is_bytes(word) => format!("{key}:'{bytes}'"),
        _ => word.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

impl Stop {
    fn into_outcome(self) -> CommandResult {
        match self {
            Self::Reader => Ok(Exit::Done),
            Self::Failed(error) => Err(error),
        }
    }
}

struct Log {
    runtime: Runtime,
    store: Arc<dyn Store>,
    filter: Filter,
}

/// The reason why a listing stopped early.
enum Stop {
    Reader,
    Failed(CliError),
}

impl Log {
    fn list(&self, printer: &mut Printer, limit: u64, follow: bool) -> CommandResult {
        let listed = match self.filter.sort() {
            None
            | Some(Sort {
                key: SortKey::Id | SortKey::Time,
                descending: false,
            }) => self.last(printer, limit),
            Some(Sort {
                key: SortKey::Id | SortKey::Time,
                descending: true,
            }) => self.newest_first(printer, limit),
            Some(sort) => self.sorted(printer, sort, limit),
        };
        let done = listed.and_then(|last| {
            // If the limit cut the listing short, earlier gaps are not part of it.
            self.gaps(printer.oldest.filter(|_| printer.printed >= limit))?;
            if follow {
                self.follow(printer, last).map(|()| Exit::Done)
            } else {
                self.conversations_without_exchange(Some(printer))
            }
        });
        done.or_else(Stop::into_outcome)
    }

    /// Reports conversations without an exchange (rejected, or closed before a request) if the filter is about how
    /// conversations end: as lines on a terminal, else only their number on standard error, since the output is JSON of
    /// exchanges.
    fn conversations_without_exchange(&self, printer: Option<&mut Printer>) -> Result<Exit, Stop> {
        if !self.filter.is_about_conversations() {
            return Ok(Exit::Done);
        }
        let page = ConversationPage {
            order: Order::NewestFirst,
            beyond: None,
            limit: LISTED_MAX,
            now: wall_clock_now(),
            without_exchanges: true,
        };
        let found = self
            .runtime
            .block_on(self.store.conversations(&self.filter, page))
            .map_err(CliError::from)?
            .conversations;
        match printer {
            Some(printer) if printer.show || printer.payload.pretty => {
                for listed in found.iter().rev() {
                    printer.payload.line(format_args!(
                        "{}",
                        pretty::conversation_without_exchange(&listed.conversation)
                    ))?;
                }
                printer.flush()?;
            }
            _ if found.is_empty() => {}
            _ => {
                let more = if found.len() == LISTED_MAX {
                    "or more "
                } else {
                    ""
                };
                term::note(&format!(
                    "{} {more}conversations without an exchange match too; --show lists them",
                    found.len()
                ));
            }
        }
        Ok(Exit::Done)
    }

    /// Reports the gaps from `oldest` on, where the record knows that exchanges are missing. They go to standard error, so
    /// that the listing is unchanged, and for every filter, since the missing exchanges might have matched.
    fn gaps(&self, oldest: Option<Micros>) -> Result<(), Stop> {
        let Some(times) = self.filter.times(wall_clock_now()) else {
            return Ok(());
        };
        let (first, last) = times.into_inner();
        let times = oldest.map_or(first, |oldest| oldest.max(first))..=last;
        let found = self.runtime.block_on(self.store.gaps(times, LISTED_MAX));
        let found = found.map_err(CliError::from)?;
        let (newest, older) = found.split_at(found.len().min(GAPS_MAX));
        if !older.is_empty() {
            let missing = older.iter().map(|gap| gap.exchanges).sum();
            term::note_in_colour(&pretty::gaps(older.len(), missing));
        }
        for gap in newest.iter().rev() {
            term::note_in_colour(&pretty::gap(gap));
        }
        Ok(())
    }

    /// Prints the last `limit` matches, oldest first. Returns the newest id, to follow from.
    fn last(&self, printer: &mut Printer, limit: u64) -> Result<ExchangeId, Stop> {
        if limit == u64::MAX {
            let newest = self.pages(Order::OldestFirst, None, limit, |exchange| {
                printer.print(&exchange)
            })?;
            printer.flush()?;
            return Ok(newest);
        }
        let mut last = Vec::new();
        let newest = self.newest()?;
        self.pages(Order::NewestFirst, None, limit, |exchange| {
            last.push(exchange);
            Ok(())
        })?;
        last.iter()
            .rev()
            .try_for_each(|exchange| printer.print(exchange))?;
        printer.flush()?;
        Ok(newest)
    }

    fn newest_first(&self, printer: &mut Printer, limit: u64) -> Result<ExchangeId, Stop> {
        let newest = self.newest()?;
        self.pages(Order::NewestFirst, None, limit, |exchange| {
            printer.print(&exchange)
        })?;
        printer.flush()?;
        Ok(newest)
    }

    fn sorted(&self, printer: &mut Printer, sort: Sort, limit: u64) -> Result<ExchangeId, Stop> {
        let newest = self.newest()?;
        let mut all = Vec::new();
        self.pages(Order::OldestFirst, None, u64::MAX, |exchange| {
            if all.len() == SORTED_MAX {
                let why = format!(
                    "more than {SORTED_MAX} exchanges match: narrow the filter to have them sorted"
                );
                return Err(Stop::Failed(CliError::usage(why)));
            }
            all.push(exchange);
            Ok(())
        })?;
        all.sort_by_key(|exchange| match sort.key {
            SortKey::Latency => exchange.latency_ns,
            SortKey::Size => (exchange.request.len() + exchange.reply.len()) as u64,
            SortKey::Id | SortKey::Time => exchange.id,
        });
        if sort.descending {
            all.reverse();
        }
        let wanted = all
            .iter()
            .take(usize::try_from(limit).unwrap_or(usize::MAX));
        wanted
            .into_iter()
            .try_for_each(|exchange| printer.print(exchange))?;
        printer.flush()?;
        Ok(newest)
    }

    fn follow(&self, printer: &mut Printer, mut last: ExchangeId) -> Result<(), Stop> {
        let (_open, tick) = std::sync::mpsc::sync_channel::<()>(1);
        loop {
            last = last.max(
                self.pages(Order::OldestFirst, Some(last), u64::MAX, |exchange| {
                    printer.print(&exchange)
                })?,
            );
            printer.flush()?;
            match tick.recv_timeout(FOLLOW_EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => return Ok(()),
            }
        }
    }

    /// Returns the newest id in the store, whether or not it matches.
    fn newest(&self) -> Result<ExchangeId, Stop> {
        Ok(self
            .runtime
            .block_on(self.store.last())
            .map_err(CliError::from)?
            .exchange)
    }

    /// Calls `visit` for every match, page by page. Returns the largest id seen.
    fn pages(
        &self,
        order: Order,
        mut beyond: Option<ExchangeId>,
        mut left: u64,
        mut visit: impl FnMut(Exchange) -> Result<(), Stop>,
    ) -> Result<ExchangeId, Stop> {
        let mut largest = beyond.unwrap_or(0);
        while left > 0 {
            let page = Page {
                order,
                beyond,
                limit: PAGE.min(usize::try_from(left).unwrap_or(PAGE)),
                now: wall_clock_now(),
            };
            let Found { exchanges, next } = self
                .runtime
                .block_on(self.store.find(&self.filter, page))
                .map_err(CliError::from)?;
            left -= exchanges.len() as u64;
            for exchange in exchanges {
                largest = largest.max(exchange.id);
                visit(exchange)?;
            }
            match next {
                Some(next) => beyond = Some(next),
                None => break,
            }
        }
        Ok(largest)
    }
}

struct Printer {
    payload: Payload,
    show: bool,
    printed: u64,
    /// Time of the oldest request printed.
    oldest: Option<Micros>,
}

impl Printer {
    fn print(&mut self, exchange: &Exchange) -> Result<(), Stop> {
        self.printed += 1;
        self.oldest = Some(
            self.oldest
                .map_or(exchange.at, |oldest| oldest.min(exchange.at)),
        );
        if self.show {
            self.payload
                .line(format_args!("{}", pretty::whole(exchange)))?;
        } else if self.payload.pretty {
            self.payload
                .line(format_args!("{}", pretty::line(exchange)))?;
        } else {
            self.payload.json(exchange)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        Ok(self.payload.flush()?)
    }
}

impl From<OutputError> for Stop {
    fn from(error: OutputError) -> Self {
        match error.into_result(Exit::Done) {
            Ok(_) => Self::Reader,
            Err(error) => Self::Failed(error),
        }
    }
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_get_their_quotes_back() {
        let filter = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            Filter::parse(&joined(&words)).unwrap().to_string()
        };
        assert_eq!(filter(&["hex:ff fe", "end:rst"]), "hex:fffe end:rst");
        assert_eq!(filter(&["hex:'ff fe'"]), "hex:fffe");
        assert_eq!(filter(&["-hex:0xff 0xfe"]), "-hex:fffe");
        assert_eq!(filter(&["hex:ff", "fe"]), "hex:ff fe");
        assert_eq!(filter(&["hex:ff hello"]), "hex:ff hello");
    }
}

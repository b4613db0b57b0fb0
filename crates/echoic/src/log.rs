//! `echoic log`: lists, shows, counts and follows recorded exchanges.

mod export;
mod follow;
mod listing;
mod nothing;
mod printer;
mod question;
#[cfg(test)]
mod tests;
mod verbs;

use std::sync::Arc;

use echoic_core::{
    event::{ExchangeId, Micros},
    exchange::Exchange,
    filter::Filter,
    store::{ConversationPage, Found, ListedConversation, Order, Page, Store},
};
use echoic_recorder::wall_clock_now;
use tokio::runtime::{Builder, Runtime};

use self::{
    printer::{Form, Printer},
    question::Limits,
};
use crate::{
    cli::LogArgs,
    exit::{CliError, CommandResult, Exit},
    pretty, stdout_reader,
    store_url::StoreUrl,
    term::{self, OutputError, Payload},
};

/// Exchanges per query.
const PAGE: usize = 500;

/// The most conversations without an exchange that are listed; the newest are.
const LISTED_MAX: usize = 1000;

/// Gaps in the record that are printed one by one; earlier ones are summed up.
const GAPS_MAX: usize = 5;

/// Lists, shows, counts or follows the exchanges that match the filter.
pub(crate) fn run(args: &LogArgs) -> CommandResult {
    if let Some(verb) = &args.verb {
        return verbs::run(verb);
    }
    let log = Log::new(&args.filter, &args.store)?;
    if args.follow {
        question::check_follow(&log.filter)?;
    }
    let done = if args.count {
        log.count(args)
    } else if let Some(path) = &args.export {
        let limits = Limits::new(args.last, log.filter.limit(), false);
        log.export(path, &limits)
    } else {
        let form = Form::of(&args.form);
        let mut printer = Printer::new(form, Payload::new(args.form.json));
        let limits = Limits::new(args.last, log.filter.limit(), printer.is_list_on_terminal());
        log.list_and_follow(&mut printer, &limits, args.follow)
    };
    done.or_else(Stop::into_result)
}

struct Log {
    runtime: Runtime,
    store: Arc<dyn Store>,
    filter: Filter,
    /// The first argument of the filter.
    first_word: Option<String>,
}

/// The reason why a command stopped early.
enum Stop {
    Reader,
    Failed(CliError),
}

impl Stop {
    fn into_result(self) -> CommandResult {
        match self {
            Self::Reader => Ok(Exit::Done),
            Self::Failed(error) => Err(error),
        }
    }
}

impl Log {
    /// Parses the words of the filter and opens the store.
    fn new(words: &[String], store: &StoreUrl) -> Result<Self, CliError> {
        let filter = question::filter(words)?;
        let runtime = Builder::new_current_thread().enable_time().build();
        Ok(Self {
            runtime: runtime.map_err(CliError::system)?,
            store: store.open_to_read()?,
            filter,
            first_word: words.first().cloned(),
        })
    }

    fn count(&self, args: &LogArgs) -> Result<Exit, Stop> {
        let count = self
            .runtime
            .block_on(self.store.count(&self.filter, wall_clock_now()))
            .map_err(CliError::from)?;
        let limits = Limits::new(args.last, self.filter.limit(), false);
        let mut payload = Payload::new(args.form.json);
        payload.line(format_args!("{}", count.min(limits.listed)))?;
        payload.flush()?;
        self.gaps(None)?;
        let others = self.conversations_without_exchange(None, LISTED_MAX as u64)?;
        if count == 0 && others == 0 {
            self.explain_nothing(false)?;
        }
        Ok(Exit::Done)
    }

    fn list_and_follow(
        &self,
        printer: &mut Printer,
        limits: &Limits,
        follow: bool,
    ) -> Result<Exit, Stop> {
        let listed = self.list(printer, limits)?;
        // If the limit cut the listing short, earlier gaps are not part of it.
        let is_cut = printer.printed >= limits.listed;
        if limits.listed > 0 {
            self.gaps(printer.oldest.filter(|_| is_cut))?;
        }
        if listed.has_earlier && limits.is_default {
            let listed = limits.listed;
            term::note(&format!(
                "only {listed} matches are listed; limit:N lists more"
            ));
        }
        let mut found = printer.printed;
        if !follow {
            let left = limits.left(found);
            found += self.conversations_without_exchange(Some(printer), left)?;
        }
        if found == 0 && limits.listed > 0 {
            self.explain_nothing(follow)?;
        }
        if follow {
            if self.filter.is_about_conversations() {
                term::note(
                    "-f prints exchanges alone: conversations without one are listed without -f",
                );
            }
            self.follow(printer, listed.last, limits)?;
        }
        Ok(Exit::Done)
    }

    /// Returns the newest conversations without an exchange that the filter selects. The store knows nothing of their labels.
    fn without_exchange(&self, limit: usize) -> Result<Vec<ListedConversation>, Stop> {
        let mut page = ConversationPage {
            order: Order::NewestFirst,
            beyond: None,
            limit,
            now: wall_clock_now(),
            without_exchanges: true,
        };
        let mut all = Vec::new();
        loop {
            let found = self
                .runtime
                .block_on(self.store.conversations(&self.filter, page))
                .map_err(CliError::from)?;
            let selects =
                |one: &ListedConversation| self.filter.matches(&one.conversation, page.now);
            all.extend(found.conversations.into_iter().filter(selects));
            if all.len() >= limit || found.next.is_none() {
                all.truncate(limit);
                return Ok(all);
            }
            page.beyond = found.next;
        }
    }

    /// Reports conversations without an exchange (rejected, or closed before a request) if the filter is about how
    /// conversations end, and returns their number: as lines in a list, else only their number on standard error, since the
    /// output is JSON of exchanges.
    fn conversations_without_exchange(
        &self,
        printer: Option<&mut Printer>,
        left: u64,
    ) -> Result<u64, Stop> {
        let limit = LISTED_MAX.min(usize::try_from(left).unwrap_or(LISTED_MAX));
        if !self.filter.is_about_conversations() || limit == 0 {
            return Ok(0);
        }
        let found = self.without_exchange(limit)?;
        match printer {
            Some(printer) if printer.form != Form::Json => {
                let mut conversations = found.iter().rev().map(|listed| &listed.conversation);
                conversations.try_for_each(|conversation| printer.conversation(conversation))?;
                printer.flush()?;
            }
            _ if found.is_empty() => {}
            printer => {
                if let Some(printer) = printer {
                    printer.left_over(found.iter().rev().map(|listed| &listed.conversation))?;
                }
                term::note(&match found.len() {
                    1 => {
                        "1 conversation without an exchange matches too; --show lists it".to_owned()
                    }
                    n => {
                        let more = if n == LISTED_MAX { "or more " } else { "" };
                        format!(
                            "{n} {more}conversations without an exchange match too; --show lists them"
                        )
                    }
                });
            }
        }
        Ok(found.len() as u64)
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

    /// Returns the newest id in the store, whether or not it matches.
    fn newest(&self) -> Result<ExchangeId, Stop> {
        Ok(self
            .runtime
            .block_on(self.store.last())
            .map_err(CliError::from)?
            .exchange)
    }

    /// Calls `visit` for every match, page by page, until the reader of standard output has left. Returns the largest id seen.
    fn pages(
        &self,
        order: Order,
        mut beyond: Option<ExchangeId>,
        mut left: u64,
        mut visit: impl FnMut(Exchange) -> Result<(), Stop>,
    ) -> Result<ExchangeId, Stop> {
        let mut largest = 0;
        while left > 0 {
            let page = Page {
                order,
                beyond,
                until: None,
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
                Some(_) if stdout_reader::has_left(std::time::Duration::ZERO) => {
                    return Err(Stop::Reader);
                }
                Some(next) => beyond = Some(next),
                None => break,
            }
        }
        Ok(largest)
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

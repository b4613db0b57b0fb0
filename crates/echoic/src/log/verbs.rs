//! The verbs of `log`: wait, tag, note and delete.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use echoic_core::{
    event::ExchangeId,
    exchange::Exchange,
    store::{LabelChange, Labelled, Order, Page, StoreErrorKind},
    units::Span,
};
use echoic_recorder::wall_clock_now;

use super::{
    Log, PAGE, Stop,
    printer::{Form, Printer},
};
use crate::{
    cli::{DeleteArgs, LogVerb, NoteArgs, TagArgs, WaitArgs},
    exit::{CliError, CommandResult, Exit},
    term::Payload,
};

/// Exchanges labelled at once: some tens of milliseconds, during which whoever records waits.
const LABELLED_AT_ONCE: usize = 500;

/// Runs a verb of `log`.
pub(super) fn run(verb: &LogVerb) -> CommandResult {
    let done = match verb {
        LogVerb::Wait(args) => Log::new(&args.filter, &args.store.store)?.wait(args),
        LogVerb::Tag(args) => Log::new(&args.filter, &args.store.store)?.tag(args),
        LogVerb::Note(args) => Log::new(&args.filter, &args.store.store)?.note(args),
        LogVerb::Delete(args) => Log::new(&args.filter, &args.store.store)?.delete(args),
    };
    done.or_else(Stop::into_result)
}

impl Log {
    /// Prints matches as they are found, until there are enough or the time has passed.
    fn wait(&self, args: &WaitArgs) -> Result<Exit, Stop> {
        self.check_unordered("wait")?;
        let timeout = args.timeout.0;
        let deadline = Instant::now() + timeout;
        let form = Form::of(&args.form);
        let mut printer = Printer::new(form, Payload::new(args.form.json));
        let mut last = args.after.unwrap_or(0);
        loop {
            match self.find_until(deadline, last, args.matches - printer.printed)? {
                None => break,
                Some((exchanges, next)) => {
                    for exchange in &exchanges {
                        printer.print(exchange, &self.filter)?;
                    }
                    printer.flush()?;
                    last = next.max(last);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if printer.printed >= args.matches {
                return Ok(Exit::Done);
            }
            if left == Duration::ZERO {
                break;
            }
            self.wait_beyond(last, left)?;
        }
        let why = format!(
            "timed out after {}: {} of {} matches were found",
            Span(timeout),
            printer.printed,
            args.matches
        );
        Err(CliError::new(Exit::TimedOut, why).into())
    }

    /// Returns matches beyond the id `last`, at most `limit` and a page, and the id from which to go on; `None` if the time has
    /// passed.
    fn find_until(
        &self,
        deadline: Instant,
        last: ExchangeId,
        limit: u64,
    ) -> Result<Option<(Vec<Exchange>, ExchangeId)>, Stop> {
        // Asked for first: the search then has all matches up to it.
        let newest = self.newest()?;
        let page = Page {
            order: Order::OldestFirst,
            beyond: Some(last),
            until: None,
            limit: PAGE.min(usize::try_from(limit).unwrap_or(PAGE)),
            now: wall_clock_now(),
        };
        let find = async {
            let find = self.store.find(&self.filter, page);
            // At least once, however short the time is.
            let left = deadline.saturating_duration_since(Instant::now());
            tokio::time::timeout(left.max(FIND_MIN), find).await
        };
        let Ok(found) = self.runtime.block_on(find) else {
            return Ok(None);
        };
        let found = found.map_err(CliError::from)?;
        let largest = found.exchanges.last().map(|last| last.id);
        let next = match found.next {
            Some(next) => next,
            None => newest.max(largest.unwrap_or(0)),
        };
        Ok(Some((found.exchanges, next)))
    }

    fn tag(&self, args: &TagArgs) -> Result<Exit, Stop> {
        let tags: Vec<String> = args.name.split(',').map(str::to_owned).collect();
        let (add, remove) = if args.remove {
            (Vec::new(), tags)
        } else {
            (tags, Vec::new())
        };
        self.label(args.conversations, |of| LabelChange {
            of,
            add: add.clone(),
            remove: remove.clone(),
            note: None,
        })
    }

    fn note(&self, args: &NoteArgs) -> Result<Exit, Stop> {
        self.label(args.conversations, |of| LabelChange {
            of,
            add: Vec::new(),
            remove: Vec::new(),
            note: Some(Some(args.text.clone())),
        })
    }

    /// Labels the matching exchanges, or their conversations, and prints their number.
    fn label(
        &self,
        conversations: bool,
        change: impl Fn(Labelled) -> LabelChange,
    ) -> Result<Exit, Stop> {
        self.check_unordered("tag and note")?;
        let invalid = change(Labelled::Exchanges(Vec::new())).check();
        invalid.map_err(CliError::usage)?;
        // All first: the filter may be about the labels that are changed.
        let (mut exchanges, mut of) = (Vec::new(), BTreeSet::new());
        let limit = self.filter.limit().unwrap_or(u64::MAX);
        self.pages(Order::NewestFirst, None, limit, |exchange| {
            if conversations {
                of.insert(exchange.conversation.id);
            } else {
                exchanges.push(exchange.id);
            }
            Ok(())
        })?;
        let chunks = exchanges.chunks(LABELLED_AT_ONCE);
        let chunks = chunks.map(|ids| Labelled::Exchanges(ids.to_vec()));
        let mut labelled = 0;
        for of in chunks.chain(of.into_iter().map(Labelled::Conversation)) {
            let label = self.store.label(change(of));
            labelled += self.runtime.block_on(label).map_err(|why| match why.kind {
                StoreErrorKind::InvalidLabel { .. } => CliError::usage(why),
                _ => CliError::from(why),
            })?;
        }
        self.print_number(labelled)
    }

    fn delete(&self, args: &DeleteArgs) -> Result<Exit, Stop> {
        self.check_unordered("delete")?;
        if let Some(limit) = self.filter.limit() {
            let why = format!("delete takes all matches: leave out limit:{limit}");
            return Err(CliError::usage(why).into());
        }
        let now = wall_clock_now();
        let Some(confirmed) = args.confirm else {
            let count = self.store.count(&self.filter, now);
            let count = self.runtime.block_on(count).map_err(CliError::from)?;
            let why = format!(
                "nothing was deleted: {}; to delete them, add --confirm {count}",
                exchanges(count, "match")
            );
            return Err(CliError::usage(why).into());
        };
        let deleted = self.store.delete(&self.filter, confirmed, now);
        let deleted = self
            .runtime
            .block_on(deleted)
            .map_err(|why| match why.kind {
                StoreErrorKind::Held { .. } => CliError::system(format!(
                    "{why}, which records into it: stop that one before anything is deleted"
                )),
                _ => CliError::from(why),
            })?;
        if deleted != confirmed {
            let why = format!(
                "nothing was deleted: {}, not {confirmed}",
                exchanges(deleted, "match")
            );
            return Err(CliError::new(Exit::NotMet, why).into());
        }
        self.print_number(deleted)
    }

    /// Refuses an order, which means nothing here.
    pub(super) fn check_unordered(&self, verb: &str) -> Result<(), Stop> {
        match self.filter.sort() {
            None => Ok(()),
            Some(_) => Err(CliError::usage(format!(
                "sort: has no meaning for {verb}: leave it out"
            ))
            .into()),
        }
    }

    fn print_number(&self, number: u64) -> Result<Exit, Stop> {
        self.runtime
            .block_on(self.store.close())
            .map_err(CliError::from)?;
        let mut payload = Payload::new(false);
        payload.line(format_args!("{number}"))?;
        payload.flush()?;
        Ok(Exit::Done)
    }
}

/// Time that a search has at least.
const FIND_MIN: Duration = Duration::from_millis(100);

/// `1 exchange matches`, `3 exchanges match`
fn exchanges(number: u64, verb: &str) -> String {
    match number {
        1 => format!("1 exchange {verb}es"),
        _ => format!("{number} exchanges {verb}"),
    }
}

//! A search for exchanges in progress: its bounds and its position. It is independent of a database.

use std::{collections::VecDeque, ops::RangeInclusive};

use echoic_core::{
    event::{ExchangeId, Micros},
    exchange::{Conversation, Exchange, ExchangeRef},
    filter::{Atom, Expr, Filter},
    store::{Order, Page},
};

use crate::sequence::Sequence;

/// Approximate maximum of bytes per page. A page ends there even with fewer exchanges than its limit, since a thousand
/// exchanges may be a thousand times the largest message.
pub(crate) const PAGE_BYTES_MAX: usize = 64 << 20;

/// The largest integer of a database.
pub(crate) const ID_MAX: u64 = i64::MAX.cast_unsigned();

/// A search in progress, read a chunk at a time.
pub(crate) struct Scan {
    pub(crate) filter: Filter,
    /// The part of the filter that depends only on the conversation.
    conversation_part: Expr,
    pub(crate) now: Micros,
    pub(crate) order: Order,
    /// Ids of exchanges, not of runs: a page may begin and end inside one.
    pub(crate) ids: RangeInclusive<ExchangeId>,
    pub(crate) conversations: RangeInclusive<u64>,
    pub(crate) times: RangeInclusive<Micros>,
    /// Ranges of ids in the order of the search outside of which nothing matches, if that is known.
    pub(crate) ranges: Option<VecDeque<RangeInclusive<ExchangeId>>>,
    /// The steps of the filter before the last.
    pub(crate) sequence: Option<Sequence>,
    /// Whether the bytes of messages are read; if not, they have their lengths and are zero.
    pub(crate) with_bytes: bool,
    /// Id of the last run read, or the end of the last chunk.
    pub(crate) cursor: Option<u64>,
    exchanges_left: usize,
    bytes_left: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// The page is full, and there is more to read.
    Full,
    /// Everything has been read.
    Finished,
}

impl Scan {
    /// Creates a search for one page.
    pub(crate) fn page(filter: &Filter, page: Page) -> Self {
        let mut scan = Self::new(filter, page.now, page.order);
        let (low, high) = scan.ids.into_inner();
        scan.ids = match (page.beyond, page.order) {
            (None, _) => low..=high,
            (Some(beyond), Order::OldestFirst) => low.max(beyond.saturating_add(1))..=high,
            (Some(beyond), Order::NewestFirst) => low..=high.min(beyond.saturating_sub(1)),
        };
        let (low, high) = scan.ids.into_inner();
        scan.ids = match (page.until, page.order) {
            (None, _) => low..=high,
            (Some(until), Order::OldestFirst) => low..=high.min(until),
            (Some(until), Order::NewestFirst) => low.max(until)..=high,
        };
        scan.exchanges_left = page.limit;
        scan.bytes_left = PAGE_BYTES_MAX;
        if page.limit == 0 {
            scan.state = State::Full;
        }
        scan
    }

    /// Creates a search for all exchanges, to count them. Reads no bytes of messages that the filter does not need.
    pub(crate) fn all(filter: &Filter, now: Micros) -> Self {
        let mut scan = Self::new(filter, now, Order::OldestFirst);
        scan.with_bytes = !filter.expr().all_atoms(&mut |atom| !atom.needs_bytes());
        scan
    }

    /// Narrows the search to the times from `first` to `last`.
    pub(crate) fn narrow_times(&mut self, first: Micros, last: Micros) {
        self.times = first.max(*self.times.start())..=last.min(*self.times.end());
    }

    fn new(filter: &Filter, now: Micros, order: Order) -> Self {
        let bounds = (
            filter.ids().hull(),
            filter.conversations().hull(),
            filter.times(now),
        );
        let (ids, conversations, times) = match bounds {
            (Some(ids), Some(conversations), Some(times)) => (ids, conversations, times),
            // Nothing can match: no exchange has the id 0.
            _ => (0..=0, 0..=0, 0..=0),
        };
        let steps = filter.steps().iter().chain([filter.expr()]);
        let conditions = steps.map(|step| step.necessary(&is_of_conversation));
        Self {
            conversation_part: Expr::and(conditions),
            filter: filter.clone(),
            now,
            order,
            ids: (*ids.start()).min(ID_MAX)..=(*ids.end()).min(ID_MAX),
            conversations: (*conversations.start()).min(ID_MAX)
                ..=(*conversations.end()).min(ID_MAX),
            times,
            ranges: None,
            sequence: Sequence::new(filter),
            with_bytes: true,
            cursor: None,
            exchanges_left: usize::MAX,
            bytes_left: usize::MAX,
            state: State::Running,
        }
    }

    /// Narrows the search to ids from `low` to `high`.
    pub(crate) fn narrow(&mut self, low: u64, high: u64) {
        self.ids = low.max(*self.ids.start())..=high.min(*self.ids.end());
    }

    /// Whether an exchange of this conversation can match.
    pub(crate) fn may_match(&self, conversation: &Conversation) -> bool {
        self.conversation_part.matches(conversation, self.now)
    }

    /// Whether an exchange matches, or is the last step of a sequence.
    pub(crate) fn selects(&self, exchange: &ExchangeRef<'_>) -> bool {
        self.ids.contains(&exchange.id) && self.filter.matches(exchange, self.now)
    }

    /// Whether an exchange matches; if so, counts it towards the page.
    pub(crate) fn accepts(&mut self, exchange: &ExchangeRef<'_>) -> bool {
        let mut accepts = self.selects(exchange);
        if let (true, Some(sequence)) = (accepts, &self.sequence) {
            accepts = sequence.precedes(exchange);
        }
        if accepts {
            self.exchanges_left -= 1;
            let bytes = size_of::<Exchange>() + exchange.request.len() + exchange.reply.len();
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
        }
        accepts
    }

    /// Whether the page is full.
    pub(crate) fn is_full(&self) -> bool {
        self.exchanges_left == 0 || self.bytes_left == 0
    }

    /// Ends the search. `more`: there are further exchanges.
    pub(crate) fn stop(&mut self, more: bool) {
        self.state = if more { State::Full } else { State::Finished };
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state != State::Running
    }

    pub(crate) fn has_more(&self) -> bool {
        self.state == State::Full
    }
}

/// Whether a filter selects everything.
pub(crate) fn selects_all(filter: &Filter) -> bool {
    filter.expr() == &Expr::All
}

fn is_of_conversation(atom: &Atom) -> bool {
    matches!(
        atom,
        Atom::Peer(_)
            | Atom::Port(_)
            | Atom::Endpoint(_)
            | Atom::Protocol(_)
            | Atom::Service(_)
            | Atom::Role(_)
            | Atom::Server(_)
            | Atom::Sni(_)
            | Atom::Tls(_)
            | Atom::End(_)
            | Atom::Conversation(_)
    )
}

//! A search for exchanges in progress: its bounds and its position.

use std::ops::RangeInclusive;

use echoic_core::{
    event::{ExchangeId, Micros},
    exchange::{Conversation, Exchange},
    filter::{Atom, Expr, Filter},
    store::{Order, Page},
};

/// Approximate maximum of bytes per page. A page ends there even with fewer exchanges than its limit, since a thousand
/// exchanges may be a thousand times the largest message.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// The largest integer of SQLite.
pub(super) const ID_MAX: u64 = i64::MAX.cast_unsigned();

/// A search in progress, read a chunk at a time. It is independent of SQL.
pub(super) struct Scan {
    filter: Filter,
    /// The part of the filter that depends only on the conversation.
    conversation_part: Expr,
    now: Micros,
    pub(super) order: Order,
    /// Ids of exchanges, not of runs: a page may begin and end inside one.
    pub(super) ids: RangeInclusive<ExchangeId>,
    pub(super) conversations: RangeInclusive<u64>,
    pub(super) times: RangeInclusive<Micros>,
    /// Id of the last run read, or the end of the last chunk.
    pub(super) cursor: Option<u64>,
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
    pub(super) fn page(filter: &Filter, page: Page) -> Self {
        let mut scan = Self::new(filter, page.now, page.order);
        let (low, high) = scan.ids.into_inner();
        scan.ids = match (page.beyond, page.order) {
            (None, _) => low..=high,
            (Some(beyond), Order::OldestFirst) => low.max(beyond.saturating_add(1))..=high,
            (Some(beyond), Order::NewestFirst) => low..=high.min(beyond.saturating_sub(1)),
        };
        scan.exchanges_left = page.limit;
        scan.bytes_left = PAGE_BYTES_MAX;
        if page.limit == 0 {
            scan.state = State::Full;
        }
        scan
    }

    /// Creates a search for all exchanges, to count them.
    pub(super) fn all(filter: &Filter, now: Micros) -> Self {
        Self::new(filter, now, Order::OldestFirst)
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
        Self {
            conversation_part: filter.necessary(is_of_conversation),
            filter: filter.clone(),
            now,
            order,
            ids: (*ids.start()).min(ID_MAX)..=(*ids.end()).min(ID_MAX),
            conversations: (*conversations.start()).min(ID_MAX)
                ..=(*conversations.end()).min(ID_MAX),
            times,
            cursor: None,
            exchanges_left: usize::MAX,
            bytes_left: usize::MAX,
            state: State::Running,
        }
    }

    /// Narrows the search to ids from `low` to `high`.
    pub(super) fn narrow(&mut self, low: u64, high: u64) {
        self.ids = low.max(*self.ids.start())..=high.min(*self.ids.end());
    }

    /// Whether an exchange of this conversation can match.
    pub(super) fn may_match(&self, conversation: &Conversation) -> bool {
        self.conversation_part.matches(conversation, self.now)
    }

    /// Whether an exchange matches; if so, counts it towards the page.
    pub(super) fn accepts(&mut self, exchange: &Exchange) -> bool {
        let accepts = self.ids.contains(&exchange.id) && self.filter.matches(exchange, self.now);
        if accepts {
            self.exchanges_left -= 1;
            let bytes = size_of::<Exchange>() + exchange.request.len() + exchange.reply.len();
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
        }
        accepts
    }

    /// Whether the page is full.
    pub(super) fn is_full(&self) -> bool {
        self.exchanges_left == 0 || self.bytes_left == 0
    }

    /// Ends the search. `more`: there are further exchanges.
    pub(super) fn stop(&mut self, more: bool) {
        self.state = if more { State::Full } else { State::Finished };
    }

    pub(super) fn is_done(&self) -> bool {
        self.state != State::Running
    }

    pub(super) fn has_more(&self) -> bool {
        self.state == State::Full
    }
}

/// Whether a filter selects everything.
pub(super) fn selects_all(filter: &Filter) -> bool {
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
            | Atom::End(_)
            | Atom::Conversation(_)
    )
}

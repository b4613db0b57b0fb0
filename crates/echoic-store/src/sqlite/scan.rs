//! A search: where it may find something, and how far it has come.

use std::ops::RangeInclusive;

use echoic_core::{
    event::{ExchangeId, Micros},
    exchange::{Conversation, Exchange},
    filter::{Atom, Expr, Filter},
    store::{Order, Page},
};

/// Bytes on a page, about: it ends there though fewer exchanges were found than asked for, since a thousand of
/// them may be a thousand times the largest message.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// SQLite's integers end here.
pub(super) const ID_MAX: u64 = i64::MAX.cast_unsigned();

/// A search in progress. It goes from chunk to chunk, and knows nothing of SQL.
pub(super) struct Scan {
    filter: Filter,
    /// The part of the filter that a conversation alone can answer.
    of_conversations: Expr,
    now: Micros,
    pub(super) order: Order,
    /// Ids of exchanges, not of runs: a page may begin and end inside one.
    pub(super) ids: RangeInclusive<ExchangeId>,
    pub(super) conversations: RangeInclusive<u64>,
    pub(super) times: RangeInclusive<Micros>,
    /// The run read last, or a place without one.
    pub(super) cursor: Option<u64>,
    exchanges_left: usize,
    bytes_left: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Going,
    /// The page is full, and there is more to read.
    Full,
    /// All has been read.
    Through,
}

impl Scan {
    /// For one page.
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

    /// For everything, to be counted.
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
            // Nothing can match; a range of one that no id is in says so too.
            _ => (0..=0, 0..=0, 0..=0),
        };
        Self {
            of_conversations: filter.necessary(asks_conversation),
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
            state: State::Going,
        }
    }

    /// Narrows the search to ids up to `high` and from `low` on.
    pub(super) fn narrow(&mut self, low: u64, high: u64) {
        self.ids = low.max(*self.ids.start())..=high.min(*self.ids.end());
    }

    /// Whether anything in this conversation can match.
    pub(super) fn may_be_in(&self, conversation: &Conversation) -> bool {
        self.of_conversations.matches(conversation, self.now)
    }

    /// Whether this is meant, and still wanted.
    pub(super) fn takes(&mut self, exchange: &Exchange) -> bool {
        let takes = self.ids.contains(&exchange.id) && self.filter.matches(exchange, self.now);
        if takes {
            self.exchanges_left -= 1;
            let bytes = size_of::<Exchange>() + exchange.request.len() + exchange.reply.len();
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
        }
        takes
    }

    /// Whether the page has all it can hold.
    pub(super) fn is_full(&self) -> bool {
        self.exchanges_left == 0 || self.bytes_left == 0
    }

    /// The page is full; is there `more` to read?
    pub(super) fn stop(&mut self, more: bool) {
        self.state = if more { State::Full } else { State::Through };
    }

    pub(super) fn is_done(&self) -> bool {
        self.state != State::Going
    }

    pub(super) fn has_more(&self) -> bool {
        self.state == State::Full
    }
}

/// Whether a filter selects everything.
pub(super) fn means_all(filter: &Filter) -> bool {
    filter.expr() == &Expr::All
}

fn asks_conversation(atom: &Atom) -> bool {
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

//! The seam to memory: events in, exchanges out.

mod error;

use std::{fmt, ops::RangeInclusive, str::FromStr, sync::Arc};

use thiserror::Error;

pub use self::error::{StoreError, StoreErrorKind, StoreLocation};

use crate::{
    event::{Batch, ConversationId, ExchangeId, Micros},
    exchange::{Conversation, Exchange},
    filter::Filter,
    service::BoxFuture,
    units::quoted,
};

/// Stores events and finds exchanges. Another process, or another author's code, may stand behind it.
///
/// Dropping a future before it is done does not undo what it asked for: an append may still be stored. Everything asked
/// after [`Store::close`] fails with [`StoreErrorKind::Closed`].
pub trait Store: Send + Sync {
    /// The largest ids in this store, whatever was pruned.
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>>;

    /// Stores all of the batches or none of them, in order, and gives their exchanges ids. Returns when they are as
    /// durable as was asked for, with the id of the first exchange of each batch: its runs take consecutive ids in event
    /// order, and ids increase in the order of commits. (A batch without exchanges has the id that the next one gets.)
    ///
    /// A batch is known by its name ([`Batch::id`]): one that is stored already is skipped and has the ids it had, so an
    /// append whose outcome is unknown can be repeated. A store may forget the names of batches with a number
    /// [`BATCHES_KNOWN`] below the newest of their server; such a batch counts as stored, with the id 0.
    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>>;

    /// Reserves `count` consecutive ids of conversations, and returns the first. They are given to nobody else, and are
    /// larger than any in the store.
    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>>;

    /// The exchanges that `filter` selects, a page at a time. Pages go by id, never by offset: the millionth
    /// costs what the first does.
    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>>;

    /// How many exchanges `filter` selects.
    fn count<'a>(
        &'a self,
        filter: &'a Filter,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// The conversations that `filter` selects, a page at a time, those without exchanges included. Only
    /// [`Filter::conversation_part`] is asked: `since:10m` is about when a conversation opened, and what the filter asks
    /// of exchanges is ignored. A conversation whose beginning was not recorded is not listed.
    fn conversations<'a>(
        &'a self,
        filter: &'a Filter,
        page: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>>;

    /// One conversation, if it is (still) there.
    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>>;

    /// Where exchanges are missing: the newest `limit` gaps that begin within `times`, newest first.
    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>>;

    /// Totals of what is stored now.
    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>>;

    /// Removes what `keep` no longer covers, oldest first; returns how many exchanges that were. Does a bounded
    /// amount at a time: call it again while it returns more than 0.
    fn prune(&self, keep: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Finishes what was asked before, makes it durable, and releases the store. A second call waits for the same end
    /// and returns the same result. A caller that drops the future after a deadline of its own loses nothing that was
    /// appended: closing continues in the background, and dropping the store does not wait for it.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Closes the store, and removes what opening it has created if nothing was stored in it: for a program that could
    /// not start what it opened the store for.
    fn discard(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.close()
    }
}

/// How far below the newest batch of a server a store has to know the names of its batches. More than a recorder ever
/// has in doubt at once.
pub const BATCHES_KNOWN: u64 = 16_384;

/// The ids last given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// Of exchanges; 0 if there is none.
    pub exchange: ExchangeId,
    /// Of conversations; 0 if there is none.
    pub conversation: ConversationId,
}

/// Which part of the matching exchanges is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// From which end.
    pub order: Order,
    /// Only beyond this id, in the direction of `order`: the `next` of the page before.
    pub beyond: Option<ExchangeId>,
    /// At most this many.
    pub limit: usize,
    /// What `since:10m` is reckoned from.
    pub now: Micros,
}

/// The direction of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest id first.
    OldestFirst,
    /// Largest id first.
    NewestFirst,
}

/// A page of exchanges.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order asked for.
    pub exchanges: Vec<Exchange>,
    /// Where the next page goes on; none if this was the last.
    pub next: Option<ExchangeId>,
}

/// Which part of the matching conversations is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationPage {
    /// From which end.
    pub order: Order,
    /// Only beyond this id, in the direction of `order`: the `next` of the page before.
    pub beyond: Option<ConversationId>,
    /// At most this many.
    pub limit: usize,
    /// What `since:10m` is reckoned from.
    pub now: Micros,
    /// Only those that have ended without an exchange, for example rejected connections.
    pub without_exchanges: bool,
}

/// A page of conversations.
#[derive(Debug, Default)]
pub struct FoundConversations {
    /// In the order asked for.
    pub conversations: Vec<ListedConversation>,
    /// Where the next page continues; none if this was the last.
    pub next: Option<ConversationId>,
}

/// A conversation in a list.
#[derive(Clone, Debug)]
pub struct ListedConversation {
    /// The conversation.
    pub conversation: Conversation,
    /// How many exchanges were recorded of it, those that were pruned since included.
    pub exchanges: u64,
}

/// Exchanges that were answered and are not in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the first of them was missed. When recording went on is not kept: the next exchange tells.
    pub since: Micros,
    /// How many.
    pub exchanges: u64,
}

/// Totals of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Exchanges stored.
    pub exchanges: u64,
    /// Conversations stored, those without exchanges included.
    pub conversations: u64,
    /// Bytes it takes, as [`Retention::bytes`] counts them.
    pub bytes: u64,
    /// Wall clock of the oldest exchange.
    pub oldest: Option<Micros>,
    /// Wall clock of the newest exchange.
    pub newest: Option<Micros>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Exchanges older than this go, in microseconds.
    pub age: Option<Micros>,
    /// The oldest go while the store takes more bytes than this.
    pub bytes: Option<u64>,
}

/// What a kept exchange has survived when it counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Power loss: it is on the disk before its reply leaves.
    Strict,
    /// The death of the process at once, power loss after a second at the latest.
    #[default]
    Normal,
    /// The death of the process. Power loss takes what the system had not written yet, and never harms the rest.
    Off,
}

/// No durability of that name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid durability {}: expected strict, normal or off", quoted(.0))]
pub struct UnknownDurability(String);

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(text: &str) -> Result<Self, UnknownDurability> {
        match text {
            "strict" => Ok(Self::Strict),
            "normal" => Ok(Self::Normal),
            "off" => Ok(Self::Off),
            _ => Err(UnknownDurability(text.to_owned())),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Normal => "normal",
            Self::Off => "off",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_parses_as_printed() {
        for durability in [Durability::Strict, Durability::Normal, Durability::Off] {
            assert_eq!(durability.to_string().parse(), Ok(durability));
        }
        assert!("OFF".parse::<Durability>().is_err());
    }
}

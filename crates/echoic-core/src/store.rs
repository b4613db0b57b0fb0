//! The seam to stores: a store appends events and finds exchanges.

mod error;
mod labels;
mod series;

use std::{
    fmt,
    future::ready,
    ops::{Range, RangeInclusive},
    str::FromStr,
    sync::Arc,
};

use thiserror::Error;

pub use self::{
    error::{StoreError, StoreErrorKind, StoreLocation},
    labels::{InvalidLabel, LabelChange, Labelled, Labels, TagCount},
    series::{Bucket, Latencies, Series, SeriesBuilder, SeriesKey},
};

use crate::{
    event::{Batch, ConversationId, ExchangeId, Mark, Micros, ServerId, ServerInfo},
    exchange::{Conversation, Exchange},
    filter::Filter,
    service::BoxFuture,
    units::quoted,
};

/// Stores events and finds exchanges. An implementation may use another process.
///
/// Dropping a future does not undo its operation: an append may still be stored. After [`Store::close`] all calls fail with
/// [`StoreErrorKind::Closed`].
pub trait Store: Send + Sync {
    /// Returns the largest ids ever stored, also if these were pruned.
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>>;

    /// Stores all of the batches or none of them, in order, and gives their exchanges ids. Returns when they are as
    /// durable as configured, with the id of the first exchange of each batch. Its runs take consecutive ids in event order,
    /// and ids increase in the order of commits. (A batch without exchanges has the id that the next one gets.)
    ///
    /// A batch is identified by [`Batch::id`]: one that is stored already is skipped and retains its ids, so an append whose
    /// outcome is unknown can be repeated. A store may forget the ids of batches with a number [`BATCHES_KNOWN`] below the
    /// newest of their server; such a batch counts as stored, with the id 0.
    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>>;

    /// Reserves `count` consecutive ids of conversations, and returns the first. They are never reserved again, and are
    /// larger than any in the store.
    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>>;

    /// Returns a page of the exchanges that `filter` selects. Pages go by id, not by offset, so every page costs the same.
    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>>;

    /// Returns the number of exchanges that `filter` selects.
    fn count<'a>(
        &'a self,
        filter: &'a Filter,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Returns a page of the conversations that `filter` selects, including those without exchanges. Only
    /// [`Filter::conversation_part`] applies: `since:10m` refers to the opening of a conversation, and conditions on
    /// exchanges are ignored. A conversation whose opening was not recorded is not listed.
    fn conversations<'a>(
        &'a self,
        filter: &'a Filter,
        page: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>>;

    /// Returns one conversation with the number of its exchanges, if it is stored.
    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<ListedConversation>, StoreError>>;

    /// Returns exchanges of one conversation with the number `from_n` or a larger one, in their order, at most `limit`: fewer at
    /// the end of the conversation, and where they are large.
    fn messages(
        &self,
        id: ConversationId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Exchange>, StoreError>>;

    /// Returns the marks of one conversation (its half-close, for example), oldest first.
    fn marks(&self, id: ConversationId) -> BoxFuture<'_, Result<Vec<Mark>, StoreError>>;

    /// Adds or removes tags, or sets a note. Returns the number of exchanges or conversations that are in the store and were
    /// changed or had the labels already.
    fn label(&self, change: LabelChange) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Returns all tags in use, by name.
    fn tags(&self) -> BoxFuture<'_, Result<Vec<TagCount>, StoreError>>;

    /// Counts the exchanges that `filter` selects within `times`, in steps of `step` microseconds from the start of `times`.
    fn series<'a>(
        &'a self,
        filter: &'a Filter,
        times: Range<Micros>,
        step: Micros,
        now: Micros,
    ) -> BoxFuture<'a, Result<Series, StoreError>>;

    /// Deletes the exchanges that `filter` selects, with their labels, if their number is `confirmed`; else deletes nothing.
    /// Returns their number, deleted or not. A conversation that has ended and has no exchange left is deleted too.
    ///
    /// A store that one process alone may write fails with [`StoreErrorKind::Held`] while another one does.
    fn delete<'a>(
        &'a self,
        filter: &'a Filter,
        confirmed: u64,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Returns the gaps of the record: the newest `limit` gaps that begin within `times`, newest first.
    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>>;

    /// Returns servers that record here, by a connection of their own or by a keeper's, newest start first and at most `limit`. A
    /// store for one process knows of none.
    fn servers(&self, limit: usize) -> BoxFuture<'_, Result<Vec<RecordingServer>, StoreError>> {
        let _ = limit;
        Box::pin(ready(Ok(Vec::new())))
    }

    /// Returns totals of the stored events.
    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>>;

    /// Deletes exchanges beyond `retention`, oldest first, and returns their number. Deletes a bounded number at a time: call
    /// it again while it returns more than 0.
    fn prune(&self, retention: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Waits until exchanges with ids beyond `beyond` may be stored, by this process or another one. `None` if the store is not told
    /// of what others record: then whoever follows it asks [`Store::last`] from time to time.
    ///
    /// It may return early, and a notice can be lost: whoever waits bounds the time, and reads the store all the same.
    fn changed(&self, beyond: ExchangeId) -> Option<BoxFuture<'_, ()>> {
        let _ = beyond;
        None
    }

    /// Returns servers with open conversations here that are other processes, whose death this store does not see by itself.
    fn open_servers(&self) -> BoxFuture<'_, Result<Vec<ServerId>, StoreError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// Ends the open conversations of such a server, which has died, and returns their number. If it lives after all, what it
    /// records next opens them again.
    fn end_server(&self, server: ServerId) -> BoxFuture<'_, Result<u64, StoreError>> {
        let _ = server;
        Box::pin(ready(Ok(0)))
    }

    /// Finishes earlier calls, makes their data durable, and releases the store. A second call waits for the same end and
    /// returns the same result. If the caller drops the future after a deadline, no appended data is lost: closing continues
    /// in the background, and dropping the store does not wait for it.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Closes the store and removes the files that opening it has created, if it is empty: for a program that fails to start
    /// after it has opened the store.
    fn discard(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.close()
    }
}

/// Number of the newest batches of a server whose ids a store must remember: more than a recorder ever has with an unknown
/// outcome.
pub const BATCHES_KNOWN: u64 = 16_384;

/// The largest ids of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// Of an exchange; 0 if there is none.
    pub exchange: ExchangeId,
    /// Of a conversation; 0 if there is none.
    pub conversation: ConversationId,
}

/// Selects a page of the matching exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Direction of the page.
    pub order: Order,
    /// Only beyond this id, in the direction of `order`: the `next` of the page before.
    pub beyond: Option<ExchangeId>,
    /// Only up to and including this id, in the direction of `order`: a search over a long record is done in parts, so that it
    /// can tell its progress and be stopped.
    pub until: Option<ExchangeId>,
    /// Maximum number of results.
    pub limit: usize,
    /// The time that `since:10m` is relative to.
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
    /// In the requested order.
    pub exchanges: Vec<Exchange>,
    /// Value of `beyond` for the next page; `None` on the last page.
    pub next: Option<ExchangeId>,
}

/// Selects a page of the matching conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationPage {
    /// Direction of the page.
    pub order: Order,
    /// Only beyond this id, in the direction of `order`: the `next` of the page before.
    pub beyond: Option<ConversationId>,
    /// Maximum number of results.
    pub limit: usize,
    /// The time that `since:10m` is relative to.
    pub now: Micros,
    /// Only those that have ended without an exchange, for example rejected connections.
    pub without_exchanges: bool,
}

/// A page of conversations.
#[derive(Debug, Default)]
pub struct FoundConversations {
    /// In the requested order.
    pub conversations: Vec<ListedConversation>,
    /// Value of `beyond` for the next page; `None` on the last page.
    pub next: Option<ConversationId>,
}

/// A conversation with the number of its exchanges.
#[derive(Clone, Debug)]
pub struct ListedConversation {
    /// The conversation.
    pub conversation: Conversation,
    /// Number of its recorded exchanges, including those pruned since.
    pub exchanges: u64,
    /// Bytes of these exchanges, as long as it is open. (The ending tells the bytes that went over its socket.)
    pub so_far: Option<MessageBytes>,
}

/// Bytes of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageBytes {
    /// Of requests.
    pub requests: u64,
    /// Of replies.
    pub replies: u64,
}

/// Exchanges that were served and not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Wall-clock time of the first of them. The end of a gap is not stored; the next exchange shows it.
    pub since: Micros,
    /// Their number.
    pub exchanges: u64,
}

/// A server that records into a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingServer {
    /// Its id, name and start.
    pub info: ServerInfo,
    /// Wall-clock time of the first exchange of its newest batch that has one.
    pub recorded: Option<Micros>,
}

/// Totals of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Exchanges stored.
    pub exchanges: u64,
    /// Conversations stored, those without exchanges included.
    pub conversations: u64,
    /// Bytes used, as [`Retention::bytes`] counts them.
    pub bytes: u64,
    /// Wall-clock time of the oldest exchange.
    pub oldest: Option<Micros>,
    /// Wall-clock time of the newest exchange.
    pub newest: Option<Micros>,
}

/// Limits of the age and size of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Maximum age of exchanges, in microseconds.
    pub age: Option<Micros>,
    /// Maximum size in bytes; beyond it the oldest exchanges are deleted.
    pub bytes: Option<u64>,
}

/// Failures that a committed exchange survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Power loss: it is on disk before its reply is sent.
    Strict,
    /// The death of the process; power loss after at most a second.
    #[default]
    Normal,
    /// The death of the process. Power loss loses data that the system had not written, but never damages the rest.
    Off,
}

/// Error of an invalid durability.
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

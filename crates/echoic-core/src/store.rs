//! The seam to memory: events in, exchanges out.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use thiserror::Error;

use crate::{
    event::{Batch, ConversationId, ExchangeId, Micros},
    exchange::{Conversation, Exchange},
    filter::Filter,
    service::BoxFuture,
    units::quoted,
};

/// Keeps events and finds exchanges. Another process, or another author's code, may stand behind it.
pub trait Store: Send + Sync {
    /// Where this store leaves off: the ids to go on from.
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>>;

    /// Keeps all of the batches or none of them, in order. Returns when they are as durable as was asked for.
    fn append(&self, batches: Vec<Arc<Batch>>) -> BoxFuture<'_, Result<(), StoreError>>;

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

    /// One conversation, if it is (still) there.
    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>>;

    /// Forgets what `keep` no longer covers, oldest first; returns how many exchanges that were. Does a bounded
    /// amount at a time: call it again while it returns more than 0.
    fn prune(&self, keep: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>>;
}

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

/// What can be wrong with a store; nobody's peer is to blame for any of it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such file.
    #[error("there is no database at {}; `echoic serve` makes one, and --store FILE names another", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Another process holds it.
    #[error("{} is held by another echoic{}; give this one its own with --store FILE", path.display(),
        pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Held {
        /// The file.
        path: PathBuf,
        /// Who holds it, if it could be found out.
        pid: Option<u32>,
    },
    /// The file is no database, or a broken one. It is left as it is.
    #[error("{} is not a database echoic can read ({what}); it was left as it is. Move it away, or name another with --store FILE", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What the database said.
        what: String,
    },
    /// The file was written by a newer echoic.
    #[error("{} was written by a newer echoic (schema {found}, this one knows {known}); use that one, or name another file with --store FILE", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// The disk is full.
    #[error("the disk under {} is full", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written: permissions, a read-only file system.
    #[error("{} cannot be written: {what}", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// Reading or writing failed.
    #[error("{} failed: {what}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system or the database said.
        what: String,
    },
    /// The store was closed; nothing is kept any more.
    #[error("the store is closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durability_reads_as_it_prints() {
        for durability in [Durability::Strict, Durability::Normal, Durability::Off] {
            assert_eq!(durability.to_string().parse(), Ok(durability));
        }
        assert!("OFF".parse::<Durability>().is_err());
    }
}

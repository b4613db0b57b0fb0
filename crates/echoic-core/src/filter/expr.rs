//! A filter as a tree: what the parser makes, matching walks and stores translate.

use std::collections::BTreeSet;

use super::{
    bytes::{Mask, Needle, Pattern},
    peer::Peer,
    ranges::Ranges,
};
use crate::event::{Micros, Protocol, Role};

/// What a filter asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Nothing: every exchange is meant.
    All,
    /// Each of them; two or more when parsed.
    And(Vec<Self>),
    /// Any of them; two or more when parsed.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// One question.
    Atom(Atom),
}

/// One question about an exchange or its conversation. Sets and ranges hold at least one value when parsed; any
/// of them will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Atom {
    /// `word`, `req:`, `rep:`, `any:`: text, whatever its case.
    Text(Side, Needle),
    /// `req~`, `rep~`, `any~`: a regular expression.
    Regex(Side, Pattern),
    /// `hex:`: a byte sequence on either side.
    Hex(Mask),
    /// `peer:`: who called.
    Peer(BTreeSet<Peer>),
    /// `port:`: the port on this side, that of the endpoint.
    Port(Ranges),
    /// `ep:`: the endpoint's name, `tcp:5000`.
    Endpoint(BTreeSet<String>),
    /// `proto:`: how it is spoken to.
    Protocol(BTreeSet<Protocol>),
    /// `role:`: whose record it is.
    Role(BTreeSet<Role>),
    /// `server:`: the id or the name of whoever recorded it.
    Server(BTreeSet<String>),
    /// `svc:`: the service, with or without its argument: `greet` also finds `greet:Hello`.
    Service(BTreeSet<String>),
    /// `lat:`: from read to write, in nanoseconds.
    Latency(Ranges),
    /// `size:`: request and reply together, in bytes.
    Size(Ranges),
    /// `after:` and `since:`: read at that moment or later.
    After(When),
    /// `before:`: read before that moment.
    Before(When),
    /// `is:`: what became of it.
    Is(BTreeSet<State>),
    /// `end:`: how its conversation ended.
    End(BTreeSet<End>),
    /// `id:`: its name.
    Id(Ranges),
    /// `conv:`: its conversation.
    Conversation(Ranges),
    /// `n:`: its number in the conversation, from 1.
    Number(Ranges),
}

/// Where bytes are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// In what the peer said.
    Request,
    /// In what it was answered.
    Reply,
    /// In either, each for itself.
    Any,
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// By the clock: microseconds since the Unix epoch.
    At(Micros),
    /// So many microseconds before whatever `now` is when the filter is asked.
    Ago(u64),
}

impl When {
    /// As a moment by the clock.
    pub fn at(self, now: Micros) -> Micros {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.saturating_sub_unsigned(ago),
        }
    }
}

/// An enum whose variants are words of the language.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it is written in a filter.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

words! {
    /// A word of `is:`. What became of an exchange, what its conversation is now, what its bytes are.
    State {
        /// Answered, silence included.
        Ok = "ok",
        /// Heard and never answered.
        Unanswered = "unanswered",
        /// Answered, but the reply did not leave in full.
        Unsent = "unsent",
        /// A rule for datagrams forbade the answer.
        Withheld = "withheld",
        /// Its conversation goes on.
        Open = "open",
        /// Its conversation has ended.
        Closed = "closed",
        /// Its conversation goes on, but the peer has ended its half of it.
        Half = "half",
        /// As `end:rst`.
        Reset = "reset",
        /// As `end:timeout`.
        Timeout = "timeout",
        /// As `end:limit`.
        Limit = "limit",
        /// As `end:drain`.
        Drain = "drain",
        /// As `end:error`.
        Error = "error",
        /// Either side is no UTF-8 or holds a NUL: the side that JSON gives in base64.
        Binary = "binary",
        /// The contrary of `binary`.
        Utf8 = "utf8",
        /// It was heard, and begins as a request of HTTP does: perhaps a browser that was made to call this port.
        Http = "http",
    }
}

words! {
    /// A word of `end:`, a class of endings ([`crate::ending::CloseReason::class`]).
    End {
        /// Closed by either side when all was said.
        Fin = "fin",
        /// Reset by the peer.
        Rst = "rst",
        /// A deadline passed.
        Timeout = "timeout",
        /// A limit was reached.
        Limit = "limit",
        /// The server stopped.
        Drain = "drain",
        /// The store failed and strict durability was asked for.
        Store = "store",
        /// The service, the system or echoic itself failed.
        Error = "error",
    }
}

words! {
    /// What `sort:` orders by.
    SortKey {
        /// Latency.
        Latency = "lat",
        /// Id, that is the order of recording.
        Id = "id",
        /// Request and reply together.
        Size = "size",
        /// The moment of the read.
        Time = "t",
    }
}

/// The order asked for with `sort:`; a sign in front, as in `sort:-lat`, turns it around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// Largest first.
    pub descending: bool,
}

impl Expr {
    /// Whether `holds` says so of every question in it.
    pub(super) fn all_atoms(&self, holds: &mut impl FnMut(&Atom) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::And(parts) | Self::Or(parts) => parts.iter().all(|part| part.all_atoms(holds)),
            Self::Not(part) => part.all_atoms(holds),
            Self::Atom(atom) => holds(atom),
        }
    }

    /// All of `parts`. Nested conjunctions become one, and what asks nothing is left out.
    pub fn and(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All => {}
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::All,
            1 => flat.swap_remove(0),
            _ => Self::And(flat),
        }
    }

    /// Any of `parts`, of which there is at least one. Nested disjunctions become one, and one that asks nothing
    /// makes the whole ask nothing.
    pub fn or(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All => return Self::All,
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::All,
            1 => flat.swap_remove(0),
            _ => Self::Or(flat),
        }
    }

    /// Not `part`; twice not is `part` again.
    #[expect(
        clippy::should_implement_trait,
        reason = "a constructor beside and and or"
    )]
    pub fn not(part: Self) -> Self {
        match part {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }
}

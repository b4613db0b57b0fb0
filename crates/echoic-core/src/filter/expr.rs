//! The syntax tree of a filter, which the parser returns, matching evaluates and stores translate.

use std::collections::BTreeSet;

use super::{
    bytes::{Mask, Needle, Pattern},
    peer::Peer,
    ranges::Ranges,
};
use crate::event::{Micros, Protocol, Role};

/// A boolean expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Matches every exchange.
    All,
    /// Matches if all parts match. The parser returns two or more.
    And(Vec<Self>),
    /// Matches if any part matches. The parser returns two or more.
    Or(Vec<Self>),
    /// Matches if the part does not.
    Not(Box<Self>),
    /// A single condition.
    Atom(Atom),
}

/// A single condition on an exchange or its conversation. Sets and ranges match if any of their values does; the parser
/// returns at least one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Atom {
    /// `word`, `req:`, `rep:`, `any:`: text, ignoring case.
    Text(Side, Needle),
    /// `req~`, `rep~`, `any~`: a regular expression.
    Regex(Side, Pattern),
    /// `hex:`: a byte sequence on either side.
    Hex(Mask),
    /// `peer:`: the address of the peer.
    Peer(BTreeSet<Peer>),
    /// `port:`: our port, that of the endpoint.
    Port(Ranges),
    /// `ep:`: the endpoint's name, `tcp:5000`.
    Endpoint(BTreeSet<String>),
    /// `proto:`: the protocol of the endpoint.
    Protocol(BTreeSet<Protocol>),
    /// `role:`: whose record it is.
    Role(BTreeSet<Role>),
    /// `server:`: the id or the name of whoever recorded it.
    Server(BTreeSet<String>),
    /// `sni:`: the server name that a TLS client asked for, in lower case.
    Sni(BTreeSet<String>),
    /// `tls:`: the version of TLS or the cipher suite.
    Tls(BTreeSet<String>),
    /// `svc:`: the service, with or without its argument: `greet` also finds `greet:Hello`.
    Service(BTreeSet<String>),
    /// `lat:`: the latency from read to write, in nanoseconds.
    Latency(Ranges),
    /// `size:`: the size of request and reply together, in bytes.
    Size(Ranges),
    /// `after:` and `since:`: read at that time or later.
    After(When),
    /// `before:`: read before that time.
    Before(When),
    /// `is:`: the outcome of the exchange, or the state of its conversation.
    Is(BTreeSet<State>),
    /// `end:`: how the conversation ended.
    End(BTreeSet<EndClass>),
    /// `id:`: the id of the exchange.
    Id(Ranges),
    /// `conv:`: the id of the conversation.
    Conversation(Ranges),
    /// `n:`: the number of the exchange in its conversation, from 1.
    Number(Ranges),
    /// `tag:`: a tag of the exchange or of its conversation.
    Tag(BTreeSet<String>),
    /// `note:`: text in the note of the exchange or of its conversation, ignoring case.
    Note(Needle),
}

/// The side of an exchange that is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The request.
    Request,
    /// The reply.
    Reply,
    /// Either. A match does not span both.
    Any,
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// Microseconds since the Unix epoch.
    At(Micros),
    /// Microseconds before the time at which the filter is evaluated.
    Ago(u64),
}

impl When {
    /// Returns it in microseconds since the Unix epoch.
    pub fn at(self, now: Micros) -> Micros {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.saturating_sub_unsigned(ago),
        }
    }
}

/// Defines an enum whose variants are words of the language.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All variants.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns its word in the language.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

words! {
    /// A word of `is:`: the outcome of an exchange, the state of its conversation, or a property of its bytes.
    State {
        /// Answered, possibly with an empty reply.
        Ok = "ok",
        /// Received, and never answered.
        Unanswered = "unanswered",
        /// Answered, but the reply was not sent in full.
        Unsent = "unsent",
        /// A rule for datagrams suppressed the reply.
        Withheld = "withheld",
        /// A client's datagram of which it is not known whether it was answered.
        Unpaired = "unpaired",
        /// The conversation is open.
        Open = "open",
        /// The conversation has ended.
        Closed = "closed",
        /// The conversation is open, and the peer has ended its stream.
        Half = "half",
        /// As `end:rst`.
        Reset = "reset",
        /// The peer ended its stream without the close message of TLS.
        Truncated = "truncated",
        /// As `end:timeout`.
        Timeout = "timeout",
        /// As `end:limit`.
        Limit = "limit",
        /// As `end:drain`.
        Drain = "drain",
        /// As `end:error`.
        Error = "error",
        /// A side is not UTF-8 or contains NUL, so that JSON has it in base64.
        Binary = "binary",
        /// Not `binary`.
        Utf8 = "utf8",
        /// A request that begins like one of HTTP: possibly a browser that a web page made connect to this port.
        Http = "http",
        /// A request that begins a TLS handshake, on a port that does not speak TLS.
        Tls = "tls",
    }
}

words! {
    /// A word of `end:`, a class of close reasons ([`crate::ending::CloseReason::class`]).
    EndClass {
        /// Closed in order by either side.
        Fin = "fin",
        /// Reset by the peer.
        Rst = "rst",
        /// A deadline passed.
        Timeout = "timeout",
        /// A limit was reached.
        Limit = "limit",
        /// The server stopped.
        Drain = "drain",
        /// The store failed under strict durability.
        Store = "store",
        /// The service, the operating system or echoic failed.
        Error = "error",
    }
}

words! {
    /// A word of `sort:`.
    SortKey {
        /// Latency.
        Latency = "lat",
        /// Id, which is the order of recording.
        Id = "id",
        /// Size of request and reply together.
        Size = "size",
        /// Time of the read.
        Time = "t",
    }
}

/// The order of a list: `sort:lat`, or `sort:-lat` for descending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sort {
    /// The key to sort by.
    pub key: SortKey,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl Expr {
    /// Whether `predicate` is true for every atom in the expression.
    pub fn all_atoms(&self, predicate: &mut impl FnMut(&Atom) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().all(|part| part.all_atoms(predicate))
            }
            Self::Not(part) => part.all_atoms(predicate),
            Self::Atom(atom) => predicate(atom),
        }
    }

    /// Returns the conjunction of `parts`. Flattens nested conjunctions and leaves out [`Self::All`].
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

    /// Returns the disjunction of `parts`, of which there must be at least one. Flattens nested disjunctions; if a part
    /// is [`Self::All`], so is the result.
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

    /// Returns the negation of `part`. A double negation is removed.
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

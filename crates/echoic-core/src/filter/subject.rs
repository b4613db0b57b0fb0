//! Evaluates filters.

use super::expr::{Atom, EndClass, Expr, Side, State};
use crate::{
    client_hello::begins_as_tls,
    ending::CloseReason,
    event::{Address, ExchangeId, Micros, Outcome, Role},
    exchange::{Conversation, Exchange, ExchangeRef, TAG_HTTP, TAG_TLS, automatic_tag},
    http::begins_as_http,
    store::Labels,
};

/// What a filter can match: an exchange, or the row of a store, which lends its bytes without allocating an exchange.
pub trait Subject {
    /// Returns its conversation, as far as it is known.
    fn conversation(&self) -> &Conversation;
    /// Returns its id; 0 if it is not stored.
    fn id(&self) -> ExchangeId;
    /// Returns its number in the conversation, from 1.
    fn n(&self) -> u64;
    /// Returns the wall-clock time of the read.
    fn at(&self) -> Micros;
    /// Returns the latency from read to write, in nanoseconds.
    fn latency_ns(&self) -> u64;
    /// Returns its outcome.
    fn outcome(&self) -> Outcome;
    /// Returns the request as received.
    fn request(&self) -> &[u8];
    /// Returns the reply as sent.
    fn reply(&self) -> &[u8];
    /// Returns its own tags and note.
    fn labels(&self) -> &Labels;
}

impl Subject for Exchange {
    fn conversation(&self) -> &Conversation {
        &self.conversation
    }
    fn id(&self) -> ExchangeId {
        self.id
    }
    fn n(&self) -> u64 {
        self.n
    }
    fn at(&self) -> Micros {
        self.at
    }
    fn latency_ns(&self) -> u64 {
        self.latency_ns
    }
    fn outcome(&self) -> Outcome {
        self.outcome
    }
    fn request(&self) -> &[u8] {
        &self.request
    }
    fn reply(&self) -> &[u8] {
        &self.reply
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
}

impl Subject for ExchangeRef<'_> {
    fn conversation(&self) -> &Conversation {
        self.conversation
    }
    fn id(&self) -> ExchangeId {
        self.id
    }
    fn n(&self) -> u64 {
        self.n
    }
    fn at(&self) -> Micros {
        self.at
    }
    fn latency_ns(&self) -> u64 {
        self.latency_ns
    }
    fn outcome(&self) -> Outcome {
        self.outcome
    }
    fn request(&self) -> &[u8] {
        self.request
    }
    fn reply(&self) -> &[u8] {
        self.reply
    }
    fn labels(&self) -> &Labels {
        self.labels
    }
}

/// A conversation without exchanges. Its request and reply are empty; its time is when it opened.
impl Subject for Conversation {
    fn conversation(&self) -> &Conversation {
        self
    }
    fn id(&self) -> ExchangeId {
        0
    }
    fn n(&self) -> u64 {
        0
    }
    fn at(&self) -> Micros {
        self.opened
    }
    fn latency_ns(&self) -> u64 {
        0
    }
    fn outcome(&self) -> Outcome {
        Outcome::Ok
    }
    fn request(&self) -> &[u8] {
        &[]
    }
    fn reply(&self) -> &[u8] {
        &[]
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
}

impl Expr {
    /// Whether `subject` matches. Relative times such as `since:10m` count back from `now`.
    pub fn matches(&self, subject: &impl Subject, now: Micros) -> bool {
        match self {
            Self::All => true,
            Self::And(parts) => parts.iter().all(|part| part.matches(subject, now)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(subject, now)),
            Self::Not(part) => !part.matches(subject, now),
            Self::Atom(atom) => atom.matches(subject, now),
        }
    }
}

impl Atom {
    /// Whether it is a condition on a conversation, not on its exchanges.
    pub(super) fn is_of_conversation(&self) -> bool {
        match self {
            Self::Is(states) => states.iter().all(|state| state.is_of_conversation()),
            Self::Peer(_)
            | Self::Port(_)
            | Self::Endpoint(_)
            | Self::Protocol(_)
            | Self::Service(_)
            | Self::Role(_)
            | Self::Server(_)
            | Self::Sni(_)
            | Self::Tls(_)
            | Self::End(_)
            | Self::Conversation(_)
            | Self::After(_)
            | Self::Before(_) => true,
            _ => false,
        }
    }

    /// Whether `subject` matches. Relative times such as `since:10m` count back from `now`.
    pub fn matches(&self, subject: &impl Subject, now: Micros) -> bool {
        let conversation = subject.conversation();
        let endpoint_info = &conversation.endpoint_info;
        match self {
            Self::Text(side, needle) => side.any(subject, |bytes| needle.is_in(bytes)),
            Self::Regex(side, pattern) => side.any(subject, |bytes| pattern.is_in(bytes)),
            Self::Hex(mask) => Side::Any.any(subject, |bytes| mask.is_in(bytes)),
            Self::Peer(peers) => {
                let Address::Net(addr) = conversation.remote else {
                    return false;
                };
                peers.iter().any(|peer| peer.contains(addr))
            }
            Self::Port(ports) => conversation
                .served_at()
                .port()
                .is_some_and(|port| ports.contains(port.into())),
            Self::Endpoint(names) => names.contains(&endpoint_info.name),
            Self::Protocol(protocols) => protocols.contains(&endpoint_info.proto),
            Self::Role(roles) => roles.contains(&conversation.role),
            Self::Server(names) => {
                let server = &conversation.server;
                names.contains(&server.name)
                    || names.iter().any(|name| name.parse() == Ok(server.id))
            }
            Self::Sni(names) => {
                let sni = conversation.tls.as_ref().and_then(|tls| tls.sni.as_ref());
                sni.is_some_and(|sni| names.contains(sni))
            }
            Self::Tls(words) => {
                let tls = conversation.tls.as_ref();
                tls.is_some_and(|tls| words.iter().any(|word| tls.is(word)))
            }
            Self::Service(names) => {
                let bare = endpoint_info.service.split_once(':').map(|(name, _)| name);
                names.contains(&endpoint_info.service)
                    || bare.is_some_and(|name| names.contains(name))
            }
            Self::Latency(ranges) => ranges.contains(subject.latency_ns()),
            Self::Size(ranges) => {
                ranges.contains(subject.request().len() as u64 + subject.reply().len() as u64)
            }
            Self::After(when) => subject.at() >= when.at(now),
            Self::Before(when) => subject.at() < when.at(now),
            Self::Is(states) => states.iter().any(|state| state.matches(subject)),
            Self::End(ends) => ends.iter().any(|end| end.matches(conversation)),
            Self::Id(ids) => ids.contains(subject.id()),
            Self::Conversation(ids) => ids.contains(conversation.id),
            Self::Number(numbers) => numbers.contains(subject.n()),
            Self::Tag(tags) => {
                let labels = [subject.labels(), &conversation.labels];
                let mut own = labels.iter().flat_map(|labels| &labels.tags);
                own.any(|tag| tags.contains(tag))
                    || automatic_tag(conversation, subject.request())
                        .is_some_and(|tag| tags.contains(tag))
            }
            Self::Note(needle) => [subject.labels(), &conversation.labels]
                .iter()
                .filter_map(|labels| labels.note.as_ref())
                .any(|note| needle.is_in(note.as_bytes())),
        }
    }
}

impl Atom {
    /// Whether it needs the bytes of request or reply, and not only their lengths.
    pub fn needs_bytes(&self) -> bool {
        match self {
            Self::Text(..) | Self::Regex(..) | Self::Hex(_) => true,
            Self::Is(states) => states.iter().any(|state| {
                matches!(
                    state,
                    State::Binary | State::Utf8 | State::Http | State::Tls
                )
            }),
            Self::Tag(tags) => tags.contains(TAG_HTTP) || tags.contains(TAG_TLS),
            _ => false,
        }
    }
}

impl Side {
    /// Whether the side, or either side, matches.
    fn any(self, subject: &impl Subject, is_match: impl Fn(&[u8]) -> bool) -> bool {
        match self {
            Self::Request => is_match(subject.request()),
            Self::Reply => is_match(subject.reply()),
            Self::Any => is_match(subject.request()) || is_match(subject.reply()),
        }
    }
}

impl State {
    /// Whether it is a state of a conversation, not of its exchanges.
    pub(super) fn is_of_conversation(self) -> bool {
        matches!(
            self,
            Self::Open
                | Self::Closed
                | Self::Half
                | Self::Reset
                | Self::Truncated
                | Self::Timeout
                | Self::Limit
                | Self::Drain
                | Self::Error
        )
    }

    fn matches(self, subject: &impl Subject) -> bool {
        let conversation = subject.conversation();
        let is_open = conversation.ended.is_none();
        let is_text = |bytes: &[u8]| !bytes.contains(&0) && str::from_utf8(bytes).is_ok();
        let are_text = || is_text(subject.request()) && is_text(subject.reply());
        match self {
            Self::Ok => subject.outcome() == Outcome::Ok,
            Self::Unanswered => subject.outcome() == Outcome::Unanswered,
            Self::Unsent => subject.outcome() == Outcome::Unsent,
            Self::Withheld => subject.outcome() == Outcome::Withheld,
            Self::Unpaired => subject.outcome() == Outcome::Unpaired,
            Self::Open => is_open,
            Self::Closed => !is_open,
            Self::Half => is_open && conversation.half_closed.is_some(),
            Self::Reset => EndClass::Rst.matches(conversation),
            Self::Truncated => {
                let ended = conversation.ended.as_ref();
                ended.is_some_and(|(_, ending)| ending.reason == CloseReason::Truncated)
            }
            Self::Timeout => EndClass::Timeout.matches(conversation),
            Self::Limit => EndClass::Limit.matches(conversation),
            Self::Drain => EndClass::Drain.matches(conversation),
            Self::Error => EndClass::Error.matches(conversation),
            Self::Binary => !are_text(),
            Self::Utf8 => are_text(),
            Self::Http => conversation.role == Role::Server && begins_as_http(subject.request()),
            Self::Tls => conversation.role == Role::Server && begins_as_tls(subject.request()),
        }
    }
}

impl EndClass {
    fn matches(self, conversation: &Conversation) -> bool {
        let class = conversation
            .ended
            .as_ref()
            .map(|(_, ending)| ending.reason.class());
        class == Some(self.word())
    }
}

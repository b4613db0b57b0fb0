//! How a conversation ended, told truthfully.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::for_people;

/// The end of a conversation, with what went through it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// What ended it.
    pub reason: CloseReason,
    /// Bytes read from the peer.
    pub received: u64,
    /// Bytes the kernel took for the peer. What was truly sent is this, not what was recorded as said: a reply
    /// past this offset never left.
    pub sent: u64,
    /// Bytes said that were not sent.
    pub unsent: u64,
    /// Bytes that arrived after the conversation had ended for us, read only to let the peer take our last
    /// reply (the lingering close) and heard by nobody.
    pub discarded: u64,
}

/// What ended a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The peer ended its stream (FIN), was answered in full, and then we closed.
    PeerClosed,
    /// The service had said all it had to say (greet), and the peer did not reset while it may still have been on its way.
    ServiceClosed,
    /// The peer reset the connection (RST), or was gone when we wrote (EPIPE); also after a service's last word. What had
    /// left by then may not have arrived.
    PeerReset,
    /// Silence for longer than `--idle-timeout`.
    IdleTimeout,
    /// A message was begun and not finished within `--message-timeout`.
    MessageTimeout,
    /// The peer did not read what it was sent for `--write-timeout`.
    WriteTimeout,
    /// A message was longer than `--max-message`.
    MessageTooLong,
    /// What should announce or end a message under its framing did not.
    Malformed,
    /// The peer ended its stream inside a message whose length it had announced.
    Incomplete,
    /// A reply was longer than its framing can announce.
    ReplyTooLong,
    /// There were `--max-connections` already.
    TooManyConnections,
    /// Its source had `--source-connections` open already.
    TooManyFromSource,
    /// Its source said more in a second than `--source-messages` or `--source-bytes`.
    RateLimited,
    /// Its address was not among those that may call (`--allow`, `--deny`).
    Denied,
    /// The peer did not finish the handshake of a layer (TLS) within the handshake timeout.
    HandshakeTimeout,
    /// The handshake of a layer failed: the peer does not speak its protocol, or was not accepted.
    HandshakeFailed,
    /// The server was told to stop; everything read was answered first.
    ServerStopped,
    /// The server was told to stop and the `--drain-timeout` deadline passed.
    DrainTimeout,
    /// Strict durability, and the store has failed.
    StoreFailed,
    /// The service gave up with an error.
    ServiceFailed,
    /// A bug: the conversation's code panicked. Others do not notice.
    Panicked,
    /// Another error of the operating system on this connection.
    SystemError,
    /// We left, as somebody at a prompt does, or with what was expected.
    ClosedByUs,
    /// We reset the connection, since that was asked for.
    ResetByUs,
    /// We had ended our stream, and the peer neither said more nor ended its own within `--linger-timeout`.
    LingerTimeout,
    /// Nobody took what was heard any more (`| head`), so there was nobody to go on for.
    OutputClosed,
    /// Nobody is there: a datagram came back as refused.
    Refused,
    /// Never told: the process died first. Written when the store is next opened.
    ProcessDied,
}

/// Each way to end, with the word it is stored under and the class `end:` finds it by.
const CLOSE_REASONS: [(CloseReason, &str, &str); 28] = [
    (CloseReason::PeerClosed, "peer-closed", "fin"),
    (CloseReason::ServiceClosed, "service-closed", "fin"),
    (CloseReason::PeerReset, "peer-reset", "rst"),
    (CloseReason::IdleTimeout, "idle-timeout", "timeout"),
    (CloseReason::MessageTimeout, "message-timeout", "timeout"),
    (CloseReason::WriteTimeout, "write-timeout", "timeout"),
    (CloseReason::MessageTooLong, "message-too-long", "limit"),
    (CloseReason::Malformed, "malformed", "error"),
    (CloseReason::Incomplete, "incomplete", "fin"),
    (CloseReason::ReplyTooLong, "reply-too-long", "error"),
    (
        CloseReason::TooManyConnections,
        "too-many-connections",
        "limit",
    ),
    (
        CloseReason::TooManyFromSource,
        "too-many-from-source",
        "limit",
    ),
    (CloseReason::RateLimited, "rate-limited", "limit"),
    (CloseReason::Denied, "denied", "limit"),
    (
        CloseReason::HandshakeTimeout,
        "handshake-timeout",
        "timeout",
    ),
    (CloseReason::HandshakeFailed, "handshake-failed", "error"),
    (CloseReason::ServerStopped, "server-stopped", "drain"),
    (CloseReason::DrainTimeout, "drain-timeout", "drain"),
    (CloseReason::StoreFailed, "store-failed", "store"),
    (CloseReason::ServiceFailed, "service-failed", "error"),
    (CloseReason::Panicked, "panicked", "error"),
    (CloseReason::SystemError, "system-error", "error"),
    (CloseReason::ClosedByUs, "closed-by-us", "fin"),
    (CloseReason::ResetByUs, "reset-by-us", "rst"),
    (CloseReason::LingerTimeout, "linger-timeout", "timeout"),
    (CloseReason::OutputClosed, "output-closed", "fin"),
    (CloseReason::Refused, "refused", "error"),
    (CloseReason::ProcessDied, "process-died", "error"),
];

impl CloseReason {
    fn entry(self) -> &'static (Self, &'static str, &'static str) {
        CLOSE_REASONS
            .iter()
            .find(|(reason, ..)| *reason == self)
            .expect("invariant: every reason is in the table")
    }

    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        CLOSE_REASONS.iter().map(|(reason, ..)| *reason)
    }

    /// The word it is stored under. A format: words are added, never changed.
    pub fn word(self) -> &'static str {
        self.entry().1
    }

    /// The class that `end:` in a filter finds it by: `fin rst timeout limit drain store error`.
    pub fn class(self) -> &'static str {
        self.entry().2
    }

    /// The ending stored under `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        CLOSE_REASONS
            .iter()
            .find(|(_, stored, _)| *stored == word)
            .map(|(reason, ..)| *reason)
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer closed",
            Self::ServiceClosed => "closed by the service",
            Self::PeerReset => "reset by peer",
            Self::IdleTimeout => "timed out: idle",
            Self::MessageTimeout => "timed out: message not finished",
            Self::WriteTimeout => "timed out: peer not reading",
            Self::MessageTooLong => "limit: message too long",
            Self::Malformed => "not the framing that was declared",
            Self::Incomplete => "peer closed inside a message",
            Self::ReplyTooLong => "reply too long for its framing",
            Self::TooManyConnections => "limit: too many connections",
            Self::TooManyFromSource => "limit: too many connections from this source",
            Self::RateLimited => "limit: too fast for one source",
            Self::Denied => "not among those that may call",
            Self::HandshakeTimeout => "timed out: handshake not finished",
            Self::HandshakeFailed => "handshake failed",
            Self::ServerStopped => "server stopped",
            Self::DrainTimeout => "cut: server stopped before it was done",
            Self::StoreFailed => "store failed, and strict durability was asked for",
            Self::ServiceFailed => "service failed",
            Self::Panicked => "internal error",
            Self::SystemError => "system error",
            Self::ClosedByUs => "closed by us",
            Self::ResetByUs => "reset by us",
            Self::LingerTimeout => "timed out: peer did not close",
            Self::OutputClosed => "closed by us: nobody took what came",
            Self::Refused => "refused: nobody is there",
            Self::ProcessDied => "never told: the process died",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason.sentence())?;
        if self.reason == CloseReason::PeerReset {
            write!(f, " after {}", for_people(self.received))?;
        }
        write!(
            f,
            ", {} in, {} out",
            for_people(self.received),
            for_people(self.sent)
        )?;
        if self.unsent > 0 {
            write!(f, ", {} unsent", for_people(self.unsent))?;
        }
        if self.discarded > 0 {
            write!(f, ", {} discarded", for_people(self.discarded))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_reason_words_parse_back() {
        for (reason, word, class) in CLOSE_REASONS {
            assert_eq!(CloseReason::from_word(word), Some(reason));
            assert_eq!((reason.word(), reason.class()), (word, class));
        }
    }

    #[test]
    fn ending_text_includes_unsent_bytes() {
        let ending = Ending {
            reason: CloseReason::WriteTimeout,
            received: 5,
            sent: 2048,
            unsent: 7,
            discarded: 0,
        };
        assert_eq!(
            ending.to_string(),
            "timed out: peer not reading, 5 B in, 2.0 KiB out, 7 B unsent"
        );
    }
}

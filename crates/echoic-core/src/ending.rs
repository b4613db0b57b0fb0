//! How a conversation ended: the [`CloseReason`] and the byte counts of an [`Ending`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{left_over::LeftOver, units::for_people};

/// The end of a conversation: its reason, and how many bytes were received and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Why it ended.
    pub reason: CloseReason,
    /// Bytes read from the peer.
    pub received: u64,
    /// Bytes the kernel accepted for sending. Recorded replies past this offset were never sent.
    pub sent: u64,
    /// Bytes of replies that were not sent.
    pub unsent: u64,
    /// Bytes received after we had closed our side. They are read and dropped, so that the kernel does not reset
    /// the connection before the peer has read the last reply (lingering close).
    pub discarded: u64,
    /// Bytes that made no message, if there were any. They count as received. In a box, since most endings have none.
    #[serde(default)]
    pub left_over: Option<Box<LeftOver>>,
}

/// Why a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The peer ended its stream (FIN), all its messages were answered, and then we closed.
    PeerClosed,
    /// The service finished the conversation (as greet does), and no reset arrived while we lingered.
    ServiceClosed,
    /// The peer reset the connection (RST), or it was gone when we wrote (EPIPE); also during a lingering close. Bytes
    /// sent before may not have arrived.
    PeerReset,
    /// Nothing was received or sent for `--idle-timeout`.
    IdleTimeout,
    /// A message was not complete within `--message-timeout` after its first byte.
    MessageTimeout,
    /// The peer accepted none of the bytes to be sent for `--write-timeout`.
    WriteTimeout,
    /// A message was longer than `--max-message`.
    MessageTooLong,
    /// The bytes do not follow the declared framing: an invalid header, or a missing terminator.
    Malformed,
    /// The peer ended its stream inside a message of a known length.
    Incomplete,
    /// A reply was longer than the length field of its framing allows.
    ReplyTooLong,
    /// `--max-connections` were open already.
    TooManyConnections,
    /// The source had `--source-connections` open already.
    TooManyFromSource,
    /// The source sent more in a second than `--source-messages` or `--source-bytes`.
    RateLimited,
    /// The source address is not admitted (`--allow`, `--deny`).
    Denied,
    /// The peer did not finish the handshake of a layer (TLS) within the handshake timeout.
    HandshakeTimeout,
    /// The peer ended its stream (FIN) without the close message of its layer (`close_notify` of TLS): what it sent may have
    /// been cut by somebody in between. All messages received were answered.
    Truncated,
    /// The handshake of a layer (TLS) failed: the peer uses another protocol, or was rejected.
    HandshakeFailed,
    /// The server was stopped; every message received before was answered.
    ServerStopped,
    /// An operator drained the endpoint; every message received before was answered.
    EndpointDrained,
    /// The server was stopped or the endpoint drained, and the conversation was not done within `--drain-timeout`.
    DrainTimeout,
    /// The server was told to stop at once (a second SIGINT or SIGTERM) before the conversation was done.
    StoppedAtOnce,
    /// The store failed under strict durability.
    StoreFailed,
    /// The service returned an error.
    ServiceFailed,
    /// A bug: the conversation's code panicked. Other conversations are not affected.
    Panicked,
    /// Another error of the operating system on this connection.
    SystemError,
    /// An operator closed the conversation in order, or ended our half, after which the peer ended its own.
    ClosedByOperator,
    /// An operator reset the connection.
    ResetByOperator,
    /// The client closed the connection: at the user's command, or once all expected replies were received.
    ClosedByUs,
    /// The client reset the connection, as requested.
    ResetByUs,
    /// The client had ended its stream, and the peer neither sent anything nor ended its own for `--linger-timeout`.
    LingerTimeout,
    /// The client's standard output was closed (`| head`), so it stopped.
    OutputClosed,
    /// Nothing listens at the address: a datagram was refused (ICMP port unreachable).
    Refused,
    /// The process died before the end was recorded. Written when the store is next opened.
    ProcessDied,
    /// The service runs in other processes, and none of them answered within `--worker-timeout`.
    WorkerLost,
}

/// Each close reason, its word in the store and in JSON, and its class in the filter `end:`.
const CLOSE_REASONS: [(CloseReason, &str, &str); 34] = [
    (CloseReason::PeerClosed, "peer-closed", "fin"),
    (CloseReason::ServiceClosed, "service-closed", "fin"),
    (CloseReason::PeerReset, "peer-reset", "rst"),
    (CloseReason::IdleTimeout, "idle-timeout", "timeout"),
    (CloseReason::MessageTimeout, "message-timeout", "timeout"),
    (CloseReason::WriteTimeout, "write-timeout", "timeout"),
    (CloseReason::MessageTooLong, "message-too-long", "limit"),
    (CloseReason::Malformed, "malformed", "error"),
    (CloseReason::Incomplete, "incomplete", "fin"),
    (CloseReason::Truncated, "truncated", "fin"),
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
    (CloseReason::EndpointDrained, "endpoint-drained", "drain"),
    (CloseReason::DrainTimeout, "drain-timeout", "drain"),
    (CloseReason::StoppedAtOnce, "stopped-at-once", "drain"),
    (CloseReason::StoreFailed, "store-failed", "store"),
    (CloseReason::ServiceFailed, "service-failed", "error"),
    (CloseReason::WorkerLost, "worker-lost", "error"),
    (CloseReason::Panicked, "panicked", "error"),
    (CloseReason::SystemError, "system-error", "error"),
    (CloseReason::ClosedByOperator, "closed-by-operator", "fin"),
    (CloseReason::ResetByOperator, "reset-by-operator", "rst"),
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
            .expect("invariant: every close reason is in the table")
    }

    /// Returns all close reasons.
    pub fn all() -> impl Iterator<Item = Self> {
        CLOSE_REASONS.iter().map(|(reason, ..)| *reason)
    }

    /// Its word in the store and in JSON. This is a format: words are added, never changed.
    pub fn word(self) -> &'static str {
        self.entry().1
    }

    /// Its class in the filter `end:`, one of `fin rst timeout limit drain store error`.
    pub fn class(self) -> &'static str {
        self.entry().2
    }

    /// Whether the server cut the conversation at its stop, before it was done.
    pub fn is_cut(self) -> bool {
        matches!(self, Self::DrainTimeout | Self::StoppedAtOnce)
    }

    /// Returns the close reason of this word.
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
            Self::Malformed => "message does not follow the framing",
            Self::Incomplete => "peer closed inside a message",
            Self::Truncated => "truncated: peer closed without a close_notify",
            Self::ReplyTooLong => "reply too long for its framing",
            Self::TooManyConnections => "limit: too many connections",
            Self::TooManyFromSource => "limit: too many connections from this source",
            Self::RateLimited => "limit: too much from this source in a second",
            Self::Denied => "denied: source address is not allowed",
            Self::HandshakeTimeout => "timed out: handshake not finished",
            Self::HandshakeFailed => "handshake failed",
            Self::ServerStopped => "server stopped",
            Self::EndpointDrained => "endpoint drained",
            Self::DrainTimeout => "drain timeout",
            Self::StoppedAtOnce => "server stopped at once",
            Self::StoreFailed => "store failed under strict durability",
            Self::ServiceFailed => "service failed",
            Self::WorkerLost => "no worker answered",
            Self::Panicked => "internal error",
            Self::SystemError => "system error",
            Self::ClosedByOperator => "closed by an operator",
            Self::ResetByOperator => "reset by an operator",
            Self::ClosedByUs => "closed by us",
            Self::ResetByUs => "reset by us",
            Self::LingerTimeout => "timed out: peer did not close",
            Self::OutputClosed => "closed by us: output closed",
            Self::Refused => "refused: nothing listens there",
            Self::ProcessDied => "unknown: the process died",
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
            left_over: None,
        };
        assert_eq!(
            ending.to_string(),
            "timed out: peer not reading, 5 B in, 2.0 KiB out, 7 B unsent"
        );
    }
}

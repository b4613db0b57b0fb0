//! The limits of a conversation and of a source address. Field names end with the unit or the bound.

use std::time::Duration;

/// Limits of each conversation, and the close reason when one is exceeded.
///
/// Each has a flag of `serve`, except `handshake_timeout` and `linger_timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message body under a declared framing, in bytes. Exceeded: `message-too-long`.
    pub message_bytes_max: usize,
    /// Conversations open at once, over all endpoints. One more is rejected: `too-many-connections`.
    pub connections_max: usize,
    /// From the accepted connection to the end of all handshakes of its layers (TLS): `handshake-timeout`.
    pub handshake_timeout: Duration,
    /// How long nothing may be received or sent, with no message half received: `idle-timeout`.
    pub idle_timeout: Duration,
    /// From a message's first byte to its last; later bytes do not extend it (slowloris): `message-timeout`.
    pub message_timeout: Duration,
    /// How long the peer may take no byte while bytes are waiting to be sent: `write-timeout`.
    pub write_timeout: Duration,
    /// From the stop signal until open conversations are closed: `drain-timeout`.
    pub drain_timeout: Duration,
    /// After we end our stream: how long the peer may neither send nor take anything before the socket is closed. Closing at once could
    /// reset the connection and destroy replies that the peer has not read yet (RFC 9112, section 9.6).
    pub linger_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 1 << 20,
            connections_max: 10_000,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(10),
            message_timeout: Duration::from_mins(1),
            write_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(2),
        }
    }
}

/// Limits for all conversations of one source together. A source is an IPv4 address, or the /64 network of an IPv6
/// address (RFC 4291, section 2.5.4), since a host can use every address of its /64. Peers on Unix sockets have no
/// source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Conversations open at once. One more is rejected: `too-many-from-source`.
    pub connections_max: Option<u32>,
    /// Messages in any one second. One more is not answered: `rate-limited`.
    pub messages_per_second_max: Option<u32>,
    /// Bytes received in any one second. One more: `rate-limited`.
    pub bytes_per_second_max: Option<u32>,
    /// Whether the limits apply to loopback addresses too.
    pub on_loopback: bool,
}

impl Default for SourceLimits {
    /// 1,000 connections, a tenth of the default of [`Limits::connections_max`], so that one source cannot use up all
    /// of them; no rate limits; not on loopback.
    fn default() -> Self {
        Self {
            connections_max: Some(1_000),
            messages_per_second_max: None,
            bytes_per_second_max: None,
            on_loopback: false,
        }
    }
}

impl SourceLimits {
    /// Returns limits that allow everything.
    pub fn none() -> Self {
        Self {
            connections_max: None,
            ..Self::default()
        }
    }

    /// Whether any limit is set.
    pub fn any(&self) -> bool {
        self.connections_max.is_some() || self.has_rate_limit()
    }

    /// Whether messages or bytes per second are limited.
    pub fn has_rate_limit(&self) -> bool {
        self.messages_per_second_max.is_some() || self.bytes_per_second_max.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_single_source_limit_is_detected() {
        let none = SourceLimits::none;
        let connections = SourceLimits {
            connections_max: Some(1),
            ..none()
        };
        let messages = SourceLimits {
            messages_per_second_max: Some(1),
            ..none()
        };
        let bytes = SourceLimits {
            bytes_per_second_max: Some(1),
            ..none()
        };
        let loopback = SourceLimits {
            on_loopback: true,
            ..none()
        };
        for (limits, any, has_rate_limit) in [
            (none(), false, false),
            (loopback, false, false),
            (connections, true, false),
            (messages, true, true),
            (bytes, true, true),
        ] {
            assert_eq!(
                (limits.any(), limits.has_rate_limit()),
                (any, has_rate_limit)
            );
        }
    }

    #[test]
    fn default_message_limit_is_one_mebibyte() {
        assert_eq!(Limits::default().message_bytes_max, 1_048_576);
    }
}

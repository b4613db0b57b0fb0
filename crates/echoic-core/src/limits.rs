//! Every limit of a conversation, and of a source of them, on one page; units last.

use std::time::Duration;

/// What a conversation may take before it is ended, and how the ending is then called.
///
/// Each but `handshake` and `linger` has a flag of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message body under a declared framing, in bytes. Longer: Ending `limit: message over …`.
    pub message_bytes_max: usize,
    /// Conversations open at once, over all endpoints. One more is closed at once, with Ending
    /// `limit: connections`.
    pub connections_max: usize,
    /// From the accepted connection to the end of all handshakes of the layers over it (TLS), where there are any:
    /// Ending `timed out: handshake not finished`.
    pub handshake_timeout: Duration,
    /// Nothing heard, nothing said, nothing half-received for this long: Ending `timed out: idle`.
    pub idle_timeout: Duration,
    /// From a message's first byte to its last; later bytes do not reset it (slowloris): `timed out: partial`.
    pub message_timeout: Duration,
    /// The peer took nothing of what it was sent for this long: Ending `timed out: peer not reading`.
    pub write_timeout: Duration,
    /// From the stop signal to the moment the rest is cut: Ending `cut`.
    pub drain_timeout: Duration,
    /// After our end of the stream: how long the peer may keep silent before the socket is closed. Closing at
    /// once would make the kernel throw away what the peer has not read yet (RFC 9112 section 9.6).
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

/// What all conversations of one source together may take. A source is an IPv4 address, or the 64 bits of an IPv6
/// address that name its network (RFC 4291, section 2.5.4): whoever has one such address has them all. Unix sockets
/// have no source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Conversations open at once. One more: Ending `limit: too many connections from this source`.
    pub connections_max: Option<u32>,
    /// Messages in any one second. One more is not answered: Ending `limit: too fast for one source`.
    pub messages_per_second_max: Option<u32>,
    /// Bytes in any one second, with the same ending.
    pub bytes_per_second_max: Option<u32>,
    /// Whether they hold for loopback addresses too, where all callers are this machine's own.
    pub on_loopback: bool,
}

impl Default for SourceLimits {
    /// A tenth of all connections, so that no single source can take every place; no pace; not on loopback.
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
    /// No limits at all.
    pub fn none() -> Self {
        Self {
            connections_max: None,
            ..Self::default()
        }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.connections_max.is_some() || self.has_pace()
    }

    /// Whether there is one of messages or bytes.
    pub fn has_pace(&self) -> bool {
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
        for (limits, any, has_pace) in [
            (none(), false, false),
            (loopback, false, false),
            (connections, true, false),
            (messages, true, true),
            (bytes, true, true),
        ] {
            assert_eq!((limits.any(), limits.has_pace()), (any, has_pace));
        }
    }

    #[test]
    fn default_message_limit_is_one_mebibyte() {
        assert_eq!(Limits::default().message_bytes_max, 1_048_576);
    }
}

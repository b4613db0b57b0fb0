//! Every limit of a conversation on one page, units last.

use std::time::Duration;

/// What a conversation may take before it is ended, and how the ending is then called.
///
/// Each but the last has a flag of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message body under a declared framing, in bytes. Longer: Ending `limit: message over …`.
    pub message_bytes_max: usize,
    /// Conversations open at once, over all endpoints. One more is closed at once, with Ending
    /// `limit: connections`.
    pub connections_max: usize,
    /// Nothing heard, nothing said, nothing half-received for this long: Ending `timed out: idle`.
    pub idle: Duration,
    /// From a message's first byte to its last; later bytes do not reset it (slowloris): `timed out: partial`.
    pub partial: Duration,
    /// The peer took nothing of what it was sent for this long: Ending `timed out: peer not reading`.
    pub write_stall: Duration,
    /// From the stop signal to the moment the rest is cut: Ending `cut`.
    pub drain: Duration,
    /// After our end of the stream: how long the peer may keep silent before the socket is closed. Closing at
    /// once would make the kernel throw away what the peer has not read yet (RFC 9112 section 9.6).
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 1 << 20,
            connections_max: 10_000,
            idle: Duration::from_mins(10),
            partial: Duration::from_mins(1),
            write_stall: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            linger: Duration::from_secs(2),
        }
    }
}

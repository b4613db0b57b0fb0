//! The states of a verdict, and how addresses and errors are written in a sentence.

use std::io;

use echoic_core::{escape, event::Address};

/// Result of a probe in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// An address connects. The server need not have accepted the connection or sent anything.
    Reachable,
    /// UDP: a reply was received.
    Open,
    /// The expected answer was received.
    Ready,
    /// The endpoint was reached, and the expected answer did not arrive.
    NotReady,
    /// TLS: a client that verifies would go on.
    Trusted,
    /// TLS: a client that verifies would not accept the server's certificate.
    Untrusted,
    /// TLS: the handshake failed.
    HandshakeFailed,
    /// The name did not resolve to an address.
    NotResolved,
    /// The connection was rejected: a reset, or no socket of that name.
    Refused,
    /// UDP: the port is closed (ICMP port unreachable).
    Closed,
    /// There is no route, or a local rule forbids the connection.
    Unreachable,
    /// No answer, although there was time for a retransmission.
    Filtered,
    /// No answer within the timeout.
    TimedOut,
    /// UDP: neither a reply nor an error.
    Silent,
}

/// Another probe that would give more information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// A probe with [`ProbeOptions::timeout`](crate::probe::ProbeOptions) of 5 s: the timeout was too short to tell.
    Longer,
    /// A probe with [`ProbeOptions::all`](crate::probe::ProbeOptions): it shows whether an address that lost the race
    /// ever answers.
    EachAlone,
}

impl State {
    /// Returns the word for the state.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Open => "open",
            Self::Ready => "ready",
            Self::NotReady => "not ready",
            Self::Trusted => "trusted",
            Self::Untrusted => "not trusted",
            Self::HandshakeFailed => "handshake failed",
            Self::NotResolved => "not resolved",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Unreachable => "unreachable",
            Self::Filtered => "filtered",
            Self::TimedOut => "timed out",
            Self::Silent => "silent",
        }
    }
}

/// Formats a list as `a, b, c and 17 more`.
pub(super) fn list<'a>(addresses: impl Iterator<Item = &'a Address>) -> String {
    const LISTED_MAX: usize = 3;
    let addresses: Vec<String> = addresses.map(show).collect();
    match addresses.len() {
        0..=LISTED_MAX => addresses.join(", "),
        n => format!(
            "{} and {} more",
            addresses[..LISTED_MAX].join(", "),
            n - LISTED_MAX
        ),
    }
}

/// Formats an address, escaped for a terminal.
pub(super) fn show(address: &Address) -> String {
    escape::text(address.to_string().as_bytes()).to_string()
}

/// Returns whether the error means that this machine has no route to the address.
pub(super) fn is_no_route(error: &io::Error) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable, Unsupported,
    };
    // EAFNOSUPPORT (no IPv6 in the kernel) has no error kind on some systems.
    const EAFNOSUPPORT: i32 = 97;
    matches!(
        error.kind(),
        NetworkUnreachable | HostUnreachable | NetworkDown | AddrNotAvailable | Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

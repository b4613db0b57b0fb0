//! A verdict in one word, and how places and errors are told in a sentence.

use std::io;

use echoic_core::{escape, event::Address};

/// A verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// An address connects. It need not accept or speak.
    Reachable,
    /// UDP: a reply came.
    Open,
    /// The name led to no address.
    NotResolved,
    /// Somebody said no: a reset, or no socket of that name.
    Refused,
    /// UDP: somebody said that nobody is there (ICMP).
    Closed,
    /// There is no way there, or this machine may not go it.
    Unreachable,
    /// No answer, although there was time to ask again.
    Filtered,
    /// No answer in the time that was given.
    TimedOut,
    /// UDP: neither a reply nor a no.
    Silent,
}

/// Another probe that would tell more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// One with [`ProbeOptions::each`](crate::probe::ProbeOptions) of 5 s: silence that was short says little.
    Longer,
    /// One with [`ProbeOptions::all`](crate::probe::ProbeOptions): it tells whether an address that lost the race ever
    /// answers.
    EachAlone,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Open => "open",
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

/// `a, b, c and 17 more`.
pub(super) fn list<'a>(addresses: impl Iterator<Item = &'a Address>) -> String {
    const SHOWN: usize = 3;
    let addresses: Vec<String> = addresses.map(show).collect();
    match addresses.len() {
        0..=SHOWN => addresses.join(", "),
        n => format!("{} and {} more", addresses[..SHOWN].join(", "), n - SHOWN),
    }
}

/// A place, with nothing in it that a terminal would obey.
pub(super) fn show(address: &Address) -> String {
    escape::text(address.to_string().as_bytes()).to_string()
}

/// Whether this machine has no way there.
pub(super) fn is_no_way(error: &io::Error) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable, Unsupported,
    };
    // EAFNOSUPPORT has no kind of its own on every system: no IPv6 in the kernel.
    const EAFNOSUPPORT: i32 = 97;
    matches!(
        error.kind(),
        NetworkUnreachable | HostUnreachable | NetworkDown | AddrNotAvailable | Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

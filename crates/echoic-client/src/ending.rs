//! The result of a conversation, as the client saw it.

use std::{fmt, io, time::Duration};

use crate::counts::Counts;

/// Summary of a conversation that has ended.
#[derive(Debug)]
pub struct ConversationSummary {
    /// Why it ended.
    pub ending: Ending,
    /// Bytes and messages in each direction.
    pub counts: Counts,
    /// Bytes that were given to us to send and that the kernel did not accept; after both FINs also those that the peer did
    /// not acknowledge. Bytes that the kernel accepted and a reset discarded are not included: their number cannot be
    /// known.
    pub unsent: u64,
    /// After a timeout, the bytes that the kernel accepted and the peer's system has not acknowledged; 0 where the system
    /// does not tell.
    pub unacknowledged: u64,
    /// The peer ended its half, and closed the connection before it had read all that the kernel had accepted from us.
    pub upload_cut: bool,
    /// The peer speaks TLS and we do not: it answered our first bytes with a TLS alert.
    pub tls_alert: bool,
    /// Time from the start of the conversation to its end.
    pub elapsed: Duration,
}

/// Why a conversation ended.
#[derive(Debug)]
pub enum Ending {
    /// The peer ended its stream (FIN), everything before the FIN was received, and either all of ours was sent or the
    /// peer has closed the connection.
    PeerClosed,
    /// The peer reset the connection (RST), or was gone when we wrote (EPIPE). Data in flight is lost, so the last reply
    /// may be incomplete.
    PeerReset {
        /// Bytes received before the reset.
        after: u64,
    },
    /// We closed the connection on request: FIN, then close.
    ClosedByUs,
    /// We reset the connection on request.
    ResetByUs,
    /// A timeout expired.
    TimedOut(TimeoutKind),
    /// The receiver of the events was dropped (`| head`), so there is no use in continuing.
    OutputClosed,
    /// The operating system reported an error.
    Failed(io::Error),
}

/// Which timeout expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutKind {
    /// After our FIN the peer neither sent nor took anything, nor ended its stream.
    Linger,
    /// Nothing was sent or received.
    Idle,
    /// The peer took nothing of the data to send.
    Write,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerClosed => f.write_str("closed by the peer"),
            Self::PeerReset { after } => write!(
                f,
                "reset by the peer after {}",
                echoic_core::units::for_people(*after)
            ),
            Self::ClosedByUs => f.write_str("closed"),
            Self::ResetByUs => f.write_str("reset by us"),
            Self::TimedOut(TimeoutKind::Linger) => f.write_str("timed out: the peer did not close"),
            Self::TimedOut(TimeoutKind::Idle) => f.write_str("timed out: idle"),
            Self::TimedOut(TimeoutKind::Write) => f.write_str("timed out: the peer is not reading"),
            Self::OutputClosed => f.write_str("output closed"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

//! How a conversation ended, as the client saw it.

use std::{fmt, io, time::Duration};

use crate::counts::Counts;

/// A conversation that is over.
#[derive(Debug)]
pub struct Talked {
    /// What ended it.
    pub ending: Ending,
    /// What went each way.
    pub counts: Counts,
    /// Bytes that were to be sent and were not. Bytes the kernel had taken and not delivered are not among
    /// them: nobody can know of those.
    pub unsent: u64,
    /// The peer took what we sent after its own end, and then we left before ours.
    pub upload_cut: bool,
    /// From the first moment to the last.
    pub took: Duration,
}

/// What ended a conversation.
#[derive(Debug)]
pub enum Ending {
    /// The peer ended its stream (FIN), and everything before that was heard.
    PeerClosed,
    /// The peer cut the connection (RST), or was gone when we wrote (EPIPE). What was on its way is lost, so a
    /// reply may have been cut.
    PeerReset {
        /// Bytes heard before.
        after: u64,
    },
    /// Left because we wanted to: FIN, close.
    Quit,
    /// Left with a reset because we wanted to.
    Aborted,
    /// Nothing happened for too long.
    TimedOut(Phase),
    /// Whoever took the news has gone (`| head`): there is nobody to go on for.
    Unheard,
    /// The operating system's word on the connection.
    Failed(io::Error),
}

/// Which wait took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// After our end of the stream the peer neither said more nor ended its own.
    Linger,
    /// Nothing went either way.
    Idle,
    /// The peer took nothing of what it was to be sent.
    WriteStall,
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
            Self::Quit => f.write_str("closed"),
            Self::Aborted => f.write_str("reset by us"),
            Self::TimedOut(Phase::Linger) => f.write_str("timed out: the peer did not close"),
            Self::TimedOut(Phase::Idle) => f.write_str("timed out: idle"),
            Self::TimedOut(Phase::WriteStall) => f.write_str("timed out: the peer is not reading"),
            Self::Unheard => f.write_str("nobody takes what is heard"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

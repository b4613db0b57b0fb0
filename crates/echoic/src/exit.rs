//! The exit codes of all commands, and the errors that lead to them.

use std::{fmt, process::ExitCode};

use echoic_core::{
    endpoint::EndpointError,
    filter::FilterError,
    store::{StoreError, StoreErrorKind},
};
use echoic_server::OpenError;
use echoic_wire::{DialError, ListenError};

/// Exit codes. 0, 1 and 2 are those of Ncat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; for a server, stopped by a signal and drained.
    Done = 0,
    /// Another system error, such as an address in use or a store that cannot be opened.
    System = 1,
    /// The command line or a filter is invalid.
    Usage = 2,
    /// A name was not resolved.
    NotResolved = 3,
    /// Connection refused, or host unreachable.
    Refused = 4,
    /// Timed out; the message names the phase.
    TimedOut = 5,
    /// Reset or cut before the end; for a server, the drain timeout passed.
    Cut = 6,
    /// An expectation, assertion or SLO was not met.
    NotMet = 7,
    /// The handshake of a layer over the connection (TLS, WebSocket) failed.
    Handshake = 8,
    /// Interrupted.
    Interrupted = 130,
}

/// The error of a command: its exit code and message.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) exit: Exit,
    pub(crate) why: String,
}

/// The result of a command.
pub(crate) type CommandResult = Result<Exit, CliError>;

impl CliError {
    pub(crate) fn new(exit: Exit, why: impl fmt::Display) -> Self {
        Self {
            exit,
            why: why.to_string(),
        }
    }

    pub(crate) fn system(why: impl fmt::Display) -> Self {
        Self::new(Exit::System, why)
    }

    pub(crate) fn usage(why: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, why)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<EndpointError> for CliError {
    fn from(error: EndpointError) -> Self {
        Self::usage(error)
    }
}

impl From<FilterError> for CliError {
    fn from(error: FilterError) -> Self {
        Self::usage(error)
    }
}

impl From<ListenError> for CliError {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::Resolve { .. } => Self::new(Exit::NotResolved, error),
            _ => Self::system(error),
        }
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Listen(error) => error.into(),
            error => Self::usage(error),
        }
    }
}

impl From<DialError> for CliError {
    fn from(error: DialError) -> Self {
        let exit = match error {
            DialError::Resolve(_) => Exit::NotResolved,
            DialError::Refused { .. } => Exit::Refused,
            DialError::TimedOut { .. } | DialError::HandshakeTimedOut { .. } => Exit::TimedOut,
            DialError::Handshake { .. } => Exit::Handshake,
        };
        Self::new(exit, error)
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let remedy = match error.kind {
            StoreErrorKind::Missing => {
                "; create one with `echoic serve`, or name another with --store FILE"
            }
            StoreErrorKind::Held { .. } => "; use another file with --store FILE",
            StoreErrorKind::Foreign { .. } => {
                "; move it away, or use another file with --store FILE"
            }
            StoreErrorKind::Newer { .. } | StoreErrorKind::Older { .. } => {
                "; use that version, or another file with --store FILE"
            }
            _ => "",
        };
        Self::system(format!("{error}{remedy}"))
    }
}

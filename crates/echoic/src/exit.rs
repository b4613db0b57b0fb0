//! What the process says with its last word: one table for all commands.

use std::{fmt, process::ExitCode};

use echoic_core::{
    endpoint::EndpointError,
    filter::FilterError,
    store::{StoreError, StoreErrorKind},
};
use echoic_server::OpenError;
use echoic_wire::{DialError, ListenError};

/// The exit codes. 0, 1 and 2 mean what they mean for Ncat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; a server stopped when told to, and drained.
    Done = 0,
    /// Another error of the system: an address in use, a store that cannot be used.
    System = 1,
    /// The command line, or a filter, says something that cannot be meant.
    Usage = 2,
    /// A name led nowhere.
    NotResolved = 3,
    /// Refused, or no way there.
    Refused = 4,
    /// Timed out; standard error says in which phase.
    TimedOut = 5,
    /// Reset or cut before the end; a server's drain deadline passed.
    Cut = 6,
    /// What was expected did not come.
    NotMet = 7,
    /// The handshake of a layer over the connection (TLS, WebSocket) failed.
    Handshake = 8,
    /// Interrupted.
    Interrupted = 130,
}

/// A command that could not do what was asked: with which code, and in which words.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) exit: Exit,
    pub(crate) why: String,
}

/// How a command ended.
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
            StoreErrorKind::Missing => "; `echoic serve` makes one, and --store FILE names another",
            StoreErrorKind::Held { .. } => "; give this one its own with --store FILE",
            StoreErrorKind::Foreign { .. } => ". Move it away, or name another with --store FILE",
            StoreErrorKind::Newer { .. } | StoreErrorKind::Older { .. } => {
                "; use that one, or name another file with --store FILE"
            }
            _ => "",
        };
        Self::system(format!("{error}{remedy}"))
    }
}

//! The exit codes of all commands, and the errors that lead to them.

use std::{fmt, process::ExitCode};

use clap::ValueEnum;
use echoic_core::{
    endpoint::EndpointError,
    filter::FilterError,
    store::{StoreError, StoreErrorKind},
};
use echoic_server::OpenError;
use echoic_wire::{DialError, ListenError};

/// Exit codes. 0, 1 and 2 are those of Ncat. The comments of the variants are their meanings in `--help`, the manual page and
/// README, one line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exit {
    /// done; a server was stopped by a signal and drained
    Done = 0,
    /// any other error: address in use, store unusable, output not written
    System = 1,
    /// invalid command line or filter
    Usage = 2,
    /// name not resolved
    NotResolved = 3,
    /// refused or unreachable
    Refused = 4,
    /// timed out; standard error names the phase
    TimedOut = 5,
    /// reset or cut before the end; a server's drain timeout passed
    Cut = 6,
    /// an expectation, or a goal of bench, was not met
    NotMet = 7,
    /// the handshake of a layer over the connection (TLS, WebSocket) failed
    Handshake = 8,
    /// interrupted; a server was stopped at once by a second signal
    Interrupted = 130,
}

impl Exit {
    /// Returns the table of exit codes for `--help`, a line each.
    pub(crate) fn table() -> String {
        let rows = Self::value_variants().iter().map(|exit| {
            let value = exit.to_possible_value().unwrap_or_default();
            let meaning = value.get_help().map(ToString::to_string);
            format!("  {:<4} {}", *exit as u8, meaning.unwrap_or_default())
        });
        rows.collect::<Vec<_>>().join("\n")
    }
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
        let exit = match &error {
            DialError::Resolve(_) => Exit::NotResolved,
            DialError::Refused { endpoint, .. } => {
                let why = format!("{error}; `echoic probe {endpoint}` tells more");
                return Self::new(Exit::Refused, why);
            }
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

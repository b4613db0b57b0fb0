//! The exit codes of all commands, and the errors that lead to them.

use std::{fmt, io, process::ExitCode};

use clap::ValueEnum;
use echoic_core::{
    endpoint::EndpointError,
    escape,
    event::Address,
    filter::FilterError,
    store::{StoreError, StoreErrorKind, StoreLocation},
};
use echoic_nats::{NatsError, NatsErrorKind};
use echoic_server::OpenError;
use echoic_wire::{DialError, ListenError, TlsError};

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
            DialError::NeedsTls { .. } => Exit::Usage,
            DialError::Handshake { peer, source } => {
                return Self::new(Exit::Handshake, handshake_failed(peer, source));
            }
        };
        Self::new(exit, error)
    }
}

/// Describes a failed handshake, and what to do. A certificate may have any text.
fn handshake_failed(peer: &Address, error: &io::Error) -> String {
    let remedy = TlsError::of(error).and_then(TlsError::remedy);
    let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
    let why = format!("the handshake with {peer} failed: {error}");
    format!("{}{remedy}", escape::text(why.as_bytes()))
}

impl From<NatsError> for CliError {
    fn from(error: NatsError) -> Self {
        let url = &error.url;
        let (exit, remedy) = match &error.kind {
            NatsErrorKind::NotResolved(_) => (Exit::NotResolved, String::new()),
            NatsErrorKind::Unreachable(_) => (
                Exit::Refused,
                "; start it with `nats-server`, or name another in the URL".to_owned(),
            ),
            NatsErrorKind::TimedOut => (Exit::TimedOut, String::new()),
            NatsErrorKind::NotAdmitted => (
                Exit::Refused,
                "; USER:PASSWORD@ or TOKEN@ stands before the host in the URL".to_owned(),
            ),
            NatsErrorKind::Tls(_) => (Exit::Handshake, String::new()),
            NatsErrorKind::NoWorker => (
                Exit::Refused,
                format!("; start one with `echoic work SERVICE --on {url}`"),
            ),
            NatsErrorKind::OtherProtocol => (
                Exit::System,
                "; use the same version of echoic for both".to_owned(),
            ),
            NatsErrorKind::NoJetStream => (
                Exit::System,
                "; start it with `nats-server --jetstream`".to_owned(),
            ),
            NatsErrorKind::NoStorage { .. } => (
                Exit::System,
                "; raise `max_file_store` of nats-server, or create the stream before, with a smaller max_bytes"
                    .to_owned(),
            ),
            NatsErrorKind::TooFewNodes { .. } => (
                Exit::System,
                "; ask for fewer with ?replicas=N (one node has no cluster: leave it out), or start more nodes with JetStream"
                    .to_owned(),
            ),
            NatsErrorKind::OtherStream { .. } => (
                Exit::System,
                "; name another stream in the URL, or delete this one".to_owned(),
            ),
            NatsErrorKind::NotPortable(_) => (
                Exit::Usage,
                "; use it in `echoic serve`, or choose another service".to_owned(),
            ),
            _ => (Exit::System, String::new()),
        };
        Self::new(exit, format!("{error}{remedy}"))
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let exit = match error.kind {
            StoreErrorKind::NotResolved { .. } => Exit::NotResolved,
            StoreErrorKind::Unreachable { .. } => Exit::Refused,
            StoreErrorKind::TimedOut { .. } => Exit::TimedOut,
            _ => Exit::System,
        };
        let remedy = match error.location {
            _ if matches!(error.kind, StoreErrorKind::Elsewhere) => {
                "; name the --store of `echoic keep`"
            }
            StoreLocation::Url(_) => remedy_of_database(&error.kind),
            StoreLocation::Path(_) | StoreLocation::Memory => remedy_of_file(&error.kind),
        };
        Self::new(exit, format!("{error}{remedy}"))
    }
}

fn remedy_of_file(kind: &StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Missing => {
            "; create one with `echoic serve`, or name another with --store FILE"
        }
        StoreErrorKind::Held { .. } => "; use another file with --store FILE",
        StoreErrorKind::Foreign { .. } => "; move it away, or use another file with --store FILE",
        StoreErrorKind::Newer { .. } | StoreErrorKind::Older { .. } => {
            "; use that version, or another file with --store FILE"
        }
        _ => "",
    }
}

fn remedy_of_database(kind: &StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Missing => "; create it with `createdb`, or name another in --store",
        StoreErrorKind::NoRecord => {
            "; `echoic serve` with the same --store makes one, as a user who may create a schema"
        }
        StoreErrorKind::Foreign { .. } => "; use another database in --store",
        StoreErrorKind::Newer { .. } => "; use that version, or another database in --store",
        StoreErrorKind::Older { .. } => {
            "; `echoic serve` of this version migrates it, as the owner of its schema"
        }
        StoreErrorKind::NotResolved { .. } | StoreErrorKind::Unreachable { .. } => {
            "; check host, port and sslmode in --store, and that the server runs"
        }
        StoreErrorKind::Denied { .. } => {
            "; check user and password in --store, PGPASSWORD or ~/.pgpass"
        }
        StoreErrorKind::Forbidden { .. } => {
            "; grant it to the user (docs/store.md, PostgreSQL), or use another user in --store"
        }
        _ => "",
    }
}

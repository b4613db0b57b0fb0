//! `echoic status`: asks a running `serve` for its counters.
//!
//! `serve` answers at a Unix socket that only its user can open: beside its SQLite file, made and removed while the lock of
//! that file is held, or for another store in the directory for such files (XDG Base Directory Specification).
//!
//! With `--on` or a database it lists what runs where ([`processes`]).

mod processes;
mod table;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use echoic_core::units::Span;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    runtime,
    time::{sleep, timeout},
};

use crate::{
    exit::{CliError, CommandResult, Exit},
    on::On,
    pretty, runtime_directory,
    store_url::StoreUrl,
    term::{self, Payload},
};

/// Time for the server to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Time between attempts while the server's queue is full.
const RETRY: Duration = Duration::from_millis(10);

/// Longest answer. A server has few endpoints, of about 100 bytes each.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Longest path of a Unix socket, without the zero byte at its end (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// Show the counters of a running server, or what runs where
#[derive(Debug, Args)]
#[command(after_help = "\
The server is found by its store, or by its process id. With --store memory or
none it has a socket in $XDG_RUNTIME_DIR/echoic, and only the process id finds
it. The signal USR1 makes a server print the same counters on standard error.

With --on, with a database as --store, or with both, it lists processes: role,
host and process, version, start, what it serves, and how far it is behind.
Servers, workers, keepers and consoles at the NATS server answer for themselves.
A database tells who records into it, and its newest exchange. A process that
hangs is listed as silent if something else knows of it: NATS says whether it
still listens. The exit code is 4 if nothing answers, 5 if a process is silent.

Examples:
  echoic status                     of the server that records in echoic.db
  echoic status --store talk.db     of the one that records in talk.db
  echoic status 4711                of the process 4711
  echoic status --on nats://127.0.0.1:4222
                                    what is connected there
  echoic status --on nats://n1:4222 --store postgres://db/echoic
                                    that, and what records into the database
  echoic status --json              as JSON, which is the default in a pipe")]
pub(crate) struct StatusArgs {
    /// Ask the server with this process id
    #[arg(value_name = "PID", conflicts_with = "store")]
    pid: Option<u32>,

    /// Ask the server that records in this file, or list who records into this database [default: echoic.db, without --on]
    #[arg(
        long,
        value_name = "STORE",
        env = "ECHOIC_STORE",
        hide_env_values = true
    )]
    store: Option<StoreUrl>,

    /// List the processes at this NATS server: nats://HOST:PORT
    #[arg(long, value_name = "URL", env = "ECHOIC_ON", hide_env_values = true)]
    on: Option<On>,

    /// Wait this long for the answers of processes
    #[arg(long, value_name = "TIME", default_value = "1s")]
    within: Span,

    /// Print JSON, also on a terminal
    #[arg(long)]
    json: bool,

    /// `--on` comes from its variable.
    #[arg(skip)]
    pub(crate) on_is_default: bool,

    /// `--store` comes from its variable.
    #[arg(skip)]
    pub(crate) store_is_default: bool,
}

/// The state and the counters of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServerStatus {
    /// The version of this format.
    pub(crate) v: u32,
    pub(crate) pid: u32,
    /// The version of the program.
    pub(crate) version: String,
    /// Seconds since the start.
    pub(crate) up_s: u64,
    /// It drains.
    pub(crate) stopping: bool,
    pub(crate) listening: Vec<ListeningStatus>,
    /// The URL of the web console, without its token; `None` if there is none.
    #[serde(default)]
    pub(crate) console: Option<String>,
    pub(crate) store: String,
    /// Conversations that are open, were accepted, and were rejected because of a limit; those of datagram peers count too.
    pub(crate) open: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    /// Exchanges: all; those in the record; those to be committed; and those that will never be in the record. Without a
    /// record, `served` counts conversations that have ended.
    pub(crate) served: u64,
    pub(crate) recorded: u64,
    pub(crate) waiting: u64,
    pub(crate) lost: u64,
    /// Why the store takes nothing, while it does not.
    pub(crate) failing: Option<String>,
}

/// An open endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ListeningStatus {
    pub(crate) addr: String,
    pub(crate) svc: String,
}

impl fmt::Display for ServerStatus {
    /// Formats it for people, on several lines without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid, version, up_s, ..
        } = self;
        let up = jiff::SignedDuration::from_secs(i64::try_from(*up_s).unwrap_or(i64::MAX));
        let stopping = if self.stopping { ", stopping" } else { "" };
        writeln!(f, "echoic {version}, process {pid}, up {up:#}{stopping}")?;
        for ListeningStatus { addr, svc } in &self.listening {
            writeln!(f, "listening on {addr} {svc}")?;
        }
        if let Some(url) = &self.console {
            writeln!(f, "console on {url}")?;
        }
        writeln!(
            f,
            "{} open, {} accepted, {} rejected",
            pretty::count(self.open, "conversation"),
            self.accepted,
            self.rejected
        )?;
        let served = pretty::count(self.served, "exchange");
        if self.store == StoreUrl::None.to_string() {
            return write!(
                f,
                "{served} served in conversations that have ended, recording nothing"
            );
        }
        write!(
            f,
            "{served} served, {} recorded, {} waiting, {} lost, in {}",
            self.recorded, self.waiting, self.lost, self.store
        )?;
        match &self.failing {
            Some(why) => write!(f, "\nnot recording: {why}"),
            None => Ok(()),
        }
    }
}

/// Asks a server, and prints its answer; or lists processes.
pub(crate) fn run(args: &StatusArgs) -> CommandResult {
    let target = match (args.pid, &args.on, &args.store) {
        (Some(_), Some(_), _) if !args.on_is_default => {
            let why = "PID is a process of this machine, and --on lists those at a NATS server: omit one of them";
            return Err(CliError::usage(why));
        }
        (Some(pid), ..) => Target::of_process(pid)?,
        (None, Some(_), _) | (None, _, Some(StoreUrl::Postgres(_))) => return processes::run(args),
        (None, None, Some(store)) => Target::of_store(store)?,
        (None, None, None) => Target::of_store(&StoreUrl::Sqlite("echoic.db".into()))?,
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CliError::system)?;
    let asked = runtime.block_on(async { timeout(ANSWER_WITHIN, ask(&target.socket)).await });
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(target.unanswered(&error)),
        Err(_) => {
            let within = ANSWER_WITHIN.as_secs();
            let why = format!("{} did not answer within {within} s", target.server);
            return Err(CliError::new(Exit::TimedOut, why));
        }
    };
    let invalid = |error| CliError::system(format!("invalid answer of {}: {error}", target.server));
    let value: Value = serde_json::from_slice(&answer).map_err(invalid)?;
    let mut payload = Payload::new(args.json);
    let printed = if payload.pretty {
        let status: ServerStatus = serde_json::from_value(value).map_err(invalid)?;
        payload.line(format_args!("{}", term::sanitize(status)))
    } else {
        payload.json(&value)
    };
    term::done(printed.and_then(|()| payload.flush()))
}

/// Connects and reads to the end.
async fn ask(socket: &Path) -> io::Result<Vec<u8>> {
    let stream = loop {
        match UnixStream::connect(socket).await {
            // unix(7): the queue of the listener is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY).await,
            connected => break connected?,
        }
    };
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}

/// The socket to ask at, and the name of the server for messages.
struct Target {
    socket: PathBuf,
    server: String,
}

impl Target {
    fn of_store(store: &StoreUrl) -> Result<Self, CliError> {
        let StoreUrl::Sqlite(path) = store else {
            return Err(CliError::usage(format!(
                "invalid --store {store}: expected a file; without one, name the process: echoic status PID"
            )));
        };
        let server = format!("the server that records in {}", path.display());
        let socket = match beside(path) {
            Some(socket) => Some(socket),
            None => holder(path).and_then(in_runtime_directory),
        };
        socket
            .map(|socket| Self { socket, server })
            .ok_or_else(|| nothing_runs(store))
    }

    fn of_process(pid: u32) -> Result<Self, CliError> {
        let in_directory = in_runtime_directory(pid).filter(|socket| socket.exists());
        in_directory
            .or_else(|| bound_by(pid))
            .map(|socket| Self {
                socket,
                server: format!("process {pid}"),
            })
            .ok_or_else(|| {
                CliError::system(format!(
                    "process {pid} answers nowhere: expected a running `echoic serve` of yours; without a store it \
                     needs XDG_RUNTIME_DIR, here and there"
                ))
            })
    }

    fn unanswered(&self, error: &io::Error) -> CliError {
        let server = &self.server;
        CliError::system(match error.kind() {
            // No socket, or one that a killed server left.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("{server} is not running; `echoic serve` starts one")
            }
            io::ErrorKind::PermissionDenied => {
                format!("{server} belongs to another user: run this as that user")
            }
            _ => format!("cannot ask {server}: {error}"),
        })
    }
}

fn nothing_runs(store: &StoreUrl) -> CliError {
    CliError::system(format!(
        "no server records in {store}; `echoic serve --store {store}` starts one"
    ))
}

/// Returns the path of the socket of this process, for a store that it has open. `None` if there is no place for it.
pub(crate) fn own_socket(store: &StoreUrl) -> Option<PathBuf> {
    let beside = match store {
        StoreUrl::Sqlite(path) => beside(path),
        StoreUrl::Postgres(_) | StoreUrl::Nats(_) | StoreUrl::Memory | StoreUrl::None => None,
    };
    beside.or_else(|| in_runtime_directory(std::process::id()))
}

/// `PATH-status`, with symbolic links resolved, as SQLite names its files. `None` if the database does not exist, or the path
/// is too long for a socket.
fn beside(database: &Path) -> Option<PathBuf> {
    let mut socket = database.canonicalize().ok()?.into_os_string();
    socket.push(SUFFIX);
    (socket.len() <= PATH_BYTES_MAX).then(|| socket.into())
}

const SUFFIX: &str = "-status";

/// Returns the process that has the database open for writing, from its lock file.
fn holder(database: &Path) -> Option<u32> {
    let mut lock = database.canonicalize().ok()?.into_os_string();
    lock.push("-lock");
    fs::read_to_string(lock).ok()?.trim().parse().ok()
}

/// `$XDG_RUNTIME_DIR/echoic/PID.sock`.
fn in_runtime_directory(pid: u32) -> Option<PathBuf> {
    let socket = runtime_directory::file(pid, "sock")?;
    (socket.as_os_str().len() <= PATH_BYTES_MAX).then_some(socket)
}

/// Returns the socket beside a database that the process has bound, by its open files and the table of sockets (proc(5)).
fn bound_by(pid: u32) -> Option<PathBuf> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    let links: Vec<_> = links.collect();
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    table.lines().find_map(|line| {
        // Num RefCount Protocol Flags Type St Inode Path
        let (_, path) = line.split_once(" /")?;
        let inode = line.split_whitespace().nth(6)?;
        let is_open = || links.contains(&PathBuf::from(format!("socket:[{inode}]")));
        (path.ends_with(SUFFIX) && is_open()).then(|| Path::new("/").join(path))
    })
}

//! From what was typed to what it means, once.

use std::sync::Arc;

use echoic_core::{
    endpoint::Endpoint,
    framing::Framing,
    limits::Limits,
    service::Service,
    store::{Durability, Retention},
};
use echoic_server::{RecorderOptions, WhenBehind};
use echoic_service::Chosen;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    cli::{Behind, ServeArgs, ShowingArgs},
    exit::Failed,
    memory::{Place, keep},
};

/// The tutorial's two servers, for whoever names none.
const DEFAULT_ENDPOINTS: [&str; 2] = ["upper=:5000", "greet=:12345"];

/// Files kept free for what is not a connection: the store, the console, ourselves.
const FILES_RESERVED: u64 = 64;

/// Connections unless told otherwise, if the files allow it.
const CONNECTIONS_MAX: u64 = 10_000;

/// What `serve` is to do.
pub(super) struct Plan {
    pub(super) endpoints: Vec<Open>,
    pub(super) framing: Framing,
    pub(super) limits: Limits,
    pub(super) store: Place,
    pub(super) durability: Durability,
    pub(super) keep: Retention,
    pub(super) keep_text: String,
    pub(super) recorder: RecorderOptions,
    pub(super) show: Showing,
    pub(super) once: bool,
    pub(super) backlog: u32,
    pub(super) send_buffer: Option<usize>,
    pub(super) workers: usize,
}

/// An endpoint and who answers there.
pub(super) type Open = (Endpoint, Arc<dyn Service>);

/// What is shown of it.
#[derive(Clone, Copy)]
pub(super) struct Showing {
    pub(super) print: bool,
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) explain: bool,
}

impl Showing {
    /// Whether anything goes to standard output.
    pub(super) fn prints(self) -> bool {
        self.print || !self.quiet
    }
}

impl Plan {
    pub(super) fn new(args: &ServeArgs) -> Result<Self, Failed> {
        let ShowingArgs {
            print,
            json,
            quiet,
            explain,
            ref console,
        } = args.showing;
        if console != "off" {
            return Err(Failed::usage(
                "--console takes `off` here: this version has no web console yet",
            ));
        }
        let workers = match args.workers {
            Some(workers) => workers.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let durability = args.recording.durability;
        Ok(Self {
            endpoints: endpoints(args)?,
            framing: args.frame,
            limits: limits(args)?,
            store: Place::parse(&args.recording.store)?,
            durability,
            keep: keep(&args.recording.keep)?,
            keep_text: args.recording.keep.replace(',', " and "),
            recorder: RecorderOptions {
                hold_replies: durability == Durability::Strict,
                when_behind: match args.recording.when_behind {
                    Behind::Wait => WhenBehind::Wait,
                    Behind::Drop => WhenBehind::Drop,
                },
                shards: workers,
                ..RecorderOptions::default()
            },
            show: Showing {
                print,
                json,
                quiet,
                explain,
            },
            once: args.once,
            backlog: args.backlog,
            send_buffer: args.sndbuf.map(|bytes| bytes.0 as usize),
            workers,
        })
    }
}

fn endpoints(args: &ServeArgs) -> Result<Vec<Open>, Failed> {
    let mut served = args.endpoints.clone();
    if served.is_empty() {
        for text in DEFAULT_ENDPOINTS {
            served.push(text.parse()?);
        }
    }
    let mut endpoints = Vec::with_capacity(served.len());
    for served in served {
        let Chosen(service) = match served.service {
            Some(name) => name.parse().map_err(Failed::usage)?,
            None => args.service.clone(),
        };
        endpoints.push((served.endpoint, service));
    }
    Ok(endpoints)
}

fn limits(args: &ServeArgs) -> Result<Limits, Failed> {
    let given = &args.limits;
    let files = raise_open_files();
    let room = files.saturating_sub(FILES_RESERVED).max(1);
    let connections_max = match given.max_connections {
        None => room.min(CONNECTIONS_MAX) as usize,
        Some(0) => return Err(Failed::usage("--max-connections 0 would serve nobody")),
        Some(n) if n as u64 > room => {
            return Err(Failed::usage(format!(
                "--max-connections {n} is more than there can be: {files} files may be open (ulimit -n), {FILES_RESERVED} are kept back"
            )));
        }
        Some(n) => n,
    };
    let message_bytes_max = given.max_message.0;
    if message_bytes_max == 0 || message_bytes_max > 1 << 30 {
        return Err(Failed::usage("--max-message is from 1 to 1G"));
    }
    Ok(Limits {
        message_bytes_max: message_bytes_max as usize,
        connections_max,
        idle: given.idle.0,
        partial: given.partial.0,
        write_stall: given.write_stall.0,
        drain: given.drain.0,
        ..Limits::default()
    })
}

/// Raises the soft limit of open files to the hard one, and returns what it then is.
fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )
        .is_ok()
    {
        return maximum.unwrap_or(u64::MAX);
    }
    current.unwrap_or(u64::MAX)
}

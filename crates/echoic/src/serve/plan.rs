//! From what was typed to what it means, once.

use std::{fmt::Display, str::FromStr, sync::Arc, time::Duration};

use echoic_core::{
    access::{AccessList, Network, NetworkError},
    endpoint::{Endpoint, Served, Shape},
    framing::FramingPair,
    limits::{Limits, SourceLimits},
    service::Service,
    store::{Durability, Retention},
    units::{Bytes, Count, Mode, OffOr, Span},
};
use echoic_recorder::{RecorderOptions, WhenFull};
use echoic_server::EndpointConfig;
use echoic_service::Chosen;
use echoic_wire::{ListenOptions, inherited_fds};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    cli::{self, Full, LimitArgs, ServeArgs, ShowingArgs},
    exit::CliError,
    explain,
    store_url::StoreUrl,
    term,
};

/// The tutorial's two servers, for whoever names none.
const DEFAULT_ENDPOINTS: [&str; 3] = ["upper=:5000", "upper=udp://:5000", "greet=:12345"];

/// Looking for longer would gain nothing: a thread takes some ten microseconds to wake.
const BUSY_POLL_MAX: Duration = Duration::from_secs(1);

/// Files kept free for what is not a connection: the store, the console, ourselves; and of them those that callers
/// who are turned away may not take either.
const FILES_RESERVED: u64 = 64;
const FILES_OUR_OWN: u64 = 48;

/// Connections unless told otherwise, if the files allow it.
const CONNECTIONS_MAX: u64 = 10_000;

/// What `serve` is to do.
pub(super) struct Plan {
    pub(super) endpoints: Vec<EndpointConfig>,
    pub(super) limits: Limits,
    pub(super) source_limits: SourceLimits,
    /// Callers that may be turned away in order at the same time.
    pub(super) max_rejecting: usize,
    pub(super) store: StoreUrl,
    pub(super) durability: Durability,
    pub(super) retention: Retention,
    pub(super) retention_text: String,
    pub(super) recorder: RecorderOptions,
    pub(super) show: Showing,
    pub(super) once: bool,
    /// How long a worker looks for the next message before it sleeps.
    pub(super) busy_poll: Option<Duration>,
    pub(super) workers: usize,
}

/// What is shown of it.
#[derive(Clone, Copy)]
pub(super) struct Showing {
    /// The address of each endpoint comes first on standard output.
    pub(super) print: bool,
    /// Standard error has failures only.
    pub(super) quiet: bool,
    pub(super) events: Events,
}

/// The form in which events go to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Events {
    /// None, and nothing watches the recorder: showing costs nothing.
    None,
    /// Lines for people, sampled.
    Lines,
    /// Every one, as JSON.
    Json,
}

impl Showing {
    fn new(args: &ShowingArgs) -> Self {
        Self {
            print: args.print,
            quiet: args.quiet,
            events: match args {
                ShowingArgs { json: true, .. } => Events::Json,
                ShowingArgs { quiet: false, .. } if term::is_on_terminal() => Events::Lines,
                _ => Events::None,
            },
        }
    }
}

impl Plan {
    pub(super) fn new(args: &ServeArgs) -> Result<Self, CliError> {
        if args.showing.console != "off" {
            return Err(CliError::usage(
                "--console takes `off` here: this version has no web console yet",
            ));
        }
        let workers = match args.workers {
            Some(workers) => workers.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let busy_poll = args.busy_poll.0.map(|Span(span)| span);
        if busy_poll.is_some_and(|span| span > BUSY_POLL_MAX) {
            return Err(CliError::usage(
                "--busy-poll takes at most 1s: it costs a core for as long after each message",
            ));
        }
        let durability = args.recording.durability;
        if durability == Durability::Strict && matches!(args.recording.when_full, Full::Drop) {
            return Err(CliError::usage(
                "--durability strict has every reply kept before it leaves, and --when-full drop has some never kept: \
                 take one of the two",
            ));
        }
        let files = raise_open_files();
        let limits = limits(args, files)?;
        let taken = limits.connections_max as u64 + FILES_OUR_OWN;
        let endpoints = endpoints(args, &limits)?;
        if args.once {
            comes_to_an_end(&endpoints)?;
        }
        Ok(Self {
            endpoints,
            limits,
            source_limits: source_limits(&args.limits),
            max_rejecting: files.saturating_sub(taken) as usize,
            store: args.recording.store.clone(),
            durability,
            retention: args.recording.retention.retention,
            retention_text: args.recording.retention.text.replace(',', " and "),
            recorder: RecorderOptions {
                hold_replies: durability == Durability::Strict,
                when_full: match args.recording.when_full {
                    Full::Block => WhenFull::Block,
                    Full::Drop => WhenFull::Drop,
                },
                shards: workers,
                ..RecorderOptions::default()
            },
            show: Showing::new(&args.showing),
            once: args.once,
            busy_poll,
            workers,
        })
    }
}

/// One connection has to be possible if it is to be the last.
fn comes_to_an_end(endpoints: &[EndpointConfig]) -> Result<(), CliError> {
    let datagrams = |config: &EndpointConfig| config.endpoint.shape() == Some(Shape::Datagrams);
    if endpoints.iter().all(datagrams) {
        let why = "--once stops after one connection, and datagrams have none; name an endpoint of streams too, or leave --once out";
        return Err(CliError::usage(why));
    }
    Ok(())
}

/// Every endpoint with what holds there: what the command line says of all of them, then its own options.
fn endpoints(args: &ServeArgs, limits: &Limits) -> Result<Vec<EndpointConfig>, CliError> {
    let mut endpoints: Vec<EndpointConfig> = Vec::new();
    // One for all, so that their calls have the same clock.
    let explain = args.showing.explain.then(explain::on_stderr);
    for served in served(args)? {
        let mut config = EndpointConfig {
            framing: args.frame,
            limits: limits.clone(),
            udp_allow_amplification: args.udp_allow_amplification,
            access: AccessList {
                allow: args.allow.clone(),
                deny: args.deny.clone(),
            },
            listen: ListenOptions {
                backlog: args.backlog,
                send_buffer: args.sndbuf.map(|bytes| bytes.0 as usize),
                unix_mode: args.mode.0,
                explain: explain.clone(),
                ..ListenOptions::default()
            },
            ..EndpointConfig::new(
                served.located.endpoint,
                service(args, served.service.as_deref())?,
            )
        };
        for (name, value) in &served.located.options.0 {
            option(&mut config, name, value).map_err(|why| {
                CliError::usage(format!("{}: ?{name}={value}: {why}", config.endpoint))
            })?;
        }
        if config.endpoint.shape() == Some(Shape::Datagrams)
            && config.framing != FramingPair::default()
        {
            let why = "a datagram is one whole message, so --frame does not apply there";
            term::say(&format!("{}: {why}", config.endpoint));
        }
        // An address given twice is in use the second time; of a descriptor there would be two copies, and each caller
        // would be answered by either.
        let same = |other: &EndpointConfig| other.endpoint == config.endpoint;
        if matches!(config.endpoint, Endpoint::Fd(_)) && endpoints.iter().any(same) {
            return Err(CliError::usage(format!(
                "{} is given twice; leave one of the two out",
                config.endpoint
            )));
        }
        endpoints.push(config);
    }
    Ok(endpoints)
}

/// What was named, or was handed over, or the tutorial's servers.
fn served(args: &ServeArgs) -> Result<Vec<Served>, CliError> {
    if !args.endpoints.is_empty() {
        return Ok(args.endpoints.clone());
    }
    let inherited_fds = inherited_fds();
    if !inherited_fds.is_empty() {
        let sockets = inherited_fds
            .into_iter()
            .map(|number| Endpoint::Fd(number).into());
        return Ok(sockets
            .map(|located| Served {
                service: None,
                located,
            })
            .collect());
    }
    DEFAULT_ENDPOINTS
        .iter()
        .map(|text| Ok(text.parse()?))
        .collect()
}

fn service(args: &ServeArgs, name: Option<&str>) -> Result<Arc<dyn Service>, CliError> {
    let Chosen(service) = match name {
        Some(name) => name.parse().map_err(CliError::usage)?,
        None => args.service.clone(),
    };
    Ok(service)
}

/// An option of one endpoint: the word of the command line's option for all.
fn option(config: &mut EndpointConfig, name: &str, value: &str) -> Result<(), String> {
    fn read<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
        value.parse().map_err(|error: T::Err| error.to_string())
    }
    let EndpointConfig {
        service,
        framing,
        limits,
        access,
        listen,
        ..
    } = config;
    match name {
        "as" => *service = read::<Chosen>(value)?.0,
        "frame" => *framing = read(value)?,
        "max-message" => {
            let bytes = cli::max_message(value).map_err(|error| error.to_string())?;
            limits.message_bytes_max = bytes;
        }
        "idle-timeout" => limits.idle_timeout = read::<Span>(value)?.0,
        "message-timeout" => limits.message_timeout = read::<Span>(value)?.0,
        "write-timeout" => limits.write_timeout = read::<Span>(value)?.0,
        "backlog" => {
            let count = Count::within(value, 0..=i32::MAX as u64);
            listen.backlog = count.map_err(|error| error.to_string())? as u32;
        }
        "sndbuf" => listen.send_buffer = Some(read::<Bytes>(value)?.0 as usize),
        "mode" => listen.unix_mode = read::<Mode>(value)?.0,
        "allow" => access.allow = networks(value)?,
        "deny" => access.deny = networks(value)?,
        _ => {
            return Err(
                "no such option of an endpoint; there are: as frame max-message idle-timeout \
                message-timeout write-timeout backlog sndbuf mode allow deny"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

/// Networks with commas between them.
fn networks(value: &str) -> Result<Vec<Network>, String> {
    value
        .split(',')
        .map(|network| {
            network
                .parse()
                .map_err(|error: NetworkError| error.to_string())
        })
        .collect()
}

fn limits(args: &ServeArgs, files: u64) -> Result<Limits, CliError> {
    let given = &args.limits;
    let room = files.saturating_sub(FILES_RESERVED).max(1);
    let connections_max = match given.max_connections {
        None => room.min(CONNECTIONS_MAX) as usize,
        Some(n) if n as u64 > room => {
            return Err(CliError::usage(format!(
                "--max-connections {n} is more than there can be: {files} files may be open (ulimit -n), {FILES_RESERVED} are kept back"
            )));
        }
        Some(n) => n,
    };
    Ok(Limits {
        message_bytes_max: given.max_message,
        connections_max,
        idle_timeout: given.idle_timeout.0,
        message_timeout: given.message_timeout.0,
        write_timeout: given.write_timeout.0,
        drain_timeout: given.drain_timeout.0,
        ..Limits::default()
    })
}

/// Who asks for a limit of its own asks for it wherever callers come from.
fn source_limits(given: &LimitArgs) -> SourceLimits {
    let default = SourceLimits::default();
    let OffOr(connections_max) = given
        .source_connections
        .unwrap_or(OffOr(default.connections_max));
    let given = SourceLimits {
        connections_max,
        messages_per_second_max: given.source_messages.0,
        bytes_per_second_max: given.source_bytes.0,
        ..default
    };
    SourceLimits {
        on_loopback: given != SourceLimits::default(),
        ..given
    }
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

//! Turns the arguments of `serve` into a plan: everything is checked here, once.

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
use echoic_service::NamedService;
use echoic_wire::{ListenOptions, inherited_fds};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    cli::{self, Full, LimitArgs, ServeArgs, ShowingArgs},
    exit::CliError,
    explain,
    store_url::StoreUrl,
    term,
};

/// Endpoints if none is given: the tutorial's two servers.
const DEFAULT_ENDPOINTS: [&str; 3] = ["upper=:5000", "upper=udp://:5000", "greet=:12345"];

/// A longer busy poll gains nothing: waking a thread takes about ten microseconds.
const BUSY_POLL_MAX: Duration = Duration::from_secs(1);

/// File descriptors reserved for the store and the process itself. Rejected connections may use the difference to
/// [`FILES_OWN`].
const FILES_RESERVED: u64 = 64;
const FILES_OWN: u64 = 48;

/// Default of `--max-connections`, if the limit of open files allows it.
const CONNECTIONS_MAX: u64 = 10_000;

/// What `serve` is to do.
pub(super) struct Plan {
    pub(super) endpoints: Vec<EndpointConfig>,
    pub(super) limits: Limits,
    pub(super) source_limits: SourceLimits,
    /// Connections that may be rejected by a lingering close at the same time.
    pub(super) max_rejecting: usize,
    pub(super) store: StoreUrl,
    pub(super) durability: Durability,
    pub(super) retention: Retention,
    pub(super) retention_text: String,
    pub(super) recorder: RecorderOptions,
    pub(super) show: Showing,
    pub(super) once: bool,
    pub(super) exit_with_stdin: bool,
    /// How long a worker polls for the next message before it sleeps.
    pub(super) busy_poll: Option<Duration>,
    pub(super) workers: usize,
}

/// What `serve` prints.
#[derive(Clone, Copy)]
pub(super) struct Showing {
    /// Print the address of each endpoint first, on standard output.
    pub(super) print: bool,
    /// Print only failures on standard error.
    pub(super) quiet: bool,
    pub(super) events: Events,
}

/// How events are printed on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Events {
    /// Not at all. Nothing watches the recorder, so showing costs nothing.
    None,
    /// As lines for people, sampled.
    Lines,
    /// As JSON, every event.
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
                "invalid --console: expected off; this version has no web console",
            ));
        }
        let workers = match args.workers {
            Some(workers) => workers.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let busy_poll = args.busy_poll.0.map(|Span(span)| span);
        if busy_poll.is_some_and(|span| span > BUSY_POLL_MAX) {
            return Err(CliError::usage(format!(
                "invalid --busy-poll {}: expected at most 1s",
                args.busy_poll
            )));
        }
        let durability = args.recording.durability;
        if durability == Durability::Strict && matches!(args.recording.when_full, Full::Drop) {
            return Err(CliError::usage(
                "--durability strict and --when-full drop exclude each other: strict sends no reply that is not on disk, drop \
                 leaves exchanges unrecorded",
            ));
        }
        let files = raise_open_files();
        let limits = limits(args, files)?;
        let taken = limits.connections_max as u64 + FILES_OWN;
        let endpoints = endpoints(args, &limits)?;
        if args.once {
            check_once(&endpoints)?;
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
            exit_with_stdin: args.exit_with_stdin,
            busy_poll,
            workers,
        })
    }
}

/// Checks that `--once` can be met: there is an endpoint that accepts connections.
fn check_once(endpoints: &[EndpointConfig]) -> Result<(), CliError> {
    let datagrams = |config: &EndpointConfig| config.endpoint.shape() == Some(Shape::Datagrams);
    if endpoints.iter().all(datagrams) {
        let why = "--once stops after one connection, and datagram endpoints have no connections; add a stream endpoint, or omit --once";
        return Err(CliError::usage(why));
    }
    Ok(())
}

/// Returns the configuration of each endpoint: the command line's options, then the endpoint's own.
fn endpoints(args: &ServeArgs, limits: &Limits) -> Result<Vec<EndpointConfig>, CliError> {
    let mut endpoints: Vec<EndpointConfig> = Vec::new();
    // Shared by all endpoints, so that their calls share a clock.
    let explain = args.showing.explain.then(explain::on_stderr);
    for served in served(args)? {
        let is_datagrams = served.located.endpoint.shape() == Some(Shape::Datagrams);
        let is_ignored = is_datagrams && args.frame_from_variable;
        let mut config = EndpointConfig {
            framing: if is_ignored {
                FramingPair::default()
            } else {
                args.frame
            },
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
        if is_datagrams && config.framing != FramingPair::default() {
            let why = "a datagram is one message, so --frame does not apply";
            term::note(&format!("{}: {why}", config.endpoint));
        }
        // A second listener on the same address fails by itself, but a descriptor could be opened twice: then either
        // endpoint could accept a connection.
        let same = |other: &EndpointConfig| other.endpoint == config.endpoint;
        if matches!(config.endpoint, Endpoint::Fd(_)) && endpoints.iter().any(same) {
            return Err(CliError::usage(format!(
                "{} is given twice; remove one of them",
                config.endpoint
            )));
        }
        endpoints.push(config);
    }
    Ok(endpoints)
}

/// The endpoints on the command line, else inherited sockets (`LISTEN_FDS`), else the defaults.
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
    let NamedService(service) = match name {
        Some(name) => name.parse().map_err(CliError::usage)?,
        None => args.service.clone(),
    };
    Ok(service)
}

/// Applies an option of one endpoint. Its name is that of the command line's option.
fn option(config: &mut EndpointConfig, name: &str, value: &str) -> Result<(), String> {
    fn read<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
        value.parse().map_err(|error: T::Err| error.to_string())
    }
    let is_udp = matches!(config.endpoint, Endpoint::Udp(_));
    let is_unix = matches!(config.endpoint, Endpoint::Unix(_) | Endpoint::Unixgram(_));
    let EndpointConfig {
        service,
        framing,
        limits,
        access,
        listen,
        ..
    } = config;
    match name {
        "as" => *service = read::<NamedService>(value)?.0,
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
        "broadcast" if is_udp => listen.broadcast = read::<cli::Switch>(value)?.0,
        "broadcast" => return Err("it applies to udp:// only".to_owned()),
        "allow" => access.allow = networks(value)?,
        "deny" => access.deny = networks(value)?,
        _ => {
            let hint = if is_unix { cli::ENCODING_HINT } else { "" };
            return Err(format!(
                "unknown option: expected as, frame, max-message, idle-timeout, message-timeout, \
                 write-timeout, backlog, sndbuf, mode, broadcast, allow or deny{hint}"
            ));
        }
    }
    Ok(())
}

/// Parses networks separated by commas.
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
                "invalid --max-connections {n}: expected at most {room}: {files} files may be open (ulimit -n), {FILES_RESERVED} of them are reserved"
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

/// Loopback is exempt from the default limits, but not from limits that are set on the command line.
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

/// Raises the soft limit of open files to the hard limit. Returns the limit in force.
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

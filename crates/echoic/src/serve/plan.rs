//! Turns the arguments of `serve` into a plan: everything is checked here, once.

use std::{fmt::Display, str::FromStr, time::Duration};

use echoic_core::{
    access::{AccessList, Network, NetworkError},
    endpoint::{Endpoint, Served, Shape},
    framing::FramingPair,
    limits::{Limits, SourceLimits},
    store::{Durability, Retention},
    units::{Bytes, Count, Mode, OffOr, Span},
};
use echoic_nats::NatsServer;
use echoic_recorder::{RecorderOptions, WhenFull};
use echoic_server::EndpointConfig;
use echoic_wire::{ListenOptions, inherited_fds};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::tls::{self, TlsEndpoints, TlsOptions};
use crate::{
    cli::{self, Full, HealthOptions, LimitArgs, ServeArgs, ShowingArgs},
    connect::framing_ignored,
    console::ConsolePlan,
    exit::CliError,
    explain,
    service_choice::{RemoteServices, ServiceChoice},
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
    /// Those of the endpoints that have their handlers in workers.
    pub(super) remote_services: RemoteServices,
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
    /// The certificates of endpoints with TLS.
    pub(super) tls: TlsEndpoints,
    /// `None` without a web console.
    pub(super) console: Option<ConsolePlan>,
    /// Where the routes of health are.
    pub(super) health: HealthOptions,
    /// Where the console may send, beside the endpoints.
    pub(super) console_send: Vec<Endpoint>,
    /// The NATS server where consoles elsewhere find this server.
    pub(super) on: Option<NatsServer>,
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
        let mut remote_services = RemoteServices::new(args.limits.worker_timeout.0);
        let mut tls = TlsEndpoints::default();
        let endpoints = endpoints(args, &limits, &mut remote_services, &mut tls)?;
        if args.once {
            check_once(&endpoints)?;
        }
        Ok(Self {
            endpoints,
            remote_services,
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
                // The last one is for the calls of the console, which come from no worker.
                shards: workers + usize::from(!args.console_send.is_empty()),
                ..RecorderOptions::default()
            },
            show: Showing::new(&args.showing),
            once: args.once,
            exit_with_stdin: args.exit_with_stdin,
            busy_poll,
            workers,
            tls,
            console: console(args)?,
            health: args.health,
            console_send: args.console_send.clone(),
            on: args.on.as_ref().map(|on| on.server().clone()),
        })
    }
}

/// Returns what the console is to be. It shows a record, so there is none without a store.
fn console(args: &ServeArgs) -> Result<Option<ConsolePlan>, CliError> {
    let usage = |why: &str| Err(CliError::usage(why));
    if args.console.console_readonly && !args.console_send.is_empty() {
        return usage("--console-readonly and --console-send exclude each other: omit one of them");
    }
    let console = ConsolePlan::new(&args.console)?;
    let is_asked = (args.console.console.is_some() && !args.console_is_default)
        || args.console.open
        || args.console.console_readonly
        || !args.console_send.is_empty();
    match console {
        None if args.console.console_readonly || !args.console_send.is_empty() => usage(
            "--console off leaves no console for --console-readonly or --console-send: omit one of them",
        ),
        Some(_) if args.recording.store == StoreUrl::None && is_asked => usage(
            "the console shows the record, and --store none has none: use --store memory, or omit the options of the console",
        ),
        Some(_) if matches!(args.recording.store, StoreUrl::Nats(_)) && is_asked => usage(
            "the console shows the record, and a stream passes it on: use `echoic console --store` with the store of \
             `echoic keep`, or omit the options of the console",
        ),
        Some(_) if !args.recording.store.is_readable() => Ok(None),
        console => Ok(console),
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
fn endpoints(
    args: &ServeArgs,
    limits: &Limits,
    remote_services: &mut RemoteServices,
    tls: &mut TlsEndpoints,
) -> Result<Vec<EndpointConfig>, CliError> {
    let mut endpoints: Vec<EndpointConfig> = Vec::new();
    // Shared by all endpoints, so that their calls share a clock.
    let explain = args.showing.explain.then(explain::on_stderr);
    for served in served(args)? {
        let is_datagrams = served.located.endpoint.shape() == Some(Shape::Datagrams);
        let is_ignored = is_datagrams && args.frame_is_default;
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
                remote_services.service(&choice(args, served.service.as_deref())?),
            )
        };
        let mut tls_options = TlsOptions::default();
        for (name, value) in &served.located.options.0 {
            option(&mut config, remote_services, &mut tls_options, name, value).map_err(|why| {
                CliError::usage(format!("{}: ?{name}={value}: {why}", config.endpoint))
            })?;
        }
        config.layers = tls.layers(
            endpoints.len(),
            &config.endpoint,
            tls_options,
            &args.recording.store,
        )?;
        if is_datagrams && config.framing != FramingPair::default() {
            let options = &served.located.options.0;
            let is_option = options.iter().any(|(name, _)| &**name == "frame");
            term::note(&framing_ignored(&config.endpoint, is_option));
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

fn choice(args: &ServeArgs, name: Option<&str>) -> Result<ServiceChoice, CliError> {
    match name {
        Some(name) => name.parse().map_err(CliError::usage),
        None => Ok(args.service.clone()),
    }
}

/// Applies an option of one endpoint. Its name is that of the command line's option.
fn option(
    config: &mut EndpointConfig,
    remote_services: &mut RemoteServices,
    tls_options: &mut TlsOptions,
    name: &str,
    value: &str,
) -> Result<(), String> {
    fn read<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
        value.parse().map_err(|error: T::Err| error.to_string())
    }
    let is_udp = matches!(config.endpoint, Endpoint::Udp(_));
    let is_tls = matches!(config.endpoint, Endpoint::Tls(_));
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
        "as" => *service = remote_services.service(&read(value)?),
        "frame" => *framing = read(value)?,
        "max-message" => {
            let bytes = cli::max_message(value).map_err(|error| error.to_string())?;
            limits.message_bytes_max = bytes;
        }
        "idle-timeout" => limits.idle_timeout = read::<Span>(value)?.0,
        "message-timeout" => limits.message_timeout = read::<Span>(value)?.0,
        "write-timeout" => limits.write_timeout = read::<Span>(value)?.0,
        "handshake-timeout" => limits.handshake_timeout = read::<Span>(value)?.0,
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
        _ if tls::OPTIONS.contains(&name) => {
            if !is_tls {
                return Err("it applies to tls:// only".to_owned());
            }
            tls_options.set(name, value)?;
        }
        _ => {
            let hint = if is_unix { cli::ENCODING_HINT } else { "" };
            return Err(format!(
                "unknown option: expected as, frame, max-message, idle-timeout, message-timeout, \
                 write-timeout, handshake-timeout, backlog, sndbuf, mode, broadcast, allow or deny, and of TLS cert, key, \
                 client-ca, alpn or tls-min{hint}"
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
        handshake_timeout: given.handshake_timeout.0,
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

//! The command line of `echoic serve`.

use clap::{Args, ValueEnum};
use echoic_core::{
    access::Network,
    endpoint::{Endpoint, EndpointError, Located, Served},
    framing::FramingPair,
    store::{Durability, Retention},
    units::{Bytes, Mode, OffOr, Span},
};

use super::{
    console::ConsoleOptions,
    health::HealthOptions,
    values::{count, max_message, off_or, size},
};
use crate::{
    on::On,
    service_choice::ServiceChoice,
    store_url::{StoreUrl, retention},
};

/// Run a server that answers and records
#[derive(Debug, Args)]
#[command(after_help = "\
An endpoint is a port (5000 or :5000, loopback only), HOST:PORT, '*:PORT' (every
interface), a URL (tcp://127.0.0.1:5000, udp://:5000), a Unix socket (./x.sock,
unix:PATH, unix:@NAME, or unixgram:PATH for datagrams), or fd:N (a socket that
echoic inherits). Port 0 picks a free port. SERVICE= selects its service.
'ENDPOINT?OPTION=VALUE&...' sets options of this endpoint alone: as, frame,
max-message, idle-timeout, message-timeout, write-timeout, handshake-timeout,
backlog, sndbuf, mode, allow, deny; and with tls://HOST:PORT cert, key,
client-ca, alpn, tls-min. Without cert and key, tls:// gets a certificate that
is made for this machine. Without an endpoint, serve uses the sockets that
systemd passes (LISTEN_FDS), if any.

Durations are 250ms, 0.5s, 10min, 1m30s or 1w; a plain number is seconds. Sizes
are 512, 64KB or 1.5M (1k is 1024). Counts are 500, 10k or 1.5M (1k is 1000).

Services:
  upper               reply with the message in upper case (all of Unicode)
  lower               reply with the message in lower case
  echo                reply with the message
  greet[:TEXT|@FILE]  send TEXT (\"Thank you for connecting\") or a file; close
  discard             read everything, send nothing
  time, daytime       send the time of day; close
  chargen             send characters without end
  info                reply with JSON that describes the message and its sender

Examples:
  echoic serve                               upper on 5000, greet on 12345
  echoic serve upper=:5001 greet=:5002 --frame line    messages end at a newline
  echoic serve udp://:5001 lower=unix:./lower.sock     UDP and a Unix socket
  echoic serve :0 --print                    print the port it picked
  echoic serve '*:7' --as echo --store none  every interface, record nothing
  echoic serve :5000 --durability strict     commit to disk before each reply
  echoic serve :5000 --explain               print every socket call
  echoic serve :5000 --json                  print every event as JSON
  echoic serve :5000 --console 127.0.0.1:0   print the URL of the console

The web console needs the token in its URL, which is new at each start unless
ECHOIC_TOKEN sets it (16 characters or more). It is printed on a terminal, and
with --console ADDR; else it is written to a file for you alone, which is named.
With ECHOIC_PASSWORD (8 characters or more) the page asks for that instead, and
no URL has a secret. Beyond loopback the console needs it, and a certificate:
--console '*:8007?cert=chain.pem&key=key.pem'.
On a terminal ? lists the keys: pause, clear, filter, quit.

Stop it with Ctrl-C: it answers and records every message received so far.")]
pub(crate) struct ServeArgs {
    /// Listen here, with this service [default: upper=:5000 upper=udp://:5000 greet=:12345]
    #[arg(value_name = "[SERVICE=]ENDPOINT", value_parser = served)]
    pub(crate) endpoints: Vec<Served>,

    /// Use this service for endpoints without SERVICE=; nats://HOST:PORT/SUBJECT hands messages to `echoic work` there
    #[arg(
        long = "as",
        value_name = "SERVICE",
        default_value = "upper",
        env = "ECHOIC_AS",
        hide_env_values = true
    )]
    pub(crate) service: ServiceChoice,

    /// Divide the stream into messages: chunk (what one read returns), line, crlf, nul, delim:HEX, fixed:N, u8, u16be,
    /// u16le, u32be, u32le, varint, netstring or content-length; IN/OUT if requests and replies differ
    #[arg(
        long,
        value_name = "FRAMING",
        default_value = "chunk",
        env = "ECHOIC_FRAME",
        hide_env_values = true
    )]
    pub(crate) frame: FramingPair,

    /// `frame` came from `ECHOIC_FRAME` or a file.
    #[arg(skip)]
    pub(crate) frame_is_default: bool,

    /// Stop after one connection (datagrams do not count)
    #[arg(long)]
    pub(crate) once: bool,

    /// Stop when standard input ends, as with Ctrl-C: a test that holds the other end of a pipe leaves no server behind
    #[arg(long)]
    pub(crate) exit_with_stdin: bool,

    #[command(flatten)]
    pub(crate) health: HealthOptions,

    #[command(flatten)]
    pub(crate) recording: RecordingArgs,

    #[command(flatten)]
    pub(crate) showing: ShowingArgs,

    #[command(flatten)]
    pub(crate) console: ConsoleOptions,

    /// `console` came from `ECHOIC_CONSOLE` or a file.
    #[arg(skip)]
    pub(crate) console_is_default: bool,

    /// Let the console send to this endpoint too, as a client: HOST:PORT or a URL; may be repeated
    #[arg(long, value_name = "ENDPOINT", value_parser = send_target, help_heading = "Console")]
    pub(crate) console_send: Vec<Endpoint>,

    /// Let consoles elsewhere show and control this server: `echoic console --on` at the same NATS server
    #[arg(
        long,
        value_name = "URL",
        env = "ECHOIC_ON",
        hide_env_values = true,
        help_heading = "Console"
    )]
    pub(crate) on: Option<On>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    /// Let the kernel queue N connections until they are accepted; when the queue is full, clients wait
    #[arg(
        long,
        value_name = "N",
        default_value = "1024",
        value_parser = count::<u32>(0..=i32::MAX as u64),
        help_heading = "Sockets"
    )]
    pub(crate) backlog: u32,

    /// Accept only these peers: an address or a network like 10.0.0.0/8; may be repeated
    #[arg(long, value_name = "NET", help_heading = "Sockets")]
    pub(crate) allow: Vec<Network>,

    /// Reject these peers, even if --allow names them; may be repeated
    #[arg(long, value_name = "NET", help_heading = "Sockets")]
    pub(crate) deny: Vec<Network>,

    /// Allow UDP replies larger than their requests; an attacker who forges addresses can then flood a third party
    #[arg(long, help_heading = "Sockets")]
    pub(crate) udp_allow_amplification: bool,

    /// Set the permissions of Unix socket files
    #[arg(
        long,
        value_name = "MODE",
        default_value = "600",
        help_heading = "Sockets"
    )]
    pub(crate) mode: Mode,

    /// Set the kernel send buffer of each connection [default: tuned by the kernel]
    #[arg(long, value_name = "SIZE", help_heading = "Sockets")]
    pub(crate) sndbuf: Option<Bytes>,

    /// Poll this long for the next message before sleeping, at most 1s: lower latency, but busy cores (try 50us)
    #[arg(
        long,
        value_name = "TIME|off",
        default_value = "off",
        help_heading = "Sockets"
    )]
    pub(crate) busy_poll: OffOr<Span>,

    /// Serve connections on N threads [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Sockets", value_parser = count::<u16>(1..=256))]
    pub(crate) workers: Option<u16>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Recording")]
pub(crate) struct RecordingArgs {
    /// Record exchanges here: an SQLite file, `postgres://USER@HOST/DATABASE`, `nats://HOST:PORT/STREAM` (written by
    /// `echoic keep`), memory (lost at exit), or none
    #[arg(
        long,
        value_name = "STORE",
        default_value = "echoic.db",
        env = "ECHOIC_STORE",
        hide_env_values = true
    )]
    pub(crate) store: StoreUrl,

    /// strict: write to disk before each reply is sent. normal: commit within 50 ms, on disk within 1 s. off: leave
    /// writing to the system
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "normal",
        env = "ECHOIC_DURABILITY",
        hide_env_values = true
    )]
    pub(crate) durability: Durability,

    /// Delete exchanges beyond this age, this size, or both; off deletes nothing
    #[arg(
        long,
        value_name = "AGE,SIZE|off",
        default_value = "7d,2G",
        value_parser = RetentionArg::read,
        env = "ECHOIC_RETENTION",
        hide_env_values = true
    )]
    pub(crate) retention: RetentionArg,

    /// What to do when the store is slower than the traffic
    #[arg(long, value_name = "WHAT", default_value = "block")]
    pub(crate) when_full: Full,
}

/// Parses a service with its endpoint. The error for a service argument in the endpoint names `--as` instead.
fn served(text: &str) -> Result<Served, String> {
    text.parse()
        .map_err(|error: EndpointError| match error.service_with_argument() {
            Some(service) => format!("{error}; write --as {service:?} and the endpoint alone"),
            None => error.to_string(),
        })
}

/// Parses an endpoint that the console may send to.
fn send_target(text: &str) -> Result<Endpoint, String> {
    let Located { endpoint, options } = text
        .parse()
        .map_err(|error: EndpointError| error.to_string())?;
    match endpoint {
        Endpoint::Fd(_) => Err("expected HOST:PORT or a URL to connect to".to_owned()),
        Endpoint::Tls(_) => Err("the console does not speak TLS as a client yet".to_owned()),
        _ if !options.0.is_empty() => Err("options of an endpoint do not apply here".to_owned()),
        endpoint => Ok(endpoint),
    }
}

/// The value of `--retention`, with its text for messages.
#[derive(Clone, Debug)]
pub(crate) struct RetentionArg {
    pub(crate) retention: Retention,
    pub(crate) text: String,
}

impl RetentionArg {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let retention = retention(text)?;
        let is_off = retention.age.is_none() && retention.bytes.is_none();
        let text = if is_off { "all" } else { text }.to_owned();
        Ok(Self { retention, text })
    }
}

/// What happens when the store is slower than the traffic.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Full {
    /// Pause conversations until the store catches up
    Block,
    /// Go on without recording, and count what is lost (not with strict)
    Drop,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Showing")]
pub(crate) struct ShowingArgs {
    /// Print the address of each endpoint on standard output first, for scripts
    #[arg(long)]
    pub(crate) print: bool,

    /// Print every event on standard output, one JSON object per line. Without it, a terminal shows up to 20 lines a
    /// second; a file or a pipe shows none
    #[arg(long)]
    pub(crate) json: bool,

    /// Print failures only (and events with --json)
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Print each socket call with its arguments and result on standard error
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Accept messages up to this size, with any --frame but chunk
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = max_message)]
    pub(crate) max_message: usize,

    /// Serve at most N connections at a time, over all endpoints [default: 10000, or fewer if the limit of open files is
    /// lower]. Datagram sockets track up to 4096 peers each instead
    #[arg(long, value_name = "N", value_parser = count::<usize>(1..=u32::MAX.into()))]
    pub(crate) max_connections: Option<usize>,

    /// End a conversation after this time without traffic
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub(crate) idle_timeout: Span,

    /// Allow this time from a message's first byte to its last
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) message_timeout: Span,

    /// End a conversation whose peer takes none of the bytes that wait for it, for this time
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) write_timeout: Span,

    /// End a conversation if no worker answers it for this time, with --as nats://...
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) worker_timeout: Span,

    /// Allow this time for the handshake of TLS
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) handshake_timeout: Span,

    /// On SIGTERM or Ctrl-C, give conversations this time to finish
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) drain_timeout: Span,

    /// Serve at most N conversations of one source (an IPv4 address or an IPv6 /64) at a time [default: 1000, unlimited for
    /// loopback]
    #[arg(long, value_name = "N|off", value_parser = off_or(count::<u32>(1..=u32::MAX.into())))]
    pub(crate) source_connections: Option<OffOr<u32>>,

    /// Accept N messages a second from one source. If any --source-* option is given, all three apply to loopback too
    #[arg(
        long,
        value_name = "N|off",
        default_value = "off",
        value_parser = off_or(count::<u32>(1..=u32::MAX.into()))
    )]
    pub(crate) source_messages: OffOr<u32>,

    /// Accept this many bytes a second from one source
    #[arg(
        long,
        value_name = "SIZE|off",
        default_value = "off",
        value_parser = off_or(size::<u32>(1..=u32::MAX.into()))
    )]
    pub(crate) source_bytes: OffOr<u32>,
}

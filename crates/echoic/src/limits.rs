//! `echoic limits`: a table of the limits that options set.
//!
//! The values come from the types that enforce them. [`Limits`] is destructured, so that a new field cannot be forgotten.
//! Fixed limits are constants beside the code that enforces them, and named in the error or close reason.

use std::{fmt, time::Duration};

use echoic_client::Timeouts;
use echoic_core::{
    ending::CloseReason,
    limits::{Limits, SourceLimits},
    units::{Bytes, Span},
};
use echoic_nats::WORKER_TIMEOUT;
use echoic_recorder::RecorderOptions;
use echoic_wire::ListenOptions;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    bench::{BEYOND_CONNECTIONS_MAX, BEYOND_RATE_MAX},
    cli::LimitsArgs,
    exit::CommandResult,
    term::{self, OutputError, Payload},
};

/// A row of the table.
struct Limit {
    name: &'static str,
    /// What it limits.
    what: &'static str,
    default: Amount,
    /// The command and the option that set it.
    option: Option<(&'static str, &'static str)>,
    then: Then,
}

/// The default of a limit.
#[derive(Clone, Copy)]
enum Amount {
    Bytes(u64),
    Time(Duration),
    Count(u64),
    /// No number, or several.
    Other(&'static str),
}

/// What happens beyond the limit.
#[derive(Clone, Copy)]
enum Then {
    Ends(CloseReason),
    Otherwise(&'static str),
}

use Amount::{Count, Other, Time};
use Then::{Ends, Otherwise};

/// Prints the table, or one JSON object a row.
pub(crate) fn run(args: &LimitsArgs) -> CommandResult {
    let mut payload = Payload::new(args.json);
    term::done(print(&mut payload, args.json))
}

fn print(payload: &mut Payload, as_json: bool) -> Result<(), OutputError> {
    for (number, (group, limits)) in groups().into_iter().enumerate() {
        if as_json {
            for limit in &limits {
                payload.json(&limit.object(group))?;
            }
            continue;
        }
        if number > 0 {
            payload.line(format_args!(""))?;
        }
        payload.line(format_args!("{group}"))?;
        for Limit {
            what,
            default,
            option,
            then,
            ..
        } in &limits
        {
            let option =
                option.map_or(String::new(), |(command, flag)| format!("{command} {flag}"));
            let default = default.to_string();
            payload.line(format_args!(
                "  {what:<48} {default:>9}  {option:<26}  {then}"
            ))?;
        }
    }
    payload.flush()
}

/// Returns the limits of a server as they are in force, for the pages of its console.
pub(crate) fn in_force(
    limits: &Limits,
    source_limits: &SourceLimits,
    recorder: &RecorderOptions,
    retention: &str,
) -> Vec<echoic_console::Limit> {
    let rows = [
        conversation(limits),
        source(source_limits),
        record(recorder),
    ];
    let rows = rows.into_iter().flatten();
    let described = rows.filter(|limit| limit.option.is_some()).map(|limit| {
        let value = match limit.name {
            "retention" => retention.to_owned(),
            _ => limit.default.to_string(),
        };
        echoic_console::Limit {
            flag: limit.option.map_or("", |(_, flag)| flag).to_owned(),
            value,
            meaning: format!("{}: {}", limit.what, limit.then),
        }
    });
    described.collect()
}

fn groups() -> [(&'static str, Vec<Limit>); 7] {
    [
        ("A conversation", conversation(&Limits::default())),
        ("One source", source(&SourceLimits::default())),
        ("Listening and sending", sockets(&ListenOptions::default())),
        ("The record", record(&RecorderOptions::default())),
        ("Workers", workers()),
        ("connect", connect(&Timeouts::default())),
        ("bench", bench()),
    ]
}

fn conversation(limits: &Limits) -> Vec<Limit> {
    let time = |name, what, span| Limit::new(name, what, Time(span));
    let Limits {
        message_bytes_max,
        connections_max,
        handshake_timeout,
        idle_timeout,
        message_timeout,
        write_timeout,
        drain_timeout,
        linger_timeout,
    } = *limits;
    let serve = |flag| Some(("serve", flag));
    vec![
        Limit::new(
            "message_bytes_max",
            "size of a message, with any --frame but chunk",
            bytes(message_bytes_max),
        )
        .set_by(serve("--max-message"))
        .then(Ends(CloseReason::MessageTooLong)),
        Limit::new(
            "connections_max",
            "connections; fewer if the limit of open files is",
            count(connections_max),
        )
        .set_by(serve("--max-connections"))
        .then(Ends(CloseReason::TooManyConnections)),
        time(
            "handshake_timeout",
            "a handshake above the socket (TLS)",
            handshake_timeout,
        )
        .then(Ends(CloseReason::HandshakeTimeout)),
        time("idle_timeout", "no traffic", idle_timeout)
            .set_by(serve("--idle-timeout"))
            .then(Ends(CloseReason::IdleTimeout)),
        time(
            "message_timeout",
            "from a message's first byte to its last",
            message_timeout,
        )
        .set_by(serve("--message-timeout"))
        .then(Ends(CloseReason::MessageTimeout)),
        time("write_timeout", "the peer reads nothing", write_timeout)
            .set_by(serve("--write-timeout"))
            .then(Ends(CloseReason::WriteTimeout)),
        time("drain_timeout", "from the signal to the end", drain_timeout)
            .set_by(serve("--drain-timeout"))
            .then(Ends(CloseReason::DrainTimeout)),
        time(
            "linger_timeout",
            "the peer sends and takes nothing after the close",
            linger_timeout,
        )
        .then(Otherwise("closes the socket; the close reason stays")),
    ]
}

/// Limits for all conversations of one source. They do not apply to datagrams: with a forged address, one source could use
/// up the limit of another.
fn source(limits: &SourceLimits) -> Vec<Limit> {
    let SourceLimits {
        connections_max,
        messages_per_second_max,
        bytes_per_second_max,
        on_loopback: _,
    } = *limits;
    let serve = |flag| Some(("serve", flag));
    let number = |max: Option<u32>| max.map_or(Other("off"), |max| Count(max.into()));
    vec![
        Limit::new(
            "source_connections_max",
            "connections; loopback only if an option is given",
            number(connections_max),
        )
        .set_by(serve("--source-connections"))
        .then(Ends(CloseReason::TooManyFromSource)),
        Limit::new(
            "source_messages_per_second_max",
            "messages a second",
            number(messages_per_second_max),
        )
        .set_by(serve("--source-messages"))
        .then(Ends(CloseReason::RateLimited)),
        Limit::new(
            "source_bytes_per_second_max",
            "bytes a second",
            number(bytes_per_second_max),
        )
        .set_by(serve("--source-bytes"))
        .then(Ends(CloseReason::RateLimited)),
    ]
}

fn sockets(options: &ListenOptions) -> Vec<Limit> {
    let serve = |flag| Some(("serve", flag));
    vec![
        Limit::new(
            "backlog",
            "connections waiting to be accepted (a hint)",
            Count(options.backlog.into()),
        )
        .set_by(serve("--backlog"))
        .then(Otherwise(
            "clients wait: Linux drops the SYN, they send it again",
        )),
        Limit::new(
            "send_buffer_bytes",
            "kernel send buffer of a connection",
            Other("auto"),
        )
        .set_by(serve("--sndbuf"))
        .then(Otherwise(
            "replies wait in echoic; the kernel tunes the size (tcp_wmem)",
        )),
    ]
}

fn record(options: &RecorderOptions) -> Vec<Limit> {
    let serve = |flag| Some(("serve", flag));
    let behind = "block: conversations pause; drop: they go on unrecorded, and are counted";
    vec![
        Limit::new(
            "conversation_uncommitted_bytes_max",
            "not yet recorded, one conversation",
            bytes(options.conversation_uncommitted_bytes_max),
        )
        .set_by(serve("--when-full"))
        .then(Otherwise(behind)),
        Limit::new(
            "uncommitted_bytes_max",
            "not yet recorded, all conversations",
            bytes(options.uncommitted_bytes_max),
        )
        .set_by(serve("--when-full"))
        .then(Otherwise(behind)),
        Limit::new(
            "store_timeout",
            "the store commits nothing, under strict",
            Time(options.store_timeout),
        )
        .set_by(serve("--durability"))
        .then(Ends(CloseReason::StoreFailed)),
        Limit::new("retention", "age and size of the record", Other("7d,2G"))
            .set_by(serve("--retention"))
            .then(Otherwise("deletes the oldest exchanges")),
    ]
}

fn connect(timeouts: &Timeouts) -> Vec<Limit> {
    let connect = |flag| Some(("connect", flag));
    vec![
        Limit::new(
            "connect_timeout",
            "to resolve the name and connect",
            Time(Duration::from_secs(10)),
        )
        .set_by(connect("--connect-timeout"))
        .then(Otherwise("exit code 5 (3 while resolving)")),
        Limit::new(
            "connect_linger_timeout",
            "the peer sends and takes nothing after the end of input",
            timeouts.linger_timeout.map_or(Other("never"), Time),
        )
        .set_by(connect("--linger-timeout"))
        .then(Otherwise(
            "exit code 0 if all requests were answered, else 5",
        )),
        Limit::new(
            "connect_idle_timeout",
            "no traffic",
            timeouts.idle_timeout.map_or(Other("never"), Time),
        )
        .set_by(connect("--idle-timeout"))
        .then(Otherwise("exit code 5")),
        Limit::new(
            "connect_write_timeout",
            "the peer reads nothing",
            Time(timeouts.write_timeout),
        )
        .set_by(connect("--write-timeout"))
        .then(Otherwise("exit code 5")),
    ]
}

fn workers() -> Vec<Limit> {
    vec![
        Limit::new(
            "worker_timeout",
            "no worker answers, with --as nats://",
            Time(WORKER_TIMEOUT),
        )
        .set_by(Some(("serve", "--worker-timeout")))
        .then(Ends(CloseReason::WorkerLost)),
    ]
}

fn bench() -> Vec<Limit> {
    let bench = |flag| Some(("bench", flag));
    let host = "exit code 2; the option allows any load on a host";
    vec![
        Limit::new(
            "bench_timeout",
            "a reply; a datagram's reply",
            Other("10s, 1s"),
        )
        .set_by(bench("--timeout"))
        .then(Otherwise("counts as lost, with this latency")),
        Limit::new(
            "bench_drain_timeout",
            "wait for replies after the end",
            Other("--timeout"),
        )
        .set_by(bench("--drain-timeout"))
        .then(Otherwise("counts as lost")),
        Limit::new(
            "bench_beyond_rate_max",
            "requests a second, to another machine",
            Count(BEYOND_RATE_MAX.into()),
        )
        .set_by(bench("--allow-load"))
        .then(Otherwise(host)),
        Limit::new(
            "bench_beyond_connections_max",
            "connections, to another machine",
            Count(BEYOND_CONNECTIONS_MAX.into()),
        )
        .set_by(bench("--allow-load"))
        .then(Otherwise(host)),
    ]
}

fn bytes(count: usize) -> Amount {
    Amount::Bytes(count as u64)
}

fn count(count: usize) -> Amount {
    Count(count as u64)
}

impl Limit {
    fn new(name: &'static str, what: &'static str, default: Amount) -> Self {
        Self {
            name,
            what,
            default,
            option: None,
            then: Otherwise(""),
        }
    }

    fn set_by(self, option: Option<(&'static str, &'static str)>) -> Self {
        Self { option, ..self }
    }

    fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }

    /// Returns the row as a JSON object; `value` is in bytes, milliseconds or a count.
    fn object(&self, group: &str) -> impl Serialize + use<> {
        let (unit, value) = match self.default {
            Amount::Bytes(bytes) => ("bytes", json!(bytes)),
            Time(time) => ("ms", json!(time.as_millis() as u64)),
            Count(count) => ("count", json!(count)),
            Other(_) => ("none", Value::Null),
        };
        let (command, option) = self.option.unzip();
        let ending = match self.then {
            Ends(reason) => Some(reason.word()),
            Otherwise(_) => None,
        };
        json!({
            "group": group, "name": self.name, "what": self.what,
            "default": self.default.to_string(), "value": value, "unit": unit,
            "command": command, "option": option,
            "ending": ending, "then": self.then.to_string(),
        })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bytes(bytes) => write!(f, "{}", Bytes(bytes)),
            Time(time) => write!(f, "{}", Span(time)),
            Count(count) => write!(f, "{count}"),
            Other(text) => write!(f, "{text}"),
        }
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ends(reason) => write!(f, "closes: {} (end:{})", reason.word(), reason.class()),
            Otherwise(text) => write!(f, "{text}"),
        }
    }
}

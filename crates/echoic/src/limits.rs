//! The bounds that a user can set, in one table: how much, which option, and what happens past it.
//!
//! Figures come from where they are in force, [`Limits`] field by field, so that none can be forgotten. Bounds without
//! an option are constants beside the code that keeps them, and the error or the ending names them.

use std::{fmt, time::Duration};

use echoic_client::Timeouts;
use echoic_core::{
    ending::CloseReason,
    limits::{Limits, SourceLimits},
    units::{Bytes, Span},
};
use echoic_recorder::RecorderOptions;
use echoic_wire::ListenOptions;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    bench::{BEYOND_CONNECTIONS_MAX, BEYOND_RATE_MAX},
    cli::LimitsArgs,
    exit::{CommandResult, Exit},
    term::{Payload, ReaderGone},
};

/// One bound.
struct Limit {
    name: &'static str,
    what: &'static str,
    default: Amount,
    /// The command and its option that sets it.
    option: Option<(&'static str, &'static str)>,
    then: Then,
}

/// How much.
#[derive(Clone, Copy)]
enum Amount {
    Bytes(u64),
    Time(Duration),
    Count(u64),
    /// No number unless one is given.
    Unbounded(&'static str),
}

/// What happens past it.
#[derive(Clone, Copy)]
enum Then {
    Ends(CloseReason),
    Otherwise(&'static str),
}

use Amount::{Count, Time, Unbounded};
use Then::{Ends, Otherwise};

/// Prints the table.
pub(crate) fn run(args: &LimitsArgs) -> CommandResult {
    let mut payload = Payload::new(args.json);
    // A reader that has had enough is no error.
    let _ = print(&mut payload, args.json);
    Ok(Exit::Done)
}

fn print(payload: &mut Payload, as_json: bool) -> Result<(), ReaderGone> {
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

fn groups() -> [(&'static str, Vec<Limit>); 6] {
    [
        ("A conversation", conversation(&Limits::default())),
        ("One source", source(&SourceLimits::default())),
        ("Listening and sending", sockets(&ListenOptions::default())),
        ("The record", record(&RecorderOptions::default())),
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
            "a message under a declared framing",
            bytes(message_bytes_max),
        )
        .set_by(serve("--max-message"))
        .then(Ends(CloseReason::MessageTooLong)),
        Limit::new(
            "connections_max",
            "at a time; fewer if fewer files may be open",
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
        time("idle_timeout", "nothing happens", idle_timeout)
            .set_by(serve("--idle-timeout"))
            .then(Ends(CloseReason::IdleTimeout)),
        time(
            "message_timeout",
            "from a message's first byte to its last",
            message_timeout,
        )
        .set_by(serve("--message-timeout"))
        .then(Ends(CloseReason::MessageTimeout)),
        time("write_timeout", "the peer takes nothing", write_timeout)
            .set_by(serve("--write-timeout"))
            .then(Ends(CloseReason::WriteTimeout)),
        time("drain_timeout", "from the signal to stop", drain_timeout)
            .set_by(serve("--drain-timeout"))
            .then(Ends(CloseReason::DrainTimeout)),
        time(
            "linger_timeout",
            "after our end, the peer keeps silent",
            linger_timeout,
        )
        .then(Otherwise(
            "the socket is closed; the ending stays what it was",
        )),
    ]
}

/// What the conversations of one source together may take. Datagrams have guards of their own: their sources can be
/// forged, and a limit would let one silence another.
fn source(limits: &SourceLimits) -> Vec<Limit> {
    let SourceLimits {
        connections_max,
        messages_per_second_max,
        bytes_per_second_max,
        on_loopback: _,
    } = *limits;
    let serve = |flag| Some(("serve", flag));
    let number = |max: Option<u32>| max.map_or(Unbounded("off"), |max| Count(max.into()));
    vec![
        Limit::new(
            "source_connections_max",
            "at a time; not this machine, unless given",
            number(connections_max),
        )
        .set_by(serve("--source-connections"))
        .then(Ends(CloseReason::TooManyFromSource)),
        Limit::new(
            "source_messages_per_second_max",
            "messages in a second",
            number(messages_per_second_max),
        )
        .set_by(serve("--source-messages"))
        .then(Ends(CloseReason::RateLimited)),
        Limit::new(
            "source_bytes_per_second_max",
            "bytes in a second",
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
            "held ready by the kernel; a hint",
            Count(options.backlog.into()),
        )
        .set_by(serve("--backlog"))
        .then(Otherwise(
            "callers wait: Linux drops their SYN, they ask again",
        )),
        Limit::new(
            "send_buffer_bytes",
            "sent and not yet taken, in the kernel",
            Unbounded("its own"),
        )
        .set_by(serve("--sndbuf"))
        .then(Otherwise(
            "the rest waits in the outbox; the kernel tunes it unless told (tcp_wmem)",
        )),
    ]
}

fn record(options: &RecorderOptions) -> Vec<Limit> {
    let serve = |flag| Some(("serve", flag));
    let behind = "its conversations wait; with --when-full drop they go on, unrecorded and counted";
    vec![
        Limit::new(
            "conversation_behind_bytes_max",
            "said and not yet kept, one conversation",
            bytes(options.conversation_behind_bytes_max),
        )
        .set_by(serve("--when-full"))
        .then(Otherwise(behind)),
        Limit::new(
            "behind_bytes_max",
            "said and not yet kept, all together",
            bytes(options.behind_bytes_max),
        )
        .set_by(serve("--when-full"))
        .then(Otherwise(behind)),
        Limit::new(
            "patience",
            "the store keeps nothing, under strict durability",
            Time(options.patience),
        )
        .set_by(serve("--durability"))
        .then(Ends(CloseReason::StoreFailed)),
        Limit::new("retention", "kept: an age, a size", Unbounded("7d,2G"))
            .set_by(serve("--retention"))
            .then(Otherwise("the oldest are removed")),
    ]
}

fn connect(waits: &Timeouts) -> Vec<Limit> {
    let connect = |flag| Some(("connect", flag));
    vec![
        Limit::new(
            "connect_timeout",
            "to resolve and be answered",
            Time(Duration::from_secs(10)),
        )
        .set_by(connect("--connect-timeout"))
        .then(Otherwise("exit code 5 (3 while resolving)")),
        Limit::new(
            "connect_linger_timeout",
            "silence after the end of the input",
            waits.linger_timeout.map_or(Unbounded("never"), Time),
        )
        .set_by(connect("--linger-timeout"))
        .then(Otherwise("exit code 0 if everything was answered, else 5")),
        Limit::new(
            "connect_idle_timeout",
            "silence in both directions",
            waits.idle_timeout.map_or(Unbounded("never"), Time),
        )
        .set_by(connect("--idle-timeout"))
        .then(Otherwise("exit code 5")),
        Limit::new(
            "connect_write_timeout",
            "the peer takes nothing",
            Time(waits.write_timeout),
        )
        .set_by(connect("--write-timeout"))
        .then(Otherwise("exit code 5")),
    ]
}

fn bench() -> Vec<Limit> {
    let bench = |flag| Some(("bench", flag));
    let host = "refused, exit code 2; the option says that the host is yours to load";
    vec![
        Limit::new(
            "bench_timeout",
            "a reply; that of a datagram",
            Unbounded("10s, 1s"),
        )
        .set_by(bench("--timeout"))
        .then(Otherwise("lost, and in the latencies with this time")),
        Limit::new(
            "bench_drain_timeout",
            "replies after the end",
            Unbounded("--timeout"),
        )
        .set_by(bench("--drain-timeout"))
        .then(Otherwise("lost")),
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

    /// The same for programs; `value` in the smallest unit there is.
    fn object(&self, group: &str) -> impl Serialize + use<> {
        let (unit, value) = match self.default {
            Amount::Bytes(bytes) => ("bytes", json!(bytes)),
            Time(time) => ("ms", json!(time.as_millis() as u64)),
            Count(count) => ("count", json!(count)),
            Unbounded(_) => ("none", Value::Null),
        };
        let (command, option) = self.option.unzip();
        let ending = match self.then {
            Ends(how) => Some(how.word()),
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
            Unbounded(text) => write!(f, "{text}"),
        }
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ends(how) => write!(f, "ends: {} (end:{})", how.word(), how.class()),
            Otherwise(text) => write!(f, "{text}"),
        }
    }
}

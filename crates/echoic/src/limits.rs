//! Every bound there is, in one table: how much, which option sets it, and what happens past it.
//!
//! What a conversation may take comes from [`Limits`] itself, field by field, so that none can be forgotten. Bounds
//! inside other crates are repeated here; a test holds them to their source.

mod client;

use std::{fmt, time::Duration};

use echoic_core::{
    ending::How,
    limits::{Limits, SourceLimits},
    service::QUEUE,
    size::{Bytes, Span},
};
use echoic_server::RecorderOptions;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::LimitsArgs,
    exit::{Exit, Outcome},
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
    Ends(How),
    Otherwise(&'static str),
}

use Amount::{Count, Time, Unbounded};
use Then::{Ends, Otherwise};

/// Prints the table.
pub(crate) fn run(args: &LimitsArgs) -> Outcome {
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

fn groups() -> [(&'static str, Vec<Limit>); 9] {
    [
        ("A conversation", conversation(&Limits::default())),
        ("Calling", calling()),
        ("One source", source(&SourceLimits::default())),
        ("Messages on their way", queues()),
        ("Datagrams", datagrams()),
        ("The record", record(&RecorderOptions::default())),
        ("A filter", client::filter()),
        ("connect", client::connect()),
        ("bench", client::bench()),
    ]
}

fn conversation(limits: &Limits) -> Vec<Limit> {
    let Limits {
        message_bytes_max,
        connections_max,
        handshake: _, // no endpoint of the program has one yet
        idle,
        partial,
        write_stall,
        drain,
        linger,
    } = *limits;
    let serve = |flag| Some(("serve", flag));
    vec![
        Limit::new(
            "message_bytes_max",
            "a message under a declared framing",
            bytes(message_bytes_max),
        )
        .set_by(serve("--max-message"))
        .then(Ends(How::MessageTooLong)),
        Limit::new(
            "connections_max",
            "at a time; fewer if fewer files may be open",
            count(connections_max),
        )
        .set_by(serve("--max-connections"))
        .then(Ends(How::TooManyConnections)),
        Limit::new("idle", "nothing happens", Time(idle))
            .set_by(serve("--idle"))
            .then(Ends(How::Idle)),
        Limit::new(
            "partial",
            "from a message's first byte to its last",
            Time(partial),
        )
        .set_by(serve("--partial"))
        .then(Ends(How::Partial)),
        Limit::new("write_stall", "the peer takes nothing", Time(write_stall))
            .set_by(serve("--write-stall"))
            .then(Ends(How::NotReading)),
        Limit::new("drain", "from the signal to stop", Time(drain))
            .set_by(serve("--drain"))
            .then(Ends(How::Cut)),
        Limit::new(
            "linger",
            "after our end, the peer keeps silent",
            Time(linger),
        )
        .then(Otherwise(
            "the socket is closed; the ending stays what it was",
        )),
        Limit::new(
            "linger_all",
            "after our end, the peer goes on sending",
            Time(linger * 10),
        )
        .then(Otherwise(
            "the socket is closed; the ending stays what it was",
        )),
        Limit::new(
            "header_bytes_max",
            "headers before a content-length body",
            bytes(8 << 10),
        )
        .then(Ends(How::Malformed)),
    ]
}

fn calling() -> Vec<Limit> {
    let serve = |flag| Some(("serve", flag));
    vec![
        Limit::new("allow", "who may call", Unbounded("everybody"))
            .set_by(serve("--allow"))
            .then(Ends(How::Denied)),
        Limit::new("deny", "who may not", Unbounded("nobody"))
            .set_by(serve("--deny"))
            .then(Ends(How::Denied)),
        Limit::new("backlog", "held ready by the kernel; a hint", Count(1024))
            .set_by(serve("--backlog"))
            .then(Otherwise(
                "callers wait: Linux drops their SYN, they ask again",
            )),
        Limit::new(
            "turned_away_max",
            "turned away in order at the same time",
            Count(64),
        )
        .then(Otherwise("one more is closed without a word")),
        Limit::new(
            "accept_pause",
            "after files or memory ran out",
            Time(Duration::from_secs(1)),
        )
        .then(Otherwise(
            "callers wait, and are taken once something is free again",
        )),
        Limit::new(
            "last_calls_max",
            "calls still taken once told to stop",
            Count(4096),
        )
        .then(Otherwise("the rest are closed with the socket")),
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
        .then(Ends(How::TooManyFromSource)),
        Limit::new(
            "source_messages_per_second_max",
            "messages in a second",
            number(messages_per_second_max),
        )
        .set_by(serve("--source-messages"))
        .then(Ends(How::TooFast)),
        Limit::new(
            "source_bytes_per_second_max",
            "bytes in a second",
            number(bytes_per_second_max),
        )
        .set_by(serve("--source-bytes"))
        .then(Ends(How::TooFast)),
        Limit::new("sources_max", "sources known at a time", Count(65_536)).then(Otherwise(
            "those without a conversation are forgotten, then the rest count as one",
        )),
    ]
}

fn queues() -> Vec<Limit> {
    let serve = |flag| Some(("serve", flag));
    vec![
        Limit::new(
            "send_buffer_bytes",
            "sent and not yet taken, in the kernel",
            Unbounded("its own"),
        )
        .set_by(serve("--sndbuf"))
        .then(Otherwise(
            "the rest waits in the outbox; the kernel tunes it unless told (tcp_wmem)",
        )),
        Limit::new("read_bytes", "room of one read", bytes(68 << 10))
            .then(Otherwise("the next read takes the rest")),
        Limit::new(
            "apart_read_bytes_max",
            "of one read, for a service apart and a framing",
            bytes(4 << 10),
        )
        .then(Otherwise("the next read takes the rest")),
        Limit::new(
            "unsent_bytes_max",
            "outbox: said by a service and not yet taken",
            bytes(64 << 10),
        )
        .then(Otherwise(
            "the service waits; nothing more is read from the peer",
        )),
        Limit::new(
            "queue",
            "between a conversation and a service apart",
            count(QUEUE),
        )
        .then(Otherwise("whoever is ahead waits")),
        Limit::new(
            "pending_max",
            "messages that wait for their answer",
            Count(256),
        )
        .then(Otherwise(
            "the service is told no more until it has answered",
        )),
        Limit::new("pending_bytes_max", "bytes of them", bytes(1 << 20)).then(Otherwise(
            "the service is told no more until it has answered",
        )),
        Limit::new(
            "drain_bytes_max",
            "still heard once told to stop",
            bytes(8 << 20),
        )
        .then(Ends(How::Drained)),
    ]
}

fn datagrams() -> Vec<Limit> {
    vec![
        Limit::new("datagram_bytes", "room for one", bytes(64 << 10)).then(Otherwise(
            "no UDP datagram is longer; a longer Unix one is not answered",
        )),
        Limit::new("peers_max", "conversations of one socket", Count(4096))
            .then(Otherwise("the one silent for longest is ended")),
        Limit::new(
            "same_max",
            "the same datagram of one peer, in a second",
            Count(7),
        )
        .then(Otherwise(
            "two servers answer each other: the peer is not answered for a minute",
        )),
        Limit::new(
            "datagrams_unsent_max",
            "answers that wait to leave",
            Count(256),
        )
        .then(Otherwise("nothing more is read until some have left")),
        Limit::new(
            "datagrams_unsent_bytes_max",
            "bytes of them",
            bytes(1 << 20),
        )
        .then(Otherwise("nothing more is read until some have left")),
    ]
}

fn record(options: &RecorderOptions) -> Vec<Limit> {
    let serve = |flag| Some(("serve", flag));
    let behind =
        "its conversations wait; with --when-behind drop they go on, unrecorded and counted";
    vec![
        Limit::new(
            "conversation_behind_bytes_max",
            "said and not yet kept, one conversation",
            bytes(options.conversation_behind_bytes_max),
        )
        .set_by(serve("--when-behind"))
        .then(Otherwise(behind)),
        Limit::new(
            "behind_bytes_max",
            "said and not yet kept, all together",
            bytes(options.behind_bytes_max),
        )
        .set_by(serve("--when-behind"))
        .then(Otherwise(behind)),
        Limit::new(
            "patience",
            "the store keeps nothing, under strict durability",
            Time(options.patience),
        )
        .set_by(serve("--durability"))
        .then(Ends(How::Store)),
        Limit::new("keep", "kept: an age, a size", Unbounded("7d,2G"))
            .set_by(serve("--keep"))
            .then(Otherwise("the oldest are removed")),
        Limit::new(
            "watcher_behind_bytes_max",
            "shown late on a slow terminal or pipe",
            bytes(8 << 20),
        )
        .then(Otherwise(
            "a gap is shown, with the number of what is missing",
        )),
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

//! Formats exchanges for reading: as one line, or in full. Bytes of peers are always escaped.

use std::fmt::Write;

use echoic_core::{
    escape,
    event::{ConversationId, Micros, Outcome, Role},
    exchange::{Conversation, Exchange},
    store::Gap,
    units::for_people,
};
use echoic_recorder::Failure;
use jiff::civil::Date;

use crate::{
    local_time,
    term::{DIMMED, ERROR, RECEIVED, SENT, sanitize},
};

/// Characters shown of a request or a reply in a line.
const SIDE_CHARS_MAX: usize = 40;

/// `12:04:07.113  #40871  ▸ hello   ◂ HELLO   82 µs`
pub(crate) fn line(exchange: &Exchange, today: Date) -> String {
    let (request, reply) = (side('▸', &exchange.request), side('◂', &exchange.reply));
    let outcome = match exchange.outcome {
        Outcome::Ok => String::new(),
        Outcome::Unanswered => format!("  {ERROR}unanswered{ERROR:#}"),
        Outcome::Withheld => format!("  {ERROR}withheld{ERROR:#}"),
        Outcome::Unsent => format!("  {ERROR}not sent in full{ERROR:#}"),
    };
    let head = head(exchange.at, exchange.conversation.id, today);
    let tags = tags(exchange);
    let latency = latency(exchange.latency_ns);
    let width = 28;
    format!(
        "{head}  {RECEIVED}{request:<width$}{RECEIVED:#} {SENT}{reply:<width$}{SENT:#} {DIMMED}{latency:>9}{DIMMED:#}{outcome}{tags}"
    )
}

fn tags(exchange: &Exchange) -> String {
    let mut text = String::new();
    for tag in exchange.tags() {
        let _ = write!(text, "  {ERROR}{tag}{ERROR:#}");
    }
    text
}

/// `12:04:06.998  #40871  127.0.0.1:51422 connected → tcp:5000 upper`
pub(crate) fn opened(conversation: &Conversation, today: Date) -> String {
    let Conversation {
        id,
        opened,
        remote,
        endpoint_info,
        ..
    } = conversation;
    format!(
        "{}  {DIMMED}{} connected → {} {}{DIMMED:#}",
        head(*opened, *id, today),
        sanitize(remote),
        sanitize(&endpoint_info.name),
        sanitize(service(conversation))
    )
}

/// `12:04:11.730  #40871  peer closed, 12 B in, 12 B out`
pub(crate) fn ended(conversation: &Conversation, today: Date) -> String {
    let Some((at, ending)) = &conversation.ended else {
        return String::new();
    };
    let style = if matches!(ending.reason.class(), "fin" | "drain") {
        DIMMED
    } else {
        ERROR
    };
    format!("{}  {style}{ending}{style:#}", head(*at, conversation.id, today))
}

/// A conversation without an exchange: `12:04:11.730  #40871  127.0.0.1:51422 → tcp:5000 upper: limit: too many connections, …`
pub(crate) fn conversation_without_exchange(conversation: &Conversation, today: Date) -> String {
    let Conversation {
        id,
        opened,
        remote,
        endpoint_info,
        ended,
        ..
    } = conversation;
    let ending = match ended {
        Some((_, ending)) => ending.to_string(),
        None => "open".to_owned(),
    };
    format!(
        "{}  {} → {} {}: {ending}",
        head(*opened, *id, today),
        sanitize(remote),
        sanitize(&endpoint_info.name),
        sanitize(service(conversation))
    )
}

/// `not in the record: 17 exchanges from 12:04:11.730 on`
pub(crate) fn gap(gap: &Gap) -> String {
    let exchanges = count(gap.exchanges, "exchange");
    let since = moment(gap.since);
    format!("{ERROR}not in the record: {exchanges} from {since} on{ERROR:#}")
}

/// `not in the record: 1702 exchanges in 12 gaps before these`
pub(crate) fn gaps(gaps: usize, exchanges: u64) -> String {
    let exchanges = count(exchanges, "exchange");
    let gaps = count(gaps as u64, "gap");
    format!("{ERROR}not in the record: {exchanges} in {gaps} before these{ERROR:#}")
}

/// `not recording since 12:04:11.730, 17 exchanges: the disk under echoic.db is full`
pub(crate) fn failing(failure: &Failure) -> String {
    let Failure {
        since,
        why,
        exchanges,
    } = failure;
    let (since, why) = (moment(*since), sanitize(why));
    let exchanges = count(*exchanges, "exchange");
    format!("{ERROR}not recording since {since}, {exchanges}: {why}{ERROR:#}")
}

/// `recording again; 5 exchanges since 12:04:11.730 are lost`
pub(crate) fn recording_again(since: Micros, lost: u64) -> String {
    let since = moment(since);
    match lost {
        0 => format!("recording again; nothing since {since} is lost"),
        1 => format!("recording again; 1 exchange since {since} is lost"),
        _ => format!("recording again; {lost} exchanges since {since} are lost"),
    }
}

/// Formats an exchange in full.
pub(crate) fn whole(exchange: &Exchange) -> String {
    let conversation = &exchange.conversation;
    let mut text = String::new();
    let Exchange {
        id,
        n,
        at,
        latency_ns,
        reads,
        request,
        reply,
        ..
    } = exchange;
    let (latency, outcome) = (latency(*latency_ns), exchange.outcome);
    let _ = writeln!(
        text,
        "exchange {id}   {}   {latency}   {outcome:?}{}",
        local_time::full(*at),
        tags(exchange)
    );
    let (client, server) = match conversation.role {
        Role::Server => (&conversation.remote, &conversation.local),
        Role::Client => (&conversation.local, &conversation.remote),
    };
    let _ = writeln!(
        text,
        "  {DIMMED}number {n} of conversation {}, {} → {} ({}, {}, {}){DIMMED:#}",
        conversation.id,
        sanitize(client),
        sanitize(server),
        sanitize(&conversation.endpoint_info.name),
        sanitize(service(conversation)),
        conversation.endpoint_info.messages(),
    );
    let ended = match &conversation.ended {
        Some((at, ending)) => format!("{ending} at {}", local_time::full(*at)),
        None => "open".to_owned(),
    };
    let _ = writeln!(
        text,
        "  {DIMMED}opened {}; {ended}{DIMMED:#}",
        local_time::full(conversation.opened)
    );
    let in_reads = if *reads > 1 {
        format!(" in {reads} reads")
    } else {
        String::new()
    };
    let _ = writeln!(
        text,
        "  {RECEIVED}▸ {}{in_reads}{RECEIVED:#}",
        for_people(request.len() as u64)
    );
    lines(&mut text, request);
    let _ = writeln!(text, "  {SENT}◂ {}{SENT:#}", for_people(reply.len() as u64));
    lines(&mut text, reply);
    text
}

/// The service that answered, or `client` in a client's record.
fn service(conversation: &Conversation) -> &str {
    match conversation.role {
        Role::Server => &conversation.endpoint_info.service,
        Role::Client => "client",
    }
}

/// Writes bytes as escaped lines, broken at newlines and after 1024 bytes.
fn lines(text: &mut String, bytes: &[u8]) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        for piece in line.chunks(1024) {
            let _ = writeln!(text, "    {}", escape::text(piece));
        }
    }
}

fn side(mark: char, bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return String::new();
    }
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    format!("{mark} {}", escape::text_up_to(line, SIDE_CHARS_MAX))
}

fn head(at: Micros, conversation: ConversationId, today: Date) -> String {
    let time = local_time::short(at, today);
    format!("{time}  {DIMMED}#{conversation:<5}{DIMMED:#}")
}

/// `1 exchange`, `2 exchanges`
pub(crate) fn count(n: u64, what: &str) -> String {
    let more = if n == 1 { "" } else { "s" };
    format!("{n} {what}{more}")
}

/// `82 µs`, `1.2 ms`, `3.4 s`
pub(crate) fn latency(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// The time of a message about the record: with its date unless that is today.
fn moment(at: Micros) -> String {
    local_time::short(at, local_time::now().date())
}

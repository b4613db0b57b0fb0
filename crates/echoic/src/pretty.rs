//! Formats exchanges for reading: as one line, or in full. Bytes of peers are always escaped.

mod columns;
mod left_over;
mod whole;

use std::fmt::Write;

use echoic_core::{
    escape::fit,
    event::{Micros, Outcome, Role},
    exchange::{Conversation, Exchange},
    filter::{Filter, Side},
    store::Gap,
};
use echoic_recorder::Failure;
use unicode_width::UnicodeWidthStr;

use self::columns::{LATENCY, excerpt, padded};
pub(crate) use self::{
    columns::Columns,
    left_over::left_over,
    whole::{Body, whole},
};
use crate::{
    local_time,
    term::{DIMMED, ERROR, RECEIVED, SENT, sanitize},
};

/// Columns that a reply has at least beside a note.
const SIDE_NOTED_MIN: usize = 6;

/// `12:04:07.113  #40871  ▸ hello   ◂ HELLO   82 µs`, in columns that have room for it. A long message is cut; what `filter`
/// finds in it is shown.
pub(crate) fn line(exchange: &Exchange, columns: &Columns, filter: Option<&Filter>) -> String {
    let hit = |side, bytes: &[u8]| filter.and_then(|filter| filter.hit(side, bytes));
    let width = columns.side();
    let side = |mark: char, bytes: &[u8], hit, width: usize| {
        if bytes.is_empty() {
            return String::new();
        }
        format!("{mark} {}", excerpt(bytes, hit, width.saturating_sub(2)))
    };
    let Exchange { request, reply, .. } = exchange;
    let request = side('▸', request, hit(Side::Request, request), width);
    // What went wrong stands with the reply, or in its place, so that the columns keep theirs.
    let beside = if reply.is_empty() {
        0
    } else {
        SIDE_NOTED_MIN + 2
    };
    let notes = fit(notes(exchange).as_bytes(), width.saturating_sub(beside)).0;
    let room = match notes.len() {
        0 => width,
        taken => width.saturating_sub(taken + 2).max(SIDE_NOTED_MIN),
    };
    let mut reply = side('◂', reply, hit(Side::Reply, reply), room);
    if !notes.is_empty() && !reply.is_empty() {
        reply += "  ";
    }
    let request = padded(&request, width);
    let rest = padded(&notes, width.saturating_sub(reply.width()));
    let sides =
        format!("{RECEIVED}{request}{RECEIVED:#} {SENT}{reply}{SENT:#}{ERROR}{rest}{ERROR:#}");
    let head = columns.head(exchange.at, exchange.conversation.id);
    if columns.is_narrow() {
        return format!("{head}{sides}");
    }
    let latency = latency(exchange.latency_ns);
    format!("{head}{sides} {DIMMED}{latency:>LATENCY$}{DIMMED:#}")
}

/// The outcome of an exchange unless it is ok, and its tags.
fn notes(exchange: &Exchange) -> String {
    let outcome = match exchange.outcome {
        Outcome::Ok => None,
        Outcome::Unanswered => Some("unanswered"),
        Outcome::Withheld => Some("withheld"),
        Outcome::Unsent => Some("not sent in full"),
    };
    let notes: Vec<&str> = outcome.into_iter().chain(exchange.tags()).collect();
    notes.join(", ")
}

fn tags(exchange: &Exchange) -> String {
    let mut text = String::new();
    for tag in exchange.tags() {
        let _ = write!(text, "  {ERROR}{tag}{ERROR:#}");
    }
    text
}

/// `12:04:06.998  #40871  127.0.0.1:51422 connected → tcp:5000 upper`
pub(crate) fn opened(conversation: &Conversation, columns: &Columns) -> String {
    let Conversation {
        id,
        opened,
        remote,
        endpoint_info,
        ..
    } = conversation;
    format!(
        "{}{DIMMED}{} connected → {} {}{DIMMED:#}",
        columns.head(*opened, *id),
        sanitize(remote),
        sanitize(&endpoint_info.name),
        sanitize(service(conversation))
    )
}

/// `12:04:11.730  #40871  peer closed, 12 B in, 12 B out`
pub(crate) fn ended(conversation: &Conversation, columns: &Columns) -> String {
    let Some((at, ending)) = &conversation.ended else {
        return String::new();
    };
    let style = if matches!(ending.reason.class(), "fin" | "drain") {
        DIMMED
    } else {
        ERROR
    };
    format!(
        "{}{style}{ending}{}{style:#}",
        columns.head(*at, conversation.id),
        left_over::at_end(conversation)
    )
}

/// A conversation without an exchange: `12:04:11.730  #40871  127.0.0.1:51422 → tcp:5000 upper: limit: too many connections, …`
pub(crate) fn conversation_without_exchange(
    conversation: &Conversation,
    columns: &Columns,
) -> String {
    let Conversation {
        id,
        opened,
        remote,
        endpoint_info,
        ended,
        ..
    } = conversation;
    let ending = match ended {
        Some((_, ending)) => format!("{ending}{}", left_over::at_end(conversation)),
        None => "open".to_owned(),
    };
    format!(
        "{}{} → {} {}: {ending}",
        columns.head(*opened, *id),
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

/// The service that answered, or `client` in a client's record.
fn service(conversation: &Conversation) -> &str {
    match conversation.role {
        Role::Server => &conversation.endpoint_info.service,
        Role::Client => "client",
    }
}

/// `1 exchange`, `2 exchanges`
pub(crate) fn count(n: u64, what: &str) -> String {
    let more = if n == 1 { "" } else { "s" };
    format!("{n} {what}{more}")
}

/// `82 µs`, `1.2 ms`, `3.4 s`: rounded, half up, as a filter with `lat:` reads it.
pub(crate) fn latency(ns: u64) -> String {
    let rounded = |unit: u64| (ns + unit / 2) / unit;
    let tenths = |tenths: u64| format!("{}.{}", tenths / 10, tenths % 10);
    match ns {
        0..999_500 => format!("{} µs", rounded(1_000)),
        999_500..999_950_000 => format!("{} ms", tenths(rounded(100_000))),
        _ => format!("{} s", tenths(ns.saturating_add(50_000_000) / 100_000_000)),
    }
}

/// The time of a message about the record: with its date unless that is today.
fn moment(at: Micros) -> String {
    local_time::short(at, local_time::now().date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_rounded() {
        for (ns, text) in [
            (0, "0 µs"),
            (499, "0 µs"),
            (500, "1 µs"),
            (82_499, "82 µs"),
            (82_500, "83 µs"),
            (999_499, "999 µs"),
            (999_500, "1.0 ms"),
            (1_250_000, "1.3 ms"),
            (999_949_999, "999.9 ms"),
            (999_950_000, "1.0 s"),
            (3_449_999_999, "3.4 s"),
            (3_450_000_000, "3.5 s"),
            (u64::MAX, "18446744073.7 s"),
        ] {
            assert_eq!(latency(ns), text, "{ns}");
        }
    }
}

//! Formats exchanges for reading: as one line, or in full. Bytes of peers are always escaped.

mod columns;
mod left_over;
mod whole;

use std::fmt::Write;

pub(crate) use echoic_core::units::counted as count;
use echoic_core::{
    client_hello::begins_as_tls,
    escape::fit,
    event::{ClientCertificate, Micros, Outcome, Role, TlsInfo},
    exchange::{Conversation, Exchange, TAG_TLS},
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
    // What went wrong and the tags stand with the reply, or in its place, so that the columns keep theirs.
    let room = match reply.len() {
        0 => width,
        _ => width.saturating_sub(SIDE_NOTED_MIN + 2),
    };
    let outcome = fit(outcome(exchange).as_bytes(), room).0;
    let beside = outcome.len() + usize::from(!outcome.is_empty());
    let tags = tags_within(exchange, room.saturating_sub(beside));
    let between = if outcome.is_empty() || tags.is_empty() {
        ""
    } else {
        " "
    };
    let taken = outcome.len() + between.len() + tags.width();
    let room = match taken {
        0 => width,
        taken => width.saturating_sub(taken + 2).max(SIDE_NOTED_MIN),
    };
    let mut reply = side('◂', reply, hit(Side::Reply, reply), room);
    if taken > 0 && !reply.is_empty() {
        reply += "  ";
    }
    let request = padded(&request, width);
    let rest = width.saturating_sub(reply.width() + outcome.len() + between.len());
    let rest = padded(&tags, rest);
    let sides = format!(
        "{RECEIVED}{request}{RECEIVED:#} {SENT}{reply}{SENT:#}{ERROR}{outcome}{ERROR:#}{between}{DIMMED}{rest}{DIMMED:#}"
    );
    let head = columns.head(exchange.at, exchange.conversation.id);
    if columns.is_narrow() {
        return format!("{head}{sides}");
    }
    let latency = latency(exchange.latency_ns);
    format!("{head}{sides} {DIMMED}{latency:>LATENCY$}{DIMMED:#}")
}

/// The outcome of an exchange unless it is ok.
fn outcome(exchange: &Exchange) -> &'static str {
    match exchange.outcome {
        Outcome::Ok => "",
        Outcome::Unanswered => "unanswered",
        Outcome::Withheld => "withheld",
        Outcome::Unpaired => "unpaired",
        Outcome::Unsent => "not sent in full",
    }
}

/// `[bug, http]`, or nothing: without the brackets a tag reads like the end of a reply. Where they do not fit, there are none, so
/// that more of the tags is there.
fn tags_within(exchange: &Exchange, columns: usize) -> String {
    let tags = exchange.tags().map(|tag| hint(exchange, tag));
    let tags = tags.collect::<Vec<_>>().join(", ");
    let (shown, taken) = fit(tags.as_bytes(), columns.saturating_sub("[]".len()));
    if taken < tags.len() {
        fit(tags.as_bytes(), columns).0
    } else if tags.is_empty() {
        String::new()
    } else {
        format!("[{shown}]")
    }
}

/// Explains a tag that echoic gives.
fn hint<'a>(exchange: &Exchange, tag: &'a str) -> &'a str {
    if tag == TAG_TLS && begins_as_tls(&exchange.request) {
        "tls on a plain port"
    } else {
        tag
    }
}

/// `TLS 1.3, TLS13_AES_256_GCM_SHA384, server name localhost, ALPN h2, client certificate CN=alice (SHA-256 ab12…)`
pub(crate) fn tls(tls: &TlsInfo) -> String {
    let TlsInfo {
        version,
        cipher,
        sni,
        alpn,
        client,
        failure,
    } = tls;
    let mut text = match version {
        Some(version) => format!("TLS {version}"),
        None => "TLS".to_owned(),
    };
    for (what, value) in [("", cipher), ("server name ", sni), ("ALPN ", alpn)] {
        if let Some(value) = value {
            let _ = write!(text, ", {what}{value}");
        }
    }
    if let Some(ClientCertificate { subject, sha256 }) = client {
        let _ = write!(text, ", client certificate {subject} (SHA-256 {sha256})");
    }
    if let Some(failure) = failure {
        let _ = write!(text, ", handshake failed: {failure}");
    }
    text
}

fn tags(exchange: &Exchange) -> String {
    let mut text = String::new();
    for tag in exchange.tags() {
        let _ = write!(text, "  {ERROR}{}{ERROR:#}", sanitize(hint(exchange, tag)));
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
    let failure = conversation
        .tls
        .as_ref()
        .and_then(|tls| tls.failure.as_deref());
    let failure = failure.map_or(String::new(), |why| format!(" ({})", sanitize(why)));
    format!(
        "{}{style}{ending}{}{failure}{style:#}",
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
        tls,
        ..
    } = conversation;
    let failure = tls.as_ref().and_then(|tls| tls.failure.as_deref());
    let failure = failure.map_or(String::new(), |why| format!(" ({})", sanitize(why)));
    let ending = match ended {
        Some((_, ending)) => format!("{ending}{}", left_over::at_end(conversation)),
        None => "open".to_owned(),
    };
    format!(
        "{}{} → {} {}: {ending}{failure}",
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
    let exchanges = count(lost, "exchange");
    match lost {
        0 => format!("recording again; nothing since {since} is lost"),
        1 => format!("recording again; {exchanges} since {since} is lost"),
        _ => format!("recording again; {exchanges} since {since} are lost"),
    }
}

/// The service that answered, or `client` in a client's record.
fn service(conversation: &Conversation) -> &str {
    match conversation.role {
        Role::Server => &conversation.endpoint_info.service,
        Role::Client => "client",
    }
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

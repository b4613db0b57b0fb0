//! The probe report as text: a timeline, a table of addresses, and the verdict.

use std::time::Duration;

use echoic_client::probe::{
    Attempt, AttemptOutcome, Report, State, Summary, TlsFailure, Verdict, figure,
};
use echoic_core::{
    endpoint::{Endpoint, Host},
    escape,
    event::Address,
};
use echoic_wire::eyeballs::LookupFailure;

use super::{
    tls,
    words::{dns_status, failure},
};
use crate::term::{DIMMED, ERROR, OutputError, Payload, RECEIVED};

/// Rows of the timeline that are printed; the rest is counted.
const ROWS_MAX: usize = 30;

/// Width of a bar over the whole time, in characters.
const WIDTH: usize = 40;

/// Number of marks on the scale, with the one at 0.
const MARKS: usize = 4;

/// A row of the timeline.
struct Row {
    kind: &'static str,
    what: String,
    result: String,
    from: Duration,
    to: Duration,
    /// There was no answer; the bar is dotted.
    is_unanswered: bool,
}

/// Writes the report.
pub(super) fn write(
    payload: &mut Payload,
    report: &Report,
    verdict: &Verdict,
    port_assumed: bool,
) -> Result<(), OutputError> {
    timeline(payload, report, port_assumed)?;
    records(payload, report)?;
    let summaries = report.by_address();
    if summaries.len() > 1
        || summaries.iter().any(|summary| summary.tries.len() > 1)
        || !report.untried.is_empty()
    {
        table(payload, &summaries, report)?;
    }
    tls::write(payload, report)?;
    let colour = match verdict.state {
        State::Reachable | State::Open | State::Ready | State::Trusted => RECEIVED,
        _ => ERROR,
    };
    payload.line(format_args!(
        "{colour}verdict{colour:#}: {}",
        verdict.sentence
    ))
}

fn timeline(payload: &mut Payload, report: &Report, port_assumed: bool) -> Result<(), OutputError> {
    let rows = rows(report);
    let whole = rows.iter().map(|row| row.to).max().unwrap_or_default();
    let widest = |of: fn(&Row) -> &str| {
        rows.iter()
            .map(|row| of(row).chars().count())
            .max()
            .unwrap_or(0)
    };
    let (what, result) = (widest(|row| &row.what), widest(|row| &row.result));
    let title = escaped(&report.endpoint.to_string());
    if port_assumed {
        payload.line(format_args!(
            "{title}  {DIMMED}(port 80 by default){DIMMED:#}"
        ))?;
    } else {
        payload.line(format_args!("{title}"))?;
    }
    let margin = 3 + 4 + 2 + what + 2 + result + 2 + 8 + 2;
    if !rows.is_empty() {
        payload.line(format_args!(
            "{:margin$}{DIMMED}{}{DIMMED:#}",
            "",
            scale(whole)
        ))?;
    }
    for (number, row) in (1..).zip(rows.iter().take(ROWS_MAX)) {
        let took = figure(row.to.saturating_sub(row.from));
        payload.line(format_args!(
            "{number:>2} {:<4}  {:<what$}  {:<result$}  {took:>8}  {}",
            row.kind,
            row.what,
            row.result,
            bar(row, whole),
        ))?;
    }
    match rows.len().saturating_sub(ROWS_MAX) {
        0 => Ok(()),
        more => payload.line(format_args!("   … and {more} more; --json prints all")),
    }
}

fn rows(report: &Report) -> Vec<Row> {
    let mut rows = vec![];
    let host = match &report.endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at) => match &at.host {
            Host::Name(name) => name.as_str(),
            _ => "",
        },
        _ => "",
    };
    let resolved = report.names.iter().any(|answer| answer.found.is_ok());
    for answer in &report.names {
        let result = match &answer.found {
            Ok(addrs) if addrs.len() == 1 => "1 address".to_owned(),
            Ok(addrs) => format!("{} addresses", addrs.len()),
            // The other family has addresses, so the name exists.
            Err(LookupFailure::NoName) if resolved => {
                LookupFailure::NoAddress(answer.family).to_string()
            }
            Err(missing) => escaped(&missing.to_string()),
        };
        let what = format!("{host} {}", answer.family);
        let is_unanswered = answer.found.is_err();
        rows.push(Row {
            kind: "name",
            what,
            result,
            from: Duration::ZERO,
            to: answer.at,
            is_unanswered,
        });
    }
    if let Some(dns) = &report.dns {
        let via: Vec<_> = dns.servers.iter().map(ToString::to_string).collect();
        for answer in &dns.answers {
            let result = match &answer.found {
                Ok(records) if records.len() == 1 => "1 record".to_owned(),
                Ok(records) => format!("{} records", records.len()),
                Err(why) => escaped(&dns_status(why)),
            };
            let what = format!("{} via {}", answer.kind, via.join(", "));
            let is_unanswered = answer.found.is_err();
            rows.push(Row {
                kind: "DNS",
                what,
                result,
                from: Duration::ZERO,
                to: answer.took,
                is_unanswered,
            });
        }
    }
    rows.extend(
        report
            .tries
            .iter()
            .map(|tried| row(tried, &report.endpoint)),
    );
    rows.extend(report.tls.iter().map(|answer| Row {
        kind: "TLS",
        what: escaped(&answer.address.to_string()),
        result: tls::result(answer).to_owned(),
        from: answer.started,
        to: answer.ended,
        is_unanswered: matches!(answer.failure, Some(TlsFailure::TimedOut)),
    }));
    rows
}

fn row(tried: &Attempt, endpoint: &Endpoint) -> Row {
    Row {
        kind: match endpoint {
            Endpoint::Tcp(_) | Endpoint::Tls(_) => "TCP",
            Endpoint::Udp(_) => "UDP",
            Endpoint::Unix(_) | Endpoint::Unixgram(_) | Endpoint::Fd(_) => "unix",
        },
        what: escaped(&tried.address.to_string()),
        result: result(&tried.outcome),
        from: tried.started,
        to: tried.ended,
        is_unanswered: matches!(
            tried.outcome,
            AttemptOutcome::Silent | AttemptOutcome::Overtaken
        ),
    }
}

fn result(outcome: &AttemptOutcome) -> String {
    match outcome {
        AttemptOutcome::Connected { .. } => "connected".to_owned(),
        AttemptOutcome::Replied { bytes } => format!("replied, {bytes} B"),
        AttemptOutcome::Failed(error) => match failure(error) {
            "failed" => escaped(&error.to_string()),
            word => word.to_owned(),
        },
        AttemptOutcome::Silent => "no answer".to_owned(),
        AttemptOutcome::Overtaken => "overtaken".to_owned(),
    }
}

/// Formats the scale above the bars: `0 ms      10 ms     20 ms     30 ms`.
fn scale(whole: Duration) -> String {
    let mark = |number: usize| figure(whole * number as u32 / MARKS as u32);
    let marks = (0..MARKS).map(|number| format!("{:<width$}", mark(number), width = WIDTH / MARKS));
    marks.collect::<String>().trim_end().to_owned()
}

/// Formats the bar of a row, at least one character wide.
fn bar(row: &Row, whole: Duration) -> String {
    let column = |at: Duration| {
        let (at, whole) = (at.as_nanos(), whole.as_nanos().max(1));
        usize::try_from((at * WIDTH as u128 + whole / 2) / whole).unwrap_or(WIDTH)
    };
    let from = column(row.from).min(WIDTH - 1);
    let to = column(row.to).clamp(from + 1, WIDTH);
    let block = if row.is_unanswered { "┄" } else { "█" };
    format!("{}{}", " ".repeat(from), block.repeat(to - from))
}

fn records(payload: &mut Payload, report: &Report) -> Result<(), OutputError> {
    let answers = report.dns.iter().flat_map(|dns| &dns.answers);
    let mut printed = vec![];
    for record in answers
        .filter_map(|answer| answer.found.as_ref().ok())
        .flatten()
    {
        let text = format!("{} {} {}", record.name, record.kind, record.value);
        // Both families follow the same aliases; print each once.
        if !printed.contains(&text) {
            payload.line(format_args!(
                "   record  {}  {DIMMED}TTL {} s{DIMMED:#}",
                escaped(&text),
                record.ttl
            ))?;
            printed.push(text);
        }
    }
    Ok(())
}

fn table(
    payload: &mut Payload,
    summaries: &[Summary<'_>],
    report: &Report,
) -> Result<(), OutputError> {
    let mut lines: Vec<[String; 6]> = vec![
        [
            "ADDRESS",
            "RESULT",
            "TRIES",
            "MIN / MEDIAN / MAX",
            "LOCAL",
            "MSS",
        ]
        .map(str::to_owned),
    ];
    lines.extend(summaries.iter().map(summary_row));
    for addr in &report.untried {
        lines.push([
            addr.to_string(),
            "not tried".into(),
            "0/0".into(),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        payload.line(format_args!(" {}", cells.join("  ").trim_end()))?;
    }
    Ok(())
}

/// Returns the table row of one address.
fn summary_row(summary: &Summary<'_>) -> [String; 6] {
    let times = summary.span.map(|span| {
        if summary.good == 1 {
            figure(span.min)
        } else {
            format!(
                "{} / {} / {}",
                figure(span.min),
                figure(span.median),
                figure(span.max)
            )
        }
    });
    let local = summary.tries.iter().find_map(|tried| match &tried.outcome {
        AttemptOutcome::Connected {
            local: Some(Address::Net(local)),
            mss,
        } => Some((
            local.to_string(),
            mss.map_or(String::new(), |mss| mss.to_string()),
        )),
        _ => None,
    });
    let (local, mss) = local.unwrap_or_default();
    let best = summary
        .tries
        .iter()
        .find(|tried| tried.is_good())
        .or_else(|| summary.tries.last());
    [
        escaped(&summary.address.to_string()),
        best.map(|tried| result(&tried.outcome)).unwrap_or_default(),
        format!("{}/{}", summary.good, summary.tries.len()),
        times.unwrap_or_default(),
        local,
        mss,
    ]
}

/// Escapes text for a terminal.
fn escaped(text: &str) -> String {
    escape::text(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn bar_is_placed_by_time_and_never_empty() {
        let bar = |from, to, is_unanswered| {
            let row = Row {
                kind: "TCP",
                what: String::new(),
                result: String::new(),
                from: ms(from),
                to: ms(to),
                is_unanswered,
            };
            bar(&row, ms(400))
        };
        assert_eq!(bar(0, 400, false), "█".repeat(WIDTH));
        assert_eq!(
            bar(100, 200, true),
            format!("{}{}", " ".repeat(10), "┄".repeat(10))
        );
        assert_eq!(bar(7, 7, false).trim_start(), "█");
        assert_eq!(bar(400, 400, false), format!("{}█", " ".repeat(WIDTH - 1)));
    }

    #[test]
    fn scale_marks_align_with_the_bars() {
        assert_eq!(scale(ms(400)), "0 ms      100 ms    200 ms    300 ms");
        assert_eq!(scale(Duration::ZERO).find("0 ms"), Some(0));
    }
}

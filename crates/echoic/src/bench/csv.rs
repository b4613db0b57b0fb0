//! The result as CSV: one row for each run.

use echoic_client::bench::{Measured, percentile};

use crate::term::{OutputError, Payload};

const COLUMNS: [&str; 12] = [
    "run",
    "asked_per_s",
    "done_per_s",
    "sent",
    "ok",
    "wrong",
    "lost",
    "p50_us",
    "p99_us",
    "max_us",
    "delivered",
    "verdict",
];

/// Writes comma-separated values (RFC 4180). No cell contains a comma or a quote.
pub(super) fn write(payload: &mut Payload, measured: &Measured) -> Result<(), OutputError> {
    payload.line(format_args!("{}", COLUMNS.join(",")))?;
    for row in rows(measured) {
        payload.line(format_args!("{}", row.join(",")))?;
    }
    Ok(())
}

fn rows(measured: &Measured) -> Vec<[String; 12]> {
    let figures = &measured.figures;
    let micros = |ms: Option<f64>| ms.map_or_else(String::new, |ms| format!("{:.1}", ms * 1e3));
    let mut rows: Vec<_> = measured
        .tries
        .iter()
        .map(|attempt| {
            let empty = String::new;
            [
                attempt.purpose.word().to_owned(),
                attempt
                    .asked_per_s
                    .map_or_else(String::new, |rate| format!("{rate:.1}")),
                format!("{:.1}", attempt.done_per_s),
                empty(),
                empty(),
                empty(),
                empty(),
                micros(attempt.p50_ms),
                micros(attempt.p99_ms),
                empty(),
                format!("{:.4}", attempt.delivered),
                attempt.verdict.limit.word().to_owned(),
            ]
        })
        .collect();
    let at = |q| micros(percentile(&figures.due, q).map(|time| time.as_secs_f64() * 1e3));
    rows.push([
        "result".to_owned(),
        figures
            .rate
            .map_or_else(String::new, |rate| format!("{rate:.1}")),
        format!("{:.1}", figures.done_per_s()),
        figures.sent.to_string(),
        figures.ok.to_string(),
        figures.wrong.to_string(),
        figures.lost.to_string(),
        at(0.5),
        at(0.99),
        format!("{:.1}", figures.due.max() as f64 / 1e3),
        format!("{:.4}", figures.delivered()),
        measured.verdict.limit.word().to_owned(),
    ]);
    rows
}

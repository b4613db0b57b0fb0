//! The result of a benchmark as text for a terminal.

use std::time::Duration;

use echoic_client::bench::{
    Attempt, Compared, Figures, Found, Judged, Load, Mean, Measured, REPEATS_MIN, Steady,
    percentile,
};
use echoic_core::{escape, units};
use echoic_plot::terminal;
use hdrhistogram::Histogram;

use crate::{
    pretty,
    term::{OutputError, Payload},
};

/// Writes the whole result.
pub(super) fn write(payload: &mut Payload, measured: &Measured) -> Result<(), OutputError> {
    let mut lines = Vec::new();
    if !measured.tries.is_empty() {
        lines.push(RUNS_HEADER.to_owned());
        let tries = measured.tries.iter().enumerate();
        lines.extend(tries.map(|(index, attempt)| run_row(index + 1, attempt)));
        lines.push(String::new());
    }
    lines.extend(result(measured));
    lines.extend(replies(measured));
    lines.extend(latencies(measured));
    lines.extend(generator(&measured.figures));
    lines.extend(judgement(measured));
    lines.extend(distribution(&measured.figures.due));
    for line in lines {
        payload.line(format_args!("{line}"))?;
    }
    Ok(())
}

fn result(measured: &Measured) -> Vec<String> {
    let figures = &measured.figures;
    let plan = &measured.plan;
    let cut = if measured.is_cut {
        ", stopped early"
    } else {
        ""
    };
    let load = match &measured.run.load {
        Load::Closed => "closed loop (its latencies are not what users would see)".to_owned(),
        Load::Open { .. } => "open loop".to_owned(),
        Load::Recorded(_) => "as recorded".to_owned(),
    };
    let asked = figures
        .rate
        .map_or_else(String::new, |rate| format!(" (asked {})", count(rate)));
    vec![
        format!(
            "RESULT  {}   {:.1} s after {:.1} s of warm-up{cut}   verdict: {}",
            plan.endpoint,
            figures.seconds,
            measured.run.warmup.as_secs_f64(),
            measured.verdict.limit
        ),
        format!(" {}", measured.verdict.why),
        format!(
            " load       {load}, {}, up to {} in flight on each",
            pretty::count(plan.connections.into(), "connection"),
            plan.pipeline
        ),
        format!(
            " requests   {} sent = {}/s{asked}     replies {} = {}/s   bytes {} / {}",
            count(figures.sent as f64),
            count(figures.sent_per_s()),
            count(figures.done as f64),
            count(figures.done_per_s()),
            units::for_people(figures.bytes_sent),
            units::for_people(figures.bytes_received),
        ),
    ]
}

fn replies(measured: &Measured) -> Vec<String> {
    let figures = &measured.figures;
    let failures = &figures.failures;
    let guessed = if measured.is_guessed {
        ", detected"
    } else {
        ""
    };
    let mut lines = vec![format!(
        " replies    {} as expected ({}{guessed})   {} wrong   {} timed out   {} cut off   {} never sent   {} unexpected",
        count(figures.ok as f64),
        measured.plan.expect,
        figures.wrong,
        failures.timed_out,
        failures.cut + failures.pending,
        figures.unsent,
        failures.extra,
    )];
    if let Some(outcomes) = &figures.outcomes {
        let share = 100.0 * figures.lost as f64 / figures.sent.max(1) as f64;
        lines.push(format!(
            " datagrams  lost {} ({share:.3} %)  late {}  duplicate {}  reordered {} (by {} at most)  truncated {}  dropped here {}",
            figures.lost, figures.late, outcomes.duplicate, outcomes.reordered, outcomes.reordered_by, outcomes.truncated, outcomes.dropped_here,
        ));
    }
    let faults =
        failures.closed + failures.reset + failures.refused + failures.no_port + failures.not_sent;
    if faults + failures.reconnects > 0 {
        lines.push(format!(
            " peers      {} closed  {} reset  {} refused  {} without a local port  {} reconnected  {} datagrams not sent",
            failures.closed,
            failures.reset,
            failures.refused,
            failures.no_port,
            failures.reconnects,
            failures.not_sent
        ));
    }
    if let Some(handshakes) = figures.handshakes {
        let all = (handshakes.full + handshakes.resumed) as f64;
        lines.push(format!(
            " TLS        {} handshakes = {}/s   {} full   {} resumed",
            count(all),
            count(all / figures.seconds.max(1e-9)),
            handshakes.full,
            handshakes.resumed
        ));
    }
    for sample in &figures.samples {
        lines.push(format!(
            " wrong      connection {} request {}: asked {}  got {}  expected {}",
            sample.connection,
            sample.number,
            quoted(&sample.request),
            quoted(&sample.reply),
            quoted(&sample.expected),
        ));
    }
    lines
}

/// Characters shown of each part of a sample.
const SAMPLE_CHARS_MAX: usize = 60;

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", escape::text_up_to(bytes, SAMPLE_CHARS_MAX))
}

fn latencies(measured: &Measured) -> Vec<String> {
    let figures = &measured.figures;
    let row = |of: &Histogram<u64>| {
        let at = |q| percentile(of, q).map_or_else(|| "–".to_owned(), ms);
        let edge = |nanos: u64| {
            if of.is_empty() {
                "–".to_owned()
            } else {
                ms(Duration::from_nanos(nanos))
            }
        };
        format!(
            "min {}  p50 {}  p90 {}  p99 {}  p99.9 {}  max {} ms",
            edge(of.min()),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            edge(of.max())
        )
    };
    let mut lines = vec![
        format!(" latency    from when it was DUE   {}", row(&figures.due)),
        format!(
            "            from when it was SENT  {}",
            row(&figures.service)
        ),
    ];
    if let Some(mean) = Mean::of(&figures.series) {
        lines.push(format!(
            "            mean {} ± {} ms (95 %, of {} blocks)",
            ms_of(mean.nanos),
            ms_of(mean.within),
            mean.blocks
        ));
    }
    if let Some(steady) = Steady::of(&figures.series).filter(|steady| !steady.is_steady) {
        lines.push(format!(
            "            not steady: the second half's median is {:.2} times the first's",
            steady.ratio
        ));
    }
    lines
}

/// Rows of the histogram; widths of its bars and of those of the percentiles, in characters.
const ROWS: usize = 8;
const HISTOGRAM_BAR: usize = 20;
const PERCENTILE_BAR: usize = 14;

/// Draws the histogram of the latencies from the due time beside their percentiles; nothing if there are too few.
fn distribution(due: &Histogram<u64>) -> Vec<String> {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    if percentile(due, 0.9).is_none() {
        return Vec::new();
    }
    let cells = due.iter_recorded();
    let cells: Vec<_> = cells
        .map(|step| (micros(step.value_iterated_to()), step.count_at_value()))
        .collect();
    let shares = [0.5, 0.9, 0.99, 0.999, 0.9999];
    let mut named: Vec<_> = ["p50", "p90", "p99", "p99.9", "p99.99"]
        .into_iter()
        .zip(shares)
        .filter_map(|(name, share)| Some((name, percentile(due, share)?.as_secs_f64() * 1e6)))
        .collect();
    named.push(("max", micros(due.max())));
    let left = terminal::histogram(&cells, ROWS, HISTOGRAM_BAR);
    let mut right = terminal::percentiles(&named, PERCENTILE_BAR).into_iter();
    let beside = |line: String| match right.next() {
        Some(bar) => format!(" {line}  {bar}"),
        None => format!(" {line}"),
    };
    let mut lines = vec![String::new()];
    lines.extend(left.into_iter().map(beside));
    lines
}

fn generator(figures: &Figures) -> Vec<String> {
    let generator = &figures.generator;
    let lag = &generator.lag;
    let lag = |nanos: u64| ms(Duration::from_nanos(if lag.is_empty() { 0 } else { nanos }));
    let floor = generator.floor.map_or_else(String::new, |floor| {
        format!(" · own floor {} ms (a server that does nothing)", ms(floor))
    });
    vec![format!(
        " generator  schedule lag p99 {} ms, max {} ms · cpu {:.0} % of {} cores, busiest thread {:.0} %{floor}",
        lag(generator.lag.value_at_quantile(0.99)),
        lag(generator.lag.max()),
        100.0 * generator.cpu / generator.cores as f64,
        generator.cores,
        100.0 * generator.busy,
    )]
}

fn compared(measured: &Measured) -> Vec<String> {
    let Some(comparison) = &measured.comparison else {
        return Vec::new();
    };
    let how = if comparison.in_turn {
        ", measured in turn"
    } else {
        ""
    };
    let mut lines = vec![format!(
        " compared   with {}{how}: this is",
        escape::text(comparison.with.as_bytes())
    )];
    for figure in &comparison.figures {
        let known = |figure: Option<f64>| figure.map_or_else(|| "–".to_owned(), count);
        lines.push(format!(
            "            {:<11} {:>9} to {:>9}   {}",
            figure.name,
            known(figure.this),
            known(figure.other),
            ratio(figure)
        ));
    }
    let caveats = comparison.caveats.iter();
    lines.extend(caveats.map(|caveat| format!("            {caveat}")));
    lines
}

/// Formats a ratio with its interval: `1.12 times (1.08 to 1.16)`.
pub(super) fn ratio(compared: &Compared) -> String {
    match compared.ratio {
        Some(ratio) if ratio.differs() => format!(
            "{:.3} times ({:.3} to {:.3})",
            ratio.ratio, ratio.low, ratio.high
        ),
        Some(ratio) => format!(
            "no difference seen ({:.3} to {:.3} times)",
            ratio.low, ratio.high
        ),
        None => format!("unknown: needs {REPEATS_MIN} repeats of both"),
    }
}

fn judgement(measured: &Measured) -> Vec<String> {
    let mut lines = compared(measured);
    let mut judged = |name: &str, all: &[Judged]| {
        lines.extend(all.iter().map(|judged| {
            let mark = if judged.met { "✓" } else { "✗" };
            let value = judged.value.as_deref().unwrap_or("nothing measured");
            format!(" {name:<10} {mark} {}: {value}", judged.term)
        }));
    };
    judged("SLO", &measured.slo);
    judged("assert", &measured.asserted);
    if let Some(search) = &measured.search {
        let limit = search.stopped_by.as_ref();
        let limit = limit.map_or_else(String::new, |verdict| {
            format!("   limited by: {} ({})", verdict.limit, verdict.why)
        });
        match search.found {
            Some(Found { rate, is_confirmed }) => {
                let confirmed = if is_confirmed { "" } else { ", not confirmed" };
                lines.push(format!(
                    " found      {}/s (±{:.0} %{confirmed}){limit}",
                    count(rate),
                    search.within * 100.0
                ));
                lines.push(format!(
                    " advice     run at no more than {}/s (70 %)",
                    count(rate * 0.7)
                ));
            }
            None => lines.push(format!(" found      no rate that meets it{limit}")),
        }
    }
    lines
}

/// The header of the table of runs.
pub(super) const RUNS_HEADER: &str =
    "    n  run      asked/s     done/s     p50 ms     p99 ms  delivered    lag ms   verdict";

/// Formats a row of the table of runs.
pub(super) fn run_row(number: usize, attempt: &Attempt) -> String {
    let ms = |time: Option<f64>| time.map_or_else(|| "–".to_owned(), figure);
    let mark = if attempt.passed { "pass" } else { "FAIL" };
    let why = if attempt.passed {
        String::new()
    } else {
        format!(" {}: {}", attempt.verdict.limit, attempt.verdict.why)
    };
    format!(
        "  {number:>3}  {:<7}{:>9}  {:>9}  {:>9}  {:>9}  {:>7.1} %  {:>8}   {mark}{why}",
        attempt.purpose.word(),
        attempt.asked_per_s.map_or_else(|| "–".to_owned(), count),
        count(attempt.done_per_s),
        ms(attempt.p50_ms),
        ms(attempt.p99_ms),
        attempt.delivered.min(1.0) * 100.0,
        figure(attempt.lag_p99_ms),
    )
}

/// Formats a count with thousands separators.
pub(super) fn count(figure: f64) -> String {
    if figure.abs() < 10.0 && figure.fract() != 0.0 {
        return format!("{figure:.2}");
    }
    let digits = format!("{figure:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats milliseconds with three significant digits.
pub(super) fn ms(time: Duration) -> String {
    figure(time.as_secs_f64() * 1e3)
}

fn ms_of(nanos: f64) -> String {
    figure(nanos / 1e6)
}

fn figure(ms: f64) -> String {
    match ms {
        _ if ms >= 100.0 => format!("{ms:.0}"),
        _ if ms >= 10.0 => format!("{ms:.1}"),
        _ if ms >= 1.0 => format!("{ms:.2}"),
        _ => format!("{ms:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_print_only_significant_digits() {
        assert_eq!(count(1_234_567.4), "1,234,567");
        assert_eq!(count(999.0), "999");
        assert_eq!(count(0.25), "0.25");
        assert_eq!(ms(Duration::from_micros(1234)), "1.23");
        assert_eq!(ms(Duration::from_nanos(12_345)), "0.012");
        assert_eq!(ms(Duration::from_millis(250)), "250");
    }
}

//! The tables of the HTML report.

use echoic_client::bench::{Comparison, Figures, Measured, Purpose, Sample, percentile};
use echoic_core::escape;
use echoic_plot::units;
use hdrhistogram::Histogram;

use super::{
    super::{host::Host, text},
    html::Html,
};

/// Characters of each part of a sample.
const SAMPLE_CHARS_MAX: usize = 400;

/// Writes the requests by outcome.
pub(super) fn requests(html: &mut Html, figures: &Figures) {
    let share = |count: u64| match figures.asked {
        0 => "–".to_owned(),
        asked => units::percent(count as f64 / asked as f64),
    };
    html.table_head(
        "Requests due during the measurement, by outcome",
        &["", "count", "share"],
    );
    let mut row = |name: &str, count: u64| {
        html.row(name, [units::whole(count), share(count)]);
    };
    row("asked", figures.asked);
    row("sent", figures.sent);
    row("answered as expected", figures.ok);
    row("answered wrongly", figures.wrong);
    row("answered late", figures.late);
    row("lost", figures.lost);
    row("never sent", figures.unsent);
    html.table_end();
}

/// Writes the latencies from the due time and from the send time.
pub(super) fn latency(html: &mut Html, figures: &Figures) {
    html.table_head(
        "Latency: what a user waits (from the due time), and what the server takes (from the send time). Percentiles with fewer than ten slower requests are left out",
        &["", "from the due time", "from the send time"],
    );
    let both = |of: fn(&Histogram<u64>) -> Option<f64>| {
        [&figures.due, &figures.service].map(|histogram| time(of(histogram)))
    };
    let known =
        |histogram: &Histogram<u64>, nanos: u64| (!histogram.is_empty()).then_some(nanos as f64);
    html.row(
        "min",
        [&figures.due, &figures.service].map(|of| time(known(of, of.min()))),
    );
    for (name, share) in [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("p99.99", 0.9999),
    ] {
        let at = |of| percentile(of, share).map(|latency| latency.as_nanos() as f64);
        html.row(name, [time(at(&figures.due)), time(at(&figures.service))]);
    }
    html.row(
        "max",
        [&figures.due, &figures.service].map(|of| time(known(of, of.max()))),
    );
    html.row("mean", both(|of| (!of.is_empty()).then(|| of.mean())));
    html.table_end();
}

/// Writes the table of runs.
pub(super) fn tries(html: &mut Html, measured: &Measured) {
    html.table_head(
        "Each run, in order",
        &[
            "",
            "asked/s",
            "answered/s",
            "p50",
            "p99",
            "delivered",
            "lag p99",
            "verdict",
        ],
    );
    let ms = |time: Option<f64>| time.map(|ms| ms * 1e6);
    let found = measured.search.as_ref().and_then(|search| search.found);
    let found_by = match found {
        Some(found) if !found.is_confirmed => Purpose::Trial,
        _ => Purpose::Confirmation,
    };
    let found = found.map(|found| found.rate);
    for (number, attempt) in (1..).zip(&measured.tries) {
        let is_found =
            attempt.purpose == found_by && found.is_some() && found == attempt.asked_per_s;
        html.markup(match attempt.passed {
            true if is_found => "<tr class=\"found\">",
            true => "<tr>",
            false => "<tr class=\"bad\">",
        });
        let verdict = if attempt.passed {
            "✓".to_owned()
        } else {
            format!("✗ {}", attempt.verdict.limit)
        };
        html.cells(
            format!("{number} {}", attempt.purpose.word()),
            [
                attempt
                    .asked_per_s
                    .map_or_else(|| "–".to_owned(), units::count),
                units::count(attempt.done_per_s),
                time(ms(attempt.p50_ms)),
                time(ms(attempt.p99_ms)),
                units::percent(attempt.delivered.min(1.0)),
                time(Some(attempt.lag_p99_ms * 1e6)),
                verdict,
            ],
        );
    }
    html.table_end();
    let failed = measured
        .tries
        .iter()
        .zip(1..)
        .filter(|(attempt, _)| !attempt.passed);
    for (attempt, number) in failed {
        html.element("p.note", format!("{number}: {}", attempt.verdict.why));
    }
}

/// Writes the comparison.
pub(super) fn comparison(html: &mut Html, comparison: &Comparison) {
    html.table_head(
        "Medians of the repeats, and their ratio with its 95 % confidence interval",
        &["", "this", "other", "ratio"],
    );
    for figure in &comparison.figures {
        let known = |value: Option<f64>| {
            let unit = if figure.name == "done_per_s" {
                units::count
            } else {
                units::time
            };
            value.map_or_else(|| "–".to_owned(), unit)
        };
        let name = match figure.name {
            "done_per_s" => "answered per second",
            "p50_us" => "p50 from the due time",
            "p99_us" => "p99 from the due time",
            other => other,
        };
        html.row(
            name,
            [known(figure.this), known(figure.other), text::ratio(figure)],
        );
    }
    html.table_end();
    for note in &comparison.caveats {
        html.element("p.note", note);
    }
}

/// Writes the figures of the load generator.
pub(super) fn generator(html: &mut Html, figures: &Figures) {
    let generator = &figures.generator;
    let lag = &generator.lag;
    let lag_at = |share| (!lag.is_empty()).then(|| lag.value_at_quantile(share) as f64);
    let cpu = generator.cpu / generator.cores.max(1) as f64;
    html.table_head(
        "The load generator: whether its figures can be trusted",
        &["", "figure"],
    );
    html.row("schedule lag p99", [time(lag_at(0.99))]);
    html.row("schedule lag max", [time(lag_at(1.0))]);
    let cores = generator.cores;
    html.row(
        "CPU of this process",
        [format!("{} of {cores} cores", units::percent(cpu))],
    );
    html.row("busiest thread", [units::percent(generator.busy)]);
    html.row("threads", [generator.threads]);
    if let Some(floor) = generator.floor {
        html.row(
            "median against a server that does nothing",
            [time(Some(floor.as_nanos() as f64))],
        );
    }
    if let Some(outcomes) = figures.outcomes {
        html.row(
            "datagrams dropped by its own socket",
            [units::whole(outcomes.dropped_here)],
        );
    }
    html.table_end();
}

/// Writes the datagrams by outcome.
pub(super) fn outcomes(html: &mut Html, figures: &Figures) {
    let Some(outcomes) = figures.outcomes else {
        return;
    };
    html.table_head(
        "Datagrams, identified by their sequence numbers",
        &["", "count"],
    );
    for (name, count) in [
        ("sent", figures.sent),
        ("answered", figures.ok),
        ("lost", figures.lost),
        ("late", figures.late),
        ("wrong", figures.wrong),
        ("of these truncated", outcomes.truncated),
        ("duplicate", outcomes.duplicate),
        ("reordered", outcomes.reordered),
        ("dropped by our own socket", outcomes.dropped_here),
    ] {
        html.row(name, [units::whole(count)]);
    }
    if outcomes.reordered > 0 {
        html.row(
            "furthest reordered, in arrivals",
            [units::whole(outcomes.reordered_by)],
        );
    }
    html.table_end();
}

/// Writes the failures by kind.
pub(super) fn failures(html: &mut Html, figures: &Figures) {
    let failures = &figures.failures;
    let all = [
        ("timed out", failures.timed_out),
        ("cut off with their connection", failures.cut),
        ("unanswered at the end", failures.pending),
        ("unexpected replies", failures.extra),
        ("connections closed by the peer", failures.closed),
        ("connections reset", failures.reset),
        ("connections refused", failures.refused),
        ("connections without a local port", failures.no_port),
        ("reconnects", failures.reconnects),
        ("datagrams that failed to send", failures.not_sent),
    ];
    if all.iter().all(|(_, count)| *count == 0) {
        html.element(
            "p.note",
            "Nothing was reset, refused, cut off or left unanswered.",
        );
        return;
    }
    html.table_head("Failures by kind", &["", "count"]);
    for (name, count) in all.into_iter().filter(|(_, count)| *count > 0) {
        html.row(name, [units::whole(count)]);
    }
    html.table_end();
}

/// Writes the first wrong replies.
pub(super) fn samples(html: &mut Html, samples: &[Sample]) {
    for sample in samples {
        let Sample {
            connection, number, ..
        } = sample;
        html.element(
            "p.note",
            format!("Request {number} on connection {connection}:"),
        );
        html.markup("<pre>");
        for (name, bytes) in [
            ("request  ", &sample.request),
            ("reply    ", &sample.reply),
            ("expected ", &sample.expected),
        ] {
            html.text(name)
                .text(escape::text_up_to(bytes, SAMPLE_CHARS_MAX))
                .text("\n");
        }
        html.markup("</pre>\n");
    }
}

/// Writes the machine and the versions.
pub(super) fn environment(html: &mut Html, host: &Host, seed: u64, when: &str) {
    html.markup("<div class=\"scroll\"><table class=\"words\"><tbody>\n");
    html.row("measured", [when]);
    html.row("machine", [format!("{} cores", host.cores)]);
    html.row("processor", [host.cpu.as_deref().unwrap_or("unknown")]);
    html.row("kernel", [&host.kernel]);
    html.row(
        "frequency governor",
        [host.governor.as_deref().unwrap_or("unknown")],
    );
    html.row("echoic", [&host.echoic]);
    html.row("seed", [seed]);
    html.table_end();
}

/// Formats a time in nanoseconds; a dash if there is none.
pub(super) fn time(nanos: Option<f64>) -> String {
    nanos.map_or_else(|| "–".to_owned(), |nanos| units::time(nanos / 1e3))
}

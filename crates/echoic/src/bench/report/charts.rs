//! The charts of a result.

use echoic_client::bench::{DatagramOutcomes, Figures, Judged, Measured, Purpose, Second};
use echoic_core::units::Span;
use echoic_plot::{
    Bounds, Line, OutcomeCount, Slice, Step, Svg, Tone, heat, latencies, outcomes, percentiles,
    rates, steps,
};
use hdrhistogram::Histogram;

const NANOS_PER_MICRO: f64 = 1e3;
/// Points of a percentile curve for each halving of the remaining share.
const STEPS_PER_HALVING: u32 = 4;

/// Returns all charts in the order of the page: first those of all runs, then those of the last run.
pub(crate) fn charts(measured: &Measured) -> Vec<Svg> {
    let figures = &measured.figures;
    let series = &figures.series;
    let all = [
        tries(measured),
        latencies(latency_lines(series)),
        rates(rate_lines(figures)),
        percentiles(curves(figures)),
        heat(1.0, &slices(series)),
        figures
            .outcomes
            .and_then(|known| outcome_bars(figures, known)),
    ];
    all.into_iter().flatten().collect()
}

/// Charts latency by rate, for steps and a search.
fn tries(measured: &Measured) -> Option<Svg> {
    let micros = |ms: Option<f64>| ms.map_or(f64::NAN, |ms| ms * 1e3);
    let searched = measured.tries.iter();
    let searched =
        searched.filter(|attempt| !matches!(attempt.purpose, Purpose::Repeat | Purpose::Other));
    let trials = searched.map(|attempt| Step {
        asked: attempt.asked_per_s.unwrap_or(f64::NAN),
        median_us: micros(attempt.p50_ms),
        judged_us: micros(attempt.p99_ms),
        passed: attempt.passed,
    });
    let bounds = Bounds {
        judged: "p99".to_owned(),
        below_us: measured.slo.iter().find_map(p99_below),
        found: measured
            .search
            .as_ref()
            .and_then(|search| search.found)
            .map(|found| found.rate),
    };
    steps(&trials.collect::<Vec<_>>(), &bounds)
}

/// Returns the bound of a term such as `p99<5ms`, in microseconds.
fn p99_below(judged: &Judged) -> Option<f64> {
    let bound = judged
        .term
        .strip_prefix("p99")?
        .trim_start_matches(['<', '=', ' ']);
    let Span(bound) = bound.parse().ok()?;
    Some(bound.as_secs_f64() * 1e6)
}

fn line(name: &str, tone: Tone, points: impl Iterator<Item = (f64, f64)>) -> Line {
    Line {
        name: name.to_owned(),
        tone,
        points: points.collect(),
    }
}

/// Each second at its middle, so that the first is not at nothing.
fn seconds(series: &[Second]) -> impl Iterator<Item = (f64, &Second)> {
    (0..).map(|second| f64::from(second) + 0.5).zip(series)
}

fn rate_lines(figures: &Figures) -> Vec<Line> {
    let series = || seconds(&figures.series);
    let asked = figures.rate.map(|rate| {
        let asked = series().map(|(at, _)| (at, rate));
        line("asked", Tone::Quiet, asked)
    });
    let sent = series().map(|(at, second)| (at, second.sent as f64));
    let done = series().map(|(at, second)| (at, (second.ok + second.wrong) as f64));
    let failed = series().map(|(at, second)| (at, (second.lost + second.wrong) as f64));
    let mut lines: Vec<_> = asked.into_iter().collect();
    lines.push(line("sent", Tone::Other, sent));
    lines.push(line("answered", Tone::Main, done));
    if figures.lost + figures.wrong > 0 {
        lines.push(line("lost or wrong", Tone::Bad, failed));
    }
    lines
}

fn latency_lines(series: &[Second]) -> Vec<Line> {
    let at = |share: f64| {
        seconds(series)
            .filter(|(_, second)| !second.due.is_empty())
            .map(move |(at, second)| (at, micros(second.due.value_at_quantile(share))))
    };
    vec![
        line("p50", Tone::Main, at(0.5)),
        line("p99", Tone::Other, at(0.99)),
        line("max", Tone::Quiet, at(1.0)),
    ]
}

fn curves(figures: &Figures) -> Vec<Line> {
    let curve = |of: &Histogram<u64>| {
        let steps = of.iter_quantiles(STEPS_PER_HALVING);
        let steps = steps.map(|step| {
            (
                step.quantile_iterated_to(),
                micros(step.value_iterated_to()),
            )
        });
        steps.filter(|(share, _)| *share < 1.0).collect::<Vec<_>>()
    };
    vec![
        line(
            "from the due time",
            Tone::Main,
            curve(&figures.due).into_iter(),
        ),
        line(
            "from the send time",
            Tone::Other,
            curve(&figures.service).into_iter(),
        ),
    ]
}

fn slices(series: &[Second]) -> Vec<Slice> {
    let slice = |second: &Second| {
        let recorded = second.due.iter_recorded();
        recorded
            .map(|step| (micros(step.value_iterated_to()), step.count_at_value()))
            .collect()
    };
    series.iter().map(slice).collect()
}

fn outcome_bars(figures: &Figures, known: DatagramOutcomes) -> Option<Svg> {
    let outcome = |name, count, tone| OutcomeCount { name, count, tone };
    outcomes(
        figures.sent,
        figures.ok,
        &[
            outcome("lost", figures.lost, Tone::Bad),
            outcome("late", figures.late, Tone::Other),
            outcome("wrong", figures.wrong, Tone::Bad),
            outcome("duplicate", known.duplicate, Tone::Other),
            outcome("reordered", known.reordered, Tone::Other),
        ],
    )
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / NANOS_PER_MICRO
}

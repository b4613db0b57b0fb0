//! The curve of latencies by percentile. Its axis is the logarithm of 1/(1-p), which shows the tail.

use std::fmt::Write;

use super::{
    Chart, Frame,
    axes::{Area, Log},
    path::{Path, short},
};
use crate::{text::escaped, units};

/// A latency that a part of the exchanges does not exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// The part, from 0 to less than 1.
    pub part: f64,
    /// The latency in nanoseconds.
    pub ns: u64,
}

/// Percentiles with a label at the axis.
const LABELS: [(f64, &str); 7] = [
    (0.5, "p50"),
    (0.9, "p90"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
    (0.99999, "p99.999"),
    (0.999_999, "p99.9999"),
];

/// Least distance of a label from the one at the end of the axis.
const END_APART: f64 = 56.0;

/// Percentiles with their latency at the curve.
const MARKED: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Draws latencies by percentile. `quantiles` increase.
pub fn percentiles(frame: &Frame, exchanges: u64, quantiles: &[Quantile]) -> Chart {
    let area = Area::new(frame);
    let low = quantiles.first().map_or(10_000, |first| first.ns);
    let high = quantiles.last().map_or(10_000_000, |last| last.ns);
    let scale = Log::new(area, low as f64, high as f64);
    let most = quantiles.last().map_or(0.99, |last| last.part);
    let nines = tail(most).max(2.0);
    let x = |part: f64| area.left + area.width() * tail(part) / nines;
    let mut body = String::new();
    scale.grid(&mut body);
    for (n, (part, label)) in LABELS.iter().enumerate() {
        if x(*part) <= x(most) - END_APART {
            area.label_below(x(*part), label, n % 2 == 1, &mut body);
        }
    }
    if !quantiles.is_empty() {
        area.label_below(x(most), "max", false, &mut body);
    }
    area.baseline(&mut body);
    let mut curve = Path::new();
    for quantile in quantiles {
        curve.to(x(quantile.part), scale.y(quantile.ns as f64));
    }
    curve.draw("l1", &mut body);
    for part in MARKED {
        if let Some(ns) = at(quantiles, part) {
            mark(&area, x(part), scale.y(ns as f64), ns, &mut body);
        }
    }
    Chart {
        width: frame.width,
        height: frame.height,
        name: "percentiles",
        title: "Latency by percentile",
        sentence: describe(exchanges, quantiles),
        body,
    }
}

/// Returns the number of nines of a part: 2 for 0.99.
fn tail(part: f64) -> f64 {
    -(1.0 - part).max(1e-9).log10()
}

/// Returns the latency of the first quantile that is at least `part`.
fn at(quantiles: &[Quantile], part: f64) -> Option<u64> {
    let found = quantiles.iter().find(|one| one.part >= part - 1e-9);
    found.map(|one| one.ns)
}

fn mark(area: &Area, x: f64, y: f64, ns: u64, body: &mut String) {
    // The curve rises: the label is left above its point or, without room there, right below it.
    let (anchor, text_x, text_y) = if x < area.left + 60.0 {
        ("start", x + 6.0, (y + 14.0).min(area.bottom - 3.0))
    } else {
        ("end", x - 6.0, (y - 7.0).max(area.top))
    };
    let label = escaped(&units::time(ns as f64 / 1e3));
    let (text_x, text_y) = (short(text_x), short(text_y));
    let (x, y) = (short(x), short(y));
    let _ = write!(
        body,
        "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"currentColor\"/>\
         <text class=\"on\" x=\"{text_x}\" y=\"{text_y}\" text-anchor=\"{anchor}\">{label}</text>"
    );
}

fn describe(exchanges: u64, quantiles: &[Quantile]) -> String {
    if exchanges == 0 {
        return "No exchanges in this time.".to_owned();
    }
    // Few exchanges do not tell what 99 of 100 would take.
    let parts = [
        (0.5, "half are answered within"),
        (0.9, "90 % within"),
        (0.99, "99 % within"),
    ];
    let parts = parts.into_iter().filter_map(|(part, words)| {
        let ns = at(quantiles, part)?;
        Some(format!("{words} {}, ", units::time(ns as f64 / 1e3)))
    });
    let parts: String = parts.collect();
    let max = quantiles.last().map_or(0, |last| last.ns);
    format!(
        "Of {} exchanges {parts}and all within {}.",
        units::whole(exchanges),
        units::time(max as f64 / 1e3),
    )
}

//! How latencies are spread: the curve of percentiles, its tail as long as it deserves.

use crate::{
    paper::{Axis, Line, Scale, clean, drawn, legend, sheet, tenfold},
    svg::{Caption, Svg},
    units,
};

/// Nine nines: further out no run has samples.
const TAIL_MAX: f64 = 1e9;

/// Latencies by percentile: each point is a share below one and microseconds. The axis is 1/(1-share) by powers of
/// ten, so that from 90 % to 99 % is as far as from 99 % to 99.9 %. `None` without a point to draw.
pub fn percentiles(lines: Vec<Line>) -> Option<Svg> {
    let lines = clean(lines, Scale::Tenfold).into_iter().map(|mut line| {
        line.points.retain(|(share, _)| *share < 1.0);
        for point in &mut line.points {
            point.0 = (1.0 / (1.0 - point.0)).min(TAIL_MAX);
        }
        line
    });
    let lines: Vec<_> = lines.collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|point| point.0).fold(0.0_f64, f64::max);
    if end <= 0.0 {
        return None;
    }
    let caption = Caption {
        name: "percentiles",
        title: "Latency by percentile".to_owned(),
        description: said(&lines),
    };
    let x = Axis {
        name: "percentile",
        scale: Scale::Tenfold,
        range: (1.0, end.max(10.0)),
        tick: nines,
    };
    let y = Axis {
        name: "latency",
        scale: Scale::Tenfold,
        range: tenfold(points().map(|point| point.1)),
        tick: units::time,
    };
    Some(Svg::draw(
        caption,
        &legend(&lines),
        drawn(&lines),
        sheet(&x, &y),
    ))
}

/// What share is below 1/(1-share).
fn nines(tail: f64) -> String {
    units::percent(1.0 - 1.0 / tail)
}

fn said(lines: &[Line]) -> String {
    let told = lines.iter().filter_map(|line| {
        let (tail, latency) = line.points.last()?;
        let (share, latency) = (nines(*tail), units::time(*latency));
        Some(format!("{}: {share} below {latency}", line.name))
    });
    let told: Vec<_> = told.collect();
    format!("{}.", told.join("; "))
}

//! How a run went: rates and latencies, second by second.

use crate::{
    paper::{Axis, Line, Scale, clean, drawn, even, fits, legend, sheet, tenfold},
    svg::{Caption, Svg},
    units,
};

/// More points than this in a line cannot be told apart on the sheet.
const POINTS_MAX: usize = 600;

/// Rates over time: each point is a second of the run and a number per second. `None` without a point to draw.
pub fn rates(lines: Vec<Line>) -> Option<Svg> {
    let lines = thinned(clean(lines, Scale::Even), f64::midpoint);
    let caption = Caption {
        name: "rate",
        title: "Rate over time".to_owned(),
        description: said(&lines, units::count, "a second"),
    };
    let y = Axis {
        name: "per second",
        scale: Scale::Even,
        range: even(values(&lines)),
        tick: units::count,
    };
    over_time(caption, &y, &lines)
}

/// Latencies over time: each point is a second of the run and microseconds. `None` without a point to draw.
pub fn latencies(lines: Vec<Line>) -> Option<Svg> {
    let lines = thinned(clean(lines, Scale::Tenfold), f64::max);
    let caption = Caption {
        name: "latency",
        title: "Latency over time".to_owned(),
        description: said(&lines, units::time, ""),
    };
    let y = Axis {
        name: "latency",
        scale: Scale::Tenfold,
        range: tenfold(values(&lines)),
        tick: units::time,
    };
    over_time(caption, &y, &lines)
}

fn over_time(caption: Caption, y: &Axis, lines: &[Line]) -> Option<Svg> {
    let seconds = lines.iter().flat_map(|line| &line.points);
    let end = seconds.map(|(at, _)| *at).fold(0.0_f64, f64::max);
    if !fits(end, Scale::Tenfold) {
        return None;
    }
    let x = Axis {
        name: "seconds",
        scale: Scale::Even,
        range: (0.0, end),
        tick: units::count,
    };
    Some(Svg::draw(
        caption,
        &legend(lines),
        drawn(lines),
        sheet(&x, y),
    ))
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.1)
}

/// Each line's lowest, middle and highest point in words.
fn said(lines: &[Line], unit: fn(f64) -> String, per: &str) -> String {
    let told = lines.iter().filter_map(|line| {
        let mut values: Vec<f64> = line.points.iter().map(|point| point.1).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.first()?, values.last()?);
        let middle = values[values.len() / 2];
        let [low, middle, high] = [*low, middle, *high].map(unit);
        Some(
            format!("{}: {low} to {high}, median {middle} {per}", line.name)
                .trim_end()
                .to_owned(),
        )
    });
    let told: Vec<_> = told.collect();
    format!("{}.", told.join("; "))
}

/// At most [`POINTS_MAX`] points a line; neighbours become one, by `merge`.
fn thinned(mut lines: Vec<Line>, merge: fn(f64, f64) -> f64) -> Vec<Line> {
    for line in &mut lines {
        while line.points.len() > POINTS_MAX {
            let pairs = line.points.chunks(2);
            let merged = pairs.map(|pair| match pair {
                [a, b] => (b.0, merge(a.1, b.1)),
                rest => rest[0],
            });
            line.points = merged.collect();
        }
    }
    lines
}

//! The line charts of a run: rate over time and latency over time.

use crate::{
    paper::{
        Axis, Line, Scale, has_position, layout, legend, linear_range, log_range, plots,
        retain_drawable,
    },
    svg::{Caption, Svg},
    units,
};

/// Maximum number of points in a line, which is what the width can show.
const POINTS_MAX: usize = 600;

/// Draws rates over time: each point is a second of the run and a number per second. `None` if there is no point to
/// draw.
pub fn rates(lines: Vec<Line>) -> Option<Svg> {
    let lines = thin(retain_drawable(lines, Scale::Linear), f64::midpoint);
    let caption = Caption {
        name: "rate",
        title: "Rate over time".to_owned(),
        description: describe(&lines, units::count, "a second"),
    };
    let y = Axis {
        name: "per second",
        scale: Scale::Linear,
        range: linear_range(values(&lines)),
        tick: units::count,
    };
    over_time(caption, &y, &lines)
}

/// Draws latencies over time: each point is a second of the run and microseconds. `None` if there is no point to draw.
pub fn latencies(lines: Vec<Line>) -> Option<Svg> {
    let lines = thin(retain_drawable(lines, Scale::Log), f64::max);
    let caption = Caption {
        name: "latency",
        title: "Latency over time".to_owned(),
        description: describe(&lines, units::time, ""),
    };
    let y = Axis {
        name: "latency",
        scale: Scale::Log,
        range: log_range(values(&lines)),
        tick: units::time,
    };
    over_time(caption, &y, &lines)
}

fn over_time(caption: Caption, y: &Axis, lines: &[Line]) -> Option<Svg> {
    let seconds = lines.iter().flat_map(|line| &line.points);
    let end = seconds.map(|(second, _)| *second).fold(0.0_f64, f64::max);
    if !has_position(end, Scale::Log) {
        return None;
    }
    let x = Axis {
        name: "seconds",
        scale: Scale::Linear,
        range: (0.0, end),
        tick: units::count,
    };
    Some(Svg::draw(
        caption,
        &legend(lines),
        plots(lines),
        layout(&x, y),
    ))
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.1)
}

/// Describes the minimum, maximum and median of each line.
fn describe(lines: &[Line], unit: fn(f64) -> String, per: &str) -> String {
    let parts = lines.iter().filter_map(|line| {
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
    let parts: Vec<_> = parts.collect();
    format!("{}.", parts.join("; "))
}

/// Reduces each line to at most [`POINTS_MAX`] points, merging neighbours by `merge`.
fn thin(mut lines: Vec<Line>, merge: fn(f64, f64) -> f64) -> Vec<Line> {
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

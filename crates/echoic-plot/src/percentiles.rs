//! The line chart of latency by percentile, with a logarithmic tail.

use crate::{
    paper::{Axis, Line, Scale, layout, legend, log_range, plots, retain_drawable},
    svg::{Caption, Svg},
    units,
};

/// The end of the axis, nine nines: no run has samples beyond.
const TAIL_MAX: f64 = 1e9;

/// Draws latencies by percentile: each point is a share below one and microseconds. The axis is 1/(1-share) on a
/// logarithmic scale, so that 90 % to 99 % is as wide as 99 % to 99.9 %. `None` if there is no point to draw.
pub fn percentiles(lines: Vec<Line>) -> Option<Svg> {
    let lines = retain_drawable(lines, Scale::Log)
        .into_iter()
        .map(|mut line| {
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
        description: describe(&lines),
    };
    let x = Axis {
        name: "percentile",
        scale: Scale::Log,
        range: (1.0, end.max(10.0)),
        tick: percent_of_tail,
    };
    let y = Axis {
        name: "latency",
        scale: Scale::Log,
        range: log_range(points().map(|point| point.1)),
        tick: units::time,
    };
    Some(Svg::draw(
        caption,
        &legend(&lines),
        plots(&lines),
        layout(&x, &y),
    ))
}

/// Formats 1/(1-share) as the share in percent.
fn percent_of_tail(tail: f64) -> String {
    units::percent(1.0 - 1.0 / tail)
}

fn describe(lines: &[Line]) -> String {
    let parts = lines.iter().filter_map(|line| {
        let (tail, latency) = line.points.last()?;
        let (share, latency) = (percent_of_tail(*tail), units::time(*latency));
        Some(format!("{}: {share} below {latency}", line.name))
    });
    let parts: Vec<_> = parts.collect();
    format!("{}.", parts.join("; "))
}

//! What a server bears: latency by the rate asked for, and the bound it must stay below.

use kuva::{
    plot::{MarkerShape, ScatterPlot},
    render::{annotations::ReferenceLine, plots::Plot},
};

use crate::{
    header::{Shape, Sign},
    palette::Tone,
    paper::{Axis, Line, Scale, clean, drawn, even, fits, legend, sheet, tenfold},
    svg::{Caption, Svg},
    text::label,
    units,
};

/// One trial at one rate.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Requests a second asked for.
    pub asked: f64,
    /// The median latency in microseconds.
    pub median_us: f64,
    /// The latency that is judged, in microseconds.
    pub judged_us: f64,
    /// Whether the trial met everything asked of it, not only the latency.
    pub passed: bool,
}

/// What a step curve is drawn against.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Which latency is judged: `p99`.
    pub judged: String,
    /// What it must stay below, in microseconds, if it must.
    pub below_us: Option<f64>,
    /// The highest rate found to do, if one was searched for.
    pub found: Option<f64>,
}

/// Latency by rate. `None` without a step to draw.
pub fn steps(steps: &[Step], bounds: &Bounds) -> Option<Svg> {
    let mut steps = steps.to_vec();
    steps.retain(|step| fits(step.asked, Scale::Tenfold));
    steps.sort_by(|a, b| a.asked.total_cmp(&b.asked));
    let bounds = Bounds {
        judged: bounds.judged.clone(),
        below_us: bounds.below_us.filter(|below| fits(*below, Scale::Tenfold)),
        found: bounds.found.filter(|found| fits(*found, Scale::Tenfold)),
    };
    let lines = curves(&steps, &bounds.judged);
    if lines.is_empty() {
        return None;
    }
    let (x, y) = axes(&lines, &bounds);
    let mut layout = sheet(&x, &y);
    let mut plots = drawn(&lines);
    let mut signs = legend(&lines);
    for (line, sign) in references(&bounds) {
        layout = layout.with_reference_line(line);
        signs.push(sign);
    }
    for (plot, sign) in [true, false]
        .into_iter()
        .filter_map(|passed| marks(&steps, passed))
    {
        plots.push(plot);
        signs.push(sign);
    }
    let caption = Caption {
        name: "steps",
        title: "Latency by rate".to_owned(),
        description: said(&steps, &bounds),
    };
    Some(Svg::draw(caption, &signs, plots, layout))
}

fn curves(steps: &[Step], judged: &str) -> Vec<Line> {
    let line = |name: &str, tone, latency: fn(&Step) -> f64| Line {
        name: name.to_owned(),
        tone,
        points: steps
            .iter()
            .map(|step| (step.asked, latency(step)))
            .collect(),
    };
    let judged = line(judged, Tone::Main, |step| step.judged_us);
    let median = line("p50", Tone::Quiet, |step| step.median_us);
    let mut lines = clean(vec![judged, median], Scale::Tenfold);
    lines.retain(|line| !line.points.is_empty());
    lines
}

/// The lines across the chart: what must hold, and what was found.
fn references(bounds: &Bounds) -> impl Iterator<Item = (ReferenceLine, Sign)> {
    let below = bounds.below_us.map(|below| {
        let name = format!("{} < {}", bounds.judged, units::time(below));
        (ReferenceLine::horizontal(below), name, Tone::Bad)
    });
    let found = bounds.found.map(|found| {
        let name = format!("found {}/s", units::count(found));
        (ReferenceLine::vertical(found), name, Tone::Good)
    });
    below.into_iter().chain(found).map(|(line, name, tone)| {
        let colour = tone.colour().light;
        let sign = Sign {
            name: label(&name),
            colour,
            shape: Shape::Line(Some(line.dasharray.clone())),
        };
        (line.with_color(colour).with_stroke_width(1.5), sign)
    })
}

fn axes(lines: &[Line], bounds: &Bounds) -> (Axis, Axis) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let asked = || points().map(|point| point.0).chain(bounds.found);
    let least = asked().fold(f64::INFINITY, f64::min);
    let most = asked().fold(0.0, f64::max);
    let (scale, range) = if most / least > 10.0 {
        // Room for the marks at both ends.
        (Scale::Tenfold, (least / 1.2, most * 1.2))
    } else {
        (Scale::Even, even(asked().map(|asked| asked * 1.04)))
    };
    let x = Axis {
        name: "asked per second",
        scale,
        range,
        tick: units::count,
    };
    let latencies = points().map(|point| point.1).chain(bounds.below_us);
    let y = Axis {
        name: "latency",
        scale: Scale::Tenfold,
        range: tenfold(latencies),
        tick: units::time,
    };
    (x, y)
}

/// Dots for the trials that passed, crosses for those that did not.
fn marks(steps: &[Step], passed: bool) -> Option<(Plot, Sign)> {
    let (name, tone, marker, shape) = if passed {
        ("pass", Tone::Good, MarkerShape::Circle, Shape::Dot)
    } else {
        ("fail", Tone::Bad, MarkerShape::Cross, Shape::Cross)
    };
    let points = steps.iter().filter(|step| step.passed == passed);
    // Where too few requests took longer to judge, the mark is at the median.
    let points = points.map(|step| {
        let known = [step.judged_us, step.median_us]
            .into_iter()
            .find(|latency| latency.is_finite());
        (step.asked, known.unwrap_or(f64::NAN))
    });
    let points: Vec<_> = points
        .filter(|(_, latency)| fits(*latency, Scale::Tenfold))
        .collect();
    let colour = tone.colour().light;
    let sign = Sign {
        name: name.to_owned(),
        colour,
        shape,
    };
    let some = !points.is_empty();
    let plot = ScatterPlot::new()
        .with_data(points)
        .with_color(colour)
        .with_marker(marker)
        .with_marker_stroke_width(2.0)
        .with_size(5.0);
    some.then(|| (plot.into(), sign))
}

fn said(steps: &[Step], bounds: &Bounds) -> String {
    let passed = steps.iter().filter(|step| step.passed).count();
    let mut said = format!("{} steps, {passed} passed", steps.len());
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        let (first, last) = (units::count(first.asked), units::count(last.asked));
        said += &format!(", from {first} to {last} a second");
    }
    if let Some(found) = bounds.found {
        said += &format!("; found: {} a second", units::count(found));
    }
    said + "."
}

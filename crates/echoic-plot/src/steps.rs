//! The chart of a server's capacity: latency by requested rate, and the bound on it.

use kuva::{
    plot::{MarkerShape, ScatterPlot},
    render::{annotations::ReferenceLine, plots::Plot},
};

use crate::{
    header::{LegendEntry, Shape},
    palette::Tone,
    paper::{
        Axis, Line, Scale, has_position, layout, legend, linear_range, log_range, plots,
        retain_drawable,
    },
    svg::{Caption, Svg},
    text::label,
    units,
};

/// A trial at one rate.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The requested rate in requests per second.
    pub asked: f64,
    /// The median latency in microseconds.
    pub median_us: f64,
    /// The latency that the bound applies to, in microseconds.
    pub judged_us: f64,
    /// Whether the trial met all its conditions, not only the latency.
    pub passed: bool,
}

/// The bounds of the chart.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The name of the latency that the bound applies to: `p99`.
    pub judged: String,
    /// The bound on it in microseconds, if any.
    pub below_us: Option<f64>,
    /// The highest rate that passed, if it was searched for.
    pub found: Option<f64>,
}

/// Draws latency by rate. `None` if there is no step to draw.
pub fn steps(steps: &[Step], bounds: &Bounds) -> Option<Svg> {
    let mut steps = steps.to_vec();
    steps.retain(|step| has_position(step.asked, Scale::Log));
    steps.sort_by(|a, b| a.asked.total_cmp(&b.asked));
    let bounds = Bounds {
        judged: bounds.judged.clone(),
        below_us: bounds
            .below_us
            .filter(|below| has_position(*below, Scale::Log)),
        found: bounds
            .found
            .filter(|found| has_position(*found, Scale::Log)),
    };
    let lines = curves(&steps, &bounds.judged);
    if lines.is_empty() {
        return None;
    }
    let (x, y) = axes(&lines, &bounds);
    let mut layout = layout(&x, &y);
    let mut plots = plots(&lines);
    let mut entries = legend(&lines);
    for (line, entry) in references(&bounds) {
        layout = layout.with_reference_line(line);
        entries.push(entry);
    }
    for (plot, entry) in [true, false]
        .into_iter()
        .filter_map(|passed| marks(&steps, passed))
    {
        plots.push(plot);
        entries.push(entry);
    }
    let caption = Caption {
        name: "steps",
        title: "Latency by rate".to_owned(),
        description: describe(&steps, &bounds),
    };
    Some(Svg::draw(caption, &entries, plots, layout))
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
    let mut lines = retain_drawable(vec![judged, median], Scale::Log);
    lines.retain(|line| !line.points.is_empty());
    lines
}

/// Returns the lines across the chart: the bound on the latency, and the rate found.
fn references(bounds: &Bounds) -> impl Iterator<Item = (ReferenceLine, LegendEntry)> {
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
        let entry = LegendEntry {
            name: label(&name),
            colour,
            shape: Shape::Line(Some(line.dasharray.clone())),
        };
        (line.with_color(colour).with_stroke_width(1.5), entry)
    })
}

fn axes(lines: &[Line], bounds: &Bounds) -> (Axis, Axis) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let asked = || points().map(|point| point.0).chain(bounds.found);
    let min = asked().fold(f64::INFINITY, f64::min);
    let max = asked().fold(0.0, f64::max);
    let (scale, range) = if max / min > 10.0 {
        // Margins for the marks at both ends.
        (Scale::Log, (min / 1.2, max * 1.2))
    } else {
        (
            Scale::Linear,
            linear_range(asked().map(|asked| asked * 1.04)),
        )
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
        scale: Scale::Log,
        range: log_range(latencies),
        tick: units::time,
    };
    (x, y)
}

/// Returns dots for the trials that passed, or crosses for those that failed.
fn marks(steps: &[Step], passed: bool) -> Option<(Plot, LegendEntry)> {
    let (name, tone, marker, shape) = if passed {
        ("pass", Tone::Good, MarkerShape::Circle, Shape::Dot)
    } else {
        ("fail", Tone::Bad, MarkerShape::Cross, Shape::Cross)
    };
    let points = steps.iter().filter(|step| step.passed == passed);
    // With too few samples for the bounded latency, the mark is at the median.
    let points = points.map(|step| {
        let known = [step.judged_us, step.median_us]
            .into_iter()
            .find(|latency| latency.is_finite());
        (step.asked, known.unwrap_or(f64::NAN))
    });
    let points: Vec<_> = points
        .filter(|(_, latency)| has_position(*latency, Scale::Log))
        .collect();
    let colour = tone.colour().light;
    let entry = LegendEntry {
        name: name.to_owned(),
        colour,
        shape,
    };
    let is_empty = points.is_empty();
    let plot = ScatterPlot::new()
        .with_data(points)
        .with_color(colour)
        .with_marker(marker)
        .with_marker_stroke_width(2.0)
        .with_size(5.0);
    (!is_empty).then(|| (plot.into(), entry))
}

fn describe(steps: &[Step], bounds: &Bounds) -> String {
    let passed = steps.iter().filter(|step| step.passed).count();
    let mut text = format!("{} steps, {passed} passed", steps.len());
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        let (first, last) = (units::count(first.asked), units::count(last.asked));
        text += &format!(", from {first} to {last} a second");
    }
    if let Some(found) = bounds.found {
        text += &format!("; found: {} a second", units::count(found));
    }
    text + "."
}

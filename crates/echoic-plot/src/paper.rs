//! The common parts of all charts: size, axes, scales, theme, lines.

use std::sync::Arc;

use kuva::{
    plot::{LinePlot, line::LineStyle},
    render::{
        layout::{Layout, TickFormat},
        plots::Plot,
        theme::Theme,
    },
};

use crate::{
    header::{LegendEntry, Shape},
    palette::{AXIS, GRID, INK, PAPER, Tone},
    text::label,
};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;

/// Left margin, wide enough for the labels of the axis (`99.9 ms`) and its name. The same in all charts, so that they
/// align on a page.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 28.0;
/// Top margin, for the header.
const TOP: f64 = 52.0;
const BOTTOM: f64 = 48.0;

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name in the legend.
    pub name: String,
    /// Its colour and stroke.
    pub tone: Tone,
    /// The points from left to right. Those that are not finite are omitted.
    pub points: Vec<(f64, f64)>,
}

/// The scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Linear, from zero.
    Linear,
    /// Logarithmic.
    Log,
}

/// An axis: its name, scale, range and tick format.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) scale: Scale,
    pub(crate) range: (f64, f64),
    pub(crate) tick: fn(f64) -> String,
}

/// Returns the layout of a chart with these axes.
pub(crate) fn layout(x: &Axis, y: &Axis) -> Layout {
    let mut sheet = Layout::new(x.range, y.range)
        .with_width(WIDTH)
        .with_height(HEIGHT)
        .with_theme(theme())
        .with_x_label(x.name)
        .with_y_label(y.name)
        .with_x_tick_format(format(x.tick))
        .with_y_tick_format(format(y.tick))
        .with_x_axis_min(x.range.0)
        .with_x_axis_max(x.range.1)
        .with_y_axis_min(y.range.0)
        .with_y_axis_max(y.range.1)
        .with_force_margins(LEFT, RIGHT)
        .with_force_margins_y(TOP, BOTTOM)
        .with_label_size(12)
        .with_tick_size(11)
        .with_body_size(12)
        .with_tick_length(4.0);
    if x.scale == Scale::Log {
        sheet = sheet.with_log_x();
    }
    if y.scale == Scale::Log {
        sheet = sheet.with_log_y();
    }
    sheet
}

fn format(tick: fn(f64) -> String) -> TickFormat {
    TickFormat::Custom(Arc::new(tick))
}

fn theme() -> Theme {
    Theme {
        background: PAPER.light.to_owned(),
        axis_color: AXIS.light.to_owned(),
        grid_color: GRID.light.to_owned(),
        tick_color: AXIS.light.to_owned(),
        text_color: INK.light.to_owned(),
        legend_bg: PAPER.light.to_owned(),
        legend_border: GRID.light.to_owned(),
        colorbar_border: AXIS.light.to_owned(),
        font_family: None,
        show_grid: true,
        ..Theme::light()
    }
}

/// Converts lines to plots of the library.
pub(crate) fn plots(lines: &[Line]) -> Vec<Plot> {
    let converted = lines.iter().map(|line| {
        let (style, width) = stroke(line.tone);
        LinePlot::new()
            .with_data(line.points.iter().copied())
            .with_color(line.tone.colour().light)
            .with_stroke_width(width)
            .with_line_style(style)
            .into()
    });
    converted.collect()
}

/// Returns the legend of lines, for [`crate::header`].
pub(crate) fn legend(lines: &[Line]) -> Vec<LegendEntry> {
    let entries = lines.iter().map(|line| LegendEntry {
        name: label(&line.name),
        colour: line.tone.colour().light,
        shape: Shape::Line(stroke(line.tone).0.dasharray()),
    });
    entries.collect()
}

/// Returns the stroke of a tone. Each differs, for readers who cannot distinguish the colours.
fn stroke(tone: Tone) -> (LineStyle, f64) {
    match tone {
        Tone::Main | Tone::Good => (LineStyle::Solid, 2.0),
        Tone::Other => (LineStyle::Dashed, 2.0),
        Tone::Bad => (LineStyle::DashDot, 2.0),
        Tone::Quiet => (LineStyle::Dotted, 1.5),
    }
}

/// Removes the points that cannot be drawn.
pub(crate) fn retain_drawable(lines: Vec<Line>, y: Scale) -> Vec<Line> {
    let cleaned = lines.into_iter().map(|mut line| {
        line.points
            .retain(|(x, value)| has_position(*x, Scale::Linear) && has_position(*value, y));
        line
    });
    cleaned.collect()
}

/// Maximum figure in a chart. No rate, time or count is larger, and the library cannot place every `f64`.
const FIGURE_MAX: f64 = 1e12;
/// Minimum figure on a logarithmic axis: a nanosecond.
const FIGURE_MIN: f64 = 1e-3;

/// Whether a figure has a position on an axis.
pub(crate) fn has_position(figure: f64, scale: Scale) -> bool {
    let low = match scale {
        Scale::Linear => 0.0,
        Scale::Log => FIGURE_MIN,
    };
    (low..=FIGURE_MAX).contains(&figure)
}

/// Returns a range around the values whose ends are 1, 2 or 5 times a power of ten.
pub(crate) fn log_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if high <= 0.0 {
        return (1.0, 10.0);
    }
    let low = round_to_step(low, f64::floor);
    let high = round_to_step(high, f64::ceil);
    (low, if high > low { high } else { low * 10.0 })
}

/// Rounds `value` to 1, 2 or 5 times a power of ten, up or down as `rounding` does.
fn round_to_step(value: f64, rounding: fn(f64) -> f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let near = steps.iter().find(|step| (value / *step - 1.0).abs() < 1e-9);
    let beyond = if rounding(0.5) > 0.0 {
        steps.iter().find(|step| **step >= value)
    } else {
        steps.iter().rfind(|step| **step <= value)
    };
    *near.or(beyond).unwrap_or(&value)
}

/// Returns a range from zero to a round number at or above the largest value.
pub(crate) fn linear_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let high = values.fold(0.0_f64, f64::max);
    if high < FIGURE_MIN {
        return (0.0, 1.0);
    }
    let step = round_to_step(high / 8.0, f64::ceil);
    (0.0, (high / step).ceil() * step)
}

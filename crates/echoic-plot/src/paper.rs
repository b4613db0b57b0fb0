//! What all charts have in common: size, axes, theme.

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
    header::{Shape, Sign},
    palette::{AXIS, GRID, INK, PAPER, Tone},
    text::label,
};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;

/// Room for the labels of the left axis (`99.9 ms`, with its name beside it), so that charts below each other line up.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 28.0;
/// Room for the header.
const TOP: f64 = 52.0;
const BOTTOM: f64 = 48.0;

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// Its colour and stroke.
    pub tone: Tone,
    /// From left to right. What is no number is left out.
    pub points: Vec<(f64, f64)>,
}

/// What the figures along an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero, evenly.
    Even,
    /// By powers of ten.
    Tenfold,
}

/// An axis: what it is called, how far it goes, how its ticks are written.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) scale: Scale,
    pub(crate) range: (f64, f64),
    pub(crate) tick: fn(f64) -> String,
}

/// A sheet with its axes, before anything is drawn on it.
pub(crate) fn sheet(x: &Axis, y: &Axis) -> Layout {
    let mut layout = Layout::new(x.range, y.range)
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
    if x.scale == Scale::Tenfold {
        layout = layout.with_log_x();
    }
    if y.scale == Scale::Tenfold {
        layout = layout.with_log_y();
    }
    layout
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

/// Lines as the library draws them.
pub(crate) fn drawn(lines: &[Line]) -> Vec<Plot> {
    let plots = lines.iter().map(|line| {
        let (style, width) = stroke(line.tone);
        LinePlot::new()
            .with_data(line.points.iter().copied())
            .with_color(line.tone.colour().light)
            .with_stroke_width(width)
            .with_line_style(style)
            .into()
    });
    plots.collect()
}

/// The sign of each line, for [`crate::header`].
pub(crate) fn legend(lines: &[Line]) -> Vec<Sign> {
    let signs = lines.iter().map(|line| Sign {
        name: label(&line.name),
        colour: line.tone.colour().light,
        shape: Shape::Line(stroke(line.tone).0.dasharray()),
    });
    signs.collect()
}

/// A stroke of its own for each tone, for those who see no difference in colour.
fn stroke(tone: Tone) -> (LineStyle, f64) {
    match tone {
        Tone::Main | Tone::Good => (LineStyle::Solid, 2.0),
        Tone::Other => (LineStyle::Dashed, 2.0),
        Tone::Bad => (LineStyle::DashDot, 2.0),
        Tone::Quiet => (LineStyle::Dotted, 1.5),
    }
}

/// The points that can be drawn.
pub(crate) fn clean(lines: Vec<Line>, y: Scale) -> Vec<Line> {
    let cleaned = lines.into_iter().map(|mut line| {
        line.points
            .retain(|(x, value)| fits(*x, Scale::Even) && fits(*value, y));
        line
    });
    cleaned.collect()
}

/// No rate, time or count goes further; the library's own reckoning does not hold for all that a float can be.
const FIGURE_MAX: f64 = 1e12;
/// The least that is told from zero on an axis by powers of ten: a nanosecond.
const FIGURE_MIN: f64 = 1e-3;

/// Whether a figure has a place on an axis.
pub(crate) fn fits(figure: f64, scale: Scale) -> bool {
    let low = match scale {
        Scale::Even => 0.0,
        Scale::Tenfold => FIGURE_MIN,
    };
    (low..=FIGURE_MAX).contains(&figure)
}

/// From 1, 2 or 5 of a power of ten below the smallest to the same above the largest value.
pub(crate) fn tenfold(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if high <= 0.0 {
        return (1.0, 10.0);
    }
    let low = stepped(low, f64::floor);
    let high = stepped(high, f64::ceil);
    (low, if high > low { high } else { low * 10.0 })
}

/// The 1, 2 or 5 of a power of ten on one side of `value`.
fn stepped(value: f64, side: fn(f64) -> f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let near = steps.iter().find(|step| (value / *step - 1.0).abs() < 1e-9);
    let beyond = if side(0.5) > 0.0 {
        steps.iter().find(|step| **step >= value)
    } else {
        steps.iter().rfind(|step| **step <= value)
    };
    *near.or(beyond).unwrap_or(&value)
}

/// From zero to a round number at or above the largest value.
pub(crate) fn even(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let high = values.fold(0.0_f64, f64::max);
    if high < FIGURE_MIN {
        return (0.0, 1.0);
    }
    let step = stepped(high / 8.0, f64::ceil);
    (0.0, (high / step).ceil() * step)
}

//! The area of a chart, its scales and axes.

use std::fmt::Write;

use super::{Frame, path::short};
use crate::{text::escaped, units};

/// Room for the labels of the vertical axis.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 12.0;
/// Room for the labels of the horizontal axis.
const BOTTOM: f64 = 24.0;

/// Least distance between two labels of the time axis.
const TIME_LABELS_APART: f64 = 90.0;

/// Distances of labels of the time axis, in seconds.
const TIME_STEPS: [i64; 17] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400,
];

const DAY: i64 = 86_400;

/// The area in which figures are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Area {
    pub(super) fn new(frame: &Frame) -> Self {
        Self {
            left: LEFT,
            right: (f64::from(frame.width) - RIGHT).max(LEFT + 1.0),
            top: TOP,
            bottom: (f64::from(frame.height) - BOTTOM).max(TOP + 1.0),
        }
    }

    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    /// Returns the left edge of a step.
    pub(super) fn x(&self, frame: &Frame, step: usize) -> f64 {
        self.left + self.width() * step as f64 / frame.steps.max(1) as f64
    }

    /// Draws the line under the figures.
    pub(super) fn baseline(&self, body: &mut String) {
        let (left, right) = (short(self.left), short(self.right));
        let y = short(self.bottom);
        let _ = write!(body, "<path class=\"axis\" d=\"M{left} {y}H{right}\"/>");
    }

    /// Draws a line of the grid with its label.
    pub(super) fn grid_line(&self, y: f64, label: &str, body: &mut String) {
        let (left, right) = (short(self.left), short(self.right));
        let (x, text_y) = (short(self.left - 6.0), short(y + 4.0));
        let (y, label) = (short(y), escaped(label));
        let _ = write!(
            body,
            "<path class=\"grid\" d=\"M{left} {y}H{right}\"/>\
             <text x=\"{x}\" y=\"{text_y}\" text-anchor=\"end\">{label}</text>"
        );
    }

    /// Draws a label of the horizontal axis. Every other one can be left out on a narrow screen.
    pub(super) fn label_below(&self, x: f64, label: &str, is_other: bool, body: &mut String) {
        let anchor = if x > self.right - 20.0 {
            "end"
        } else {
            "middle"
        };
        let class = if is_other { " class=\"alt\"" } else { "" };
        let (x, y) = (short(x), short(self.bottom + 18.0));
        let label = escaped(label);
        let _ = write!(
            body,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\"{class}>{label}</text>"
        );
    }

    /// Draws the labels of the time axis.
    pub(super) fn times(&self, frame: &Frame, body: &mut String) {
        let span_us = frame.at(frame.steps) - frame.from_us;
        if span_us <= 0 {
            return;
        }
        let seconds = span_us as f64 / 1e6;
        let most = (self.width() / TIME_LABELS_APART).max(1.0);
        let fits = |step: &&i64| seconds / **step as f64 <= most;
        let days = (seconds / most / DAY as f64).ceil() as i64;
        let step = TIME_STEPS.iter().find(fits).copied().unwrap_or(days * DAY);
        let offset = i64::from(frame.offset_s);
        let first = (frame.from_us.div_euclid(1_000_000) + offset).div_euclid(step) * step;
        let labels = (0..)
            .map(|n| first + n * step)
            .skip_while(|local| (local - offset) * 1_000_000 < frame.from_us);
        for (n, local) in labels.enumerate() {
            let at = (local - offset) * 1_000_000 - frame.from_us;
            if at > span_us {
                return;
            }
            let x = self.left + self.width() * at as f64 / span_us as f64;
            self.label_below(x, &clock(local, step), n % 2 == 1, body);
        }
    }
}

/// Formats a local time, as precisely as steps of `step` seconds need.
pub(super) fn clock(local_s: i64, step: i64) -> String {
    let of_day = local_s.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    if step >= DAY {
        let (month, day) = month_and_day(local_s.div_euclid(DAY));
        return format!("{month:02}-{day:02}");
    }
    if step % 60 == 0 {
        return format!("{hour:02}:{minute:02}");
    }
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// Returns month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn month_and_day(days: i64) -> (i64, i64) {
    let of_era = (days + 719_468).rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    (if month < 10 { month + 3 } else { month - 9 }, day)
}

impl Frame {
    /// Returns the time at which a step begins.
    fn at(&self, step: usize) -> i64 {
        let steps = i64::try_from(step).unwrap_or(i64::MAX);
        self.from_us
            .saturating_add(self.step_us.saturating_mul(steps))
    }

    /// Formats the time at which a step begins, on the reader's clock.
    pub(super) fn clock(&self, step: usize) -> String {
        let local = self.at(step).div_euclid(1_000_000) + i64::from(self.offset_s);
        clock(
            local,
            if self.step_us % 60_000_000 == 0 {
                60
            } else {
                1
            },
        )
    }

    /// Returns the number of steps that are over.
    pub(super) fn steps_over(&self) -> usize {
        let over = self.now_us.saturating_sub(self.from_us) / self.step_us.max(1);
        usize::try_from(over).unwrap_or(0).min(self.steps)
    }

    /// Returns the seconds of the span that have passed.
    pub(super) fn passed_s(&self) -> f64 {
        let passed = self
            .now_us
            .min(self.at(self.steps))
            .saturating_sub(self.from_us);
        (passed as f64 / 1e6).max(1e-6)
    }

    /// Returns the length of a step in seconds.
    pub(super) fn step_s(&self) -> f64 {
        (self.step_us as f64 / 1e6).max(1e-6)
    }
}

/// A linear scale from zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    area: Area,
    most: f64,
    step: f64,
}

impl Linear {
    /// Returns a scale up to `most`, with about four lines.
    pub(super) fn new(area: Area, most: f64) -> Self {
        let most = if most.is_finite() && most > 0.0 {
            most
        } else {
            1.0
        };
        let rough = most / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = steps
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        // Room above the largest figure, so that its edge is not cut.
        let most = most * 1.08;
        Self { area, most, step }
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        self.area.bottom - self.area.height() * (value / self.most).clamp(0.0, 1.0)
    }

    /// Draws the grid. Counts have no line between two integers.
    pub(super) fn grid(&self, is_count: bool, body: &mut String) {
        let step = if is_count {
            self.step.max(1.0)
        } else {
            self.step
        };
        let lines = (self.most / step).floor() as usize;
        for line in 1..=lines.min(10) {
            let value = step * line as f64;
            self.area
                .grid_line(self.y(value), &units::count(value), body);
        }
    }
}

/// A logarithmic scale of latencies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    area: Area,
    /// Logarithms (base 10) of the first and last nanosecond.
    low: f64,
    high: f64,
}

impl Log {
    /// Returns a scale from `low` to `high` nanoseconds, at least a power of ten.
    pub(super) fn new(area: Area, low: f64, high: f64) -> Self {
        let low = low.max(1.0).log10() - 0.1;
        let high = high.max(1.0).log10() + 0.1;
        let missing = (1.2 - (high - low)).max(0.0);
        Self {
            area,
            low: (low - missing / 2.0).max(0.0),
            high: high + missing / 2.0,
        }
    }

    pub(super) fn y(&self, ns: f64) -> f64 {
        self.area.bottom - self.area.height() * self.share(ns)
    }

    /// Returns the position of a latency, from 0 at the bottom to 1.
    pub(super) fn share(&self, ns: f64) -> f64 {
        ((ns.max(1.0).log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    pub(super) fn grid(&self, body: &mut String) {
        let (first, last) = (self.low.ceil() as i32, self.high.floor() as i32);
        for power in first..=last {
            let ns = 10_f64.powi(power);
            self.area
                .grid_line(self.y(ns), &units::time(ns / 1e3), body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_has_the_precision_of_its_step() {
        // 2026-11-29 12:02:30 UTC.
        let at = 1_795_953_750;
        assert_eq!(clock(at, 10), "12:02:30");
        assert_eq!(clock(at, 60), "12:02");
        assert_eq!(clock(at, DAY), "11-29");
        assert_eq!(month_and_day(0), (1, 1));
        assert_eq!(month_and_day(59 + 365 * 2), (2, 29), "1972");
    }
}

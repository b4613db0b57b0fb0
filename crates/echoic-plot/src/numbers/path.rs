//! Path data of SVG.

use std::fmt::Write;

/// Path data: lines and rectangles, with a tenth of a pixel.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    data: String,
    /// Whether the next point begins a line.
    is_apart: bool,
}

impl Path {
    pub(super) fn new() -> Self {
        Self {
            data: String::new(),
            is_apart: true,
        }
    }

    /// Continues the line to a point.
    pub(super) fn to(&mut self, x: f64, y: f64) {
        let command = if self.is_apart { 'M' } else { 'L' };
        self.is_apart = false;
        let _ = write!(self.data, "{command}{} {}", short(x), short(y));
    }

    /// Ends the line: the next point begins another.
    pub(super) fn lift(&mut self) {
        self.is_apart = true;
    }

    /// Continues the line down to `y`, and closes it.
    pub(super) fn close(&mut self) {
        if !self.data.is_empty() {
            self.data.push('z');
        }
        self.is_apart = true;
    }

    /// Adds a rectangle.
    pub(super) fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64) {
        let (x, y) = (short(x), short(y));
        let (width, height) = (short(width), short(height));
        let _ = write!(self.data, "M{x} {y}h{width}v{height}h-{width}z");
        self.is_apart = true;
    }

    /// Appends the element with these classes, unless it is empty.
    pub(super) fn draw(&self, class: &str, body: &mut String) {
        if !self.data.is_empty() {
            let _ = write!(body, "<path class=\"{class}\" d=\"{}\"/>", self.data);
        }
    }
}

/// Formats a position with at most one decimal.
pub(super) fn short(position: f64) -> String {
    let text = format!("{position:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

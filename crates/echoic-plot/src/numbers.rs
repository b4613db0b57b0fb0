//! The charts of the console's screen Numbers: of a span of time in steps, or of its latencies.
//!
//! They have classes and no colours, styles or scripts: the page's style sheet draws them in its theme. Each has a title, and a
//! sentence that says what it shows.

mod axes;
mod conversations;
mod exchanges;
mod latency;
mod path;
mod percentiles;

use std::fmt;

use crate::text::escaped;

pub use self::{
    conversations::{OpenStep, conversations},
    exchanges::{ExchangeStep, exchanges},
    latency::{LatencyStep, latency},
    percentiles::{Quantile, percentiles},
};

/// The size of a chart, and its time axis.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Beginning of the first step, in microseconds since the Unix epoch.
    pub from_us: i64,
    /// Length of a step in microseconds.
    pub step_us: i64,
    /// Number of steps.
    pub steps: usize,
    /// The present, in microseconds since the Unix epoch: a step that ends after it is not over.
    pub now_us: i64,
    /// What the clock of the reader is ahead of UTC, in seconds.
    pub offset_s: i32,
}

/// A chart as SVG for a page with the console's style sheet.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    width: u32,
    height: u32,
    name: &'static str,
    title: &'static str,
    sentence: String,
    body: String,
}

impl Chart {
    /// Returns what the chart shows, in a sentence.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }
}

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            width,
            height,
            name,
            title,
            body,
            ..
        } = self;
        let sentence = escaped(&self.sentence);
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-labelledby=\"{name}-title {name}-desc\">\
             <title id=\"{name}-title\">{title}</title><desc id=\"{name}-desc\">{sentence}</desc>{body}</svg>"
        )
    }
}

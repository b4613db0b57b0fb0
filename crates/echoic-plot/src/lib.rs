//! Charts as SVG and as lines for a terminal: of a benchmark, and of what a server records ([`numbers`]).
//!
//! The input is plain figures, the output is text: no files, no clock, no other crate of the workspace. Only this crate
//! uses the plotting library. The same figures give the same bytes.

#![allow(
    clippy::cast_sign_loss,
    reason = "positions in a chart; figures are not negative, and such a cast saturates at zero"
)]

mod header;
mod heat;
pub mod numbers;
mod outcomes;
mod over_time;
mod palette;
mod paper;
mod percentiles;
mod steps;
mod svg;
pub mod terminal;
mod text;
pub mod units;

pub use heat::{Slice, heat};
pub use outcomes::{OutcomeCount, outcomes};
pub use over_time::{latencies, rates};
pub use palette::{Tone, style};
pub use paper::Line;
pub use percentiles::percentiles;
pub use steps::{Bounds, Step, steps};
pub use svg::Svg;
pub use text::escaped;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

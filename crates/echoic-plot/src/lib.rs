//! Figures as pictures: what a run measured, as charts in SVG and as lines of a terminal.
//!
//! Plain figures go in, text comes out; there is no file, no clock and no crate of ours here. This is the one place
//! that knows the plotting library. The same figures give the same bytes.

#![allow(
    clippy::cast_sign_loss,
    reason = "places on a sheet; what is below zero is no figure of ours, and such a cast stops at zero"
)]

mod header;
mod heat;
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

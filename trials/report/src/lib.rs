//! The result of a trial, and the page generated from the results.
//!
//! A trial is a test that puts the real program under a load and reports its result in a [`Row`]. Under `scripts/test`
//! it runs small and writes no report; under `scripts/deep reliability` it runs at full size, and the rows become the
//! table of `docs/reliability.md`.

mod page;
mod program;
mod proven;
mod row;
mod scale;
mod setting;

pub use page::page;
pub use program::program;
pub use proven::{Proven, proven};
pub use row::{REPORT, Row, read};
pub use scale::{SCALE, Scale};
pub use setting::Setting;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct TrialsReadme;

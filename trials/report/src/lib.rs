//! What a trial tells, and the page made of it.
//!
//! A trial is a test that puts the real program under a load and tells in a [`Row`] what it saw. Under `scripts/test`
//! it runs small and tells nobody; under `scripts/deep reliability` it runs at full size, and the rows become the table
//! of `docs/reliability.md`.

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

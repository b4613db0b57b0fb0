//! Bad peers and exhausted resources, row by row: rows 1 to 18 and 41.
//!
//! A row that a test of the crates proves is not repeated here: `trials/proven.md` names that test.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and may print why it skips"
)]

mod calls;
mod datagrams;
mod entrances;
mod fairness;
mod files;
mod memory;
mod slow;
mod sources;
mod stop;
mod together;

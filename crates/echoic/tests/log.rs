//! `log`: what it lists, for whom, and in which form.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "log/record.rs"]
mod record;
#[path = "log/times.rs"]
mod times;

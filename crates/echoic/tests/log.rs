//! `log`: what it lists, for whom, and in which form.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "log/display.rs"]
mod display;
#[path = "log/follow.rs"]
mod follow;
mod harness;
#[path = "log/listing.rs"]
mod listing;
#[path = "log/record.rs"]
mod record;
#[path = "log/screen.rs"]
mod screen;
#[path = "log/times.rs"]
mod times;
#[path = "log/verbs.rs"]
mod verbs;

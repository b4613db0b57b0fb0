//! Messages to replies: upper, echo, greet.

pub mod casing;

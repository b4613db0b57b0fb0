//! Helpers for trials with bad peers: the real program, naive servers as controls, misbehaving peers, and meters.
//!
//! Everything here blocks and panics: it is for tests. Client and server are two processes in a network namespace of
//! the test's own ([`namespace::alone`]).
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "helpers of tests, which fail by panicking"
)]

pub mod cgroup;
pub mod meter;
pub mod naive;
pub mod namespace;
pub mod peer;
pub mod server;

pub use meter::Process;
pub use server::Serve;

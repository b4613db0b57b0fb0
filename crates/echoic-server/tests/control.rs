//! What an operator does with a running server, on real sockets: pause, resume and drain endpoints, send into conversations,
//! close them, and look at their socket calls.

#![allow(clippy::unwrap_used, reason = "in a test that is the failure")]

#[path = "control/calls.rs"]
mod calls;
#[path = "../../echoic-recorder/tests/common/mod.rs"]
mod common;
#[path = "control/controlled.rs"]
mod controlled;
#[path = "control/conversations.rs"]
mod conversations;
#[path = "control/datagrams.rs"]
mod datagrams;
#[path = "control/endpoints.rs"]
mod endpoints;
#[path = "control/half.rs"]
mod half;
#[path = "common/serving.rs"]
mod serving;

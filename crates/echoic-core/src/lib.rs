//! The basic types of echoic (endpoint, message, event, exchange, ending), the filter language, and the traits for
//! services, stores and a running server: [`service::Service`], [`store::Store`] and [`control::Control`].
//!
//! Floor 0 of the workspace: nothing here opens a socket, reads a clock or needs a runtime. Bytes and times are
//! arguments, so everything can be tested by calling it, and a service or a store can move to another process without
//! a change in this crate.

pub mod access;
pub mod client_hello;
pub mod control;
pub mod ending;
pub mod endpoint;
pub mod escape;
pub mod event;
pub mod exchange;
pub mod export;
pub mod filter;
pub mod framing;
pub mod http;
pub mod left_over;
pub mod limits;
pub mod message;
#[doc(hidden)]
pub mod oracle;
pub mod process;
pub mod service;
pub mod store;
pub mod units;
pub mod view;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

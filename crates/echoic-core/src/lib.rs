//! The nouns and the seams of echoic: what a place, a message, an exchange, an ending are, and the two
//! traits a tier may stand behind, [`service::Service`] and [`store::Store`].
//!
//! Floor 0: nothing here opens a socket, reads a clock or needs a runtime. Bytes and times come in as
//! arguments, so everything in this crate can be tested by calling it. That is also why a tier can move to
//! another process without this crate noticing.

pub mod access;
pub mod ending;
pub mod endpoint;
pub mod escape;
pub mod event;
pub mod exchange;
pub mod filter;
pub mod framing;
pub mod http;
pub mod limits;
pub mod message;
#[doc(hidden)]
pub mod oracle;
pub mod service;
pub mod store;
pub mod units;
pub mod view;

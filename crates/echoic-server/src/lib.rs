//! The server: it accepts connections, runs a session for each, and drains them at the stop.
//!
//! This crate knows no concrete service or store and owns no thread and no signal handler: [`Server::run`] is
//! a plain future on the caller's runtime, so a test with paused time, or the test suite of another project, can run a
//! whole server in a few lines:
//!
//! ```
//! # use std::{ops::ControlFlow, sync::Arc};
//! # use echoic_core::{limits::Limits, message::{Replies, Run}, service::{InlineHandler, Peer, Service, Handler}};
//! # use echoic_recorder::Recorder;
//! # use echoic_server::Server;
//! # #[derive(Debug)] struct Shout;
//! # impl Service for Shout {
//! #     fn name(&self) -> &str { "shout" }
//! #     fn handler(&self, _: &Peer) -> Handler { Handler::Inline(Box::new(Shout)) }
//! # }
//! # impl InlineHandler for Shout {
//! #     fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
//! #         for m in run.messages() { out.reply(&m, |b| b.extend(m.body.to_ascii_uppercase())); }
//! #         ControlFlow::Continue(())
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let mut server = Server::new(Recorder::none(), Limits::default());
//! let addr = server.listen(&"127.0.0.1:0".parse()?, Arc::new(Shout)).await?[0].to_string();
//! let serving = tokio::spawn(server.run(std::future::pending::<()>()));
//!
//! let mut peer = tokio::net::TcpStream::connect(addr).await?;
//! peer.write_all(b"hello").await?;
//! let mut reply = [0; 5];
//! peer.read_exact(&mut reply).await?;
//! assert_eq!(&reply, b"HELLO");
//! # serving.abort(); Ok(()) }
//! ```

mod accept;
mod accepted;
#[cfg(test)]
#[path = "../../echoic-recorder/tests/common/mod.rs"]
mod common;
mod control;
mod datagrams;
mod drain;
mod handler_task;
mod handshake;
mod inbox;
mod outbox;
mod polling;
mod server;
mod session;
#[cfg(test)]
#[path = "../tests/simulation/mod.rs"]
mod simulation;
mod sources;
mod tally;
mod timers;
mod wait;

pub use control::ServerControl;
pub use datagrams::DatagramCounts;
#[doc(hidden)]
pub use datagrams::check_breaker;
pub use polling::keep_polling;
pub use server::{Drained, EndpointConfig, Listening, OpenError, Server};

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to-add-a-service.md")]
struct HowToAddAService;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to-add-a-transport.md")]
struct HowToAddATransport;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! The client side: converses with a peer, probes endpoints and measures them.
//!
//! Floor 2. [`converse()`] reads and writes an `echoic_wire::Link` at the same time and reports exactly how the
//! conversation ended. It has no terminal, prints nothing and sets no exit code: those belong to the program. Commands
//! arrive through one bounded channel and events leave through another, so the same loop serves a pipe, an interactive
//! prompt and a test.
//!
//! ```
//! # use echoic_client::{ClientCommand, ClientEvent, Ending, Timeouts, converse};
//! # use echoic_core::framing::FramingPair;
//! # use echoic_wire::{DialOptions, dial};
//! # use tokio::{io::AsyncWriteExt, net::TcpListener, sync::mpsc};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let endpoint = server.local_addr()?.to_string().parse()?;
//! tokio::spawn(async move {
//!     let (mut peer, _) = server.accept().await.unwrap();
//!     peer.write_all(b"Thank you for connecting").await.unwrap();
//! });
//!
//! let link = dial(&endpoint, &DialOptions::default()).await?.link;
//! let (_sender, commands) = mpsc::channel::<ClientCommand>(1);
//! let (event_sender, mut events) = mpsc::channel(1);
//! let conversation =
//!     converse(link, FramingPair::default(), commands, event_sender, std::future::pending(), Timeouts::default());
//! let conversation = tokio::spawn(conversation);
//! while let Some(ClientEvent::Received { bytes, .. }) = events.recv().await {
//!     assert_eq!(bytes, b"Thank you for connecting");
//! }
//! assert!(matches!(conversation.await?.ending, Ending::PeerClosed));
//! # Ok(())
//! # }
//! ```

mod after_fin;
pub mod bench;
mod conversation;
mod counts;
mod ending;
mod exchanges;
mod expected;
mod flow;
mod meter;
mod observer;
#[doc(hidden)]
pub mod oracle;
mod pattern;
pub mod probe;
mod replies;
mod tls_alert;

pub use conversation::{
    ClientCommand, ClientEvent, CloseMode, DEADLINE_LATE, READ_BYTES_MAX, Timeouts, converse,
    converse_observed,
};
pub use counts::Counts;
pub use ending::{ConversationSummary, Ending, TimeoutKind};
pub use exchanges::{ClientExchange, Exchanges};
pub use expected::{Expected, ReplySearch};
pub use flow::Flow;
pub use observer::{Observer, WireEvent};
pub use pattern::{InvalidPattern, Pattern};
pub use replies::{ReceivedMessage, Replies, ReplyKind};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

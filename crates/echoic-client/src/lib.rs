//! The other end: a conversation held with a peer, as a value.
//!
//! Floor 2. [`talk()`] reads and writes at once over an `echoic_wire::Link` and tells truthfully how it ended.
//! There is no terminal here, no printing and no exit code: those are the program's. What is to be said comes
//! in by one bounded queue, what happened goes out by another, so the same loop serves a pipe, a person at a
//! prompt and a test.
//!
//! ```
//! # use echoic_client::{Ending, ClientEvent, Say, Timeouts, talk};
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
//! let (_say, said) = mpsc::channel::<Say>(1);
//! let (news, mut heard) = mpsc::channel(1);
//! let talked = tokio::spawn(talk(link, FramingPair::default(), said, news, std::future::pending(), Timeouts::default()));
//! while let Some(ClientEvent::Heard { bytes, .. }) = heard.recv().await {
//!     assert_eq!(bytes, b"Thank you for connecting");
//! }
//! assert!(matches!(talked.await?.ending, Ending::PeerClosed));
//! # Ok(())
//! # }
//! ```

pub mod bench;
mod counts;
mod ending;
mod exchanges;
mod flow;
mod meter;
#[doc(hidden)]
pub mod oracle;
pub mod probe;
mod replies;
mod talk;
mod watch;

pub use counts::Counts;
pub use ending::{Ending, Phase, Talked};
pub use exchanges::{Exchanged, Exchanges};
pub use flow::Flow;
pub use replies::{Heard, Kind, Replies};
pub use talk::{ClientEvent, Leave, READ_BYTES_MAX, Say, Timeouts, talk, talk_watched};
pub use watch::{Happened, Watch};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

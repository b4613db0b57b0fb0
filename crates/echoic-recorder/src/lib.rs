//! Events of conversations, collected in batches, handed to a store and shown to watchers.
//!
//! Floor 1. A [`Recorder`] gives each conversation a [`Journal`]. What journals are told goes to the [`Store`] in
//! batches, written by a [`RecorderTask`], and to every [`Watcher`]. The crate knows neither sockets nor a concrete
//! store. The server and the client's commands use it alike.
//!
//! [`Store`]: echoic_core::store::Store

mod clock;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod feed;
mod filling;
mod ids;
mod journal;
mod lock;
mod options;
mod pairing;
mod recorder;
mod server;
mod shared;
mod status;
mod task;

pub use clock::{Clock, wall};
pub use feed::{Missed, Seen, Watcher};
pub use journal::{Journal, NotKept};
pub use options::{RecorderOptions, WhenFull};
pub use pairing::{Divider, Paired, Pairing, PairingRules};
pub use recorder::Recorder;
pub use status::{Failure, RecorderStatus};
pub use task::RecorderTask;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

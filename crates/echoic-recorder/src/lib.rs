//! The recorder: collects the events of conversations in batches, commits them to a store and publishes them to watchers.
//!
//! Floor 1. A [`Recorder`] gives each conversation a [`Journal`]. A [`RecorderTask`] appends the events of all journals
//! to the [`Store`] in batches and publishes them to every [`Watcher`]. The crate depends neither on sockets nor on a
//! concrete store. The server and the client's commands both use it.
//!
//! [`Store`]: echoic_core::store::Store

mod clock;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod counts;
mod feed;
mod ids;
mod journal;
mod lock;
mod options;
mod pace;
mod pairing;
mod recorder;
mod server;
mod shard;
mod shared;
mod status;
mod task;

pub use clock::{Clock, wall_clock_now};
pub use counts::{EndpointCounts, LATENCY_BOUNDS_NS};
pub use feed::{Missed, Seen, Watcher};
pub use journal::{Journal, NotCommitted};
pub use options::{RecorderOptions, WhenFull};
pub use pairing::{Divider, Paired, Pairing, PairingRules};
pub use recorder::Recorder;
pub use server::server as new_server;
pub use status::{Failure, RecorderStatus};
pub use task::RecorderTask;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

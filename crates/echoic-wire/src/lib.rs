//! Bytes to and from peers: listen, dial, resolve, and the [`Link`] between.
//!
//! Floor 1. The server and the client both stand on this crate, and neither knows the other: a transport is one
//! file with both its ends.
//!
#![doc = include_str!("methods.md")]

mod datagram;
mod dial;
mod explain;
pub mod eyeballs;
mod inherited;
mod link;
mod listen;
mod options;
mod owner;
mod resolve;
mod socket;
mod tcp;
mod transport;
mod udp;
mod unix;
mod unixgram;

pub use datagram::{
    BoundDatagrams, DatagramSocket, DatagramTransport, Received, Route, bind_datagrams, shape,
};
pub use dial::{DialError, DialOptions, Dialled, FailedAttempt, dial};
pub use explain::{Call, Explain};
pub use inherited::inherited_fds;
pub use link::Link;
pub use listen::{Accept, Incoming, ListenError, Listener, listen};
pub use options::ListenOptions;
pub use resolve::{ResolveError, host_name, resolve};
pub use transport::{ClientLayer, ServerLayer, Transport};

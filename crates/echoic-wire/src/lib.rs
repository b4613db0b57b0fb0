//! Connections and datagrams: [`listen`], [`bind_datagrams`], [`dial`], [`resolve`], and [`Link`], a connection to one
//! peer.
//!
//! Floor 1: the server and the client both use this crate, and neither knows the other. A transport is one file with
//! both its ends.
//!
#![doc = include_str!("methods.md")]

mod after_fin;
mod datagram;
mod dial;
mod explain;
pub mod eyeballs;
mod inherited;
mod lent;
mod link;
mod listen;
mod options;
mod owner;
mod resolve;
mod self_connection;
mod send_progress;
mod send_queue;
mod sock_diag;
mod socket;
mod starttls;
mod tcp;
mod tls;
mod transport;
mod udp;
mod unix;
mod unixgram;

pub use after_fin::PeerAfterFin;
pub use datagram::{
    BoundDatagrams, DatagramSocket, DatagramTransport, Received, Route, bind_datagrams, shape,
};
pub use dial::{DialError, DialOptions, Dialled, FailedAttempt, OtherSocketType, dial};
pub use explain::{Call, CallInC, Explain};
pub use inherited::inherited_fds;
pub use lent::lend;
pub use link::Link;
pub use listen::{Accept, Incoming, ListenError, Listener, listen};
pub use options::ListenOptions;
pub use owner::Owner;
pub use resolve::{ResolveError, host_name, resolve};
pub use send_progress::{Look, SendProgress};
pub use send_queue::SendQueue;
pub use starttls::{StartTls, StartTlsError};
#[doc(hidden)]
pub use tls::check_first_flight;
pub use tls::{
    CertificateInfo, TlsClient, TlsClientOptions, TlsError, TlsErrorKind, TlsFileError, TlsReport,
    TlsServer, TlsServerOptions, TlsVersion, key_log_file,
};
pub use transport::{ClientLayer, ServerLayer, Transport};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

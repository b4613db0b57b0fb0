//! The options of a probe.

use std::time::Duration;

use echoic_wire::Explain;

use super::{service::ServiceCheck, tls::TlsCheck};

/// Options of [`probe()`](super::probe()).
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// Time limit for name resolution, and then for each address.
    pub timeout: Duration,
    /// Tries every address on its own instead of racing them as other programs do (RFC 8305).
    pub all: bool,
    /// Number of attempts for the winner of the race, or with `all` for every address. At least 1.
    pub count: u32,
    /// Repeats until the endpoint is reachable, for at most this long.
    pub wait: Option<Duration>,
    /// Connecting is not enough: the peer must also answer this. Applies to one address, the first that connects; excludes
    /// `all`, and `count` is ignored.
    pub check: Option<ServiceCheck>,
    /// Connecting is not enough: TLS is opened over the connection, with `all` over one to each address. For endpoints of
    /// [`Endpoint::Tls`](echoic_core::endpoint::Endpoint).
    pub tls: Option<TlsCheck>,
    /// Ends an attempt whose answer is not the expected one once nothing more has come for this time, instead of at the
    /// timeout. [`Self::wait`] sets it, so that it can ask again over a new connection.
    pub answer_pause: Option<Duration>,
    /// Receives a description of every system call.
    pub explain: Option<Explain>,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            all: false,
            count: 1,
            wait: None,
            check: None,
            tls: None,
            answer_pause: None,
            explain: None,
        }
    }
}

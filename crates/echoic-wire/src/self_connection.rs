//! The error for a socket that is connected to itself.

use std::{error::Error, io};

/// A socket's own address is that of its peer: nobody else has that address, and the socket would answer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing listens there; the system chose the same port for our side, and a connection to itself does not count"
)]
pub(crate) struct SelfConnection;

impl SelfConnection {
    /// Returns whether `error` is this one.
    pub(crate) fn is_in(error: &io::Error) -> bool {
        error
            .get_ref()
            .is_some_and(<dyn Error + Send + Sync>::is::<Self>)
    }
}

impl From<SelfConnection> for io::Error {
    fn from(error: SelfConnection) -> Self {
        Self::new(io::ErrorKind::ConnectionRefused, error)
    }
}

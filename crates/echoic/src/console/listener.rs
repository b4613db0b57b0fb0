//! Opens the socket of the console.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
};

use tokio::net::TcpListener;

use super::address::{DEFAULT_ADDRESS, DEFAULT_PORT};

/// Ports that are tried, from [`DEFAULT_PORT`] on.
const PORTS_MAX: u16 = 100;

/// Opens the socket at the default address, or at the next port that no other process has.
pub(super) fn open_default() -> Result<TcpListener, String> {
    let last = DEFAULT_PORT + PORTS_MAX - 1;
    for port in DEFAULT_PORT..=last {
        match open(SocketAddr::from((DEFAULT_ADDRESS, port))) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            opened => return opened.map_err(|error| format!("{DEFAULT_ADDRESS}:{port}: {error}")),
        }
    }
    Err(format!(
        "ports {DEFAULT_PORT} to {last} of {DEFAULT_ADDRESS} are in use"
    ))
}

/// Opens the socket at this address alone.
pub(super) fn open(at: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdListener::bind(at)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

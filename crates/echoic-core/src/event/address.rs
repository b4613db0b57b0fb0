//! The address of a socket.

use std::{
    fmt,
    net::{AddrParseError, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Protocol, text};
use crate::endpoint::UnixName;

/// The address of a socket, the peer's or ours. Serialised as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An internet address and port.
    Net(SocketAddr),
    /// A Unix socket; most clients are not bound to a name.
    Unix(Option<UnixName>),
}

impl Address {
    /// Returns the port, if the address has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Net(addr) => Some(addr.port()),
            Self::Unix(_) => None,
        }
    }

    /// Returns the address as the URL of an endpoint, in the protocol of an [`EndpointInfo`](super::EndpointInfo).
    pub fn url(&self, proto: Protocol) -> String {
        match self {
            Self::Net(addr) => format!("{proto}://{addr}"),
            Self::Unix(Some(name)) => format!("{proto}:{name}"),
            Self::Unix(None) => format!("{proto}:"),
        }
    }

    /// Whether the address is reachable only from this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Net(addr) => addr.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Net(addr)
    }
}

/// Parses the printed form, which is also the stored form.
impl FromStr for Address {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        Ok(match text.strip_prefix("unix:") {
            None => Self::Net(text.parse()?),
            Some("") => Self::Unix(None),
            Some(name) => Self::Unix(Some(match name.strip_prefix('@') {
                Some(name) => UnixName::Abstract(name.to_owned()),
                None => UnixName::Path(name.into()),
            })),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(addr) => write!(f, "{addr}"),
            Self::Unix(Some(name)) => write!(f, "unix:{name}"),
            Self::Unix(None) => write!(f, "unix:"),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer)
    }
}

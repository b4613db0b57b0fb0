//! The address of a socket.

use std::{
    fmt,
    net::{AddrParseError, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Protocol, text};
use crate::endpoint::UnixName;

/// The address of a socket, theirs or ours. Serialised as it prints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An internet address and port.
    Net(SocketAddr),
    /// A Unix socket; most callers have none of their own to be named by.
    Unix(Option<UnixName>),
}

impl Address {
    /// The port, where there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Net(addr) => Some(addr.port()),
            Self::Unix(_) => None,
        }
    }

    /// The same as an endpoint that can be called, in the protocol of a [`EndpointInfo`].
    pub fn url(&self, proto: Protocol) -> String {
        match self {
            Self::Net(addr) => format!("{proto}://{addr}"),
            Self::Unix(Some(name)) => format!("{proto}:{name}"),
            Self::Unix(None) => format!("{proto}:"),
        }
    }

    /// Whether only this machine can be there.
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

/// What [`Address`] prints, back again: the form a store keeps.
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

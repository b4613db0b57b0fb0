//! Properties of an endpoint as they are recorded.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Address, text};
use crate::{
    endpoint::{Endpoint, Shape},
    framing::FramingPair,
    units::quoted,
};

/// An enum whose variants are words: in SQL, in JSON and in filters.
macro_rules! words {
    ($(#[$about:meta])* $name:ident, $what:literal, [$($all:ident)+] { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// All values that a filter accepts.
            pub const ALL: &[Self] = &[$(Self::$all),+];

            /// Returns the word that is stored and typed. A format: words are added, never changed.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord::new($what, text)),
                }
            }
        }
    };
}

/// A word that names no variant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid {what} {}", quoted(.found))]
pub struct UnknownWord {
    what: &'static str,
    found: String,
}

impl UnknownWord {
    pub(super) fn new(what: &'static str, found: &str) -> Self {
        let found = found.to_owned();
        Self { what, found }
    }
}

words! {
    /// The protocol of an endpoint: the scheme of its URL, and a value of `proto:`.
    Protocol, "protocol", [Tcp Udp Unix Unixgram Tls Ws Wss] {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// A stream over a Unix socket.
        Unix = "unix",
        /// Datagrams over Unix sockets.
        Unixgram = "unixgram",
        /// TLS over TCP.
        Tls = "tls",
        /// WebSocket.
        Ws = "ws",
        /// WebSocket over TLS.
        Wss = "wss",
        /// Unknown: the opening of the conversation was not recorded.
        Unknown = "unknown",
    }
}

words! {
    /// The role of the recording side: a value of `role:`. Requests are sent by the side that opened the conversation, in
    /// every role; bytes received and sent are those of the recording side's socket.
    Role, "role", [Server Client] {
        /// The server: requests were received, replies were sent.
        Server = "server",
        /// The client: requests were sent, replies were received.
        Client = "client",
    }
}

/// Properties that all conversations of an endpoint share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointInfo {
    /// The short name that `ep:` finds: protocol and port, `tcp:5000`.
    pub name: String,
    /// Its protocol.
    pub proto: Protocol,
    /// The service that answers; empty in a client's record.
    pub service: String,
    /// Framing of its stream.
    #[serde(with = "text")]
    pub framing: FramingPair,
}

impl EndpointInfo {
    /// Returns the properties of an endpoint bound to `address`. An inherited socket is named after its kind.
    pub fn new(
        endpoint: &Endpoint,
        address: &Address,
        shape: Shape,
        service: &str,
        framing: FramingPair,
    ) -> Self {
        let datagrams = shape == Shape::Datagrams;
        let proto = match (endpoint, address) {
            (Endpoint::Fd(_), Address::Net(_)) if datagrams => Protocol::Udp,
            (Endpoint::Fd(_), Address::Unix(_)) if datagrams => Protocol::Unixgram,
            (Endpoint::Tcp(_), _) | (Endpoint::Fd(_), Address::Net(_)) => Protocol::Tcp,
            (Endpoint::Unix(_), _) | (Endpoint::Fd(_), Address::Unix(_)) => Protocol::Unix,
            (Endpoint::Udp(_), _) => Protocol::Udp,
            (Endpoint::Tls(_), _) => Protocol::Tls,
            (Endpoint::Unixgram(_), _) => Protocol::Unixgram,
        };
        let name = match address {
            Address::Net(addr) => format!("{proto}:{}", addr.port()),
            Address::Unix(Some(name)) => format!("{proto}:{name}"),
            Address::Unix(None) => proto.to_string(),
        };
        Self {
            name,
            proto,
            service: service.to_owned(),
            framing,
        }
    }

    /// Returns the unit of a message: its framing, or a datagram.
    pub fn messages(&self) -> String {
        match self.proto {
            Protocol::Udp | Protocol::Unixgram => "datagram".to_owned(),
            _ => self.framing.to_string(),
        }
    }
}

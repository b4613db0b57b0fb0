//! Identity of servers and of their batches.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Micros, UnknownWord, text};

/// Id of one start of a recorder: a random number, printed and stored as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u64);

/// One start of a recorder. Each batch carries it, not each event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its id.
    pub id: ServerId,
    /// Its name for people: host and process, `web-1:4242`.
    pub name: String,
    /// Wall-clock time of its start.
    pub started: Micros,
}

/// Id of a batch. A store that gets the same batch twice stores it once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// The server that recorded it.
    pub server: ServerId,
    /// Its number on that server, from 1.
    pub number: u64,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ServerId {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let digits = |byte: u8| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase();
        let id = (text.len() == 16 && text.bytes().all(digits))
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten();
        id.map(Self)
            .ok_or_else(|| UnknownWord::new("server id", text))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.number)
    }
}

impl Serialize for ServerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer)
    }
}

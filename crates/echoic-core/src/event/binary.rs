//! The binary form of a batch, for other processes: a head of three bytes, then the serialised batch in the format of postcard.

use thiserror::Error;

use super::{Batch, VERSION};

/// Begins each batch: two letters, and the version of what surrounds the events, whose own version is [`VERSION`].
const HEAD: [u8; 3] = [b'e', b'B', 1];

/// Why bytes are not a batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidBatch {
    /// They do not begin as a batch does.
    #[error("not a batch of events")]
    Foreign,
    /// Another version wrote them.
    #[error("events of version {found}: expected {VERSION}")]
    Version {
        /// The version of their events.
        found: u32,
    },
    /// They end too early, go on too long, or contradict themselves.
    #[error("a damaged batch of events: {0}")]
    Damaged(String),
}

impl Batch {
    /// Appends the batch to `out`, for another process.
    ///
    /// # Panics
    ///
    /// Never: a batch can always be serialised into memory.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&HEAD);
        let written = postcard::to_extend(self, std::mem::take(out));
        *out = written.expect("invariant: a batch is serialisable");
    }

    /// Reads a batch that [`write_to`](Self::write_to) wrote. The bytes may be any: what they claim is checked.
    pub fn read_from(bytes: &[u8]) -> Result<Self, InvalidBatch> {
        let rest = bytes.strip_prefix(&HEAD).ok_or(InvalidBatch::Foreign)?;
        let damaged = |error: postcard::Error| InvalidBatch::Damaged(error.to_string());
        let (found, _) = postcard::take_from_bytes::<u32>(rest).map_err(damaged)?;
        if found != VERSION {
            return Err(InvalidBatch::Version { found });
        }
        let (batch, rest) = postcard::take_from_bytes::<Self>(rest).map_err(damaged)?;
        if rest.is_empty() {
            Ok(batch)
        } else {
            let what = format!("{} bytes after its end", rest.len());
            Err(InvalidBatch::Damaged(what))
        }
    }
}

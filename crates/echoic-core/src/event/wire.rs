//! The serialised form of a batch, and its validation.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
};
use thiserror::Error;

use super::{Batch, Event, RunEvent, ServerInfo, VERSION};

/// Maximum of bytes allocated for a received, unverified length.
const TRUSTED_BYTES: usize = 64 << 10;

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    server: &'a ServerInfo,
    number: u64,
    events: &'a [Event],
    #[serde(serialize_with = "serialize_bytes")]
    bytes: &'a [u8],
    lengths: &'a [u32],
}

#[derive(Deserialize)]
struct Read {
    version: u32,
    server: ServerInfo,
    number: u64,
    events: Vec<Event>,
    #[serde(deserialize_with = "deserialize_bytes")]
    bytes: Vec<u8>,
    lengths: Vec<u32>,
}

/// Why received bytes are not a valid batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Invalid {
    #[error("events of version {0}: expected {VERSION}")]
    Version(u32),
    #[error("a run without exchanges")]
    Empty,
    #[error("a run outside the bytes of its batch")]
    Outside,
    #[error("lengths that do not fit their run")]
    Lengths,
    #[error("more exchanges than can be counted")]
    TooMany,
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            version: VERSION,
            server: &self.server,
            number: self.number,
            events: &self.events,
            bytes: &self.bytes,
            lengths: &self.lengths,
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Read::deserialize(deserializer)?;
        Self::check(read).map_err(D::Error::custom)
    }
}

impl Batch {
    fn check(read: Read) -> Result<Self, Invalid> {
        if read.version != VERSION {
            return Err(Invalid::Version(read.version));
        }
        let (mut exchanges, mut left_over) = (0_u64, 0);
        for event in &read.events {
            if let Event::Ended(ended) = event {
                left_over += ended.left_over_bytes();
            }
            if let Event::Run(run) = event {
                check_run(run, read.bytes.len(), &read.lengths)?;
                exchanges = exchanges
                    .checked_add(run.count.into())
                    .ok_or(Invalid::TooMany)?;
            }
        }
        Ok(Self {
            server: Arc::new(read.server),
            number: read.number,
            events: read.events,
            bytes: read.bytes,
            lengths: read.lengths,
            exchanges,
            left_over,
        })
    }
}

fn check_run(run: &RunEvent, bytes: usize, lengths: &[u32]) -> Result<(), Invalid> {
    if run.count == 0 {
        return Err(Invalid::Empty);
    }
    let is_within = |end: Option<usize>, all| end.is_some_and(|end| end <= all);
    if !is_within(run.request.end(), bytes) || !is_within(run.reply.end(), bytes) {
        return Err(Invalid::Outside);
    }
    if !is_within(run.lengths.end(), lengths.len()) {
        return Err(Invalid::Lengths);
    }
    let pairs = &lengths[run.lengths.range()];
    if run.count == 1 && pairs.is_empty() {
        return Ok(());
    }
    if pairs.len() as u64 != 2 * u64::from(run.count) {
        return Err(Invalid::Lengths);
    }
    let sum = |side: usize| -> u64 {
        let each = pairs.iter().skip(side).step_by(2);
        each.map(|length| u64::from(*length)).sum()
    };
    let fits = sum(0) == run.request.len() as u64 && sum(1) == run.reply.len() as u64;
    if fits { Ok(()) } else { Err(Invalid::Lengths) }
}

fn serialize_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn deserialize_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Bytes;
    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(TRUSTED_BYTES));
            while let Some(byte) = seq.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }
    deserializer.deserialize_byte_buf(Bytes)
}

/// Checks the invariants of a batch parsed from any bytes; called by the property tests and by the fuzzer.
///
/// # Panics
/// If an invariant does not hold.
#[doc(hidden)]
pub fn check(received: &[u8]) {
    if let Ok(batch) = Batch::read_from(received) {
        check_batch(&batch, received);
    }
    if let Ok(batch) = serde_json::from_slice::<Batch>(received) {
        check_batch(&batch, received);
    }
}

fn check_batch(batch: &Batch, received: &[u8]) {
    let mut exchanges = 0;
    for event in &batch.events {
        if let Event::Run(run) = event {
            let lengths = batch.lengths(run.lengths);
            let (request, reply) = (batch.bytes(run.request), batch.bytes(run.reply));
            assert_eq!(
                lengths.len() / 2,
                if lengths.is_empty() {
                    0
                } else {
                    run.count as usize
                }
            );
            assert!(!lengths.is_empty() || run.count == 1);
            assert!(request.len() + reply.len() <= 2 * received.len());
            exchanges += u64::from(run.count);
        }
    }
    assert_eq!(batch.exchanges(), exchanges);
    let again = serde_json::to_vec(batch).expect("invariant: a batch is serialisable");
    let again = serde_json::from_slice::<Batch>(&again).expect("invariant: it was one before");
    assert_eq!(&again, batch);
    let mut again = Vec::new();
    batch.write_to(&mut again);
    let again = Batch::read_from(&again).expect("invariant: it was one before");
    assert_eq!(&again, batch);
}

#[cfg(test)]
mod tests;

//! Messages between servers and keepers: batches, or a reference to one that is stored in parts.

use std::sync::Arc;

use echoic_core::event::{Batch, BatchId, InvalidBatch, ServerId};
use thiserror::Error;

/// Begins a message of batches: each is its length in four bytes, least significant first, then the batch.
const BATCHES: [u8; 3] = [b'e', b'M', 1];

/// Begins a reference to a batch in parts: server, number, count of parts, bytes of all, in eight bytes each.
const REFERENCE: [u8; 3] = [b'e', b'R', 1];

/// Longest batch in bytes.
pub(crate) const BATCH_BYTES_MAX: usize = 256 << 20;

/// Most parts of a batch.
pub(crate) const PARTS_MAX: u64 = 65_536;

/// Why a message is none that a server sends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum InvalidMessage {
    #[error("not a message of echoic")]
    Foreign,
    #[error("a message that ends too early")]
    Short,
    #[error(transparent)]
    Batch(#[from] InvalidBatch),
}

/// What a server sends to a keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Batches(Vec<Arc<Batch>>),
    Reference(Reference),
}

/// A batch that is stored in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) batch: BatchId,
    pub(crate) parts: u64,
    pub(crate) bytes: u64,
}

/// What is sent for some batches, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// A message with the batches of these numbers.
    Message {
        first: BatchId,
        last: u64,
        payload: Vec<u8>,
    },
    /// A batch that is longer than a payload, to be sent in parts and then as a reference.
    Long { batch: BatchId, bytes: Vec<u8> },
}

/// Divides batches into messages of at most `room` bytes. A message has batches of one server.
pub(crate) fn messages(batches: &[Arc<Batch>], room: usize) -> Vec<Outgoing> {
    let mut outgoing = Vec::new();
    for batch in batches {
        let mut bytes = Vec::new();
        batch.write_to(&mut bytes);
        let (batch, len) = (batch.id(), bytes.len());
        if BATCHES.len() + 4 + len > room {
            outgoing.push(Outgoing::Long { batch, bytes });
            continue;
        }
        let payload = match outgoing.last_mut() {
            Some(Outgoing::Message {
                first,
                last,
                payload,
            }) if first.server == batch.server && payload.len() + 4 + len <= room => {
                *last = batch.number;
                payload
            }
            _ => {
                outgoing.push(Outgoing::Message {
                    first: batch,
                    last: batch.number,
                    payload: BATCHES.to_vec(),
                });
                let Some(Outgoing::Message { payload, .. }) = outgoing.last_mut() else {
                    continue; // just pushed
                };
                payload
            }
        };
        payload.extend_from_slice(&(len as u32).to_le_bytes());
        payload.extend_from_slice(&bytes);
    }
    outgoing
}

impl Reference {
    pub(crate) fn write(self) -> Vec<u8> {
        let Self {
            batch: BatchId { server, number },
            parts,
            bytes,
        } = self;
        let numbers = [server.0, number, parts, bytes];
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        REFERENCE.into_iter().chain(numbers).collect()
    }
}

/// Reads a message.
pub(crate) fn read(payload: &[u8]) -> Result<Received, InvalidMessage> {
    if let Some(mut rest) = payload.strip_prefix(&BATCHES) {
        let mut batches = Vec::new();
        while let Some((len, after)) = rest.split_first_chunk() {
            let len = u32::from_le_bytes(*len) as usize;
            let (batch, after) = after.split_at_checked(len).ok_or(InvalidMessage::Short)?;
            batches.push(Arc::new(Batch::read_from(batch)?));
            rest = after;
        }
        return if rest.is_empty() {
            Ok(Received::Batches(batches))
        } else {
            Err(InvalidMessage::Short)
        };
    }
    let rest = payload.strip_prefix(&REFERENCE);
    let (numbers, rest) = rest.ok_or(InvalidMessage::Foreign)?.as_chunks::<8>();
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect();
    match (&numbers[..], rest) {
        (&[server, number, parts, bytes], [])
            if parts <= PARTS_MAX && bytes <= BATCH_BYTES_MAX as u64 =>
        {
            let server = ServerId(server);
            Ok(Received::Reference(Reference {
                batch: BatchId { server, number },
                parts,
                bytes,
            }))
        }
        _ => Err(InvalidMessage::Short),
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::event::{Event, Mark, Marked, Outcome, RunMeta, ServerInfo};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn batch(server: u64, number: u64, bytes: usize) -> Arc<Batch> {
        let mut batch = Batch::default();
        batch.server = Arc::new(ServerInfo {
            id: ServerId(server),
            name: "host:1".into(),
            started: 5,
        });
        batch.number = number;
        let meta = RunMeta {
            conversation: 1,
            n: 1,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        batch.push_exchange(meta, Outcome::Ok, &vec![b'x'; bytes], b"reply");
        batch.events.push(Event::Mark(Mark {
            conversation: 0,
            at: 1,
            what: Marked::Dropped { datagrams: 4 },
        }));
        Arc::new(batch)
    }

    proptest! {
        /// Divided into messages and put together again, batches are the same and in the same order.
        #[test]
        fn batches_survive_their_messages(
            sizes in vec((1..3_u64, 0..600_usize), 0..12),
            room in 100..900_usize,
        ) {
            let batches: Vec<_> = (1..)
                .zip(sizes)
                .map(|(number, (server, bytes))| batch(server, number, bytes))
                .collect();
            let mut received = Vec::new();
            for message in messages(&batches, room) {
                match message {
                    Outgoing::Message { payload, first, last } => {
                        prop_assert!(payload.len() <= room);
                        let Ok(Received::Batches(some)) = read(&payload) else { panic!() };
                        prop_assert_eq!(first, some[0].id());
                        prop_assert_eq!(last, some[some.len() - 1].number);
                        prop_assert!(some.iter().all(|batch| batch.server.id == first.server));
                        received.extend(some);
                    }
                    Outgoing::Long { batch, bytes } => {
                        let read = Batch::read_from(&bytes).unwrap();
                        prop_assert_eq!(read.id(), batch);
                        received.push(Arc::new(read));
                    }
                }
            }
            prop_assert_eq!(received, batches);
        }

        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
            let _ = read(&[&BATCHES[..], &bytes].concat());
            let _ = read(&[&REFERENCE[..], &bytes].concat());
        }
    }

    #[test]
    fn reference_survives() {
        let reference = Reference {
            batch: BatchId {
                server: ServerId(u64::MAX),
                number: 3,
            },
            parts: 4,
            bytes: 5,
        };
        let received = read(&reference.write());
        assert_eq!(received, Ok(Received::Reference(reference)));
        let parts = PARTS_MAX + 1;
        let too_many = Reference { parts, ..reference };
        assert_eq!(read(&too_many.write()), Err(InvalidMessage::Short));
    }
}

//! Encodes runs as rows in the binary format of COPY.
//!
//! They are encoded before the lock is taken that gives them their ids; the ids and the partition are then written into
//! their places.

use echoic_core::event::{Batch, Event, ExchangeId, Micros, RunEvent};

/// First bytes of the format: its signature, no flags, no extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Its last bytes.
pub(super) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// The statement that takes the rows.
pub(super) const COPY: &str = "COPY run (id, part, conversation, n, at, latency_ns, reply_offset, count, reads, outcome, lengths, req, rep)
    FROM STDIN (FORMAT binary)";

/// Number of its columns.
const COLUMNS: i16 = 13;

/// Offset of the id in an encoded row: after the number of columns and the length of the id.
const ID_AT: usize = 2 + 4;

/// Offset of the number of the partition: after the id, and its own length.
const PART_AT: usize = ID_AT + 8 + 4;

/// Bytes that a row and its entry in the index take, beside `req`, `rep` and `lengths`.
pub(super) const ROW_BYTES: u64 = 120;

/// Bytes of an array beside its elements.
pub(super) const ARRAY_BYTES: u64 = 24;

/// Type of the elements of `lengths`: int4.
const INT4: u32 = 23;

/// The runs of a batch as rows.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    /// Where each row begins, and the number of exchanges before it in its batch.
    places: Vec<(usize, u64)>,
    pub(super) exchanges: u64,
    /// Approximate size in the database.
    pub(super) size: u64,
    /// Smallest and largest time of a run; meaningless without one.
    pub(super) times: (Micros, Micros),
}

impl Rows {
    /// Encodes the runs of a batch.
    pub(super) fn of(batch: &Batch) -> Self {
        let mut rows = Self {
            bytes: Vec::with_capacity(batch.size() + batch.events.len() * 64),
            times: (Micros::MAX, Micros::MIN),
            ..Self::default()
        };
        for event in &batch.events {
            if let Event::Run(run) = event {
                rows.push(run, batch);
            }
        }
        rows
    }

    fn push(&mut self, run: &RunEvent, batch: &Batch) {
        let (request, reply) = (batch.bytes(run.request), batch.bytes(run.reply));
        let lengths = batch.lengths(run.lengths);
        self.places.push((self.bytes.len(), self.exchanges));
        self.bytes.extend_from_slice(&COLUMNS.to_be_bytes());
        self.long(0); // the id
        self.int(0); // the partition
        self.long(run.conversation);
        self.long(run.n);
        self.long(run.at.cast_unsigned());
        self.long(run.latency_ns);
        self.long(run.reply_offset);
        self.int(run.count);
        self.int(run.reads);
        self.field(run.outcome.word().as_bytes());
        self.lengths(lengths);
        self.field(request);
        self.field(reply);
        self.exchanges += u64::from(run.count);
        self.times = (self.times.0.min(run.at), self.times.1.max(run.at));
        self.size += ROW_BYTES + (request.len() + reply.len()) as u64;
        if !lengths.is_empty() {
            self.size += ARRAY_BYTES + 4 * lengths.len() as u64;
        }
    }

    /// Writes the ids and the number of the partition into the rows, and returns them.
    pub(super) fn with_ids(mut self, first: ExchangeId, part: i32) -> Vec<u8> {
        for (at, before) in self.places {
            let row = &mut self.bytes[at..];
            row[ID_AT..ID_AT + 8].copy_from_slice(&(first + before).to_be_bytes());
            row[PART_AT..PART_AT + 4].copy_from_slice(&part.to_be_bytes());
        }
        self.bytes
    }

    fn long(&mut self, value: u64) {
        self.bytes.extend_from_slice(&8_i32.to_be_bytes());
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn int(&mut self, value: u32) {
        self.bytes.extend_from_slice(&4_i32.to_be_bytes());
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.bytes
            .extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// An array of one dimension without NULLs, whose first index is 1; NULL if it is empty.
    fn lengths(&mut self, lengths: &[u32]) {
        if lengths.is_empty() {
            self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
            return;
        }
        let len = 20 + 8 * lengths.len() as u32;
        for word in [len, 1, 0, INT4, lengths.len() as u32, 1] {
            self.bytes.extend_from_slice(&word.to_be_bytes());
        }
        for length in lengths {
            self.int(*length);
        }
    }
}

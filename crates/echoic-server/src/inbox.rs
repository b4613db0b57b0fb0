//! The bytes that were read from the peer and are not yet a complete message.

use std::{
    io, mem,
    task::{Context, Poll, ready},
};

use echoic_core::{framing::Span, message::Replies};
use echoic_wire::Link;

/// Size in bytes of the read buffer that a thread's conversations share: more than the 64 KiB that many peers write at
/// a time, because a read that fills it must be followed by another read, which then finds nothing.
pub(crate) const READ_BUFFER_BYTES: usize = 68 << 10;

/// An unfinished message of up to this many bytes is copied in front of the next read. A longer one stays in its own
/// buffer, which the next reads extend, so a message that arrives in many pieces is not copied once per piece.
const FRONT_MAX: usize = 4 << 10;

/// Buffers that the conversations of a thread share. One conversation at a time uses them, from a read to its replies,
/// so an idle conversation holds no buffer.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) read_buffer: Box<[u8]>,
    pub(crate) spans: Vec<Span>,
    pub(crate) replies: Replies,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            read_buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            spans: Vec::new(),
            replies: Replies::default(),
        }
    }
}

/// The beginning of a message whose end has not arrived.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    unfinished: Vec<u8>,
    /// Reads that brought it so far.
    reads: u32,
}

/// The result of a read: the unfinished message and the new bytes.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    bytes: Buffer<'a>,
    /// Number of new bytes; 0 is the end of the stream.
    pub(crate) new: usize,
    /// Reads that the first message in it took.
    pub(crate) reads: u32,
}

impl Reading<'_> {
    /// The unfinished message followed by the new bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Buffer::Shared(bytes) => bytes,
            Buffer::Own(bytes) => bytes,
        }
    }

    /// Like [`Self::bytes`], for a handler that turns the requests into replies in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Buffer::Shared(bytes) => bytes,
            Buffer::Own(bytes) => bytes,
        }
    }
}

/// The buffer with the bytes: the one that the thread shares, or the unfinished message's own.
#[derive(Debug)]
enum Buffer<'a> {
    Shared(&'a mut [u8]),
    Own(Vec<u8>),
}

impl Inbox {
    /// Whether no message is unfinished.
    pub(crate) fn is_empty(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// The unfinished message.
    pub(crate) fn unfinished(&self) -> &[u8] {
        &self.unfinished
    }

    /// Reads up to `new_max` bytes. The reading includes the unfinished message; [`Self::hold`] puts back the part that
    /// is still unfinished.
    #[inline]
    pub(crate) fn poll_read<'a>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        read_buffer: &'a mut [u8],
        new_max: usize,
    ) -> Poll<io::Result<Reading<'a>>> {
        let front = self.unfinished.len();
        let reads = self.reads + 1;
        if front <= FRONT_MAX {
            read_buffer[..front].copy_from_slice(&self.unfinished);
            let end = read_buffer.len().min(front.saturating_add(new_max));
            let new = ready!(link.poll_read(cx, &mut read_buffer[front..end]))?;
            let bytes = Buffer::Shared(&mut read_buffer[..front + new]);
            return Poll::Ready(Ok(Reading { bytes, new, reads }));
        }
        let end = read_buffer.len().min(new_max);
        let new = ready!(link.poll_read(cx, &mut read_buffer[..end]))?;
        let mut own = mem::take(&mut self.unfinished);
        own.extend_from_slice(&read_buffer[..new]);
        Poll::Ready(Ok(Reading {
            bytes: Buffer::Own(own),
            new,
            reads,
        }))
    }

    /// Stores the unfinished message that `reading` ends with, which starts at `consumed`.
    pub(crate) fn hold(&mut self, reading: Reading<'_>, consumed: usize) {
        self.reads = if consumed == 0 { reading.reads } else { 1 };
        self.unfinished = match reading.bytes {
            Buffer::Own(mut own) => {
                own.drain(..consumed);
                own
            }
            Buffer::Shared(bytes) => bytes[consumed..].to_vec(),
        };
        if self.unfinished.is_empty() {
            *self = Self::default();
        }
    }
}

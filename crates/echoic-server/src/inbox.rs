//! What has been read and is not yet a message.

use std::{
    io, mem,
    task::{Context, Poll, ready},
};

use echoic_core::{framing::Span, message::Replies};
use echoic_wire::Link;

/// Room of the buffer that a thread's conversations share for reading, in bytes: more than the 64 KiB that many peers
/// write at a time. A read that fills it must be followed by another one, which then finds nothing.
pub(crate) const ROOM: usize = 68 << 10;

/// An unfinished message up to this long is put in front of what is read next; a longer one is read on into its own
/// buffer, so that a message arriving in many pieces is not copied once a piece.
const FRONT_MAX: usize = 4 << 10;

/// What the conversations of a thread share: they use it one at a time, from a read to its replies, so that a
/// conversation that waits holds no buffer.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) room: Box<[u8]>,
    pub(crate) spans: Vec<Span>,
    pub(crate) replies: Replies,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            room: vec![0; ROOM].into_boxed_slice(),
            spans: Vec::new(),
            replies: Replies::default(),
        }
    }
}

/// The beginning of a message whose end has not come.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    unfinished: Vec<u8>,
    /// Reads it has taken so far.
    reads: u32,
}

/// What a read brought.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    bytes: Lying<'a>,
    /// Bytes that are new; 0 is the end of the stream.
    pub(crate) new: usize,
    /// Reads the first message among them has taken.
    pub(crate) reads: u32,
}

impl Reading<'_> {
    /// The unfinished message followed by what is new.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Lying::Shared(bytes) => bytes,
            Lying::Own(bytes) => bytes,
        }
    }

    /// The same, to be changed by who needs it no more as it came.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Lying::Shared(bytes) => bytes,
            Lying::Own(bytes) => bytes,
        }
    }
}

/// Where the bytes lie: in the room all share, or in a buffer of their own.
#[derive(Debug)]
enum Lying<'a> {
    Shared(&'a mut [u8]),
    Own(Vec<u8>),
}

impl Inbox {
    /// Whether a message has begun.
    pub(crate) fn is_empty(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// Reads what there is, `new_max` bytes at most. The unfinished message is taken out with it; [`Self::keep`] puts
    /// back what still is one.
    #[inline]
    pub(crate) fn poll_read<'a>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        room: &'a mut [u8],
        new_max: usize,
    ) -> Poll<io::Result<Reading<'a>>> {
        let front = self.unfinished.len();
        let reads = self.reads + 1;
        if front <= FRONT_MAX {
            room[..front].copy_from_slice(&self.unfinished);
            let end = room.len().min(front.saturating_add(new_max));
            let new = ready!(link.poll_read(cx, &mut room[front..end]))?;
            let bytes = Lying::Shared(&mut room[..front + new]);
            return Poll::Ready(Ok(Reading { bytes, new, reads }));
        }
        let end = room.len().min(new_max);
        let new = ready!(link.poll_read(cx, &mut room[..end]))?;
        let mut own = mem::take(&mut self.unfinished);
        own.extend_from_slice(&room[..new]);
        Poll::Ready(Ok(Reading {
            bytes: Lying::Own(own),
            new,
            reads,
        }))
    }

    /// Holds the unfinished message that `reading` ends with, from `consumed` on.
    pub(crate) fn hold(&mut self, reading: Reading<'_>, consumed: usize) {
        self.reads = if consumed == 0 { reading.reads } else { 1 };
        self.unfinished = match reading.bytes {
            Lying::Own(mut own) => {
                own.drain(..consumed);
                own
            }
            Lying::Shared(bytes) => bytes[consumed..].to_vec(),
        };
        if self.unfinished.is_empty() {
            *self = Self::default();
        }
    }
}

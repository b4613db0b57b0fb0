//! What has been said and not yet sent.

use std::{
    io,
    task::{Context, Poll, ready},
};

use echoic_wire::Link;

/// Bytes on their way out that the kernel has not taken. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    from: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.from == self.bytes.len()
    }

    /// Bytes waiting.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.from
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Sends some of the first `free` bytes; returns how much the kernel took.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        free: usize,
    ) -> Poll<io::Result<usize>> {
        let end = self.bytes.len().min(self.from + free);
        let sent = ready!(link.poll_write(cx, &self.bytes[self.from..end]))?;
        self.from += sent;
        if self.is_empty() {
            *self = Self::default();
        } else if self.from > self.bytes.len() / 2 {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
        Poll::Ready(Ok(sent))
    }
}

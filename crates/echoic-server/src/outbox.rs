//! The bytes that a handler produced and the kernel has not taken yet.

use std::{
    io,
    task::{Context, Poll, ready},
};

use echoic_wire::Link;

/// Buffer of bytes to send. It holds no memory while it is empty.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    from: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.from == self.bytes.len()
    }

    /// Number of bytes that are not sent yet.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.from
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Sends up to the first `limit` bytes; returns how many the kernel took.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(link.poll_write(cx, self.first(limit)))?;
        self.remove(sent);
        Poll::Ready(Ok(sent))
    }

    /// As [`Self::poll_send`], without waiting until the kernel calls the socket writable.
    pub(crate) fn try_send(&mut self, link: &mut Link, limit: usize) -> io::Result<usize> {
        let sent = link.try_write(self.first(limit))?;
        self.remove(sent);
        Ok(sent)
    }

    fn first(&self, limit: usize) -> &[u8] {
        let end = self.bytes.len().min(self.from + limit);
        &self.bytes[self.from..end]
    }

    fn remove(&mut self, sent: usize) {
        self.from += sent;
        if self.is_empty() {
            *self = Self::default();
        } else if self.from > self.bytes.len() / 2 {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
    }
}

//! Divides one direction of a conversation into messages that own their bytes.

use std::mem;

use echoic_core::{
    framing::{Framing, Span, Splitter},
    left_over::LeftOver,
};
use tokio::time::Instant;

/// Divides a stream into messages and buffers an incomplete one.
#[derive(Debug)]
pub struct Divider {
    splitter: Splitter,
    message_bytes_max: usize,
    buffer: Vec<u8>,
    buffered_at: Option<Instant>,
    /// The first bytes that did not follow the framing.
    violation: Option<Box<LeftOver>>,
}

impl Divider {
    /// Creates a divider for a new stream. A message longer than `message_bytes_max` is returned in pieces.
    pub fn new(framing: Framing, message_bytes_max: usize) -> Self {
        Self {
            splitter: Splitter::new(framing, message_bytes_max),
            message_bytes_max,
            buffer: Vec::new(),
            buffered_at: None,
            violation: None,
        }
    }

    /// Returns the first bytes that did not follow the framing, or else the incomplete message if messages have a length.
    /// (Where they end with a terminator or the stream, the incomplete one is the last message.)
    pub fn left_over(&self) -> Option<Box<LeftOver>> {
        let framing = self.splitter.framing();
        let has_length = framing.claim(&self.buffer).is_some();
        let unfinished = || LeftOver::new(framing, &self.buffer).filter(|_| has_length);
        self.violation.clone().or_else(unfinished)
    }

    /// Whether each read is one message.
    pub fn is_chunk(&self) -> bool {
        self.splitter.framing() == Framing::Chunk
    }

    /// Whether no incomplete message is buffered.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Returns the messages that end in `bytes`.
    pub fn divide(&mut self, at: Instant, bytes: &[u8]) -> Vec<Vec<u8>> {
        if self.is_chunk() {
            return vec![bytes.to_vec()];
        }
        self.buffer.extend_from_slice(bytes);
        let mut spans: Vec<Span> = Vec::new();
        let split = self.splitter.split(&self.buffer, &mut spans);
        let mut messages: Vec<_> = spans
            .iter()
            .map(|span| self.buffer[span.start as usize..span.end as usize].to_vec())
            .collect();
        self.buffer.drain(..split.consumed);
        self.buffered_at = (!self.buffer.is_empty()).then_some(at);
        if split.violation.is_some() {
            let left_over = || LeftOver::new(self.splitter.framing(), &self.buffer);
            self.violation = self.violation.take().or_else(left_over);
            messages.extend(self.take_rest().map(|(_, rest)| rest));
        }
        messages
    }

    /// Takes the incomplete message with the arrival time of its last bytes, and restarts the framing.
    pub fn take_rest(&mut self) -> Option<(Instant, Vec<u8>)> {
        let at = self.buffered_at.take()?;
        self.splitter = Splitter::new(self.splitter.framing(), self.message_bytes_max);
        Some((at, mem::take(&mut self.buffer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_that_break_the_framing_are_the_ones_kept() {
        let mut divider = Divider::new("u16be".parse().unwrap(), 100);
        let at = Instant::now();
        for (read, messages) in [
            (
                &b"\x00\x02OK\xff\xffab"[..],
                &[&b"\x00\x02OK"[..], b"\xff\xffab"][..],
            ),
            (b"\xff\xfecd", &[b"\xff\xfecd"]),
            (b"\x00\x09x", &[]),
        ] {
            assert_eq!(divider.divide(at, read), messages);
            let left = divider.left_over().unwrap();
            assert_eq!(
                (left.claimed, &left.bytes[..]),
                (Some(65535), &b"\xff\xffab"[..])
            );
        }
    }
}

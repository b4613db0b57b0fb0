//! One direction of a conversation, divided into messages that own their bytes.

use std::mem;

use echoic_core::framing::{Framing, Span, Splitter};
use tokio::time::Instant;

/// Divides a stream into messages and holds the beginning of an unfinished one.
#[derive(Debug)]
pub struct Divider {
    splitter: Splitter,
    message_bytes_max: usize,
    held: Vec<u8>,
    held_at: Option<Instant>,
}

impl Divider {
    /// At the start of a stream. A message longer than `message_bytes_max` is returned in pieces.
    pub fn new(framing: Framing, message_bytes_max: usize) -> Self {
        Self {
            splitter: Splitter::new(framing, message_bytes_max),
            message_bytes_max,
            held: Vec::new(),
            held_at: None,
        }
    }

    /// Whether a message is what one read returned.
    pub fn is_chunk(&self) -> bool {
        self.splitter.framing() == Framing::Chunk
    }

    /// Whether no message has begun.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns the messages that end in `bytes`, which follow what is held. `whole`: the bytes are one message.
    pub fn divide(&mut self, at: Instant, bytes: &[u8], whole: bool) -> Vec<Vec<u8>> {
        if whole || self.is_chunk() {
            return vec![bytes.to_vec()];
        }
        self.held.extend_from_slice(bytes);
        let mut spans: Vec<Span> = Vec::new();
        let split = self.splitter.split(&self.held, &mut spans);
        let mut messages: Vec<_> = spans
            .iter()
            .map(|span| self.held[span.start as usize..span.end as usize].to_vec())
            .collect();
        self.held.drain(..split.consumed);
        self.held_at = (!self.held.is_empty()).then_some(at);
        if split.violation.is_some() {
            messages.extend(self.take_rest().map(|(_, rest)| rest));
        }
        messages
    }

    /// Takes the unfinished message with the time of its last bytes, and starts anew.
    pub fn take_rest(&mut self) -> Option<(Instant, Vec<u8>)> {
        let at = self.held_at.take()?;
        self.splitter = Splitter::new(self.splitter.framing(), self.message_bytes_max);
        Some((at, mem::take(&mut self.held)))
    }
}

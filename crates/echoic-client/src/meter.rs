//! Counts the messages of a framing in a byte stream.

use echoic_core::framing::{Framing, Span, Splitter};

use crate::flow::{Flow, ends_with_stream};

/// Counts the messages of one direction under framings other than `line` and `chunk`, which [`Flow`] counts itself.
#[derive(Debug)]
pub(crate) struct Meter {
    splitter: Splitter,
    /// Bytes of the incomplete message.
    pending: Vec<u8>,
    spans: Vec<Span>,
    /// The framing was violated, or a message is longer than [`BODY_BYTES_MAX`]: counting has stopped.
    stopped: bool,
}

/// Maximum length of a length-prefixed message, which is buffered until it is complete.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Maximum number of bytes buffered of a message without a terminator.
const PENDING_BYTES_MAX: usize = 64 << 10;

impl Meter {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            splitter: Splitter::new(framing, BODY_BYTES_MAX),
            pending: Vec::new(),
            spans: Vec::new(),
            stopped: false,
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.splitter.framing()
    }

    /// Counts `bytes`: adds the messages that they complete to `flow`, and sets the length of the incomplete one.
    pub(crate) fn add(&mut self, bytes: &[u8], flow: &mut Flow) {
        let framing = self.framing();
        if matches!(framing, Framing::Chunk | Framing::Line) || bytes.is_empty() || self.stopped {
            return;
        }
        self.pending.extend_from_slice(bytes);
        let split = self.splitter.split(&self.pending, &mut self.spans);
        flow.framed += self.spans.len() as u64;
        let rest = (self.pending.len() - split.consumed) as u64;
        flow.unfinished = if self.spans.is_empty() {
            flow.unfinished + bytes.len() as u64
        } else {
            rest
        };
        self.spans.clear();
        self.pending.drain(..split.consumed);
        if split.violation.is_some() {
            self.stopped = true;
            self.pending = Vec::new();
            flow.unfinished = 0;
        } else if ends_with_stream(framing) && self.pending.len() > PENDING_BYTES_MAX {
            // Only the start of a terminator at its end matters.
            let tail = framing
                .terminator()
                .map_or(0, |terminator| terminator.len() - 1);
            self.pending.drain(..self.pending.len() - tail);
            self.splitter = Splitter::new(framing, BODY_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_message_is_not_buffered() {
        let mut meter = Meter::new("crlf".parse().unwrap());
        let mut flow = Flow::default();
        for _ in 0..1000 {
            meter.add(&[b'x'; 1000], &mut flow);
            assert!(meter.pending.len() <= PENDING_BYTES_MAX + 1000);
        }
        meter.add(b"\r", &mut flow);
        assert_eq!((flow.framed, flow.unfinished), (0, 1_000_001));
        meter.add(b"\nab", &mut flow);
        assert_eq!((flow.framed, flow.unfinished), (1, 2));
    }

    #[test]
    fn counting_stops_at_a_framing_violation() {
        let mut meter = Meter::new("netstring".parse().unwrap());
        let mut flow = Flow::default();
        meter.add(b"1:a,hello1:b,", &mut flow);
        assert_eq!((flow.framed, flow.unfinished), (1, 0));
        meter.add(b"1:c,", &mut flow);
        assert_eq!(flow.framed, 1);
    }
}

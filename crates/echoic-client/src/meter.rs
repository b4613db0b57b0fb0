//! Counting the messages of a framing.

use echoic_core::framing::{Framing, Span, Splitter};

use crate::flow::{Flow, ends_with_stream};

/// Counts the messages of one direction, where that takes more than counting line ends.
#[derive(Debug)]
pub(crate) struct Meter {
    splitter: Splitter,
    /// Of the message that has not ended.
    held: Vec<u8>,
    spans: Vec<Span>,
    /// The framing was broken, or a message is longer than can be kept: from there on nothing is known.
    lost: bool,
}

/// The longest message whose length comes first. It has to be kept to be counted, though no longer than it is under
/// way.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Of a message without a terminator so far no more than this is kept.
const HELD_BYTES_MAX: usize = 64 << 10;

impl Meter {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            splitter: Splitter::new(framing, BODY_BYTES_MAX),
            held: Vec::new(),
            spans: Vec::new(),
            lost: false,
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.splitter.framing()
    }

    /// These bytes went; how many messages ended, and what is left over, goes into `flow`.
    pub(crate) fn add(&mut self, bytes: &[u8], flow: &mut Flow) {
        let framing = self.framing();
        if matches!(framing, Framing::Chunk | Framing::Line) || bytes.is_empty() || self.lost {
            return;
        }
        self.held.extend_from_slice(bytes);
        let split = self.splitter.split(&self.held, &mut self.spans);
        flow.framed += self.spans.len() as u64;
        let rest = (self.held.len() - split.consumed) as u64;
        flow.unfinished = if self.spans.is_empty() {
            flow.unfinished + bytes.len() as u64
        } else {
            rest
        };
        self.spans.clear();
        self.held.drain(..split.consumed);
        if split.violation.is_some() {
            self.lost = true;
            self.held = Vec::new();
            flow.unfinished = 0;
        } else if ends_with_stream(framing) && self.held.len() > HELD_BYTES_MAX {
            // Only the beginning of a terminator matters of it.
            let kept = framing
                .terminator()
                .map_or(0, |terminator| terminator.len() - 1);
            self.held.drain(..self.held.len() - kept);
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
            assert!(meter.held.len() <= HELD_BYTES_MAX + 1000);
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

//! Bytes and messages sent and received in a conversation.

use echoic_core::framing::{Framing, FramingPair};

use crate::{
    flow::{Flow, ends_with_stream},
    meter::Meter,
};

/// Totals of a conversation so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Data that the kernel accepted for the peer.
    pub sent: Flow,
    /// Data received from the peer.
    pub received: Flow,
    /// Commands sent since the last byte received; a reply is due while this is not 0.
    pub unanswered: u64,
}

/// Counts both directions as data is sent and received.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    received: Meter,
    sent: Meter,
}

impl Tally {
    pub(crate) fn new(framings: FramingPair) -> Self {
        Self {
            counts: Counts::default(),
            received: Meter::new(framings.inbound),
            sent: Meter::new(framings.outbound),
        }
    }

    /// Divides messages by this pair of framings from here on.
    pub(crate) fn set_framing(&mut self, framings: FramingPair) {
        self.received = Meter::new(framings.inbound);
        self.sent = Meter::new(framings.outbound);
        (self.counts.received.unfinished, self.counts.sent.unfinished) = (0, 0);
    }

    /// Counts bytes that the kernel accepted; `complete` if they are the last ones of a command.
    pub(crate) fn add_sent(&mut self, bytes: &[u8], complete: bool) {
        let Counts {
            sent, unanswered, ..
        } = &mut self.counts;
        sent.add(bytes);
        self.sent.add(bytes, sent);
        sent.chunks += u64::from(complete);
        *unanswered += u64::from(complete);
    }

    /// Counts the bytes of one read.
    pub(crate) fn add_received(&mut self, bytes: &[u8]) {
        let Counts {
            received,
            unanswered,
            ..
        } = &mut self.counts;
        received.add(bytes);
        self.received.add(bytes, received);
        received.chunks += 1;
        *unanswered = 0;
    }

    /// Returns the number of complete messages sent.
    pub(crate) fn sent_messages(&self) -> u64 {
        self.counts.sent.complete_messages(self.sent.framing())
    }
}

impl Counts {
    /// Returns whether the peer's stream ended within a reply that was due.
    ///
    /// Known only under a declared framing. With terminators: the last message has none, and fewer messages were
    /// received than sent (a request sent without its terminator is answered without one). With lengths: the last
    /// message is shorter than its length.
    pub fn is_reply_cut(&self, framings: FramingPair) -> bool {
        match framings.inbound {
            Framing::Chunk => false,
            Framing::Line => {
                self.received.open_line
                    && self.received.lines < self.sent.complete_messages(framings.outbound)
            }
            inbound if ends_with_stream(inbound) => {
                self.received.unfinished > 0
                    && self.received.framed < self.sent.complete_messages(framings.outbound)
            }
            _ => self.received.unfinished > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::framing::oracle;
    use proptest::prelude::*;

    use super::*;

    fn tally(framing: &str) -> (FramingPair, Tally) {
        let framings = framing.parse().unwrap();
        (framings, Tally::new(framings))
    }

    #[test]
    fn unterminated_last_line_is_cut_only_while_a_reply_is_due() {
        let (line, mut tally) = tally("line");
        tally.add_sent(b"a\nb\n", true);
        tally.add_received(b"A\nB");
        assert!(tally.counts.is_reply_cut(line));
        assert!(
            !tally.counts.is_reply_cut(Framing::Chunk.into()),
            "chunk declares nothing"
        );
        tally.add_received(b"\n");
        assert!(!tally.counts.is_reply_cut(line));
        tally.add_received(b"bye");
        assert!(!tally.counts.is_reply_cut(line), "no reply was due");
    }

    #[test]
    fn reply_copies_the_missing_newline_of_its_request() {
        let (line, mut tally) = tally("line");
        tally.add_sent(b"a\nb", true);
        tally.add_received(b"A\nB");
        assert!(!tally.counts.is_reply_cut(line));
        assert_eq!(tally.counts.sent.messages(Framing::Line), 2);
    }

    #[test]
    fn message_shorter_than_its_declared_length_is_cut() {
        let (framings, mut tally) = tally("u8/netstring");
        tally.add_sent(b"1:a,", true);
        tally.add_received(b"\x01A\x03BC");
        assert_eq!(tally.counts.sent.messages(framings.outbound), 1);
        assert_eq!(
            (
                tally.counts.received.messages(framings.inbound),
                tally.counts.received.unfinished
            ),
            (1, 3)
        );
        assert!(tally.counts.is_reply_cut(framings));
        tally.add_received(b"D");
        assert!(!tally.counts.is_reply_cut(framings));
        assert_eq!(tally.counts.received.messages(framings.inbound), 2);
    }

    #[test]
    fn changed_framing_counts_from_the_change_on() {
        let (_, mut tally) = tally("chunk");
        tally.add_received(b"a\0b\0");
        tally.set_framing(Framing::Nul.into());
        tally.add_received(b"c\0d");
        assert_eq!(tally.counts.received.messages(Framing::Nul), 2);
    }

    proptest! {
        #[test]
        fn counting_agrees_with_the_splitter(
            framing in prop::sample::select(vec!["line", "crlf", "nul", "delim:0d0a0d0a", "u8", "fixed:3", "varint"]),
            data in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), 0..5u8, any::<u8>()], 0..100),
            addresses in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            let pieces = oracle::cut(&data, &addresses);
            let (framings, mut tally) = tally(framing);
            for piece in &pieces {
                tally.add_received(piece);
            }
            let (messages, _) = oracle::messages(framings.inbound, 1 << 20, &pieces);
            prop_assert_eq!(tally.counts.received.messages(framings.inbound), messages.len() as u64);
            prop_assert_eq!(tally.counts.received.bytes, data.len() as u64);
        }
    }
}

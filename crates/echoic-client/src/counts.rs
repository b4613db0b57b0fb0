//! How much went each way.

use echoic_core::framing::{Framing, FramingPair};

use crate::{
    flow::{Flow, ends_with_stream},
    meter::Meter,
};

/// What went each way in a conversation so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What the kernel took for the peer.
    pub sent: Flow,
    /// What came from the peer.
    pub heard: Flow,
    /// Things sent since the last byte heard: something is owed as long as this is not 0.
    pub unanswered: u64,
}

/// Counts both directions.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    heard: Meter,
    said: Meter,
}

impl Tally {
    pub(crate) fn new(frames: FramingPair) -> Self {
        Self {
            counts: Counts::default(),
            heard: Meter::new(frames.inbound),
            said: Meter::new(frames.outbound),
        }
    }

    /// From here on messages are divided so.
    pub(crate) fn reframe(&mut self, frames: FramingPair) {
        (self.heard, self.said) = (Meter::new(frames.inbound), Meter::new(frames.outbound));
        (self.counts.heard.unfinished, self.counts.sent.unfinished) = (0, 0);
    }

    /// The kernel took these bytes; `whole` if something said ends with them.
    pub(crate) fn sent(&mut self, bytes: &[u8], whole: bool) {
        let Counts {
            sent, unanswered, ..
        } = &mut self.counts;
        sent.add(bytes);
        self.said.add(bytes, sent);
        sent.pieces += u64::from(whole);
        *unanswered += u64::from(whole);
    }

    /// Something was read.
    pub(crate) fn heard(&mut self, bytes: &[u8]) {
        let Counts {
            heard, unanswered, ..
        } = &mut self.counts;
        heard.add(bytes);
        self.heard.add(bytes, heard);
        heard.pieces += 1;
        *unanswered = 0;
    }

    /// Messages said so far that have ended.
    pub(crate) fn said(&self) -> u64 {
        let sent = &self.counts.sent;
        match self.said.framing() {
            Framing::Chunk => sent.pieces,
            Framing::Line => sent.lines,
            _ => sent.framed,
        }
    }
}

impl Counts {
    /// Whether the peer's stream ended in the middle of a reply that was owed. Only a declared framing can tell:
    /// where a terminator ends a message, a last one without it while fewer ended than were sent (one that we sent
    /// without is answered without); where a length comes first, any that is shorter.
    pub fn cut(&self, frames: FramingPair) -> bool {
        match frames.inbound {
            Framing::Chunk => false,
            Framing::Line => {
                self.heard.open_line && self.heard.lines < self.sent.ended(frames.outbound)
            }
            heard if ends_with_stream(heard) => {
                self.heard.unfinished > 0 && self.heard.framed < self.sent.ended(frames.outbound)
            }
            _ => self.heard.unfinished > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::framing::oracle;
    use proptest::prelude::*;

    use super::*;

    fn tally(framing: &str) -> (FramingPair, Tally) {
        let frames = framing.parse().unwrap();
        (frames, Tally::new(frames))
    }

    #[test]
    fn unterminated_last_line_is_cut_only_while_a_reply_is_due() {
        let (line, mut tally) = tally("line");
        tally.sent(b"a\nb\n", true);
        tally.heard(b"A\nB");
        assert!(tally.counts.cut(line));
        assert!(
            !tally.counts.cut(Framing::Chunk.into()),
            "chunk declares nothing"
        );
        tally.heard(b"\n");
        assert!(!tally.counts.cut(line));
        tally.heard(b"bye");
        assert!(!tally.counts.cut(line), "nobody asked for that one");
    }

    #[test]
    fn reply_copies_the_missing_newline_of_its_request() {
        let (line, mut tally) = tally("line");
        tally.sent(b"a\nb", true);
        tally.heard(b"A\nB");
        assert!(!tally.counts.cut(line));
        assert_eq!(tally.counts.sent.messages(Framing::Line), 2);
    }

    #[test]
    fn message_shorter_than_its_declared_length_is_cut() {
        let (frames, mut tally) = tally("u8/netstring");
        tally.sent(b"1:a,", true);
        tally.heard(b"\x01A\x03BC");
        assert_eq!(tally.counts.sent.messages(frames.outbound), 1);
        assert_eq!(
            (
                tally.counts.heard.messages(frames.inbound),
                tally.counts.heard.unfinished
            ),
            (1, 3)
        );
        assert!(tally.counts.cut(frames));
        tally.heard(b"D");
        assert!(!tally.counts.cut(frames));
        assert_eq!(tally.counts.heard.messages(frames.inbound), 2);
    }

    #[test]
    fn changed_framing_counts_from_the_change_on() {
        let (_, mut tally) = tally("chunk");
        tally.heard(b"a\0b\0");
        tally.reframe(Framing::Nul.into());
        tally.heard(b"c\0d");
        assert_eq!(tally.counts.heard.messages(Framing::Nul), 2);
    }

    proptest! {
        #[test]
        fn counting_agrees_with_the_splitter(
            framing in prop::sample::select(vec!["line", "crlf", "nul", "delim:0d0a0d0a", "u8", "fixed:3", "varint"]),
            data in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), 0..5u8, any::<u8>()], 0..100),
            addresses in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            let pieces = oracle::cut(&data, &addresses);
            let (frames, mut tally) = tally(framing);
            for piece in &pieces {
                tally.heard(piece);
            }
            let (messages, _) = oracle::messages(frames.inbound, 1 << 20, &pieces);
            prop_assert_eq!(tally.counts.heard.messages(frames.inbound), messages.len() as u64);
            prop_assert_eq!(tally.counts.heard.bytes, data.len() as u64);
        }
    }
}

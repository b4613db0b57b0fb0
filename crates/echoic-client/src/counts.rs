//! How much went each way.

use echoic_core::framing::Framing;
use memchr::{memchr_iter, memrchr};

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

/// One direction. Lines and pieces are both counted, since the framing says only afterwards, and only for the
/// reader, which of them are messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Bytes.
    pub bytes: u64,
    /// Reads, or things said.
    pub pieces: u64,
    /// Lines that ended.
    pub lines: u64,
    /// The last line has begun and not ended.
    pub open_line: bool,
}

impl Counts {
    /// The kernel took these bytes; `whole` if something said ends with them.
    pub fn sent(&mut self, bytes: &[u8], whole: bool) {
        self.sent.add(bytes);
        self.sent.pieces += u64::from(whole);
        self.unanswered += u64::from(whole);
    }

    /// Something was read.
    pub fn heard(&mut self, bytes: &[u8]) {
        self.heard.add(bytes);
        self.heard.pieces += 1;
        self.unanswered = 0;
    }

    /// Whether the peer's stream ended in the middle of a reply that was owed. Only a declared framing can
    /// tell: under `line`, a last line without its newline while fewer lines ended than were sent. A last line
    /// that we sent without one is answered without one.
    pub fn cut(&self, framing: Framing) -> bool {
        framing.is_declared() && self.heard.open_line && self.heard.lines < self.sent.lines
    }
}

impl Flow {
    /// Messages, as `framing` counts them; a last line without a newline is one.
    pub fn messages(&self, framing: Framing) -> u64 {
        match framing {
            Framing::Chunk => self.pieces,
            Framing::Line => self.lines + u64::from(self.open_line),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.lines += memchr_iter(b'\n', bytes).count() as u64;
        if !bytes.is_empty() {
            self.open_line = memrchr(b'\n', bytes) != Some(bytes.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::framing::oracle;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_last_line_without_newline_is_cut_only_while_a_reply_is_owed() {
        let mut counts = Counts::default();
        counts.sent(b"a\nb\n", true);
        counts.heard(b"A\nB");
        assert!(counts.cut(Framing::Line));
        assert!(!counts.cut(Framing::Chunk), "chunk declares nothing");
        counts.heard(b"\n");
        assert!(!counts.cut(Framing::Line));
        counts.heard(b"bye");
        assert!(!counts.cut(Framing::Line), "nobody asked for that one");
    }

    #[test]
    fn a_reply_copies_the_missing_newline_of_its_request() {
        let mut counts = Counts::default();
        counts.sent(b"a\nb", true);
        counts.heard(b"A\nB");
        assert!(!counts.cut(Framing::Line));
        assert_eq!(counts.sent.messages(Framing::Line), 2);
    }

    proptest! {
        #[test]
        fn counting_agrees_with_the_splitter(
            data in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..100),
            places in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            let pieces = oracle::cut(&data, &places);
            let mut flow = Flow::default();
            for piece in &pieces {
                flow.add(piece);
            }
            let (messages, _) = oracle::messages(Framing::Line, usize::MAX, &pieces);
            prop_assert_eq!(flow.messages(Framing::Line), messages.len() as u64);
            prop_assert_eq!(flow.bytes, data.len() as u64);
        }
    }
}

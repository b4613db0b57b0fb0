//! How much went one way.

use echoic_core::framing::Framing;
use memchr::{memchr_iter, memrchr};

/// One direction. Lines and pieces are always counted, so that a change between `line` and `chunk` holds for what
/// went before too; messages of another framing from when it was chosen.
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
    /// Messages that ended, under a framing that is neither `line` nor `chunk`.
    pub framed: u64,
    /// Bytes of the message after them.
    pub unfinished: u64,
}

impl Flow {
    /// Messages, as `framing` counts them; a last one whose terminator is missing is one.
    pub fn messages(&self, framing: Framing) -> u64 {
        match framing {
            Framing::Chunk => self.pieces,
            Framing::Line => self.lines + u64::from(self.open_line),
            _ => self.framed + u64::from(ends_with_stream(framing) && self.unfinished > 0),
        }
    }

    pub(crate) fn ended(&self, framing: Framing) -> u64 {
        match framing {
            Framing::Chunk => self.pieces,
            Framing::Line => self.lines,
            _ => self.framed,
        }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.lines += memchr_iter(b'\n', bytes).count() as u64;
        if !bytes.is_empty() {
            self.open_line = memrchr(b'\n', bytes) != Some(bytes.len() - 1);
        }
    }
}

/// Whether the end of the stream ends a message as its terminator does.
pub(crate) fn ends_with_stream(framing: Framing) -> bool {
    !framing.has_length() && !matches!(framing, Framing::Fixed(_))
}

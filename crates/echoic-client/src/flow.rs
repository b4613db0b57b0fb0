//! Bytes and messages of one direction.

use echoic_core::framing::Framing;
use memchr::{memchr_iter, memrchr};

/// Totals of one direction.
///
/// Lines and chunks are always counted, so that a change between `line` and `chunk` applies to earlier data too. Messages
/// of another framing are counted from the time when it was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Number of bytes.
    pub bytes: u64,
    /// Number of reads, or of commands sent.
    pub chunks: u64,
    /// Number of terminated lines.
    pub lines: u64,
    /// The last line has no terminator yet.
    pub open_line: bool,
    /// Number of complete messages under a framing that is neither `line` nor `chunk`.
    pub framed: u64,
    /// Number of bytes of the incomplete message after them.
    pub unfinished: u64,
}

impl Flow {
    /// Returns the number of messages under `framing`; a last message without its terminator counts.
    pub fn messages(&self, framing: Framing) -> u64 {
        match framing {
            Framing::Chunk => self.chunks,
            Framing::Line => self.lines + u64::from(self.open_line),
            _ => self.framed + u64::from(ends_with_stream(framing) && self.unfinished > 0),
        }
    }

    /// Returns the number of complete messages under `framing`.
    pub(crate) fn complete_messages(&self, framing: Framing) -> u64 {
        match framing {
            Framing::Chunk => self.chunks,
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

/// Returns whether the end of the stream ends a message, as its terminator does.
pub(crate) fn ends_with_stream(framing: Framing) -> bool {
    !framing.has_length() && !matches!(framing, Framing::Fixed(_))
}

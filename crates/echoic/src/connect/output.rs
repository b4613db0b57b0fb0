//! Writes received bytes to standard output without a prompt (`printf hello | echoic connect :5000`): escaped on a terminal,
//! except for line ends; unchanged elsewhere.

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    mem,
};

use echoic_core::escape;

use crate::stdio::{self, Unbuffered};

/// Standard output, or a writer of a test.
pub(super) struct Output<W: Write> {
    out: W,
    /// The output is a terminal, so bytes are escaped.
    escapes: bool,
    /// The last bytes, while it takes more to interpret them: part of a character, or a carriage return that may be part of
    /// a line end.
    pending: Vec<u8>,
}

impl Output<BufWriter<Unbuffered<io::Stdout>>> {
    pub(super) fn standard() -> Self {
        let escapes = io::stdout().is_terminal();
        Self::new(BufWriter::new(stdio::output()), escapes)
    }
}

impl<W: Write> Output<W> {
    fn new(out: W, escapes: bool) -> Self {
        Self {
            out,
            escapes,
            pending: Vec::new(),
        }
    }

    /// Writes the bytes of one read, and flushes, since the reader of the output may wait for them.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.escapes {
            let mut all = mem::take(&mut self.pending);
            all.extend_from_slice(bytes);
            self.pending = all.split_off(all.len() - incomplete_bytes(&all));
            self.write_escaped(&all)?;
        } else {
            self.out.write_all(bytes)?;
        }
        self.out.flush()
    }

    /// Writes the pending bytes at the end of the stream.
    pub(super) fn end(mut self) -> io::Result<()> {
        let pending = mem::take(&mut self.pending);
        self.write_escaped(&pending)?;
        self.out.flush()
    }

    fn write_escaped(&mut self, bytes: &[u8]) -> io::Result<()> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let body = line.strip_suffix(b"\n").unwrap_or(line);
            let ended = body.len() < line.len();
            let body = body.strip_suffix(b"\r").filter(|_| ended).unwrap_or(body);
            write!(self.out, "{}", escape::text(body))?;
            if ended {
                self.out.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}

/// Returns how many bytes at the end cannot be interpreted yet.
fn incomplete_bytes(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") {
        return 1;
    }
    let unfinished = |tail: &[u8]| str::from_utf8(tail).is_err_and(|e| e.error_len().is_none());
    (1..=bytes.len().min(3))
        .find(|n| {
            let tail = &bytes[bytes.len() - n..];
            unfinished(tail) && str::from_utf8(tail).is_err_and(|e| e.valid_up_to() == 0)
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(reads: &[&[u8]], escapes: bool) -> Vec<u8> {
        let mut all = Vec::new();
        let mut output = Output::new(&mut all, escapes);
        for read in reads {
            output.write(read).unwrap();
        }
        output.end().unwrap();
        all
    }

    #[test]
    fn line_breaks_pass_and_controls_are_escaped() {
        let received = b"stra\xc3\x9fe\r\n\x1b[2J\x07 \xc2\x9b a\rb\xff\nend\r";
        assert_eq!(
            String::from_utf8(written(&[received], true)).unwrap(),
            "straße\n\\x1b[2J\\x07 \\u{9b} a\\rb\\xff\nend\\r"
        );
        assert_eq!(written(&[received], false), received);
    }

    proptest! {
        /// Characters and line ends are recognised across the boundaries of reads.
        #[test]
        fn escaping_does_not_depend_on_read_boundaries(text in "[a\r\n\u{9b}ßẞ漢\u{1f600}]{0,30}", extra: Vec<u8>, at: Vec<usize>) {
            let received = [text.as_bytes(), &extra].concat();
            let pieces = echoic_core::framing::oracle::cut(&received, &at);
            prop_assert_eq!(written(&pieces, true), written(&[&received], true));
            prop_assert_eq!(written(&pieces, false), received);
        }
    }
}

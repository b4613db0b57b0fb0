//! What the peer says, on a terminal and without a prompt (`printf hello | echoic connect :5000`): its lines as lines,
//! and everything a terminal would obey as an escape. Where nobody looks on, each byte goes out as it came.

use std::{
    io::{self, IsTerminal, Write},
    mem,
};

use echoic_core::escape;

/// Standard output, or what a test puts in its place.
pub(super) struct Output<W: Write> {
    out: W,
    /// A person looks on.
    visible: bool,
    /// The end of what came last, while more is needed to know what it is: part of a character, or a carriage return
    /// that may belong to a newline.
    held: Vec<u8>,
}

impl Output<io::StdoutLock<'static>> {
    pub(super) fn standard() -> Self {
        let visible = io::stdout().is_terminal();
        Self::new(io::stdout().lock(), visible)
    }
}

impl<W: Write> Output<W> {
    fn new(out: W, visible: bool) -> Self {
        Self {
            out,
            visible,
            held: Vec::new(),
        }
    }

    /// Writes what one read brought, and flushes, since whoever reads us may wait for it.
    pub(super) fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.visible {
            let mut all = mem::take(&mut self.held);
            all.extend_from_slice(bytes);
            self.held = all.split_off(all.len() - undecided(&all));
            self.show(&all)?;
        } else {
            self.out.write_all(bytes)?;
        }
        self.out.flush()
    }

    /// Nothing more comes.
    pub(super) fn end(mut self) -> io::Result<()> {
        let held = mem::take(&mut self.held);
        self.show(&held)?;
        self.out.flush()
    }

    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
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

/// How many bytes at the end cannot be told yet.
fn undecided(bytes: &[u8]) -> usize {
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

    fn written(reads: &[&[u8]], visible: bool) -> Vec<u8> {
        let mut all = Vec::new();
        let mut output = Output::new(&mut all, visible);
        for read in reads {
            output.read(read).unwrap();
        }
        output.end().unwrap();
        all
    }

    #[test]
    fn line_breaks_pass_and_controls_are_escaped() {
        let said = b"stra\xc3\x9fe\r\n\x1b[2J\x07 \xc2\x9b a\rb\xff\nend\r";
        assert_eq!(
            String::from_utf8(written(&[said], true)).unwrap(),
            "straße\n\\x1b[2J\\x07 \\u{9b} a\\rb\\xff\nend\\r"
        );
        assert_eq!(written(&[said], false), said);
    }

    proptest! {
        /// However it is cut into reads, a character is a character and a newline a newline.
        #[test]
        fn escaping_does_not_depend_on_read_boundaries(said in "[a\r\n\u{9b}ßẞ漢\u{1f600}]{0,30}", extra: Vec<u8>, at: Vec<usize>) {
            let said = [said.as_bytes(), &extra].concat();
            let pieces = echoic_core::framing::oracle::cut(&said, &at);
            prop_assert_eq!(written(&pieces, true), written(&[&said], true));
            prop_assert_eq!(written(&pieces, false), said);
        }
    }
}

//! Peer bytes made safe to show.
//!
//! Whatever a peer sends may end up on a terminal, in a log line or in an error text. A terminal takes control
//! characters as commands (CVE-2009-4487: log files that type), bidirectional marks turn text around, and
//! zero-width ones hide it. So everything that is not plainly visible is written as an escape, always on one
//! line, and nothing is lost: [`parse`] gives the bytes back.
//!
//! | In the bytes | Shown |
//! |---|---|
//! | printable UTF-8 | as it is |
//! | newline, carriage return, tab, backslash | `\n` `\r` `\t` `\\` |
//! | other C0 controls, DEL, bytes that are no UTF-8 | `\x1b`, two digits |
//! | C1 controls, bidirectional marks, zero-width and format characters, line separators | `\u{9b}` |

use std::{
    fmt::{self, Write},
    str::Utf8Chunks,
};

use thiserror::Error;

use crate::units::for_people;

/// Bytes that print escaped, on one line. Made by [`text`] and [`text_up_to`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    bytes: &'a [u8],
    chars_max: usize,
}

/// Shows all of `bytes`.
pub fn text(bytes: &[u8]) -> Escaped<'_> {
    text_up_to(bytes, usize::MAX)
}

/// Shows `bytes` in at most `chars_max` characters, then how much is missing: `hel…(+1.9 KiB)`.
///
/// The note of what is missing comes on top of `chars_max`; an escape is never cut in two. The work done is in
/// proportion to what is shown, so a message of a mebibyte costs no more than a line.
pub fn text_up_to(bytes: &[u8], chars_max: usize) -> Escaped<'_> {
    Escaped { bytes, chars_max }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = self.chars_max;
        let mut done = 0;
        for piece in pieces(self.bytes) {
            let Some(left) = room.checked_sub(piece.width()) else {
                return missing(f, self.bytes.len() - done);
            };
            write!(f, "{piece}")?;
            room = left;
            done += piece.bytes();
        }
        Ok(())
    }
}

/// Bytes as a Python literal, `b'hello\n'`: what `--explain` shows, since that is how the reader's own program
/// would print them. Made by [`python`] and [`python_up_to`].
#[derive(Clone, Copy, Debug)]
pub struct Python<'a> {
    bytes: &'a [u8],
    missing: usize,
}

/// All of `bytes` as Python's `repr` writes them.
pub fn python(bytes: &[u8]) -> Python<'_> {
    python_up_to(bytes, usize::MAX)
}

/// The first `bytes_max` bytes as Python's `repr` writes them, then how much is missing: `b'hel'…(+1.9 KiB)`.
pub fn python_up_to(bytes: &[u8], bytes_max: usize) -> Python<'_> {
    let shown = bytes.len().min(bytes_max);
    Python {
        bytes: &bytes[..shown],
        missing: bytes.len() - shown,
    }
}

impl fmt::Display for Python<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |quote| self.bytes.contains(&quote);
        let quote = if has(b'\'') && !has(b'"') {
            b'"'
        } else {
            b'\''
        };
        write!(f, "b{}", char::from(quote))?;
        for &byte in self.bytes {
            match byte {
                b'\n' => f.write_str("\\n")?,
                b'\r' => f.write_str("\\r")?,
                b'\t' => f.write_str("\\t")?,
                b'\\' => f.write_str("\\\\")?,
                _ if byte == quote => write!(f, "\\{}", char::from(quote))?,
                b' '..=b'~' => f.write_char(char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_char(char::from(quote))?;
        if self.missing > 0 {
            missing(f, self.missing)?;
        }
        Ok(())
    }
}

fn missing(f: &mut fmt::Formatter<'_>, bytes: usize) -> fmt::Result {
    write!(f, "…(+{})", for_people(bytes as u64))
}

/// Why a text was not written by [`text`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{what:?} is no escape; there are \\n \\r \\t \\\\ \\\" \\xNN and \\u{{NNNN}}, and a backslash is written \\\\"
)]
pub struct EscapeError {
    what: String,
    /// Where the escape begins, in bytes from the start of the text.
    pub at: usize,
}

/// The bytes that [`text`] shows as `shown`. Also takes `\"`, so that the same escapes serve within quotes.
pub fn parse(shown: &str) -> Result<Vec<u8>, EscapeError> {
    let mut bytes = Vec::with_capacity(shown.len());
    let mut rest = shown;
    while let Some(start) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..start]);
        let at = shown.len() - rest.len() + start;
        rest = escape(&rest[start..], &mut bytes).ok_or_else(|| EscapeError {
            what: rest[start..].chars().take(4).collect(),
            at,
        })?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Reads the escape that `text` begins with and returns what follows it.
fn escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.as_bytes().get(1)?;
    let simple = match kind {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'\\' | b'"' => *kind,
        b'x' => {
            let digits = text.get(2..4).filter(|digits| is_hex(digits))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            return text.get(4..);
        }
        b'u' => {
            let (digits, rest) = text.get(2..)?.strip_prefix('{')?.split_once('}')?;
            let code = u32::from_str_radix(Some(digits).filter(|digits| is_hex(digits))?, 16);
            let mut utf8 = [0; 4];
            bytes.extend_from_slice(
                char::from_u32(code.ok()?)?
                    .encode_utf8(&mut utf8)
                    .as_bytes(),
            );
            return Some(rest);
        }
        _ => return None,
    };
    bytes.push(simple);
    text.get(2..)
}

/// `from_str_radix` would also take a sign.
fn is_hex(digits: &str) -> bool {
    digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// One character or one byte, as it is shown.
#[derive(Clone, Copy)]
enum Piece {
    Plain(char),
    Short(u8),
    Byte(u8),
    Char(char),
}

impl Piece {
    fn of(c: char) -> Self {
        match c {
            '\n' => Self::Short(b'n'),
            '\r' => Self::Short(b'r'),
            '\t' => Self::Short(b't'),
            '\\' => Self::Short(b'\\'),
            '\0'..='\x1f' | '\x7f' => Self::Byte(c as u8),
            _ if is_hidden(c) => Self::Char(c),
            _ => Self::Plain(c),
        }
    }

    /// Characters it takes to show it.
    fn width(self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Short(_) => 2,
            Self::Byte(_) => 4,
            Self::Char(c) => 4 + (c as u32).ilog2() as usize / 4 + 1,
        }
    }

    /// Bytes it stands for.
    fn bytes(self) -> usize {
        match self {
            Self::Plain(c) | Self::Char(c) => c.len_utf8(),
            Self::Short(_) | Self::Byte(_) => 1,
        }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Plain(c) => f.write_char(c),
            Self::Short(letter) => write!(f, "\\{}", char::from(letter)),
            Self::Byte(byte) => write!(f, "\\x{byte:02x}"),
            Self::Char(c) => write!(f, "\\u{{{:x}}}", c as u32),
        }
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = Piece> {
    let chunks: Utf8Chunks<'_> = bytes.utf8_chunks();
    chunks.flat_map(|chunk| {
        let invalid = chunk.invalid().iter().copied().map(Piece::Byte);
        chunk.valid().chars().map(Piece::of).chain(invalid)
    })
}

/// Whether a character beyond ASCII cannot be seen, or does something to those around it.
///
/// These are the categories Cc, Cf, Zl and Zp of Unicode 17.0 with the noncharacters and the letters that are
/// drawn as nothing. Left out are the variation selectors U+FE00-U+FE0F, which belong to everyday emoji.
pub fn is_hidden(c: char) -> bool {
    matches!(u32::from(c),
        0x80..=0x9f                                      // C1
        | 0xad | 0x34f                                   // soft hyphen, grapheme joiner
        | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f          // Arabic and Syriac format characters
        | 0x890 | 0x891 | 0x8e2
        | 0x115f | 0x1160 | 0x3164 | 0xffa0              // Hangul fillers
        | 0x17b4 | 0x17b5 | 0x180b..=0x180f              // Khmer and Mongolian, invisible
        | 0x200b..=0x200f                                // zero-width, direction marks
        | 0x2028..=0x202e                                // line and paragraph separators, embeddings, overrides
        | 0x2060..=0x206f                                // word joiner, invisible operators, isolates
        | 0xfdd0..=0xfdef                                // noncharacters
        | 0xfeff | 0xfff0..=0xfffb                       // byte order mark, interlinear annotation
        | 0x110bd | 0x110cd | 0x13430..=0x1343f          // Kaithi, hieroglyph layout
        | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a          // shorthand, music layout
        | 0xe0000..=0xe0fff                              // tags, variation selectors supplement
    ) || u32::from(c) & 0xfffe == 0xfffe
}

/// What must hold for any bytes; called by the property tests and by the fuzzer.
///
/// # Panics
/// If it does not hold.
#[doc(hidden)]
pub fn check(bytes: &[u8]) {
    let shown = text(bytes).to_string();
    assert!(!shown.chars().any(|c| c.is_control() || is_hidden(c)));
    assert_eq!(parse(&shown).as_deref(), Ok(bytes), "shown as {shown}");

    let chars = shown.chars().count();
    assert_eq!(text_up_to(bytes, chars).to_string(), shown);
    if let Some(less) = chars.checked_sub(1) {
        let short = text_up_to(bytes, less).to_string();
        let (begin, note) = short.rsplit_once("…(+").expect("a note of what is missing");
        assert!(begin.chars().count() <= less && shown.starts_with(begin));
        let kept = parse(begin).expect("no escape is cut in two");
        assert_eq!(
            note,
            format!("{})", for_people((bytes.len() - kept.len()) as u64))
        );
    }
    let literal = python(bytes).to_string();
    assert!(literal.bytes().all(|b| matches!(b, b' '..=b'~')));
}

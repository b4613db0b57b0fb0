//! Escapes bytes from a peer for terminals, logs and error texts.
//!
//! A terminal executes control characters as commands (CVE-2009-4487 is an example with log files), bidirectional marks
//! reorder text, and zero-width characters hide it. Everything that is not plainly visible is therefore written as an
//! escape, always on one line. Escaping is lossless: [`parse`] returns the bytes.
//!
//! | Bytes | Escaped |
//! |---|---|
//! | printable UTF-8 | unchanged |
//! | newline, carriage return, tab, backslash | `\n` `\r` `\t` `\\` |
//! | other C0 controls, DEL, bytes that are not UTF-8 | `\x1b`, two digits |
//! | C1 controls, bidirectional marks, zero-width and format characters, line separators | `\u{9b}` |

use std::{
    fmt::{self, Write},
    str::Utf8Chunks,
};

use thiserror::Error;
use unicode_width::UnicodeWidthChar;

use crate::units::for_people;

/// Bytes that print escaped, on one line. Returned by [`text`] and [`text_up_to`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    bytes: &'a [u8],
    chars_max: usize,
}

/// Escapes all of `bytes`.
pub fn text(bytes: &[u8]) -> Escaped<'_> {
    text_up_to(bytes, usize::MAX)
}

/// Escapes `bytes` to at most `chars_max` characters, followed by the size of the rest: `hel…(+1.9 KiB)`.
///
/// The size is not counted in `chars_max`; an escape is never cut in two. The cost depends on `chars_max`, not on the
/// length of `bytes`.
pub fn text_up_to(bytes: &[u8], chars_max: usize) -> Escaped<'_> {
    Escaped { bytes, chars_max }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = self.chars_max;
        let mut written = 0;
        for piece in pieces(self.bytes) {
            let Some(left) = room.checked_sub(piece.width()) else {
                return write_missing(f, self.bytes.len() - written);
            };
            write!(f, "{piece}")?;
            room = left;
            written += piece.bytes();
        }
        Ok(())
    }
}

/// Escapes the longest beginning of `bytes` that takes at most `columns` columns of a terminal: one for most characters, two
/// for wide ones. Returns it with its length in bytes before escaping; an escape is never cut in two.
pub fn fit(bytes: &[u8], columns: usize) -> (String, usize) {
    /// Most characters in a column: a peer may put any number of combining marks, which have no width, on one.
    const MARKS_MAX: usize = 4;
    let (mut text, mut taken) = (String::new(), 0);
    let (mut room, mut chars) = (columns, MARKS_MAX * columns);
    for piece in pieces(bytes) {
        let columns = match piece {
            Piece::Plain(c) => c.width().unwrap_or(0),
            _ => piece.width(),
        };
        let (Some(room_left), Some(chars_left)) =
            (room.checked_sub(columns), chars.checked_sub(piece.width()))
        else {
            break;
        };
        (room, chars) = (room_left, chars_left);
        text += &piece.to_string();
        taken += piece.bytes();
    }
    (text, taken)
}

/// Bytes that print as a Python literal, `b'hello\n'`, as `--explain` shows them beside a Python client. Returned by
/// [`python`] and [`python_up_to`].
#[derive(Clone, Copy, Debug)]
pub struct Python<'a> {
    bytes: &'a [u8],
    missing: usize,
}

/// Formats all of `bytes` like Python's `repr`.
pub fn python(bytes: &[u8]) -> Python<'_> {
    python_up_to(bytes, usize::MAX)
}

/// Formats the first `bytes_max` bytes like Python's `repr`, followed by the size of the rest: `b'hel'…(+1.9 KiB)`.
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
            write_missing(f, self.missing)?;
        }
        Ok(())
    }
}

fn write_missing(f: &mut fmt::Formatter<'_>, bytes: usize) -> fmt::Result {
    write!(f, "…(+{})", for_people(bytes as u64))
}

/// Error from parsing escaped text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "invalid escape {escape:?}: expected \\n, \\r, \\t, \\\\, \\\", \\xNN or \\u{{NNNN}}; a backslash is written \\\\"
)]
pub struct EscapeError {
    escape: String,
    /// Where the escape begins, in bytes from the start of the text.
    pub at: usize,
}

/// Returns the bytes that [`text`] escapes as `escaped`. Also accepts `\"`, so that the same escapes work within
/// quotes.
pub fn parse(escaped: &str) -> Result<Vec<u8>, EscapeError> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(start) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..start]);
        let at = escaped.len() - rest.len() + start;
        rest = parse_escape(&rest[start..], &mut bytes).ok_or_else(|| EscapeError {
            escape: rest[start..].chars().take(4).collect(),
            at,
        })?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Parses the escape at the start of `text`, appends its bytes, and returns the text after it.
fn parse_escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
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

/// Whether all are hexadecimal digits; `from_str_radix` would also accept a sign.
fn is_hex(digits: &str) -> bool {
    digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// One character or one byte, and how it is escaped.
#[derive(Clone, Copy)]
enum Piece {
    /// Unchanged.
    Plain(char),
    /// A backslash and a letter.
    Short(u8),
    /// `\x1b`.
    Byte(u8),
    /// `\u{9b}`.
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

    /// Returns its length when escaped, in characters.
    fn width(self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Short(_) => 2,
            Self::Byte(_) => 4,
            Self::Char(c) => 4 + (c as u32).ilog2() as usize / 4 + 1,
        }
    }

    /// Returns its length before escaping, in bytes.
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

/// Whether a character beyond ASCII is invisible, or changes how the characters around it are displayed.
///
/// These are the categories Cc, Cf, Zl and Zp of Unicode 17.0, the noncharacters and the letters without a glyph, but
/// not the variation selectors U+FE00-U+FE0F, which are part of common emoji.
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

/// Checks the invariants of escaping; called by the property tests and by the fuzzer.
///
/// # Panics
/// If one does not hold.
#[doc(hidden)]
pub fn check(bytes: &[u8]) {
    let escaped = text(bytes).to_string();
    assert!(!escaped.chars().any(|c| c.is_control() || is_hidden(c)));
    assert_eq!(
        parse(&escaped).as_deref(),
        Ok(bytes),
        "escaped as {escaped}"
    );

    let chars = escaped.chars().count();
    assert_eq!(text_up_to(bytes, chars).to_string(), escaped);
    if let Some(less) = chars.checked_sub(1) {
        let short = text_up_to(bytes, less).to_string();
        let (begin, size) = short.rsplit_once("…(+").expect("the size of the rest");
        assert!(begin.chars().count() <= less && escaped.starts_with(begin));
        let included = parse(begin).expect("no escape is cut in two");
        assert_eq!(
            size,
            format!("{})", for_people((bytes.len() - included.len()) as u64))
        );
    }
    for columns in [0, 1, 7, chars] {
        let (begin, taken) = fit(bytes, columns);
        assert_eq!(parse(&begin).as_deref(), Ok(&bytes[..taken]));
        let width: usize = begin.chars().filter_map(UnicodeWidthChar::width).sum();
        assert!(width <= columns);
    }
    let literal = python(bytes).to_string();
    assert!(literal.bytes().all(|b| matches!(b, b' '..=b'~')));
}

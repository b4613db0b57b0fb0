//! Decodes the lengths before messages: prefixes, varints, netstrings and `Content-Length` headers.

use memchr::memmem;

use super::{Framing, Width};

/// Longest headers before a `Content-Length` body, in bytes.
const HEADERS_MAX: usize = 8 << 10;

/// Most digits in the length of a netstring, enough for 4 GiB.
const DIGITS_MAX: usize = 10;

/// Why the bytes after the last message cannot become a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The body, or the length before it, exceeds the limit.
    TooLong,
    /// The length or the terminator is invalid.
    Malformed,
}

/// What the unfinished bytes begin with.
pub(super) enum Head {
    /// A whole message: lengths of header, body and terminator.
    Message(usize, usize, usize),
    /// A part of a message.
    Unfinished,
    /// Bytes that cannot become a message.
    Violation(Violation),
}

/// What the beginning of an unfinished message claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Length of the body, if it could be decoded.
    pub length: Option<u64>,
    /// Bytes of the header that says so; 0 if the framing does.
    pub header: usize,
}

/// Decodes what the header of an unfinished message claims; `None` under framings without a length.
pub(super) fn claim(framing: Framing, bytes: &[u8]) -> Option<Claim> {
    let (length, header) = match framing {
        Framing::Fixed(length) => (Some(length.get().into()), 0),
        Framing::Prefix(width) => (prefix(width, bytes).map(|len| len as u64), width.bytes()),
        Framing::Varint => match varint_length(bytes) {
            Ok(Some((length, header))) => (Some(length), header),
            _ => (None, 0),
        },
        Framing::Netstring => {
            let digits = bytes
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let has_length = (1..=DIGITS_MAX).contains(&digits) && bytes.get(digits) == Some(&b':');
            let length = str::from_utf8(&bytes[..digits]).ok();
            let length = length
                .filter(|_| has_length)
                .and_then(|text| text.parse().ok());
            (length, digits + 1)
        }
        Framing::ContentLength => {
            let end = memmem::find(bytes, b"\r\n\r\n");
            match end.and_then(|end| Some((length_header(&bytes[..end])?, end))) {
                Some((length, end)) => (Some(length), end),
                None => (None, 0),
            }
        }
        Framing::Chunk | Framing::Line | Framing::Crlf | Framing::Nul | Framing::Delim(_) => {
            return None;
        }
    };
    Some(Claim { length, header })
}

impl Width {
    /// Reads a length of this width at the beginning of `bytes`; `None` if there are too few.
    pub(crate) fn read(self, bytes: &[u8]) -> Option<usize> {
        prefix(self, bytes)
    }
}

/// Decodes a length prefix; `None` if it is incomplete.
pub(super) fn prefix(width: Width, bytes: &[u8]) -> Option<usize> {
    Some(match width {
        Width::U8 => (*bytes.first()?).into(),
        Width::U16Be => u16::from_be_bytes(*bytes.first_chunk()?).into(),
        Width::U16Le => u16::from_le_bytes(*bytes.first_chunk()?).into(),
        Width::U32Be => u32::from_be_bytes(*bytes.first_chunk()?) as usize,
        Width::U32Le => u32::from_le_bytes(*bytes.first_chunk()?) as usize,
    })
}

/// Checks the lengths of a message against the limit and against the bytes at hand.
fn check_lengths(rest: &[u8], max: usize, header: usize, body: u64, terminator: usize) -> Head {
    match usize::try_from(body) {
        Ok(body) if body <= max => {
            let total = header + body + terminator;
            if rest.len() < total {
                Head::Unfinished
            } else {
                Head::Message(header, body, terminator)
            }
        }
        _ => Head::Violation(Violation::TooLong),
    }
}

/// Decodes a varint: groups of seven bits, least significant first (Protocol Buffers, "Base 128 varints"). Returns it with
/// the number of its bytes; `None` if it is incomplete.
fn varint_length(bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    // A 64-bit length takes at most ten groups of seven bits, of which the tenth holds one bit.
    const GROUPS_MAX: usize = 10;
    let mut length: u64 = 0;
    for (i, byte) in bytes.iter().take(GROUPS_MAX).enumerate() {
        let group = u64::from(byte & 0x7f);
        if i == GROUPS_MAX - 1 && group > 1 {
            return Err(Violation::Malformed);
        }
        length |= group << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((length, i + 1)));
        }
    }
    if bytes.len() < GROUPS_MAX {
        Ok(None)
    } else {
        Err(Violation::Malformed)
    }
}

/// Decodes a message with a varint length.
pub(super) fn varint(rest: &[u8], max: usize) -> Head {
    match varint_length(rest) {
        Ok(Some((length, header))) => check_lengths(rest, max, header, length, 0),
        Ok(None) => Head::Unfinished,
        Err(violation) => Head::Violation(violation),
    }
}

/// Decodes a netstring, `5:hello,` (D. J. Bernstein, "Netstrings").
pub(super) fn netstring(rest: &[u8], max: usize) -> Head {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let leading_zero = digits > 1 && rest[0] == b'0';
    if digits > DIGITS_MAX || leading_zero {
        return Head::Violation(Violation::Malformed);
    }
    match rest.get(digits) {
        None => Head::Unfinished,
        Some(b':') if digits > 0 => {
            let length = rest[..digits]
                .iter()
                .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
            match check_lengths(rest, max, digits + 1, length, 1) {
                Head::Message(header, body, _) if rest[header + body] != b',' => {
                    Head::Violation(Violation::Malformed)
                }
                head => head,
            }
        }
        Some(_) => Head::Violation(Violation::Malformed),
    }
}

/// Decodes a message with headers, one of which is the length of the body (Language Server Protocol, "Base protocol").
pub(super) fn content_length(rest: &[u8], max: usize) -> Head {
    let headers = &rest[..rest.len().min(HEADERS_MAX)];
    let Some(end) = memmem::find(headers, b"\r\n\r\n") else {
        return if headers.len() < HEADERS_MAX {
            Head::Unfinished
        } else {
            Head::Violation(Violation::Malformed)
        };
    };
    match length_header(&rest[..end]) {
        Some(length) => check_lengths(rest, max, end + 4, length, 0),
        None => Head::Violation(Violation::Malformed),
    }
}

/// Returns the value of the `Content-Length` header; `None` if it is missing, invalid or contradictory.
fn length_header(headers: &[u8]) -> Option<u64> {
    let mut found = None;
    for line in headers.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            let digits = line[colon + 1..].trim_ascii();
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let value = str::from_utf8(digits)
                .ok()
                .filter(|_| is_number)?
                .parse()
                .ok()?;
            if found.is_some_and(|found| found != value) {
                return None;
            }
            found = Some(value);
        }
    }
    found
}

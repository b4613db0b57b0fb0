//! Frames messages: from bodies to bytes on the wire.

use thiserror::Error;

use super::{Framing, Width};
use crate::units::counted;

/// How a reply ends. It ends like the message that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyEnd<'a> {
    /// With a copy of these bytes, the terminator of the message. Both directions have the same framing.
    Like(&'a [u8]),
    /// With the terminator of the reply's framing.
    Whole,
    /// Without a terminator: the message was ended by the end of the stream.
    Stream,
}

/// The body of a reply is longer than the length field of its framing allows, such as 256 bytes under `u8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a reply of {} is too long for the length field of its framing", counted(*bytes as u64, "byte"))]
pub struct ReplyTooLong {
    /// The length of the body.
    pub bytes: usize,
}

impl Framing {
    /// Begins a frame at the end of `out` and returns its start. The caller then appends the body and calls
    /// [`Self::close`] with the start. A header of fixed size is reserved here, so that the body need not be moved.
    pub fn open(self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        if let Self::Prefix(width) = self {
            out.resize(start + width.bytes(), 0);
        }
        start
    }

    /// Completes the frame that begins at `start`.
    ///
    /// # Errors
    /// If the body is too long for the length field; `out` then holds an incomplete frame.
    pub fn close(
        self,
        out: &mut Vec<u8>,
        start: usize,
        end: ReplyEnd<'_>,
    ) -> Result<(), ReplyTooLong> {
        match self {
            Self::Chunk | Self::Fixed(_) => {}
            Self::Line | Self::Crlf | Self::Nul | Self::Delim(_) => match end {
                ReplyEnd::Like(terminator) => out.extend_from_slice(terminator),
                ReplyEnd::Whole => out.extend_from_slice(self.terminator().unwrap_or_default()),
                ReplyEnd::Stream => {}
            },
            Self::Prefix(width) => return fill_prefix(width, out, start),
            Self::Varint => insert_header(out, start, &varint(out.len() - start)),
            Self::Netstring => {
                insert_header(out, start, format!("{}:", out.len() - start).as_bytes());
                out.push(b',');
            }
            Self::ContentLength => {
                insert_header(
                    out,
                    start,
                    format!("Content-Length: {}\r\n\r\n", out.len() - start).as_bytes(),
                );
            }
        }
        Ok(())
    }
}

/// Writes the length of the body into the prefix reserved at `start`.
fn fill_prefix(width: Width, out: &mut [u8], start: usize) -> Result<(), ReplyTooLong> {
    let (header, body) = out[start..].split_at_mut(width.bytes());
    let bytes = body.len();
    let Some(length) = u32::try_from(bytes)
        .ok()
        .filter(|length| *length <= width.max())
    else {
        return Err(ReplyTooLong { bytes });
    };
    match width {
        Width::U8 => header.copy_from_slice(&[length as u8]),
        Width::U16Be => header.copy_from_slice(&(length as u16).to_be_bytes()),
        Width::U16Le => header.copy_from_slice(&(length as u16).to_le_bytes()),
        Width::U32Be => header.copy_from_slice(&length.to_be_bytes()),
        Width::U32Le => header.copy_from_slice(&length.to_le_bytes()),
    }
    Ok(())
}

/// Inserts a header, whose size depends on the body, before the body.
fn insert_header(out: &mut Vec<u8>, start: usize, header: &[u8]) {
    out.extend_from_slice(header);
    out[start..].rotate_right(header.len());
}

/// Encodes a length as a base-128 varint.
fn varint(mut length: usize) -> Vec<u8> {
    let mut groups = Vec::with_capacity(10);
    loop {
        let group = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            groups.push(group);
            return groups;
        }
        groups.push(group | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(framing: &str, body: &[u8], end: ReplyEnd<'_>) -> Result<Vec<u8>, ReplyTooLong> {
        let framing: Framing = framing.parse().unwrap();
        let mut out = b"before".to_vec();
        let start = framing.open(&mut out);
        out.extend_from_slice(body);
        framing.close(&mut out, start, end)?;
        assert!(out.starts_with(b"before"));
        Ok(out.split_off(6))
    }

    #[test]
    fn each_framing_encodes_as_defined() {
        let whole = |framing: &str| joined(framing, b"hello", ReplyEnd::Whole).unwrap();
        assert_eq!(whole("chunk"), b"hello");
        assert_eq!(whole("line"), b"hello\n");
        assert_eq!(whole("crlf"), b"hello\r\n");
        assert_eq!(whole("nul"), b"hello\0");
        assert_eq!(whole("delim:2d2d"), b"hello--");
        assert_eq!(whole("u8"), b"\x05hello");
        assert_eq!(whole("u16be"), b"\0\x05hello");
        assert_eq!(whole("u16le"), b"\x05\0hello");
        assert_eq!(whole("u32be"), b"\0\0\0\x05hello");
        assert_eq!(whole("u32le"), b"\x05\0\0\0hello");
        assert_eq!(whole("varint"), b"\x05hello");
        assert_eq!(whole("netstring"), b"5:hello,");
        assert_eq!(whole("content-length"), b"Content-Length: 5\r\n\r\nhello");
        assert_eq!(
            joined("varint", &[b'x'; 300], ReplyEnd::Whole).unwrap()[..2],
            [0xac, 0x02]
        );
    }

    #[test]
    fn reply_copies_the_terminator_of_its_message() {
        assert_eq!(joined("line", b"x", ReplyEnd::Like(b"\n")).unwrap(), b"x\n");
        assert_eq!(joined("line", b"x", ReplyEnd::Stream).unwrap(), b"x");
        assert_eq!(joined("u8", b"x", ReplyEnd::Stream).unwrap(), b"\x01x");
    }

    #[test]
    fn message_too_long_for_its_length_field_is_an_error() {
        assert!(joined("u8", &[0; 255], ReplyEnd::Whole).is_ok());
        assert_eq!(
            joined("u8", &[0; 256], ReplyEnd::Whole),
            Err(ReplyTooLong { bytes: 256 })
        );
        assert_eq!(
            joined("u16le", &vec![0; 65_536], ReplyEnd::Whole),
            Err(ReplyTooLong { bytes: 65_536 })
        );
    }
}

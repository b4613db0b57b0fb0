//! Bytes that made no message: the rest of a conversation that ended inside one, or whose bytes do not follow its framing.
//!
//! They show what the peer meant. [`LeftOver::explain`] tells what the framing reads in them ("length 65535 claimed by
//! ff ff"), and what they look like instead, where the bytes leave no doubt.

mod guess;

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use crate::{
    escape,
    framing::{Claim, Framing},
    units::counted,
};

/// Bytes of the left-over ones that are kept: they begin with the header of the message.
pub const LEFT_OVER_BYTES_MAX: usize = 4 << 10;

/// Bytes that were received and made no message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOver {
    /// Their number.
    pub total: u64,
    /// The length of the message's body by its header, or by the framing.
    pub claimed: Option<u64>,
    /// The first of them, at most [`LEFT_OVER_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

impl LeftOver {
    /// Creates it from the unfinished message of a stream with this framing; `None` if there is none.
    pub fn new(framing: Framing, unfinished: &[u8]) -> Option<Box<Self>> {
        if unfinished.is_empty() {
            return None;
        }
        let bytes = &unfinished[..unfinished.len().min(LEFT_OVER_BYTES_MAX)];
        Some(Box::new(Self {
            total: unfinished.len() as u64,
            claimed: framing.claim(bytes).and_then(|claim| claim.length),
            bytes: bytes.to_vec(),
        }))
    }

    /// Returns what the framing reads in them, and what they look like: `length 65535 claimed by ff ff; looks like a TLS
    /// ClientHello`.
    pub fn explain(&self, framing: Framing) -> String {
        let mut text = match framing.claim(&self.bytes) {
            Some(Claim {
                length: Some(length),
                header: 0,
            }) => format!("{} expected by {framing}", counted(length, "byte")),
            Some(Claim {
                length: Some(length),
                header,
            }) => {
                let header = printed(framing, &self.bytes[..header]);
                format!("length {length} claimed by {header}")
            }
            Some(Claim {
                length: None,
                header,
            }) => match framing {
                Framing::Prefix(_) => {
                    let came = counted(self.total, "byte");
                    format!("{came} of a length, which has {header} under {framing}")
                }
                Framing::Varint => "a length of varint that does not end".to_owned(),
                _ => format!("no length of {framing} at their beginning"),
            },
            None => {
                let terminator = framing.terminator().unwrap_or_default();
                format!("no {}", printed(framing, terminator))
            }
        };
        if let Some(guess) = self.guess(framing) {
            let _ = write!(text, "; {guess}");
        }
        text
    }

    /// Returns what they look like instead, if the bytes leave no doubt.
    pub fn guess(&self, framing: Framing) -> Option<String> {
        guess::guess(framing, &self.bytes, self.total)
    }
}

/// Bytes of a header: hexadecimal for numbers, else as text.
fn printed(framing: Framing, header: &[u8]) -> String {
    let is_text = matches!(framing, Framing::Netstring | Framing::ContentLength);
    if is_text {
        return format!("\"{}\"", escape::text(header));
    }
    let digits: Vec<_> = header.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

/// Left-over bytes as JSON: `{"len":6,"text":"hello\n","claimed":26725,"note":"length 26725 claimed by 68 65; …"}`.
#[derive(Debug)]
pub struct LeftOverJson<'a> {
    left_over: &'a LeftOver,
    framing: Framing,
}

impl<'a> LeftOverJson<'a> {
    /// Creates the JSON form of bytes of a stream with this framing.
    pub fn new(left_over: &'a LeftOver, framing: Framing) -> Self {
        Self { left_over, framing }
    }
}

impl Serialize for LeftOverJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let LeftOver {
            total,
            claimed,
            bytes,
        } = self.left_over;
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("len", total)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => map.serialize_entry("text", text)?,
            _ => map.serialize_entry("b64", &BASE64_STANDARD.encode(bytes))?,
        }
        map.serialize_entry("claimed", claimed)?;
        map.serialize_entry("note", &self.left_over.explain(self.framing))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(framing: &str, bytes: &[u8]) -> String {
        let framing = framing.parse().unwrap();
        LeftOver::new(framing, bytes).unwrap().explain(framing)
    }

    #[test]
    fn header_and_its_claim_are_named() {
        for (framing, bytes, expected) in [
            ("u16be", &b"\xff\xffab"[..], "length 65535 claimed by ff ff"),
            ("u8", b"\x05abc", "length 5 claimed by 05"),
            (
                "u32be",
                b"\x00\x00",
                "2 bytes of a length, which has 4 under u32be",
            ),
            (
                "u16be",
                b"\x00",
                "1 byte of a length, which has 2 under u16be",
            ),
            ("fixed:8", b"abc", "8 bytes expected by fixed:8"),
            ("varint", b"\xac\x02abc", "length 300 claimed by ac 02"),
            (
                "varint",
                b"\xff\xff",
                "a length of varint that does not end",
            ),
            ("netstring", b"12:abc", "length 12 claimed by \"12:\""),
            (
                "netstring",
                b"abc",
                "no length of netstring at their beginning",
            ),
            (
                "content-length",
                b"Content-Length: 7\r\n\r\nab",
                "length 7 claimed by \"Content-Length: 7\"",
            ),
            (
                "content-length",
                b"Content-Type: x\r\n\r\nab",
                "no length of content-length at their beginning",
            ),
            ("line", b"abc", "no 0a"),
            ("delim:2323", b"abc", "no 23 23"),
        ] {
            assert_eq!(explained(framing, bytes), expected, "{framing}");
        }
    }

    #[test]
    fn only_the_first_bytes_are_kept_and_all_are_counted() {
        let left = LeftOver::new(Framing::Line, &[b'x'; 5_000]).unwrap();
        assert_eq!((left.total, left.bytes.len()), (5_000, 4_096));
        assert_eq!(LeftOver::new(Framing::Line, b""), None);
    }

    #[test]
    fn json_has_the_bytes_the_claim_and_a_note() {
        let framing = "u16be".parse().unwrap();
        let left = LeftOver::new(framing, b"\xff\xff\x00").unwrap();
        let json = serde_json::to_string(&LeftOverJson::new(&left, framing)).unwrap();
        let expected =
            r#"{"len":3,"b64":"//8A","claimed":65535,"note":"length 65535 claimed by ff ff"}"#;
        assert_eq!(json, expected);
    }
}

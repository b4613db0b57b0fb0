//! Encodes a body as one message of a framing.

use echoic_core::framing::{Framing, ReplyEnd};

use super::args::Newline;

/// Returns the newline for framings that leave it open (`line`, `chunk`), and `None` for the others.
pub(super) fn newline(framing: Framing, chosen: Option<Newline>) -> Option<Newline> {
    match framing {
        Framing::Line => Some(chosen.unwrap_or(Newline::Lf)),
        Framing::Chunk => Some(chosen.unwrap_or(Newline::None)),
        _ => None,
    }
}

/// Encodes `body` as one message of `framing`, whose lines end at LF. The error is a sentence for the user.
pub(crate) fn encode(framing: Framing, body: &[u8]) -> Result<Vec<u8>, String> {
    framed(framing, None, body)
}

/// Encodes `body` as one message of `framing`. The error is a sentence for the user.
pub(super) fn framed(
    framing: Framing,
    chosen: Option<Newline>,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(body.len() + 16);
    if let Some(newline) = newline(framing, chosen) {
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(newline.bytes());
        return Ok(bytes);
    }
    if let Framing::Fixed(wanted) = framing
        && wanted.get() as usize != body.len()
    {
        let had = body.len();
        return Err(format!(
            "invalid message of {had} bytes: under {framing} it has exactly {wanted}"
        ));
    }
    let start = framing.open(&mut bytes);
    bytes.extend_from_slice(body);
    framing
        .close(&mut bytes, start, ReplyEnd::Whole)
        .map_err(|error| {
            format!(
                "message too long: {} bytes do not fit the length field of {framing}",
                error.bytes
            )
        })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(framing: &str, newline: Option<Newline>, body: &str) -> Result<String, String> {
        let bytes = framed(framing.parse().unwrap(), newline, body.as_bytes())?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn message_is_encoded_by_its_framing() {
        for (framing, wire) in [
            ("chunk", "hello"),
            ("line", "hello\n"),
            ("crlf", "hello\r\n"),
            ("delim:3b3b", "hello;;"),
            ("fixed:5", "hello"),
            ("u16be", "\0\u{5}hello"),
            ("netstring", "5:hello,"),
            ("content-length", "Content-Length: 5\r\n\r\nhello"),
        ] {
            assert_eq!(
                encoded(framing, None, "hello").as_deref(),
                Ok(wire),
                "{framing}"
            );
        }
    }

    #[test]
    fn newline_can_be_chosen_for_line_and_chunk() {
        assert_eq!(
            encoded("line", Some(Newline::Crlf), "a"),
            Ok("a\r\n".into())
        );
        assert_eq!(encoded("chunk", Some(Newline::Lf), "a"), Ok("a\n".into()));
        assert_eq!(encoded("line", Some(Newline::None), "a"), Ok("a".into()));
    }

    #[test]
    fn message_the_framing_cannot_carry_is_rejected() {
        assert!(framed("u8".parse().unwrap(), None, &[b'x'; 255]).is_ok());
        assert!(
            encoded("u8", None, &"x".repeat(256))
                .unwrap_err()
                .contains("256 bytes")
        );
        assert!(
            encoded("fixed:4", None, "abc")
                .unwrap_err()
                .contains("exactly 4")
        );
    }
}

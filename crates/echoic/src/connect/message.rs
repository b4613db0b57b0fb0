//! What is to be said, as one message on the wire.

use echoic_core::framing::{End, Framing};

use super::args::Newline;

/// What follows a message where its framing leaves that open: none where it does not.
pub(super) fn newline(said: Framing, chosen: Option<Newline>) -> Option<Newline> {
    match said {
        Framing::Line => Some(chosen.unwrap_or(Newline::Lf)),
        Framing::Chunk => Some(chosen.unwrap_or(Newline::None)),
        _ => None,
    }
}

/// `body` as one message under `said`; the error is a sentence for who wants to say it.
pub(super) fn framed(
    said: Framing,
    chosen: Option<Newline>,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(body.len() + 16);
    if let Some(newline) = newline(said, chosen) {
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(newline.bytes());
        return Ok(bytes);
    }
    if let Framing::Fixed(wanted) = said
        && wanted.get() as usize != body.len()
    {
        let had = body.len();
        return Err(format!(
            "under {said} a message is {wanted} bytes, and this one has {had}"
        ));
    }
    let start = said.open(&mut bytes);
    bytes.extend_from_slice(body);
    said.close(&mut bytes, start, End::Whole)
        .map_err(|error| format!("{} bytes are more than {said} can say", error.bytes))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(framing: &str, newline: Option<Newline>, body: &str) -> Result<String, String> {
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
                said(framing, None, "hello").as_deref(),
                Ok(wire),
                "{framing}"
            );
        }
    }

    #[test]
    fn newline_can_be_chosen_for_line_and_chunk() {
        assert_eq!(said("line", Some(Newline::Crlf), "a"), Ok("a\r\n".into()));
        assert_eq!(said("chunk", Some(Newline::Lf), "a"), Ok("a\n".into()));
        assert_eq!(said("line", Some(Newline::None), "a"), Ok("a".into()));
    }

    #[test]
    fn message_the_framing_cannot_carry_is_rejected() {
        assert!(framed("u8".parse().unwrap(), None, &[b'x'; 255]).is_ok());
        assert!(
            said("u8", None, &"x".repeat(256))
                .unwrap_err()
                .contains("256 bytes")
        );
        assert!(
            said("fixed:4", None, "abc")
                .unwrap_err()
                .contains("4 bytes")
        );
    }
}

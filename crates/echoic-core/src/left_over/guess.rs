//! Guesses what bytes are that do not follow their framing. A guess is made only where chance is no explanation: a fixed
//! pattern of several bytes, or lengths that fit to the last byte.

use crate::{
    client_hello::begins_as_tls,
    framing::{Framing, Width},
    http::begins_as_http,
};

/// Returns what the bytes look like. `total` is the number of bytes there were; `bytes` may be the first of them only.
pub(super) fn guess(framing: Framing, bytes: &[u8], total: u64) -> Option<String> {
    if begins_as_tls(bytes) {
        return Some("looks like a TLS ClientHello".to_owned());
    }
    if framing != Framing::ContentLength && begins_as_http(bytes) {
        return Some("looks like an HTTP request".to_owned());
    }
    if bytes.len() as u64 != total {
        return None; // what fits is seen only with all of them
    }
    if framing != Framing::Line && is_text_of_lines(bytes) {
        return Some("fits line".to_owned());
    }
    other_length(framing, bytes)
}

fn is_text_of_lines(bytes: &[u8]) -> bool {
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    bytes.len() > 1 && bytes.ends_with(b"\n") && bytes.iter().all(is_text)
}

/// The largest offset at which a length is looked for: that of the headers people define.
const OFFSET_MAX: usize = 8;

/// Finds a header of two or four bytes with which the bytes are whole messages to the last one. A length of one byte fits
/// by chance too often.
fn other_length(framing: Framing, bytes: &[u8]) -> Option<String> {
    const WIDTHS: [(Width, &str); 4] = [
        (Width::U16Be, "u16be"),
        (Width::U16Le, "u16le"),
        (Width::U32Be, "u32be"),
        (Width::U32Le, "u32le"),
    ];
    // The declared width in the other byte order first.
    let is_wide = matches!(framing, Framing::Prefix(Width::U32Be | Width::U32Le));
    let widths = if is_wide { [2, 3, 0, 1] } else { [0, 1, 2, 3] };
    for offset in 0..=OFFSET_MAX {
        for (width, word) in widths.map(|at| WIDTHS[at]) {
            for counts_all in [false, true] {
                if !fits(bytes, offset, width, counts_all) {
                    continue;
                }
                let mut text = format!("fits {word}");
                if offset > 0 {
                    text += &format!(" at offset {offset}");
                }
                if counts_all {
                    text += " counting the header too";
                }
                return Some(text);
            }
        }
    }
    None
}

fn fits(bytes: &[u8], offset: usize, width: Width, counts_all: bool) -> bool {
    let header = offset + width.bytes();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(length) = rest.get(offset..).and_then(|at| width.read(at)) else {
            return false;
        };
        let body = if counts_all {
            length.checked_sub(header)
        } else {
            Some(length)
        };
        match body
            .filter(|body| *body > 0)
            .and_then(|body| rest.get(header + body..))
        {
            Some(left) => rest = left,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(framing: &str, bytes: &[u8]) -> Option<String> {
        guess(framing.parse().unwrap(), bytes, bytes.len() as u64)
    }

    #[test]
    fn other_protocols_are_recognized() {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        for framing in ["u16be", "line", "netstring"] {
            let guess = guessed(framing, hello).unwrap();
            assert_eq!(guess, "looks like a TLS ClientHello", "{framing}");
        }
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(
            guessed("u16be", request).unwrap(),
            "looks like an HTTP request"
        );
        assert_eq!(
            guessed("content-length", b"GET / HTTP/1.1\r\n"),
            Some("fits line".into())
        );
    }

    #[test]
    fn other_headers_are_recognized_where_they_fit() {
        for (framing, bytes, expected) in [
            ("u16be", &b"\x05\x00hello\x01\x00x"[..], "fits u16le"),
            ("u32be", b"\x05\x00\x00\x00hello", "fits u32le"),
            ("u16be", b"\x05\x00\x00\x00hello", "fits u32le"),
            ("u16be", b"\x01\xff\x00\x05hello", "fits u16be at offset 2"),
            (
                "u16le",
                b"\x00\x07hello",
                "fits u16be counting the header too",
            ),
            ("line", b"\x00\x05hello", "fits u16be"),
            ("u32be", b"hello\n", "fits line"),
            ("crlf", b"hello\n", "fits line"),
        ] {
            assert_eq!(
                guessed(framing, bytes).as_deref(),
                Some(expected),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn other_bytes_are_not_guessed_at() {
        for bytes in [
            &b"\xff\xff"[..],
            b"\xff\xff\x00",
            b"\x05\x00hell",
            b"hello",
            b"\n",
            b"\0\0\0\0",
        ] {
            assert_eq!(guessed("u16be", bytes), None, "{bytes:?}");
        }
        // Cut off, so that nothing can be said of the end.
        assert_eq!(guess("u16be".parse().unwrap(), b"\x05\x00hello", 100), None);
    }
}

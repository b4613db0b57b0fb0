//! `greet`: sends a text to each peer and closes, like the tutorial's second server.

use std::ops::ControlFlow;
use std::{fs, sync::Arc};

use echoic_core::{
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
};

use crate::argument::ArgumentError;

/// The tutorial's text, which has no newline.
const GREETING: &[u8] = b"Thank you for connecting";

/// The service, and its handler.
#[derive(Clone, Debug)]
pub(crate) struct Greet {
    text: Arc<[u8]>,
}

impl Greet {
    /// Returns a service that sends `text` with its escapes (`\n`, `\xNN`) replaced, or for `@PATH` the bytes of the
    /// file, which is read once.
    pub(crate) fn new(text: Option<&str>) -> Result<Self, ArgumentError> {
        let text = match text.map(|text| (text, text.strip_prefix('@'))) {
            None => None,
            Some((_, Some(path))) => Some(read_file(path)?),
            Some((text, None)) => Some(unescape(text)?),
        };
        Ok(Self {
            text: text.as_deref().unwrap_or(GREETING).into(),
        })
    }
}

impl Service for Greet {
    fn name(&self) -> &'static str {
        "greet"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Inline(Box::new(self.clone()))
    }

    fn amplifies(&self) -> bool {
        true
    }

    fn is_portable(&self) -> bool {
        true
    }
}

impl InlineHandler for Greet {
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        out.push(&self.text);
        ControlFlow::Break(())
    }

    fn answer(&mut self, _: &Run<'_>, _: &mut Replies) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, ArgumentError> {
    fs::read(path).map_err(|error| ArgumentError::File {
        path: path.to_owned(),
        error: error.to_string(),
    })
}

fn unescape(text: &str) -> Result<Vec<u8>, ArgumentError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..start]);
        let escape = &rest[start..];
        let (byte, len) = match escape.as_bytes().get(1) {
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(b't') => (b'\t', 2),
            Some(b'0') => (0, 2),
            Some(b'\\') => (b'\\', 2),
            Some(b'x') => match escape.get(2..4).map(|hex| u8::from_str_radix(hex, 16)) {
                Some(Ok(byte)) => (byte, 4),
                _ => return Err(invalid_escape(escape, 4)),
            },
            _ => return Err(invalid_escape(escape, 2)),
        };
        bytes.push(byte);
        rest = &escape[len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

fn invalid_escape(escape: &str, len: usize) -> ArgumentError {
    ArgumentError::Escape(escape.chars().take(len).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting_defaults_to_the_tutorial_text() {
        assert_eq!(
            &*Greet::new(None).unwrap().text,
            b"Thank you for connecting"
        );
        assert_eq!(&*Greet::new(Some("")).unwrap().text, b"");
        assert_eq!(
            &*Greet::new(Some(r"hi\r\n\x00\\ü")).unwrap().text,
            b"hi\r\n\0\\\xc3\xbc"
        );
    }

    #[test]
    fn invalid_escape_is_rejected() {
        for text in [r"\q", r"a\", r"\x4", r"\xzz", r"\xü"] {
            assert!(
                matches!(Greet::new(Some(text)), Err(ArgumentError::Escape(_))),
                "{text}"
            );
        }
    }
}

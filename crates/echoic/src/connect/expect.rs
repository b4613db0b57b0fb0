//! `--expect`: checks received bytes for an expected text or pattern.

use std::{
    fmt,
    pin::pin,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use echoic_core::escape;
use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};
use tokio::sync::Notify;

/// What the reply must contain.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// These bytes.
    Text(Vec<u8>),
    /// Written `/regex/`.
    Regex(Regex),
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = text
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'));
        if let Some(regex) = inner.filter(|inner| !inner.is_empty()) {
            return multi_line_regex(regex)
                .map(Self::Regex)
                .map_err(|error| error.to_string());
        }
        match escape::parse(text) {
            Ok(bytes) if bytes.is_empty() => {
                Err("invalid expectation \"\": expected text or /REGEX/".to_owned())
            }
            Ok(bytes) => Ok(Self::Text(bytes)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Builds a regex whose `^` and `$` match at lines, with CRLF too, since replies come with their terminators.
fn multi_line_regex(regex: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(regex).multi_line(true).crlf(true).build()
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(bytes) => write!(f, "{}", escape::text(bytes)),
            Self::Regex(regex) => write!(f, "/{}/", escape::text(regex.as_str().as_bytes())),
        }
    }
}

/// Searches received bytes for the expectation as they arrive.
pub(super) struct Matcher {
    expected: Expected,
    received: Mutex<Vec<u8>>,
    more: Notify,
}

/// Bytes searched together; older bytes are dropped.
const RECEIVED_BYTES_MAX: usize = 1 << 20;

impl Matcher {
    pub(super) fn new(expected: Expected) -> Self {
        Self {
            expected,
            received: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Adds received bytes.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut received = self.bytes();
        received.extend_from_slice(bytes);
        let too_many = received.len().saturating_sub(RECEIVED_BYTES_MAX);
        received.drain(..too_many);
        drop(received);
        self.more.notify_waiters();
    }

    /// Drops all bytes, so that the next reply must match on its own.
    pub(super) fn clear(&self) {
        self.bytes().clear();
    }

    /// Returns whether the bytes so far match.
    pub(super) fn is_met(&self) -> bool {
        let received = self.bytes();
        match &self.expected {
            Expected::Text(text) => memmem::find(&received, text).is_some(),
            Expected::Regex(regex) => regex.is_match(&received),
        }
    }

    /// Waits until the bytes match.
    pub(super) async fn matched(&self) {
        let mut more = pin!(self.more.notified());
        loop {
            // Register before checking, so that no notification is missed in between.
            more.as_mut().enable();
            if self.is_met() {
                return;
            }
            more.as_mut().await;
            more.set(self.more.notified());
        }
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(expected: &str, pieces: &[&[u8]]) -> bool {
        let matcher = Matcher::new(expected.parse().unwrap());
        for piece in pieces {
            matcher.push(piece);
        }
        matcher.is_met()
    }

    #[test]
    fn expected_text_or_regex_may_arrive_in_pieces() {
        assert!(met("HELLO", &[b"xHEL", b"LOx"]));
        assert!(!met("HELLO", &[b"hello"]));
        assert!(met("/^H.*O$/", &[b"HEL", b"LO"]));
        assert!(met("/^HELLO$/", &[b"one\r\nHELLO\r\ntwo\n"]));
        assert!(met("/(?-u)\\xff/", &[&[0xff]]));
        assert!(met("a\\x00b", &[b"a\0b"]));
        assert!(
            met("/usr", &[b"/usr/bin"]),
            "a slash at one end only is text"
        );
    }

    #[test]
    fn invalid_expectation_is_rejected() {
        for text in ["", "/(/", "\\q"] {
            assert!(text.parse::<Expected>().is_err(), "{text}");
        }
    }

    #[test]
    fn expectation_searches_only_the_last_mebibyte() {
        let matcher = Matcher::new("end".parse().unwrap());
        for _ in 0..100 {
            matcher.push(&vec![b'x'; 30_000]);
        }
        matcher.push(b"end");
        assert!(matcher.is_met());
        assert!(matcher.bytes().len() <= RECEIVED_BYTES_MAX);
        matcher.clear();
        assert!(!matcher.is_met());
    }
}

//! `--expect`: whether the reply is the one that was wanted.

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

/// What a reply must contain.
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
            return line_by_line(regex)
                .map(Self::Regex)
                .map_err(|error| error.to_string());
        }
        match escape::parse(text) {
            Ok(bytes) if bytes.is_empty() => {
                Err("every reply contains nothing; say what is expected".to_owned())
            }
            Ok(bytes) => Ok(Self::Text(bytes)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// `^` and `$` are the ends of a line: what comes is more than one message, and their ends belong to it.
fn line_by_line(regex: &str) -> Result<Regex, regex::Error> {
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

/// What has been heard, looked at as it comes.
pub(super) struct Watcher {
    expected: Expected,
    heard: Mutex<Vec<u8>>,
    more: Notify,
}

/// Bytes heard that are looked at together; the oldest are forgotten first.
const HEARD_BYTES_MAX: usize = 1 << 20;

impl Watcher {
    pub(super) fn new(expected: Expected) -> Self {
        Self {
            expected,
            heard: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// These bytes came.
    pub(super) fn heard(&self, bytes: &[u8]) {
        let mut heard = self.bytes();
        heard.extend_from_slice(bytes);
        let too_many = heard.len().saturating_sub(HEARD_BYTES_MAX);
        heard.drain(..too_many);
        drop(heard);
        self.more.notify_waiters();
    }

    /// Forgets what was heard: the next reply has to be right on its own.
    pub(super) fn again(&self) {
        self.bytes().clear();
    }

    /// Whether it is right by now.
    pub(super) fn is_met(&self) -> bool {
        let heard = self.bytes();
        match &self.expected {
            Expected::Text(text) => memmem::find(&heard, text).is_some(),
            Expected::Regex(regex) => regex.is_match(&heard),
        }
    }

    /// Until it is right.
    pub(super) async fn met(&self) {
        let mut more = pin!(self.more.notified());
        loop {
            // Listens before it looks, so that nothing comes in between.
            more.as_mut().enable();
            if self.is_met() {
                return;
            }
            more.as_mut().await;
            more.set(self.more.notified());
        }
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(expected: &str, pieces: &[&[u8]]) -> bool {
        let watcher = Watcher::new(expected.parse().unwrap());
        for piece in pieces {
            watcher.heard(piece);
        }
        watcher.is_met()
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
        let watcher = Watcher::new("end".parse().unwrap());
        for _ in 0..100 {
            watcher.heard(&vec![b'x'; 30_000]);
        }
        watcher.heard(b"end");
        assert!(watcher.is_met());
        assert!(watcher.bytes().len() <= HEARD_BYTES_MAX);
        watcher.again();
        assert!(!watcher.is_met());
    }
}

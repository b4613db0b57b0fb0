//! Expected replies.

use std::{borrow::Cow, fmt, str::FromStr};

use echoic_core::units::{Bytes, UnitError, quoted};
use thiserror::Error;

use crate::pattern::{InvalidPattern, Pattern};

/// Condition that a reply must meet.
#[derive(Clone, Debug, Default)]
pub enum Expect {
    /// Any reply.
    #[default]
    Any,
    /// No reply: a request is complete when it is sent.
    None,
    /// The request in upper case.
    Upper,
    /// The request in lower case.
    Lower,
    /// The request unchanged.
    Echo,
    /// These bytes.
    Exact(Vec<u8>),
    /// A reply in which the expression matches.
    Regex(Pattern),
    /// A reply of this many bytes.
    Len(usize),
}

/// Error from parsing an expectation.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum InvalidExpectation {
    /// Unknown word.
    #[error(
        "invalid expectation {}: expected upper, lower, echo, exact:TEXT, regex:RE, len:SIZE, any or none",
        quoted(.0)
    )]
    Unknown(String),
    /// Invalid size after `len:`.
    #[error("{0}")]
    Size(UnitError),
    /// Invalid regular expression.
    #[error("invalid expression: {0}")]
    Regex(InvalidPattern),
}

impl Expect {
    /// Returns whether `reply` meets the expectation for `request`.
    pub fn is_met(&self, request: &[u8], reply: &[u8]) -> bool {
        match self {
            Self::Any | Self::None => true,
            Self::Regex(pattern) => pattern.is_in(reply),
            Self::Len(bytes) => reply.len() == *bytes,
            Self::Exact(bytes) => reply == &**bytes,
            Self::Echo => reply == request,
            Self::Upper if request.is_ascii() => {
                equal_mapped(request, reply, |byte| byte.to_ascii_uppercase())
            }
            Self::Lower if request.is_ascii() => {
                equal_mapped(request, reply, |byte| byte.to_ascii_lowercase())
            }
            Self::Upper | Self::Lower => self
                .reply(request)
                .is_some_and(|expected| expected == reply),
        }
    }

    /// Returns the expected reply to `request`, if there is exactly one.
    pub fn reply<'a>(&'a self, request: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Any | Self::None | Self::Regex(_) | Self::Len(_) => None,
            Self::Exact(bytes) => Some(Cow::Borrowed(bytes)),
            Self::Echo => Some(Cow::Borrowed(request)),
            Self::Upper => Some(Cow::Owned(change_case(request, str::to_uppercase))),
            Self::Lower => Some(Cow::Owned(change_case(request, str::to_lowercase))),
        }
    }

    /// Returns the length of the expected reply, if it is known.
    pub fn reply_bytes(&self, request: &[u8]) -> Option<usize> {
        match self {
            Self::Len(bytes) => Some(*bytes),
            Self::Upper | Self::Lower if request.is_ascii() => Some(request.len()),
            _ => self.reply(request).map(|reply| reply.len()),
        }
    }

    /// Returns whether a reply is expected at all.
    pub fn expects_reply(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Returns the one of echo, upper and lower that `reply` meets, or `Any` if it meets none or several. Used if no
    /// expectation is given.
    pub fn guess(request: &[u8], reply: &[u8]) -> Self {
        let mut fitting = Self::fitting(request, reply);
        match fitting.pop() {
            Some(expect) if fitting.is_empty() => expect,
            _ => Self::Any,
        }
    }

    /// Returns those of echo, upper and lower that `reply` meets.
    pub(crate) fn fitting(request: &[u8], reply: &[u8]) -> Vec<Self> {
        [Self::Echo, Self::Upper, Self::Lower]
            .into_iter()
            .filter(|expect| expect.is_met(request, reply))
            .collect()
    }
}

fn equal_mapped(request: &[u8], reply: &[u8], mapped: impl Fn(u8) -> u8) -> bool {
    // No early return, so that the compiler can vectorize the comparison.
    request.len() == reply.len()
        && request
            .iter()
            .zip(reply)
            .fold(0, |differs, (asked, got)| differs | (mapped(*asked) ^ got))
            == 0
}

/// Changes the case of valid UTF-8 and leaves other bytes unchanged.
fn change_case(bytes: &[u8], map: impl Fn(&str) -> String) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.extend_from_slice(map(chunk.valid()).as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    out
}

impl FromStr for Expect {
    type Err = InvalidExpectation;

    fn from_str(text: &str) -> Result<Self, InvalidExpectation> {
        let unknown = || InvalidExpectation::Unknown(text.to_owned());
        match text.split_once(':') {
            Some(("exact", bytes)) => Ok(Self::Exact(bytes.as_bytes().to_vec())),
            Some(("regex", regex)) => Pattern::new(regex)
                .map(Self::Regex)
                .map_err(InvalidExpectation::Regex),
            Some(("len", bytes)) => Bytes::within(bytes, 0..=u32::MAX.into())
                .map(|bytes| Self::Len(bytes as usize))
                .map_err(InvalidExpectation::Size),
            _ => match text {
                "any" => Ok(Self::Any),
                "none" => Ok(Self::None),
                "upper" => Ok(Self::Upper),
                "lower" => Ok(Self::Lower),
                "echo" => Ok(Self::Echo),
                _ => Err(unknown()),
            },
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::None => f.write_str("none"),
            Self::Upper => f.write_str("upper"),
            Self::Lower => f.write_str("lower"),
            Self::Echo => f.write_str("echo"),
            Self::Exact(bytes) => write!(f, "exact:{}", String::from_utf8_lossy(bytes)),
            Self::Regex(pattern) => write!(f, "regex:{}", pattern.source()),
            Self::Len(bytes) => write!(f, "len:{bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn met(expect: &str, request: &str, reply: &str) -> bool {
        let expect: Expect = expect.parse().unwrap();
        expect.is_met(request.as_bytes(), reply.as_bytes())
    }

    #[test]
    fn each_expectation_accepts_and_rejects_replies() {
        for (expect, request, reply, wrong) in [
            ("upper", "hello 1", "HELLO 1", "HELLO 2"),
            ("upper", "straße", "STRASSE", "STRAßE"),
            ("lower", "Hello ÄÖ", "hello äö", "hello Äö"),
            ("echo", "hello", "hello", "HELLO"),
            ("exact:a:b", "x", "a:b", "a"),
            ("regex:^[0-9]+$", "x", "42", "4x"),
            ("len:3", "x", "abc", "ab"),
            ("upper", "hello", "HELLO", "HELLO "),
        ] {
            assert!(met(expect, request, reply), "{expect} {request} {reply}");
            assert!(!met(expect, request, wrong), "{expect} {request} {wrong}");
            assert_eq!(expect.parse::<Expect>().unwrap().to_string(), expect);
        }
        assert!(met("any", "x", "y"));
    }

    #[test]
    fn invalid_expectation_lists_the_valid_forms() {
        let size = "len:x".parse::<Expect>().unwrap_err().to_string();
        assert!(size.starts_with("invalid size x: "), "{size}");
        for text in ["", "uper", "exact"] {
            let error = text.parse::<Expect>().unwrap_err().to_string();
            assert!(error.contains("regex:RE"), "{text}: {error}");
        }
        assert!("regex:(".parse::<Expect>().is_err());
    }

    #[test]
    fn expectation_is_guessed_from_the_reply() {
        let guessed = |request: &str, reply: &str| {
            Expect::guess(request.as_bytes(), reply.as_bytes()).to_string()
        };
        assert_eq!(guessed("hello 0", "HELLO 0"), "upper");
        assert_eq!(guessed("Hello 0", "hello 0"), "lower");
        assert_eq!(guessed("hello 0", "Thank you"), "any");
        assert_eq!(guessed("Hello 0", "Hello 0"), "echo");
        // Two of the three would give this reply.
        assert_eq!(guessed("hello 0", "hello 0"), "any");
        assert_eq!(guessed("PING", "PING"), "any");
        assert_eq!(guessed("12 34", "12 34"), "any");
    }

    proptest! {
        #[test]
        fn in_place_check_agrees_with_the_reference(request in prop::collection::vec(0_u8..128, 0..70), flip in any::<Option<(usize, u8)>>()) {
            for expect in [Expect::Upper, Expect::Lower, Expect::Echo] {
                let mut reply = expect.reply(&request).unwrap().into_owned();
                if let (Some((at, byte)), false) = (flip, reply.is_empty()) {
                    let at = at % reply.len();
                    reply[at] = byte;
                }
                let oracle = expect.reply(&request).unwrap() == reply;
                prop_assert_eq!(expect.is_met(&request, &reply), oracle);
                prop_assert_eq!(expect.reply_bytes(&request), Some(expect.reply(&request).unwrap().len()));
            }
        }
    }
}

//! Regular expressions over a stream that may go on.
//!
//! `$`, `\b` and the other anchors look at what follows the match. At the end of the bytes read so far that is unknown:
//! `^OK$` must not match `OK` when `: it failed` is still on its way. So a match counts only if it holds whatever follows,
//! or if nothing follows because the stream or the message has ended.

use regex_automata::{Input, meta, util::syntax};
use thiserror::Error;

/// A regular expression over bytes, in the syntax of the regex crate, with Unicode enabled; `(?-u)` matches raw bytes.
///
/// `^` and `$` match at the edges of any line, also before `\r\n`, since replies come with their terminators.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    regex: meta::Regex,
    /// It has anchors or word boundaries, so that a match may depend on the character after it.
    looks_around: bool,
}

/// Error from compiling a [`Pattern`]: the reason in one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InvalidPattern(String);

/// Most memory of a compiled pattern in bytes, as in the regex crate.
const SIZE_MAX: usize = 10 << 20;

/// One of each kind of character that an anchor or a word boundary of the regex crate tells apart: ends of lines, a word
/// character in ASCII and one beyond it, no word character, and no character at all.
const FOLLOWERS: [&[u8]; 6] = [b"a", b"\n", b"\r", b"-", "é".as_bytes(), b"\xff"];

/// Most bytes of a UTF-8 character.
pub(crate) const CHARACTER_BYTES_MAX: usize = 4;

impl Pattern {
    /// Compiles `source`.
    pub fn new(source: &str) -> Result<Self, InvalidPattern> {
        let config = syntax::Config::new()
            .multi_line(true)
            .crlf(true)
            .utf8(false);
        let hir = syntax::parse_with(source, &config).map_err(|error| {
            let message = error.to_string();
            let last = message.lines().last().unwrap_or_default();
            InvalidPattern(last.trim().trim_start_matches("error: ").to_owned())
        })?;
        let config = meta::Config::new()
            .utf8_empty(false)
            .nfa_size_limit(Some(SIZE_MAX));
        let regex = meta::Builder::new()
            .configure(config)
            .build_from_hir(&hir)
            .map_err(|error| match error.size_limit() {
                Some(limit) => InvalidPattern(format!(
                    "it needs more than {} MiB of memory; use fewer repetitions",
                    limit >> 20
                )),
                None => InvalidPattern(error.to_string()),
            })?;
        Ok(Self {
            source: source.to_owned(),
            looks_around: !hir.properties().look_set().is_empty(),
            regex,
        })
    }

    /// Returns the expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns whether a match may depend on the character before or after it.
    pub fn looks_around(&self) -> bool {
        self.looks_around
    }

    /// Returns whether it matches in `bytes`, after which nothing follows.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.is_in_rest(bytes, 0)
    }

    /// Returns whether it matches in `bytes[from..]`, after which nothing follows. The bytes before are only looked at.
    pub(crate) fn is_in_rest(&self, bytes: &[u8], from: usize) -> bool {
        self.regex.is_match(Input::new(bytes).range(from..))
    }

    /// Returns whether it matches in `bytes` only if nothing, or nothing else, follows.
    pub(crate) fn is_undecided(&self, bytes: &[u8]) -> bool {
        self.looks_around && self.is_in(bytes) && !self.is_in_any_case(&mut bytes.to_vec(), 0)
    }

    /// Returns whether it matches in `bytes[from..]`, whatever follows. `bytes` is restored before the return.
    ///
    /// The match must end within `bytes`, so only the first character that follows can matter, and of that only its
    /// kind: each kind is tried.
    pub(crate) fn is_in_any_case(&self, bytes: &mut Vec<u8>, from: usize) -> bool {
        if !self.is_in_rest(bytes, from) {
            return false;
        }
        if !self.looks_around {
            return true;
        }
        // A character that is not complete may become of any kind.
        let tail = bytes.split_off(bytes.len() - incomplete_character(bytes));
        let end = bytes.len();
        let holds = from <= end
            && self.is_in_rest(bytes, from)
            && FOLLOWERS.iter().all(|follower| {
                bytes.extend_from_slice(follower);
                let is_match = self.regex.is_match(Input::new(&*bytes).range(from..end));
                bytes.truncate(end);
                is_match
            });
        bytes.extend_from_slice(&tail);
        holds
    }
}

/// Returns the length of the UTF-8 character at the end of `bytes` that needs more bytes; 0 if there is none.
fn incomplete_character(bytes: &[u8]) -> usize {
    let longest = (CHARACTER_BYTES_MAX - 1).min(bytes.len());
    let is_incomplete = |len: &usize| {
        str::from_utf8(&bytes[bytes.len() - len..])
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=longest).find(is_incomplete).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_case(pattern: &str, bytes: &[u8]) -> bool {
        Pattern::new(pattern)
            .unwrap()
            .is_in_any_case(&mut bytes.to_vec(), 0)
    }

    #[test]
    fn match_that_depends_on_what_follows_is_not_certain() {
        for (pattern, bytes) in [
            ("^OK$", "OK"),
            (r"OK\z", "OK\n"),
            (r"OK\b", "OK"),
            (r"OK\B", "OK"),
            (r"OK\b{end}", "OK"),
            (r"(?-u:OK\b)", "OK"),
            ("(?-m)OK$", "OK\n"),
            (r"\r$", "\r"),
        ] {
            assert!(!any_case(pattern, bytes.as_bytes()), "{pattern} {bytes:?}");
        }
        // The first byte of `é` or of `×`, which is no word character.
        assert!(!any_case(r"OK\b", b"OK\xc3"));
    }

    #[test]
    fn match_that_nothing_can_change_is_certain_at_once() {
        for (pattern, bytes) in [
            ("OK", "OK"),
            ("^OK", "OK"),
            (r"\bOK", "- OK"),
            ("^OK$", "OK\r"),
            ("^OK$", "OK\n"),
            ("OK.*", "OK"),
            ("^OK$|^OK", "OK"),
            (r"OK\b", "OK "),
            (r"OK(\b|\B)", "OK"),
            ("OK$", "OK\nOK"),
        ] {
            assert!(any_case(pattern, bytes.as_bytes()), "{pattern} {bytes:?}");
        }
    }

    #[test]
    fn invalid_pattern_gives_a_one_line_reason() {
        assert_eq!(
            Pattern::new("(a").unwrap_err().to_string(),
            "unclosed group"
        );
        let large = Pattern::new(r"\w{50}{50}{50}").unwrap_err().to_string();
        assert!(large.contains("10 MiB of memory; use fewer"), "{large}");
    }

    pub(crate) const PATTERNS: [&str; 16] = [
        "^a$",
        "a$",
        "^a",
        r"a\b",
        r"a\B",
        r"\ba",
        r"a\z",
        r"\Aa",
        "a",
        "a.*b",
        "(?-u)a\\b",
        "(?-m)^a$",
        r"^$",
        r"a\b{end}",
        r"\r$",
        "é\\b",
    ];

    proptest! {
        #[test]
        fn certain_match_holds_whatever_follows(
            pattern in 0..PATTERNS.len(),
            bytes in "[ab é\r\n-]{0,6}",
            cut in 0..9_usize,
            follows in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let pattern = Pattern::new(PATTERNS[pattern]).unwrap();
            let mut bytes = bytes.into_bytes();
            bytes.truncate(bytes.len().saturating_sub(cut));
            let before = bytes.clone();
            let certain = pattern.is_in_any_case(&mut bytes, 0);
            prop_assert_eq!(&bytes, &before);
            bytes.extend(follows);
            prop_assert!(!certain || pattern.is_in(&bytes));
        }
    }
}

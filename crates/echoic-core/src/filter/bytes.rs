//! Matchers of bytes: text, regular expressions and byte sequences with wildcards.

use std::{borrow::Cow, ops::Range};

use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

use crate::units::{for_people, masked};

/// Longest `hex:` sequence, in bytes. A search costs its length times the length of the message, hence the limit.
pub const MASK_BYTES_MAX: usize = 256;

/// Most memory of one compiled regular expression, in bytes. The regex crate stops compiling at this size.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Text to search for, ignoring case.
///
/// Case is folded by Unicode's simple lowercase mapping, character by character: `É` finds `é`, `ß` does not find
/// `ss`. Bytes that are not UTF-8 match themselves.
#[derive(Clone, Debug)]
pub struct Needle {
    bytes: Vec<u8>,
    folded: Box<Finder<'static>>,
}

impl Needle {
    /// Returns a needle for `bytes`; `None` if they are empty.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        let folded = Box::new(Finder::new(&fold(&bytes)).into_owned());
        (!bytes.is_empty()).then_some(Self { bytes, folded })
    }

    /// Returns the bytes as written in the filter.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it occurs in `bytes`.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.folded.find(&fold(bytes)).is_some()
    }

    /// Returns where in `bytes` it occurs first.
    pub fn find(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let start = self.folded.find(&fold(bytes))?;
        let end = start + self.folded.needle().len();
        Some(unfolded(bytes, start)..unfolded(bytes, end))
    }
}

impl PartialEq for Needle {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Needle {}

/// Maps text to lower case.
fn fold(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.is_ascii() {
        let is_folded = !bytes.iter().any(u8::is_ascii_uppercase);
        return if is_folded {
            bytes.into()
        } else {
            bytes.to_ascii_lowercase().into()
        };
    }
    let mut folded = Vec::with_capacity(bytes.len() + bytes.len() / 2);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // The first character of the full mapping is the simple one; only U+0130 has a second.
            let lower = c.to_lowercase().next().unwrap_or(c);
            folded.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
        }
        folded.extend_from_slice(chunk.invalid());
    }
    folded.into()
}

/// Returns the position in `bytes` of the position `at` in their folded form.
fn unfolded(bytes: &[u8], at: usize) -> usize {
    if bytes.is_ascii() {
        return at;
    }
    let (mut from, mut to) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if to >= at {
                return from;
            }
            from += c.len_utf8();
            to += c.to_lowercase().next().unwrap_or(c).len_utf8();
        }
        let invalid = chunk.invalid().len();
        if to + invalid >= at {
            return from + at.saturating_sub(to);
        }
        (from, to) = (from + invalid, to + invalid);
    }
    from
}

/// A regular expression over bytes, in the syntax of the regex crate, with Unicode enabled; `(?-u)` matches raw bytes.
///
/// `^` and `$` match at the edges of any line, also before `\r\n`. Messages include their terminators, and `^hello$`
/// must match all the same.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles `source`.
    ///
    /// # Errors
    /// The reason in one line.
    pub fn new(source: &str) -> Result<Self, String> {
        let source = without_escaped_quotes(source);
        let compiled = RegexBuilder::new(&source)
            .multi_line(true)
            .crlf(true)
            .size_limit(REGEX_BYTES_MAX)
            .nest_limit(64)
            .build();
        match compiled {
            Ok(regex) => Ok(Self { source, regex }),
            Err(regex::Error::CompiledTooBig(limit)) => Err(format!(
                "it needs more than {} of memory; use fewer repetitions, or (?-u) at the start for ASCII classes",
                for_people(limit as u64)
            )),
            Err(error) => {
                let message = error.to_string();
                let last = message.lines().last().unwrap_or_default();
                Err(last.trim().trim_start_matches("error: ").to_owned())
            }
        }
    }

    /// Returns the expression. Quotation marks in it are never escaped, so that equal expressions have equal sources.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it matches anywhere in `bytes`.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.regex.is_match(bytes)
    }

    /// Returns where in `bytes` it matches first.
    pub fn find(&self, bytes: &[u8]) -> Option<Range<usize>> {
        self.regex.find(bytes).map(|found| found.range())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

/// Replaces `\"` by `"`, which means the same in a regular expression. Other escapes are unchanged.
fn without_escaped_quotes(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        match (c, (c == '\\').then(|| chars.next()).flatten()) {
            (_, Some('"')) => plain.push('"'),
            (_, Some(escaped)) => plain.extend([c, escaped]),
            (_, None) => plain.push(c),
        }
    }
    plain
}

/// A sequence of bytes with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask(Vec<Option<u8>>);

impl Mask {
    /// Parses `00ff??1b`, with the separators of [`crate::units::Hex`].
    pub fn new(text: &str) -> Option<Self> {
        let bytes = masked(text)?;
        (bytes.len() <= MASK_BYTES_MAX).then_some(Self(bytes))
    }

    /// Returns its bytes; `None` matches any byte.
    pub fn bytes(&self) -> &[Option<u8>] {
        &self.0
    }

    /// Whether it occurs in `bytes`.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.find(bytes).is_some()
    }

    /// Returns where in `bytes` it occurs first.
    pub fn find(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let matches = |window: &[u8]| {
            self.0
                .iter()
                .zip(window)
                .all(|(wanted, byte)| wanted.is_none_or(|w| w == *byte))
        };
        let start = bytes.windows(self.0.len()).position(matches)?;
        Some(start..start + self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finds(needle: &[u8], bytes: &[u8]) -> bool {
        Needle::new(needle).unwrap().is_in(bytes)
    }

    #[test]
    fn case_folding_covers_unicode_and_invalid_utf8() {
        assert!(finds("STRAßE".as_bytes(), "eine straße".as_bytes()));
        assert!(finds("ÉCOLE".as_bytes(), "\u{0}école".as_bytes()));
        assert!(finds(b"error", b"\xff\xfeERROR\x80"));
        assert!(finds(b"k", "\u{212a}".as_bytes()), "the Kelvin sign is a K");
        assert!(finds(b"\xff", b"a\xffb"));
        assert!(!finds("ss".as_bytes(), "ß".as_bytes()));
        assert!(Needle::new(*b"").is_none());
    }

    #[test]
    fn needle_is_found_where_it_stands() {
        let at = |needle: &str, bytes: &[u8]| Needle::new(needle).unwrap().find(bytes);
        assert_eq!(at("error", b"an ERROR"), Some(3..8));
        assert_eq!(
            at("k", "\u{212a}".as_bytes()),
            Some(0..3),
            "the Kelvin sign has three bytes"
        );
        assert_eq!(at("x", "\u{212a}\u{212a}x".as_bytes()), Some(6..7));
        assert_eq!(at("\u{e9}x", "\u{c9}\u{c9}X".as_bytes()), Some(2..5));
        assert_eq!(at("x", b"\xff\xfe\xc3\x89X\xff"), Some(4..5));
        assert_eq!(at("x", b"y"), None);
    }

    #[test]
    fn regex_anchors_match_line_ends() {
        let pattern = Pattern::new("^hello$").unwrap();
        assert!(
            pattern.is_in(b"hello\r\n") && pattern.is_in(b"hello\n") && pattern.is_in(b"hello")
        );
        assert!(!pattern.is_in(b"hello world\n"));
        assert!(Pattern::new(r"(?-u)\xff").unwrap().is_in(b"\xff"));
    }

    #[test]
    fn invalid_regex_gives_a_one_line_reason() {
        assert_eq!(Pattern::new("(a").unwrap_err(), "unclosed group");
        assert!(
            Pattern::new(r"\w{50}")
                .unwrap_err()
                .contains("1.0 MiB of memory; use fewer repetitions")
        );
        assert!(!Pattern::new(&"(".repeat(100)).unwrap_err().contains('\n'));
    }

    #[test]
    fn byte_mask_matches_with_wildcards() {
        let mask = Mask::new("1B ?? 5b").unwrap();
        assert!(mask.is_in(b"..\x1bx[.."));
        assert!(!mask.is_in(b"\x1b["));
        for bad in [
            "",
            "1",
            "xx",
            "?1",
            "+1",
            "é",
            &"00".repeat(MASK_BYTES_MAX + 1),
        ] {
            assert_eq!(Mask::new(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn needle_is_found_in_the_bytes_it_was_cut_from(
            before in any::<String>(), inner in "\\PC{1,5}", after in any::<String>(), bytes in any::<Vec<u8>>(),
        ) {
            let text = format!("{before}{inner}{after}");
            let found = Needle::new(inner.as_str()).unwrap().find(text.as_bytes()).unwrap();
            prop_assert!(Needle::new(inner.as_str()).unwrap().is_in(&text.as_bytes()[found]));
            let found = Needle::new(*b"a").unwrap().find(&bytes);
            prop_assert_eq!(found.map(|at| at.start), bytes.iter().position(|b| matches!(b, b'a' | b'A')));
        }

        #[test]
        fn text_is_found_at_any_position(
            before in any::<String>(), middle in ".{1,8}", after in any::<String>(),
        ) {
            let whole = [before, middle.clone(), after].concat();
            prop_assert!(finds(middle.as_bytes(), whole.as_bytes()));
        }

        #[test]
        fn ascii_search_agrees_with_std(needle in "[abAB]{1,3}", bytes in "[abAB é]{0,12}") {
            let expected = bytes.to_lowercase().contains(&needle.to_lowercase());
            prop_assert_eq!(finds(needle.as_bytes(), bytes.as_bytes()), expected);
        }

        #[test]
        fn byte_mask_agrees_with_a_regex(
            mask in prop::collection::vec(prop::option::of(0..3_u8), 1..4),
            bytes in prop::collection::vec(0..3_u8, 0..8),
        ) {
            let byte = |b: &Option<u8>| b.map_or("(?s-u:.)".to_owned(), |b| format!("(?-u)\\x{b:02x}"));
            let regex = Regex::new(&mask.iter().map(byte).collect::<String>()).unwrap();
            prop_assert_eq!(Mask(mask).is_in(&bytes), regex.is_match(&bytes));
        }
    }
}

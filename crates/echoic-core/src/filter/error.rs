//! The error from parsing a filter, with its position.

use std::{fmt, ops::Range};

use thiserror::Error;

use super::key::{KEYS, RANGE_KEYS, nearest_word};
use crate::{escape, units};

/// Error from parsing a filter. Prints a message, then the text with a mark under the position:
///
/// ```text
/// unknown key per:; did you mean peer:? To search for it as text, put it in quotes
///   upper per:10.0.0.0/8
///         ^^^^
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    pub(super) why: Why,
    /// The bytes of the text above the mark.
    pub(super) span: Range<usize>,
    pub(super) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Why {
    #[error("filter too long: {found} bytes; the limit is {most}")]
    TooLong { found: usize, most: usize },
    #[error("parentheses nested too deeply; the limit is {most}")]
    TooDeep { most: usize },
    #[error(
        "too many {what}; the limit is {most}; use several filters, or a range, for example id:17..40"
    )]
    TooMany { most: usize, what: &'static str },
    #[error("{}", unknown_key(key, *nearest))]
    UnknownKey {
        key: String,
        nearest: Option<&'static str>,
    },
    #[error("{what} is not supported yet; to search for it as text, put it in quotes: \"{what}\"")]
    NotYet { what: String },
    #[error("invalid {key}:{}: expected {wants}", units::quoted(found))]
    Value {
        key: &'static str,
        wants: &'static str,
        found: String,
    },
    #[error(
        "missing value for {key}:; expected {wants}, with no space after the colon{}",
        shell_hint(key)
    )]
    Missing {
        key: &'static str,
        wants: &'static str,
    },
    #[error(
        "{found} needs the current day, which is not known here; write a date, for example 2026-08-01, or how long ago: 10m, 2d"
    )]
    NeedsToday { found: String },
    #[error("no service is called connect; role:client finds what a client recorded")]
    ServiceOfAClient,
    #[error("{key}: takes one value, not a list")]
    OneOnly { key: &'static str },
    #[error(
        "empty range {}; write the smaller number first, for example 3..9",
        quoted(found)
    )]
    EmptyRange { found: String },
    #[error("{key}~ is not supported; regular expressions follow req~, rep~ or any~")]
    NoRegex { key: &'static str },
    #[error(
        "missing regular expression after {key}~; expected for example {key}~^GET, in quotes if it has spaces"
    )]
    MissingRegex { key: &'static str },
    #[error("invalid regular expression: {reason}; put it in quotes if it has spaces or brackets")]
    Regex { reason: String },
    #[error("{message}")]
    Escape { message: String },
    #[error(
        "{word} needs a condition on both sides; to search for the word, put it in quotes: \"{word}\""
    )]
    Dangling { word: &'static str },
    #[error(
        "NOT is not an operator; negate with a sign, for example -rep:error; to search for the word, put it in quotes"
    )]
    Not,
    #[error(
        "missing condition after the sign; expected no space, for example -rep:error; to search for the sign, put it in quotes"
    )]
    NothingNegated,
    #[error("two signs in a row; to search for text that begins with a sign, put it in quotes")]
    TwoSigns,
    #[error(
        "{key}: applies to the whole list; it is not allowed within parentheses or after a sign"
    )]
    Inside { key: &'static str },
    #[error(
        "THEN joins whole filters; it is not allowed within parentheses; to search for the word, put it in quotes: \"THEN\""
    )]
    ThenInside,
    #[error("{key}: is given twice; remove one")]
    Twice { key: &'static str },
    #[error("empty parentheses; expected a condition")]
    EmptyGroup,
    #[error("this parenthesis is not closed; to search for it, put it in quotes")]
    Unclosed,
    #[error("this parenthesis was not opened; to search for it, put it in quotes")]
    Unopened,
    #[error("this quotation mark is not closed; within quotes, write \\\" for a quotation mark")]
    UnclosedQuote,
    #[error("empty quotation marks; expected text to search for")]
    EmptyPhrase,
    #[error("missing space after the quotation mark")]
    NoSpace,
}

fn quoted(found: &str) -> String {
    format!("\"{}\"", escape::text_up_to(found.as_bytes(), 40))
}

/// A shell takes an unquoted `lat:>5ms` for `lat:` with its output in a file.
fn shell_hint(key: &str) -> String {
    if RANGE_KEYS.contains(&key) {
        "; a shell redirects at > and <, so put the key and its value in quotes".to_owned()
    } else {
        String::new()
    }
}

fn unknown_key(key: &str, nearest: Option<&str>) -> String {
    let key = escape::text_up_to(key.as_bytes(), 40);
    let known = KEYS.iter().filter(|(_, key, _)| key.is_some());
    let proposal = nearest.map_or_else(
        || {
            let names: Vec<_> = known.map(|(name, ..)| format!("{name}:")).collect();
            format!("expected one of {}.", names.join(" "))
        },
        |nearest| format!("did you mean {nearest}:?"),
    );
    format!("unknown key {key}:; {proposal} To search for it as text, put it in quotes")
}

impl FilterError {
    /// Returns the key whose value is missing, if `>` and `<` may begin it: if these are not quoted, a shell redirects there.
    pub fn key_without_range(&self) -> Option<&'static str> {
        match self.why {
            Why::Missing { key, .. } => RANGE_KEYS.contains(&key).then_some(key),
            _ => None,
        }
    }

    /// Returns what was probably meant at the position: `peer:` for an unknown key, `open` for a misspelled word.
    pub fn suggestion(&self) -> Option<String> {
        match &self.why {
            Why::UnknownKey { nearest, .. } => nearest.map(|key| format!("{key}:")),
            Why::Value { wants, found, .. } => nearest_word(wants, found).map(str::to_owned),
            _ => None,
        }
    }

    /// Returns the message in one line, without the text: for JSON and for tables.
    pub fn message(&self) -> String {
        self.why.to_string()
    }

    /// Returns its position in the text, in characters from 1.
    pub fn column(&self) -> usize {
        self.text[..self.span.start].chars().count() + 1
    }
}

impl std::error::Error for FilterError {}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Most characters shown before, at and after the position: a filter can have 64 KiB.
        const CONTEXT_CHARS: [usize; 3] = [48, 40, 24];
        let (text, Range { start, end }) = (self.text.as_bytes(), self.span.clone());
        let before = escape::text(&text[..start]).to_string();
        let cut = before
            .char_indices()
            .rev()
            .nth(CONTEXT_CHARS[0])
            .map(|(at, c)| at + c.len_utf8());
        let before = match cut {
            Some(cut) => format!("…{}", &before[cut..]),
            None => before,
        };
        let marked = escape::text_up_to(&text[start..end], CONTEXT_CHARS[1]).to_string();
        let after = escape::text_up_to(&text[end..], CONTEXT_CHARS[2]);
        let indent = " ".repeat(before.chars().count());
        let mark = "^".repeat(marked.chars().count().max(1));
        write!(
            f,
            "{}\n  {before}{marked}{after}\n  {indent}{mark}",
            self.why
        )
    }
}

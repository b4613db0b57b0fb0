//! Why a text is no filter, and where.

use std::{fmt, ops::Range};

use thiserror::Error;

use super::key::KEYS;
use crate::{escape, units};

/// Why a text is no filter. Prints what happened and what to do, then the text with a mark under the place:
///
/// ```text
/// there is no key per:; did you mean peer:? To search for it as text, put it in quotes
///   upper per:10.0.0.0/8
///         ^^^^
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    pub(super) why: Why,
    /// What the mark stands under.
    pub(super) span: Range<usize>,
    pub(super) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Why {
    #[error("the filter is too long: {found} bytes, at most {most} are read")]
    TooLong { found: usize, most: usize },
    #[error("parentheses stand {most} deep here; that is as deep as they go")]
    TooDeep { most: usize },
    #[error("the filter asks more than {most} {what}; ask less at once, or a range: id:17..40")]
    TooMany { most: usize, what: &'static str },
    #[error("{}", unknown(key, *nearest))]
    UnknownKey {
        key: String,
        nearest: Option<&'static str>,
    },
    #[error("{what} is not there yet; to search for it as text, put it in quotes: \"{what}\"")]
    NotYet { what: String },
    #[error("invalid {key}:{}: expected {wants}", units::quoted(found))]
    Value {
        key: &'static str,
        wants: &'static str,
        found: String,
    },
    #[error(
        "{key}: has no value, or an empty one in its list; it takes {wants}, with no space after the colon"
    )]
    Missing {
        key: &'static str,
        wants: &'static str,
    },
    #[error("no service is called connect; role:client finds what a client recorded")]
    ServiceOfAClient,
    #[error("{key}: takes one value, not a list")]
    OneOnly { key: &'static str },
    #[error("{} holds no number; write the smaller one first", quoted(found))]
    EmptyRange { found: String },
    #[error("{key}: takes no regular expression; req~ rep~ and any~ do")]
    NoRegex { key: &'static str },
    #[error(
        "{key}~ has no expression; it takes one on bytes: {key}~^GET, in quotes if it has spaces"
    )]
    MissingRegex { key: &'static str },
    #[error("this is no regular expression: {said}; put it in quotes if it has spaces or brackets")]
    Regex { said: String },
    #[error("{said}")]
    Escape { said: String },
    #[error(
        "{word} stands between two conditions, and one is missing; put it in quotes to search for the word"
    )]
    Dangling { word: &'static str },
    #[error("NOT is written as a sign: -rep:error; put it in quotes to search for the word")]
    Not,
    #[error(
        "nothing follows the sign; write -rep:error without a space, or put it in quotes to search for it"
    )]
    NothingNegated,
    #[error("one sign is enough; put it in quotes to search for text that begins with a sign")]
    TwoSigns,
    #[error("{key}: is about the whole list; it stands outside parentheses and without a sign")]
    Inside { key: &'static str },
    #[error("{key}: is given twice; once is enough")]
    Twice { key: &'static str },
    #[error("there is nothing between these parentheses")]
    EmptyGroup,
    #[error("this parenthesis is not closed; put it in quotes to search for it")]
    Unclosed,
    #[error("nothing opens this parenthesis; put it in quotes to search for it")]
    Unopened,
    #[error("this quotation mark is not closed; within quotes, write \\\" for a quotation mark")]
    UnclosedQuote,
    #[error("there is nothing between these quotation marks to search for")]
    EmptyPhrase,
    #[error("a space is missing after the quotation mark")]
    NoSpace,
}

fn quoted(found: &str) -> String {
    format!("\"{}\"", escape::text_up_to(found.as_bytes(), 40))
}

fn unknown(key: &str, nearest: Option<&str>) -> String {
    let key = escape::text_up_to(key.as_bytes(), 40);
    let known = KEYS.iter().filter(|(_, key, _)| key.is_some());
    let proposal = nearest.map_or_else(
        || {
            let names: Vec<_> = known.map(|(name, ..)| format!("{name}:")).collect();
            format!("there are {}.", names.join(" "))
        },
        |nearest| format!("did you mean {nearest}:?"),
    );
    format!("there is no key {key}:; {proposal} To search for it as text, put it in quotes")
}

impl FilterError {
    /// What happened and what to do, in one line, without the text: for JSON and for tables.
    pub fn message(&self) -> String {
        self.why.to_string()
    }

    /// Where, counted in characters from 1.
    pub fn column(&self) -> usize {
        self.text[..self.span.start].chars().count() + 1
    }
}

impl std::error::Error for FilterError {}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Most characters shown before, at and after the place: a filter may be 64 KiB.
        const SHOWN: [usize; 3] = [48, 40, 24];
        let (text, Range { start, end }) = (self.text.as_bytes(), self.span.clone());
        let before = escape::text(&text[..start]).to_string();
        let cut = before
            .char_indices()
            .rev()
            .nth(SHOWN[0])
            .map(|(at, c)| at + c.len_utf8());
        let before = match cut {
            Some(cut) => format!("…{}", &before[cut..]),
            None => before,
        };
        let address = escape::text_up_to(&text[start..end], SHOWN[1]).to_string();
        let after = escape::text_up_to(&text[end..], SHOWN[2]);
        let indent = " ".repeat(before.chars().count());
        let mark = "^".repeat(address.chars().count().max(1));
        write!(
            f,
            "{}\n  {before}{address}{after}\n  {indent}{mark}",
            self.why
        )
    }
}

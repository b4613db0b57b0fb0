//! Words of a filter: values, quoted phrases and keywords.

use std::ops::Range;

use super::{
    super::{
        error::Why,
        values::{Fault, Item},
        when,
    },
    Parser,
};
use crate::escape;

/// Most values in all lists together. More than conditions, since the values of a list are looked up in a set.
const VALUES_MAX: usize = 4096;

impl Parser<'_> {
    /// `item {"," item}`, directly after the colon.
    pub(super) fn items(
        &mut self,
        key: &'static str,
        wants: &'static str,
    ) -> Result<Vec<Item>, Fault> {
        let mut items = Vec::new();
        loop {
            let item = self.item(true, key == "hex")?;
            if item.bytes.is_empty() {
                return Err(Why::Missing { key, wants }.at(item.span));
            }
            self.values += 1;
            if self.values > VALUES_MAX {
                return Err(Why::TooMany {
                    most: VALUES_MAX,
                    what: "values in lists",
                }
                .at(item.span));
            }
            items.push(item);
            if self.peek() != Some(',') {
                return Ok(items);
            }
            self.at += 1;
        }
    }

    /// Appends the time of day that follows a date after a space, since a shell has removed the quotes around the two.
    pub(super) fn time_after(&mut self, date: &mut Item) {
        let text = self.text;
        let is_bare = date.span.end == self.at;
        let rest = text[self.at..].trim_start();
        let time = rest.split(|c: char| c.is_whitespace() || c == ')').next();
        let time = time.filter(|time| when::is_time_of_day(time));
        if let (true, true, Some(time)) = (is_bare, when::is_date(&text[date.span.clone()]), time) {
            let start = text.len() - rest.len();
            self.at = start + time.len();
            date.bytes = format!("{} {time}", &text[date.span.clone()]).into_bytes();
            date.span.end = self.at;
        }
    }

    /// A word or a quoted phrase, with the escapes of [`crate::escape`] decoded. Single quotes are ordinary characters in
    /// text, and quotation marks around bytes (`hex:`).
    pub(super) fn item(&mut self, in_list: bool, is_bytes: bool) -> Result<Item, Fault> {
        let span = match self.peek() {
            Some('"') => self.quoted('"', in_list)?,
            Some('\'') if is_bytes => self.quoted('\'', in_list)?,
            _ => self.bare(in_list, false),
        };
        match escape::parse(&self.text[span.clone()]) {
            Ok(bytes) => Ok(Item { bytes, span }),
            Err(error) => {
                let at = span.start + error.at;
                Err(Why::Escape {
                    message: error.to_string(),
                }
                .at(at..at + 1))
            }
        }
    }

    /// An unquoted word: ends before whitespace, a comma in a list, or a closing parenthesis that was not opened in the
    /// word (`f(x)` is one word). With `has_escapes`, the character after a backslash does not end it.
    pub(super) fn bare(&mut self, in_list: bool, has_escapes: bool) -> Range<usize> {
        let start = self.at;
        let mut open = 0_usize;
        let mut chars = self.text[start..].char_indices();
        self.at = self.text.len();
        while let Some((at, c)) = chars.next() {
            let is_end = c.is_whitespace() || open == 0 && (c == ')' || in_list && c == ',');
            if is_end {
                self.at = start + at;
                break;
            }
            match c {
                '(' => open += 1,
                ')' => open -= 1,
                '\\' if has_escapes => {
                    chars.next();
                }
                _ => {}
            }
        }
        start..self.at
    }

    /// Quoted text: ends at the next quotation mark without a backslash before it. Returns the span between the marks.
    pub(super) fn quoted(&mut self, mark: char, in_list: bool) -> Result<Range<usize>, Fault> {
        let start = self.at + 1;
        let mut chars = self.text[start..].char_indices();
        let len = loop {
            match chars.next() {
                Some((at, c)) if c == mark => break at,
                Some((_, c)) => {
                    if c == '\\' {
                        chars.next();
                    }
                }
                None => return Err(Why::UnclosedQuote.at(self.at..start)),
            }
        };
        self.at = start + len + 1;
        match self.peek() {
            Some(c) if !c.is_whitespace() && c != ')' && !(in_list && c == ',') => {
                Err(Why::NoSpace.at(self.at - 1..self.at))
            }
            _ => Ok(start..start + len),
        }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    pub(super) fn skip_space(&mut self) {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
    }

    /// Whether the next word is `word`.
    pub(super) fn is_at_keyword(&self, word: &str) -> bool {
        let rest = self.text[self.at..].strip_prefix(word);
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || "()".contains(c))
        })
    }

    /// Consumes `word` if it is next, and returns its span.
    pub(super) fn keyword(&mut self, word: &str) -> Option<Range<usize>> {
        let start = self.at;
        self.is_at_keyword(word).then(|| {
            self.at += word.len();
            start..self.at
        })
    }
}

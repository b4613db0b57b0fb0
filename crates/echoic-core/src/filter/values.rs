//! Converts the values after a colon to the type of their key.

use std::{collections::BTreeSet, ops::Range};

use jiff::Zoned;

use super::{
    error::Why,
    expr::{Sort, SortKey, When},
    key::LATER_STATES,
    number::Unit,
    ranges::Ranges,
    when::NotATime,
};

/// An error and its position in the text.
pub(super) struct Fault {
    pub(super) why: Why,
    pub(super) span: Range<usize>,
}

impl Why {
    /// Adds the position of the error.
    pub(super) fn at(self, span: Range<usize>) -> Fault {
        Fault { why: self, span }
    }
}

/// A value with escapes decoded, and its position in the text.
pub(super) struct Item {
    pub(super) bytes: Vec<u8>,
    pub(super) span: Range<usize>,
}

/// The values of a key.
pub(super) struct Values {
    /// The key.
    pub(super) name: &'static str,
    /// A description of valid values, for errors.
    pub(super) wants: &'static str,
    pub(super) items: Vec<Item>,
}

impl Values {
    fn parse<T>(&self, item: &Item, parse: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
        let value = str::from_utf8(&item.bytes).ok().and_then(parse);
        value.ok_or_else(|| {
            let found = String::from_utf8_lossy(&item.bytes).into_owned();
            Why::Value {
                key: self.name,
                wants: self.wants,
                found,
            }
            .at(item.span.clone())
        })
    }

    /// Parses every value.
    pub(super) fn each<T, C: FromIterator<T>>(
        &self,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<C, Fault> {
        self.items
            .iter()
            .map(|item| self.parse(item, &parse))
            .collect()
    }

    /// Parses the only value.
    pub(super) fn one<T>(&self, parse: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
        match &self.items[..] {
            [item] => self.parse(item, parse),
            items => {
                let second = items.get(1).map_or(0..0, |item| item.span.clone());
                Err(Why::OneOnly { key: self.name }.at(second))
            }
        }
    }

    /// Parses the only value, a time; see [`When::parse`].
    pub(super) fn time(&self, now: Option<&Zoned>) -> Result<When, Fault> {
        let needs_today = |text: &str| When::parse(text, now) == Err(NotATime::NeedsToday);
        if let [item] = &self.items[..]
            && let Ok(text) = str::from_utf8(&item.bytes)
            && needs_today(text)
        {
            let found = text.to_owned();
            return Err(Why::NeedsToday { found }.at(item.span.clone()));
        }
        self.one(|text| When::parse(text, now).ok())
    }

    /// Parses words of an enum.
    pub(super) fn words<T: Copy + Ord>(
        &self,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<BTreeSet<T>, Fault> {
        let is_reserved = |item: &&Item| {
            LATER_STATES
                .iter()
                .any(|reserved| reserved.as_bytes() == item.bytes)
        };
        if let Some(item) = self
            .items
            .iter()
            .find(is_reserved)
            .filter(|_| self.name == "is")
        {
            let what = format!("is:{}", String::from_utf8_lossy(&item.bytes));
            return Err(Why::NotYet { what }.at(item.span.clone()));
        }
        self.each(|text| all.iter().copied().find(|&variant| word(variant) == text))
    }

    /// Parses ranges that begin at `most` or below.
    pub(super) fn ranges(&self, unit: Unit, most: u64) -> Result<Ranges, Fault> {
        let ranges = self.items.iter().map(|item| {
            let range = self.parse(item, |text| unit.range(text))?;
            if range.is_empty() {
                let found = String::from_utf8_lossy(&item.bytes).into_owned();
                return Err(Why::EmptyRange { found }.at(item.span.clone()));
            }
            self.parse(item, |_| (*range.start() <= most).then(|| range.clone()))
        });
        ranges.collect()
    }
}

/// Parses a value of `sort:`.
pub(super) fn sort(text: &str) -> Option<Sort> {
    let (descending, word) = match text.strip_prefix('-') {
        Some(word) => (true, word),
        None => (false, text),
    };
    let key = SortKey::ALL
        .iter()
        .copied()
        .find(|key| key.word() == word)?;
    Some(Sort { key, descending })
}

/// Parses a value of `limit:`, which is at least 1.
pub(super) fn limit(text: &str) -> Option<u64> {
    let range = Unit::Count.range(text)?;
    (range.start() == range.end() && *range.start() > 0).then(|| *range.start())
}

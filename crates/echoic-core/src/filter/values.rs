//! What stands after a colon, read as what its key asks for.

use std::{collections::BTreeSet, ops::Range};

use super::{
    error::Why,
    expr::{Sort, SortKey},
    key::LATER_STATES,
    number::Unit,
    ranges::Ranges,
};

/// Something wrong, and where.
pub(super) struct At {
    pub(super) why: Why,
    pub(super) span: Range<usize>,
}

impl Why {
    pub(super) fn at(self, span: Range<usize>) -> At {
        At { why: self, span }
    }
}

/// A value as it was written, with escapes resolved.
pub(super) struct Item {
    pub(super) bytes: Vec<u8>,
    pub(super) span: Range<usize>,
}

/// The values given to a key, and what it would have liked.
pub(super) struct Values {
    pub(super) name: &'static str,
    pub(super) wants: &'static str,
    pub(super) items: Vec<Item>,
}

impl Values {
    fn read<T>(&self, item: &Item, read: impl Fn(&str) -> Option<T>) -> Result<T, At> {
        let value = str::from_utf8(&item.bytes).ok().and_then(read);
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

    pub(super) fn each<T, C: FromIterator<T>>(
        &self,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<C, At> {
        self.items
            .iter()
            .map(|item| self.read(item, &read))
            .collect()
    }

    pub(super) fn one<T>(&self, read: impl Fn(&str) -> Option<T>) -> Result<T, At> {
        match &self.items[..] {
            [item] => self.read(item, read),
            items => {
                let second = items.get(1).map_or(0..0, |item| item.span.clone());
                Err(Why::OneOnly { key: self.name }.at(second))
            }
        }
    }

    pub(super) fn words<T: Copy + Ord>(
        &self,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<BTreeSet<T>, At> {
        let is_later = |item: &&Item| {
            LATER_STATES
                .iter()
                .any(|later| later.as_bytes() == item.bytes)
        };
        if let Some(item) = self
            .items
            .iter()
            .find(is_later)
            .filter(|_| self.name == "is")
        {
            let what = format!("is:{}", String::from_utf8_lossy(&item.bytes));
            return Err(Why::NotYet { what }.at(item.span.clone()));
        }
        self.each(|text| all.iter().copied().find(|&known| word(known) == text))
    }

    /// Ranges that begin at `most` or before.
    pub(super) fn ranges(&self, unit: Unit, most: u64) -> Result<Ranges, At> {
        let ranges = self.items.iter().map(|item| {
            let range = self.read(item, |text| unit.range(text))?;
            if range.is_empty() {
                let found = String::from_utf8_lossy(&item.bytes).into_owned();
                return Err(Why::EmptyRange { found }.at(item.span.clone()));
            }
            self.read(item, |_| (*range.start() <= most).then(|| range.clone()))
        });
        ranges.collect()
    }
}

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

pub(super) fn limit(text: &str) -> Option<u64> {
    let range = Unit::Count.range(text)?;
    (range.start() == range.end() && *range.start() > 0).then(|| *range.start())
}

//! Necessary conditions of a filter: ranges of ids, conversations and times that a store can look up in an index.
//!
//! The bounds may be too wide, never too narrow: every match is within them, and what is within them is still matched.

use std::ops::RangeInclusive;

use super::{
    expr::{Atom, Expr},
    ranges::Ranges,
};
use crate::event::Micros;

impl Expr {
    /// Returns the strongest necessary condition that consists of atoms for which `include` is true, such as those that
    /// a store has an index for. In the result, `Not` is only around single atoms.
    #[must_use]
    pub fn necessary(&self, include: &impl Fn(&Atom) -> bool) -> Self {
        self.necessary_if(true, include)
    }

    /// Returns the necessary condition for the expression to have the value `wanted`. A negation is pushed down to the
    /// atoms by De Morgan's laws: only there can an atom be left out without losing matches.
    fn necessary_if(&self, wanted: bool, include: &impl Fn(&Atom) -> bool) -> Self {
        let of = |parts: &[Self]| -> Vec<Self> {
            parts
                .iter()
                .map(|part| part.necessary_if(wanted, include))
                .collect()
        };
        match self {
            Self::And(parts) if wanted => Self::and(of(parts)),
            Self::Or(parts) if !wanted => Self::and(of(parts)),
            Self::And(parts) | Self::Or(parts) => Self::or(of(parts)),
            Self::Not(part) => part.necessary_if(!wanted, include),
            Self::Atom(atom) if !include(atom) => Self::All,
            Self::Atom(_) if wanted => self.clone(),
            Self::Atom(_) => Self::not(self.clone()),
            Self::All => Self::All,
        }
    }

    /// Returns the numbers for which the expression can have the value `wanted`. `numbers` returns the numbers that an
    /// atom matches; `None` if the atom is about something else.
    fn possible(&self, wanted: bool, numbers: &impl Fn(&Atom) -> Option<Ranges>) -> Ranges {
        let intersection = |parts: &[Self]| {
            let parts = parts.iter().map(|part| part.possible(wanted, numbers));
            parts.fold(Ranges::all(), |all, part| all.intersection(&part))
        };
        let union = |parts: &[Self]| {
            let parts = parts.iter().map(|part| part.possible(wanted, numbers));
            parts.fold(Ranges::none(), |all, part| all.union(&part))
        };
        match self {
            Self::All if wanted => Ranges::all(),
            Self::All => Ranges::none(),
            Self::And(parts) if wanted => intersection(parts),
            Self::Or(parts) if !wanted => intersection(parts),
            Self::And(parts) | Self::Or(parts) => union(parts),
            Self::Not(part) => part.possible(!wanted, numbers),
            Self::Atom(atom) => match numbers(atom) {
                Some(matching) if wanted => matching,
                Some(matching) => matching.complement(),
                None => Ranges::all(),
            },
        }
    }

    /// Returns a superset of the exchange ids that can match. A run of k exchanges has k consecutive ids and is stored
    /// under the first.
    pub fn ids(&self) -> Ranges {
        self.possible(true, &|atom| match atom {
            Atom::Id(ids) => Some(ids.clone()),
            _ => None,
        })
    }

    /// Returns a superset of the conversation ids that can match.
    pub fn conversations(&self) -> Ranges {
        self.possible(true, &|atom| match atom {
            Atom::Conversation(ids) => Some(ids.clone()),
            _ => None,
        })
    }

    /// Returns the earliest and the latest time that can match; `None` if nothing can match.
    pub fn times(&self, now: Micros) -> Option<RangeInclusive<Micros>> {
        let possible = self.possible(true, &|atom| match atom {
            Atom::After(when) => Some([to_key(when.at(now))..=u64::MAX].into_iter().collect()),
            Atom::Before(when) => {
                Some(Ranges::from_iter([to_key(when.at(now))..=u64::MAX]).complement())
            }
            _ => None,
        });
        let (first, last) = possible.hull()?.into_inner();
        Some(from_key(first)..=from_key(last))
    }
}

/// Maps a time, which is negative before 1970, to an unsigned number in the same order.
fn to_key(time: Micros) -> u64 {
    time.cast_unsigned() ^ (1 << 63)
}

/// The inverse of [`to_key`].
fn from_key(key: u64) -> Micros {
    (key ^ (1 << 63)).cast_signed()
}

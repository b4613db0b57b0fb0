//! What must be true of everything a filter means, so that a store need not read the rest.
//!
//! All of it errs on the side of too much: whatever matches lies within, and what lies within is still asked.

use std::ops::RangeInclusive;

use super::{
    expr::{Atom, Expr},
    ranges::Ranges,
};
use crate::event::Micros;

impl Expr {
    /// The strongest condition made of atoms that `keep` takes: what a store can answer from its indexes.
    /// `Not` stands only around single atoms in it.
    #[must_use]
    pub fn necessary(&self, keep: &impl Fn(&Atom) -> bool) -> Self {
        self.necessary_if(true, keep)
    }

    /// The same for this expression (`wanted`) or for its contrary, which by De Morgan's laws goes inwards until
    /// it stands at the atoms: only there can a part be left out without losing matches.
    fn necessary_if(&self, wanted: bool, keep: &impl Fn(&Atom) -> bool) -> Self {
        let of = |parts: &[Self]| -> Vec<Self> {
            parts
                .iter()
                .map(|part| part.necessary_if(wanted, keep))
                .collect()
        };
        match self {
            Self::And(parts) if wanted => Self::and(of(parts)),
            Self::Or(parts) if !wanted => Self::and(of(parts)),
            Self::And(parts) | Self::Or(parts) => Self::or(of(parts)),
            Self::Not(part) => part.necessary_if(!wanted, keep),
            Self::Atom(atom) if !keep(atom) => Self::All,
            Self::Atom(_) if wanted => self.clone(),
            Self::Atom(_) => Self::not(self.clone()),
            Self::All => Self::All,
        }
    }

    /// The numbers that remain possible, where `numbers` says which ones an atom means, if it speaks of them.
    fn possible(&self, wanted: bool, numbers: &impl Fn(&Atom) -> Option<Ranges>) -> Ranges {
        let meet = |parts: &[Self]| {
            let parts = parts.iter().map(|part| part.possible(wanted, numbers));
            parts.fold(Ranges::all(), |all, part| all.intersection(&part))
        };
        let join = |parts: &[Self]| {
            let parts = parts.iter().map(|part| part.possible(wanted, numbers));
            parts.fold(Ranges::none(), |all, part| all.union(&part))
        };
        match self {
            Self::All if wanted => Ranges::all(),
            Self::All => Ranges::none(),
            Self::And(parts) if wanted => meet(parts),
            Self::Or(parts) if !wanted => meet(parts),
            Self::And(parts) | Self::Or(parts) => join(parts),
            Self::Not(part) => part.possible(!wanted, numbers),
            Self::Atom(atom) => match numbers(atom) {
                Some(meant) if wanted => meant,
                Some(meant) => meant.complement(),
                None => Ranges::all(),
            },
        }
    }

    /// The ids that can match. A run of k exchanges stored under its first id takes k of them.
    pub fn ids(&self) -> Ranges {
        self.possible(true, &|atom| match atom {
            Atom::Id(ids) => Some(ids.clone()),
            _ => None,
        })
    }

    /// The conversations that can match.
    pub fn conversations(&self) -> Ranges {
        self.possible(true, &|atom| match atom {
            Atom::Conversation(ids) => Some(ids.clone()),
            _ => None,
        })
    }

    /// The earliest and the latest moment that can match; none if nothing can.
    pub fn times(&self, now: Micros) -> Option<RangeInclusive<Micros>> {
        let possible = self.possible(true, &|atom| match atom {
            Atom::After(when) => Some([key(when.at(now))..=u64::MAX].into_iter().collect()),
            Atom::Before(when) => {
                Some(Ranges::from_iter([key(when.at(now))..=u64::MAX]).complement())
            }
            _ => None,
        });
        let (first, last) = possible.hull()?.into_inner();
        Some(moment(first)..=moment(last))
    }
}

/// Moments as unsigned numbers in the same order: before 1970 is before.
fn key(moment: Micros) -> u64 {
    moment.cast_unsigned() ^ (1 << 63)
}

fn moment(key: u64) -> Micros {
    (key ^ (1 << 63)).cast_signed()
}

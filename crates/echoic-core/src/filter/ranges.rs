//! Sets of whole numbers: ids, ports, lengths, latencies.

use std::ops::RangeInclusive;

/// A set of numbers as sorted ranges that neither overlap nor touch, so that equal sets are equal values and
/// whether a number is in it is a binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Every number.
    pub fn all() -> Self {
        Self(vec![(0, u64::MAX)])
    }

    /// No number.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether no number is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every number is in it.
    pub fn is_all(&self) -> bool {
        self.0 == [(0, u64::MAX)]
    }

    /// Whether `number` is in it.
    pub fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= number);
        after > 0 && number <= self.0[after - 1].1
    }

    /// Its ranges, smallest first.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.0.iter().map(|&(first, last)| first..=last)
    }

    /// The smallest and the largest number in it.
    pub fn hull(&self) -> Option<RangeInclusive<u64>> {
        let ((first, _), (_, last)) = (self.0.first()?, self.0.last()?);
        Some(*first..=*last)
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.complement().union(&other.complement()).complement()
    }

    /// What is not in it.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut next = Some(0);
        for &(first, last) in &self.0 {
            if let Some(start) = next.filter(|&start| start < first) {
                gaps.push((start, first - 1));
            }
            next = last.checked_add(1);
        }
        gaps.extend(next.map(|start| (start, u64::MAX)));
        Self(gaps)
    }
}

impl FromIterator<RangeInclusive<u64>> for Ranges {
    /// In any order, overlapping or not; empty ranges add nothing.
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u64>>>(ranges: I) -> Self {
        let ranges = ranges.into_iter().filter(|range| !range.is_empty());
        let mut sorted: Vec<_> = ranges.map(RangeInclusive::into_inner).collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers at both ends of what there is, where sums overflow.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..12_u64, u64::MAX - 11..=u64::MAX]
    }

    fn pairs() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((number(), number()), 0..5)
    }

    proptest! {
        #[test]
        fn ranges_behave_like_sets(a in pairs(), b in pairs(), n in number()) {
            let set = |pairs: &[(u64, u64)]| pairs.iter().map(|&(x, y)| x..=y).collect::<Ranges>();
            let is_in = |pairs: &[(u64, u64)]| pairs.iter().any(|&(x, y)| (x..=y).contains(&n));
            let (left, right) = (set(&a), set(&b));
            prop_assert_eq!(left.contains(n), is_in(&a));
            prop_assert_eq!(left.complement().contains(n), !is_in(&a));
            prop_assert_eq!(left.union(&right).contains(n), is_in(&a) || is_in(&b));
            prop_assert_eq!(left.intersection(&right).contains(n), is_in(&a) && is_in(&b));
            prop_assert_eq!(&left.complement().complement(), &left);
            prop_assert_eq!(left.is_all(), left.complement().is_empty());
            prop_assert!(!left.contains(n) || left.hull().is_some_and(|hull| hull.contains(&n)));
        }
    }
}

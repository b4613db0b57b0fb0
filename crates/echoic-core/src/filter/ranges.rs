//! Sets of integers as ranges: ids, ports, sizes, latencies.

use std::ops::RangeInclusive;

/// A set of numbers as sorted ranges that neither overlap nor touch, so that equal sets are equal values and lookup is a
/// binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Returns the set of all numbers.
    pub fn all() -> Self {
        Self(vec![(0, u64::MAX)])
    }

    /// Returns the empty set.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether it contains no number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it contains every number.
    pub fn is_all(&self) -> bool {
        self.0 == [(0, u64::MAX)]
    }

    /// Whether it contains `number`.
    pub fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= number);
        after > 0 && number <= self.0[after - 1].1
    }

    /// Returns its ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.0.iter().map(|&(first, last)| first..=last)
    }

    /// Returns its smallest and largest number; `None` if it is empty.
    pub fn hull(&self) -> Option<RangeInclusive<u64>> {
        let ((first, _), (_, last)) = (self.0.first()?, self.0.last()?);
        Some(*first..=*last)
    }

    /// Returns the numbers in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// Returns the numbers in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.complement().union(&other.complement()).complement()
    }

    /// Returns the numbers not in the set.
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
    /// Collects ranges in any order; they may overlap or be empty.
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

    /// Numbers at both ends of `u64`, where additions can overflow.
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

//! Tracks which sequence numbers have arrived, with one bit each.
//!
//! A counter of the highest number received confuses a duplicate with a loss that it hides, and does not detect losses at
//! the end. One bit per number does; ten million bits are about one megabyte.

use std::collections::VecDeque;

/// Number of recent arrivals stored to compute the reordering extent.
const RECENT_MAX: usize = 1023;

/// Sequence numbers that have arrived in one flow.
#[derive(Clone, Debug, Default)]
pub struct ArrivalTracker {
    bits: Vec<u64>,
    /// The highest number that has arrived, plus 1.
    next: u64,
    recent: VecDeque<u64>,
}

/// Kind of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// First arrival of its number. It is reordered if a higher number arrived before it (RFC 4737, 3.3); the reordering
    /// extent (4.2.2) is the number of arrivals since the first of those, limited to 1,023.
    First {
        /// Reordering extent; `None` if it arrived in order.
        reordered_by: Option<u64>,
    },
    /// The number has arrived before.
    Duplicate,
}

impl ArrivalTracker {
    /// Records an arrival of `number`.
    pub fn record(&mut self, number: u64) -> Arrival {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        if self.bits[word] & bit != 0 {
            return Arrival::Duplicate;
        }
        self.bits[word] |= bit;
        let reordered_by = (number < self.next).then(|| self.reordering_extent(number));
        self.next = self.next.max(number + 1);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(number);
        Arrival::First { reordered_by }
    }

    /// Returns whether `number` has arrived.
    pub fn contains(&self, number: u64) -> bool {
        let word = self.bits.get((number / 64) as usize);
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    fn reordering_extent(&self, number: u64) -> u64 {
        let first = self.recent.iter().position(|other| *other > number);
        (self.recent.len() - first.unwrap_or(0)) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    fn outcomes(arrivals: impl IntoIterator<Item = u64>) -> (u64, u64, u64, u64) {
        let mut tracker = ArrivalTracker::default();
        let (mut first, mut duplicate, mut reordered, mut by) = (0, 0, 0, 0);
        for number in arrivals {
            match tracker.record(number) {
                Arrival::Duplicate => duplicate += 1,
                Arrival::First { reordered_by } => {
                    first += 1;
                    reordered += u64::from(reordered_by.is_some());
                    by = by.max(reordered_by.unwrap_or(0));
                }
            }
        }
        (first, duplicate, reordered, by)
    }

    #[test]
    fn reordering_extent_follows_rfc_4737() {
        // RFC 4737, 7.1: packet 4 arrives after 5 and 6.
        assert_eq!(outcomes([1, 2, 3, 5, 6, 4, 7]), (7, 0, 1, 2));
        assert_eq!(outcomes([0, 1, 2]), (3, 0, 0, 0));
        assert_eq!(outcomes([2, 1, 0]), (3, 0, 2, 2));
        // A duplicate does not count for the extent.
        assert_eq!(outcomes([0, 2, 2, 2, 1]), (3, 2, 1, 1));
    }

    /// Counts losses by the highest number received, as other tools do.
    fn by_counter(arrivals: &[u64]) -> (i64, i64) {
        let (mut next, mut lost, mut out_of_order) = (0, 0, 0);
        for number in arrivals {
            let number = i64::try_from(*number).unwrap();
            if number >= next {
                lost += number - next;
                next = number + 1;
            } else {
                out_of_order += 1;
                lost -= 1;
            }
        }
        (lost.max(0), out_of_order)
    }

    #[test]
    fn losses_are_counted_despite_duplicates_and_at_the_tail() {
        let sent = 200_000;
        let mut random = SmallRng::seed_from_u64(3);
        let (mut arrivals, mut lost, mut doubled, mut delayed) = (Vec::new(), 0, 0, 0);
        for number in 0..sent - 1_000 {
            match random.random_range(0..1000) {
                0..5 => lost += 1,
                5..25 => {
                    doubled += 1;
                    arrivals.extend([(number * 10, number), (number * 10 + 1, number)]);
                }
                25..35 => {
                    delayed += 1;
                    arrivals.push((number * 10 + 55, number));
                }
                _ => arrivals.push((number * 10, number)),
            }
        }
        arrivals.sort_unstable();
        let arrivals: Vec<u64> = arrivals.into_iter().map(|(_, number)| number).collect();
        let (first, duplicate, reordered, _) = outcomes(arrivals.iter().copied());
        assert_eq!(sent - first, lost + 1_000);
        assert_eq!(duplicate, doubled);
        // A number that is delayed only past lost ones is still in order.
        assert!(
            reordered <= delayed && delayed - reordered <= delayed / 50,
            "{reordered} of {delayed}"
        );
        let (losses, _) = by_counter(&arrivals);
        assert_eq!(
            losses, 0,
            "the control: a counter sees none of {lost} losses"
        );
    }

    proptest! {
        #[test]
        fn arrivals_agree_with_a_reference_set(numbers in prop::collection::vec(0_u64..300, 0..200)) {
            let mut tracker = ArrivalTracker::default();
            let mut set = BTreeSet::new();
            for number in numbers {
                let higher = set.range(number + 1..).next().is_some();
                let arrival = tracker.record(number);
                match (set.insert(number), arrival) {
                    (false, arrival) => prop_assert_eq!(arrival, Arrival::Duplicate),
                    (true, Arrival::First { reordered_by }) => prop_assert_eq!(reordered_by.is_some(), higher),
                    (true, Arrival::Duplicate) => prop_assert!(false, "{} is new", number),
                }
                prop_assert!(tracker.contains(number));
            }
        }
    }
}

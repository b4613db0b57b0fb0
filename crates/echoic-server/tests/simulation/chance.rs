//! The random numbers of a world: the same seed gives the same numbers.

use std::{ops::RangeInclusive, time::Duration};

/// Pseudo-random numbers (`SplitMix64`: Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Another stream of draws, so that one part of a world can draw more without changing the others.
    pub(super) fn fork(&mut self) -> Self {
        Self(self.number())
    }

    pub(super) fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        let (low, high) = range.into_inner();
        low + (self.number() % (high - low + 1) as u64) as usize
    }

    /// Draws a size on a logarithmic scale: 1 to 10 is as likely as 100 to 1000.
    pub(super) fn about(&mut self, low: usize, high: usize) -> usize {
        let bits = (high / low.max(1)).ilog2() as usize + 1;
        let top = (low << self.within(0..=bits)).clamp(low, high);
        self.within(low..=top)
    }

    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.within(1..=n) == 1
    }

    pub(super) fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.within(0..=choices.len() - 1)].clone()
    }

    pub(super) fn ms(&mut self, range: RangeInclusive<usize>) -> Duration {
        Duration::from_millis(self.within(range) as u64)
    }
}

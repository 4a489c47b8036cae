//! Randomness that a seed determines.

use posthouse_io::sim::{SplitMix64, mix64};

/// A stream of numbers that is a function of its seed.
#[derive(Debug)]
pub(super) struct Random(SplitMix64);

impl Random {
    /// Returns a separate stream for each combination of parts.
    pub(super) fn of(parts: [u64; 3]) -> Self {
        let seed = parts.into_iter().fold(0, |seed, part| mix64(seed ^ mix64(part)));
        Self(SplitMix64::new(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number from zero to below `bound`.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// Returns a number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// Returns true once in `times`, on average.
    pub(super) fn one_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }
}

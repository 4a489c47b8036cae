//! The world's only source of randomness: a generator small enough to read.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Nanos;

/// A seeded generator (Vigna's splitmix64): small, fast, deterministic, and not secret.
///
/// ```
/// use posthouse_io::sim::SplitMix64;
///
/// let mut numbers = SplitMix64::new(1);
/// assert_eq!(numbers.next_u64(), SplitMix64::new(1).next_u64());
/// ```
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Returns a generator that starts the stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix64(self.0)
    }
}

/// Spreads the bits of a number over all bits of the result, with the finalizer of splitmix64.
pub fn mix64(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The random numbers of one world, a function of its seed alone.
#[derive(Clone, Debug)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `bound`, which must not be zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }

    /// Returns true `ppm` times in a million.
    pub(super) fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < ppm as usize
    }

    pub(super) fn amount(&mut self, range: &RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end().saturating_sub(*range.start()) + 1)
    }

    pub(super) fn time(&mut self, range: &RangeInclusive<Duration>) -> Nanos {
        let from = super::nanos(*range.start());
        let to = super::nanos(*range.end());
        from + self.below(to.saturating_sub(from) as usize + 1) as Nanos
    }

    /// Returns a part of `whole` (not zero), often a tiny one, because mistakes occur at borders.
    pub(super) fn part(&mut self, whole: usize) -> usize {
        let most = if self.coin() { whole.min(8) } else { whole };
        1 + self.below(most)
    }
}

//! The world's only source of chance: a generator small enough to read (splitmix64).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Nanos;

/// One stream of numbers, a function of its seed alone.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }

    /// True `ppm` times in a million.
    pub(super) fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < ppm as usize
    }

    pub(super) fn amount(&mut self, range: &RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end().saturating_sub(*range.start()) + 1)
    }

    pub(super) fn time(&mut self, range: &RangeInclusive<Duration>) -> Nanos {
        let (from, to) = (super::nanos(*range.start()), super::nanos(*range.end()));
        from + self.below(to.saturating_sub(from) as usize + 1) as Nanos
    }

    /// A part of `whole` (not zero), often tiny: borders are where mistakes live.
    pub(super) fn part(&mut self, whole: usize) -> usize {
        let most = if self.coin() { whole.min(8) } else { whole };
        1 + self.below(most)
    }
}

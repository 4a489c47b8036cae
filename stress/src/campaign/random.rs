//! Chance that a seed decides.

/// A stream of numbers (splitmix64): small, fast, and the same for the same seed.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A stream of its own for each combination of parts.
    pub(super) fn of(parts: [u64; 3]) -> Self {
        Self(parts.into_iter().fold(0, |state, part| mix(state ^ mix(part))))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// From zero to below `bound`.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// True once in `times`, on the average.
    pub(super) fn one_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }
}

/// Spreads what is in a number over all its bits.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

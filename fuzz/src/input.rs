//! The bytes of an input, read as the decisions of a run.

/// A cursor over an input. Behind its end every decision is 0.
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

/// Numbers at which the code behaves differently, or could overflow.
const SPECIAL: [u64; 16] = [
    u64::MAX,
    u64::MAX - 1,
    i64::MAX as u64,
    i64::MAX as u64 + 1,
    i64::MAX as u64 - 1,
    1 << 32,
    (1 << 32) - 1,
    1 << 24,
    (1 << 24) - 2,
    256 * 1024,
    256 * 1024 + 1,
    1 << 20,
    (1 << 20) + 1,
    512,
    1024,
    4096,
];

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *byte
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Returns true for one input in `of`, a number up to 256. Returns false behind the end.
    pub(crate) fn rarely(&mut self, of: u16) -> bool {
        u16::from(self.byte()) % of == of - 1
    }

    /// Returns a number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let number = match end {
            0..=256 => self.byte().into(),
            _ => usize::from(u16::from_le_bytes(self.array())),
        };
        number % end
    }

    /// Returns any number: most are small, some are special.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..0xc0 => small.into(),
            special @ 0xc0..0xd0 => SPECIAL[usize::from(special & 0x0f)],
            0xd0..0xe8 => u16::from_le_bytes(self.array()).into(),
            0xe8..0xf4 => u32::from_le_bytes(self.array()).into(),
            _ => u64::from_le_bytes(self.array()),
        }
    }

    /// Returns a number close to this one, or any number.
    pub(crate) fn near(&mut self, number: u64) -> u64 {
        match self.byte() {
            0..0x60 => number,
            above @ 0x60..0xa0 => number.saturating_add((above - 0x5f).into()),
            below @ 0xa0..0xc0 => number.saturating_sub((below - 0x9f).into()),
            _ => self.number(),
        }
    }

    /// Returns up to `max` of the bytes that follow.
    pub(crate) fn bytes(&mut self, max: usize) -> &'a [u8] {
        let count = self.below(max + 1).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(count);
        self.rest = rest;
        bytes
    }
}

/// Returns a random input, which is a function of its seed.
pub fn random_input(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    let len = 16 << (next() % 6);
    // Every other input has small bytes more often than large ones: decisions without a fault.
    let mask = if next() % 2 == 0 { 0xff } else { 0x7f };
    (0..len).map(|_| next() as u8 & mask).collect()
}

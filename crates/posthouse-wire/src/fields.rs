//! The fixed fields at the start of a payload.

use crate::Violation;

/// A cursor over a payload: takes little-endian fields from its front.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    kind: u8,
    too_short: &'static str,
}

impl<'a> Fields<'a> {
    /// Starts at the front of `payload`. If the payload ends within a field, taking that field
    /// fails with [`Violation::Malformed`], with `kind` and with `too_short` as the reason.
    pub(crate) fn new(payload: &'a [u8], kind: u8, too_short: &'static str) -> Self {
        Self { rest: payload, kind, too_short }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let malformed = Violation::Malformed { kind: self.kind, why: self.too_short };
        let (field, rest) = self.rest.split_first_chunk().ok_or(malformed)?;
        self.rest = rest;
        Ok(*field)
    }

    /// Takes this number of bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Violation> {
        let malformed = Violation::Malformed { kind: self.kind, why: self.too_short };
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Violation> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// Returns the bytes that have not been taken.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

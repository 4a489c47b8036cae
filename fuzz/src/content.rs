//! The content of files of any size.

/// The size up to which a run compares the content of a whole file.
pub(crate) const MAX_WHOLE_BYTES: u64 = 16 * 1024;

/// Returns bytes of a file: a function of their offset.
pub(crate) fn content(offset: u64, bytes: usize) -> Vec<u8> {
    (offset..).take(bytes).map(|at| (at.wrapping_mul(31) >> 3) as u8).collect()
}

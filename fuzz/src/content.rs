//! The content of files of any size.

/// The size up to which a run compares the content of a whole file.
pub(crate) const MAX_WHOLE_BYTES: u64 = 16 * 1024;

/// Returns bytes of a file: a function of their offset, the same behind [`MAX_WHOLE_BYTES`].
pub(crate) fn content(offset: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0x5a; bytes];
    for (byte, at) in content.iter_mut().zip(offset..MAX_WHOLE_BYTES) {
        *byte = (at.wrapping_mul(31) >> 3) as u8;
    }
    content
}

//! The native frame: `length` u24 (bytes after the first four), `flags` u8 (0), `kind` u8, payload.

/// The number of bytes of length and flags.
pub const WORD_BYTES: usize = 4;
/// The number of bytes of length, flags and kind, which precede the payload.
pub const HEAD_BYTES: usize = 5;
/// The largest payload that is echoed, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The largest frame that is echoed, in bytes.
pub const FRAME_BYTES_MAX: usize = HEAD_BYTES + PAYLOAD_BYTES_MAX;

/// The error for a peer that violated the protocol: a length of 0, flags, or a payload over the
/// limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Returns the number of bytes of whole frames at the start of `bytes`, and the length of the frame
/// after them (as far as it is known: at least [`WORD_BYTES`]).
#[inline]
pub fn whole(bytes: &[u8]) -> Result<(usize, usize), Refused> {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk() {
        let frame_bytes = length(*word)?;
        if bytes.len() - at < frame_bytes {
            return Ok((at, frame_bytes));
        }
        at += frame_bytes;
    }
    Ok((at, WORD_BYTES))
}

/// Returns the length in bytes of the whole frame that begins with `word`.
#[inline]
pub fn length(word: [u8; WORD_BYTES]) -> Result<usize, Refused> {
    // With flags the number is over 2^24, and a length of 0 wraps to the largest number. So one
    // comparison finds all invalid words.
    let length = u32::from_le_bytes(word) as usize;
    if length.wrapping_sub(1) > PAYLOAD_BYTES_MAX {
        return Err(Refused);
    }
    Ok(WORD_BYTES + length)
}

/// Returns the first five bytes of a frame.
pub fn head(kind: u8, payload_bytes: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, flags] = (payload_bytes as u32 + 1).to_le_bytes();
    assert_eq!(flags, 0, "a payload that the length field can say");
    [a, b, c, flags, kind]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload_bytes: usize) -> Vec<u8> {
        let mut frame = head(7, payload_bytes).to_vec();
        frame.resize(HEAD_BYTES + payload_bytes, 1);
        frame
    }

    #[test]
    fn whole_frames_are_counted_and_the_next_one_is_measured() {
        let mut bytes = [frame(0), frame(3)].concat();
        assert_eq!(whole(&bytes), Ok((13, WORD_BYTES)));
        bytes.extend(&frame(100)[..50]);
        assert_eq!(whole(&bytes), Ok((13, 105)));
        assert_eq!(whole(&bytes[..15]), Ok((13, WORD_BYTES)));
    }

    #[test]
    fn what_breaks_the_rules_is_refused_and_the_largest_frame_is_not() {
        assert_eq!(length([0, 0, 0, 0]), Err(Refused));
        assert_eq!(length([1, 0, 0, 1]), Err(Refused));
        assert_eq!(length([1, 0, 16, 0]), Ok(FRAME_BYTES_MAX));
        assert_eq!(length([2, 0, 16, 0]), Err(Refused));
    }
}

//! Length fields: a header of a fixed size with a number in it that says how much follows.

use super::{EncodeError, FramingError};
use crate::FrameError;

/// The order of the bytes of a length field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endian {
    /// Most significant byte first (network order); the default.
    #[default]
    Big,
    /// Least significant byte first.
    Little,
}

/// Where the length is and what it counts, as in Netty's `LengthFieldBasedFrameDecoder`.
///
/// After the field come `value + adjust` bytes more. The message is the frame without its first
/// `strip` bytes. Encoding is the inverse: a field that stays in the message is overwritten with
/// the right value, and stripped bytes other than the field go out as zero. So a message that is
/// echoed as it was received makes a valid frame again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthField {
    offset: u8,
    width: u8,
    endian: Endian,
    adjust: i32,
    strip: u16,
}

impl Default for LengthField {
    /// Four bytes, big endian, counting what follows them, not part of the message.
    fn default() -> Self {
        Self { offset: 0, width: 4, endian: Endian::Big, adjust: 0, strip: 4 }
    }
}

impl LengthField {
    /// - `offset`: bytes before the field, 0 to 255.
    /// - `width`: bytes of the field, one of 1, 2, 3, 4, 8.
    /// - `adjust`: what to add to the value to get the count of bytes after the field; `-4` says
    ///   that a four-byte field counts itself, too.
    /// - `strip`: bytes at the front that are no part of the message: at most `offset` (the field
    ///   stays in the message) or exactly `offset + width` (it does not).
    pub fn new(
        offset: u8,
        width: u8,
        endian: Endian,
        adjust: i32,
        strip: u16,
    ) -> Result<Self, FramingError> {
        if ![1, 2, 3, 4, 8].contains(&width) {
            return Err(FramingError(format!("width is 1, 2, 3, 4 or 8 bytes, not {width}")));
        }
        let head = u16::from(offset) + u16::from(width);
        if strip > u16::from(offset) && strip != head {
            return Err(FramingError(format!(
                "strip={strip} would cut the length field in two or reach beyond it; write \
                 strip={head} to leave out the header, or 0 to {offset} to keep the field in the \
                 message"
            )));
        }
        Ok(Self { offset, width, endian, adjust, strip })
    }

    /// Bytes before the field.
    pub fn offset(&self) -> u8 {
        self.offset
    }

    /// Bytes of the field.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// The order of its bytes.
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// What is added to the value to get the count of bytes after the field.
    pub fn adjust(&self) -> i32 {
        self.adjust
    }

    /// Bytes at the front of a frame that are no part of the message.
    pub fn strip(&self) -> u16 {
        self.strip
    }

    /// Bytes up to the end of the field: as many as must be there to know the length.
    pub(crate) fn head_bytes(&self) -> usize {
        usize::from(self.offset) + usize::from(self.width)
    }

    /// The size of the whole frame whose header `head` begins with.
    pub(crate) fn frame_bytes(
        &self,
        head: &[u8],
        max_payload_bytes: usize,
    ) -> Result<usize, FrameError> {
        let field = &head[usize::from(self.offset)..self.head_bytes()];
        let digit = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let value = match self.endian {
            Endian::Big => field.iter().fold(0, digit),
            Endian::Little => field.iter().rev().fold(0, digit),
        };
        let after = i128::from(value) + i128::from(self.adjust);
        if after < 0 {
            let least = i64::from(self.adjust).unsigned_abs();
            return Err(FrameError::TooShort { announced: value, least });
        }
        let frame = self.head_bytes() as u128 + after.unsigned_abs();
        let payload = frame - u128::from(self.strip);
        if payload > max_payload_bytes as u128 {
            let announced = u64::try_from(payload).unwrap_or(u64::MAX);
            return Err(FrameError::TooLarge { announced, max: max_payload_bytes });
        }
        Ok(frame as usize)
    }

    pub(super) fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let strip = usize::from(self.strip);
        let (len, head) = (payload.len(), self.head_bytes());
        // What the message must hold at least: the rest of the header, and what `adjust` promises.
        let min = head - strip + usize::try_from(self.adjust).unwrap_or(0);
        if len < min {
            return Err(EncodeError::TooShort { len, min });
        }
        let value = (strip + len - head) as i128 - i128::from(self.adjust);
        let max_value = i128::from(u64::MAX >> (64 - 8 * u32::from(self.width)));
        if value > max_value {
            // `len - value` is what the header and `adjust` make up: it fits whenever `len` does.
            let max = max_value + (len as i128 - value);
            return Err(EncodeError::TooLarge { len, max: usize::try_from(max).unwrap_or(0) });
        }
        let frame_at = out.len();
        out.resize(frame_at + strip, 0);
        out.extend_from_slice(payload);
        let field_at = frame_at + usize::from(self.offset);
        let value = value as u64;
        let (little, big) = (value.to_le_bytes(), value.to_be_bytes());
        let width = usize::from(self.width);
        out[field_at..field_at + width].copy_from_slice(match self.endian {
            Endian::Big => &big[8 - width..],
            Endian::Little => &little[..width],
        });
        Ok(())
    }
}

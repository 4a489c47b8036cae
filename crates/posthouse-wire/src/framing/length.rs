//! Length fields: a header of a fixed size that contains the number of bytes after it.

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

/// The position and the meaning of a length field, as in Netty's `LengthFieldBasedFrameDecoder`.
///
/// A frame has `value + adjust` bytes after the field. The message is the frame without its first
/// `strip` bytes. Encoding is the inverse: if the field is part of the message, the encoder
/// overwrites it with the right value; it writes stripped bytes other than the field as zero. A
/// received message that is sent back unchanged therefore makes a valid frame.
///
/// ```
/// use posthouse_wire::{Endian, Framing, LengthField};
/// // A header of a type byte and a two-byte length, both part of the message.
/// let framing = Framing::Length(LengthField::new(1, 2, Endian::Big, 0, 0)?);
/// let mut out = Vec::new();
/// framing.encode(0, b"\x07\0\0abc", 1024, &mut out).unwrap();
/// assert_eq!(out, b"\x07\0\x03abc");
/// # Ok::<(), posthouse_wire::FramingError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthField {
    offset: u8,
    width: u8,
    endian: Endian,
    adjust: i32,
    strip: u16,
}

impl Default for LengthField {
    /// Returns a field of four bytes at the start of the frame, big endian, that counts the bytes
    /// after it and is not part of the message.
    fn default() -> Self {
        Self { offset: 0, width: 4, endian: Endian::Big, adjust: 0, strip: 4 }
    }
}

impl LengthField {
    /// Makes a length field:
    /// - `offset`: bytes before the field, 0 to 255.
    /// - `width`: bytes of the field, one of 1, 2, 3, 4, 8.
    /// - `adjust`: the number to add to the value to get the number of bytes after the field; `-4`
    ///   is for a four-byte field that also counts itself.
    /// - `strip`: bytes at the front of the frame that are not part of the message: at most
    ///   `offset`, which keeps the field in the message, or exactly `offset + width`, which removes
    ///   it.
    ///
    /// # Errors
    /// Any other `width` or `strip`.
    pub fn new(
        offset: u8,
        width: u8,
        endian: Endian,
        adjust: i32,
        strip: u16,
    ) -> Result<Self, FramingError> {
        if ![1, 2, 3, 4, 8].contains(&width) {
            return Err(FramingError(format!("width must be 1, 2, 3, 4 or 8 bytes, not {width}")));
        }
        let head = u16::from(offset) + u16::from(width);
        if strip > u16::from(offset) && strip != head {
            return Err(FramingError(format!(
                "strip={strip} would end within the length field or beyond it; write \
                 strip={head} to remove the header, or 0 to {offset} to keep the field in the \
                 message"
            )));
        }
        Ok(Self { offset, width, endian, adjust, strip })
    }

    /// Returns the number of bytes before the field.
    pub fn offset(&self) -> u8 {
        self.offset
    }

    /// Returns the number of bytes of the field.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// Returns the order of the bytes of the field.
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// Returns the number to add to the value to get the number of bytes after the field.
    pub fn adjust(&self) -> i32 {
        self.adjust
    }

    /// Returns the number of bytes at the front of a frame that are not part of the message.
    pub fn strip(&self) -> u16 {
        self.strip
    }

    /// Returns the number of bytes up to the end of the field. The length is known when they have
    /// arrived.
    pub(crate) fn head_bytes(&self) -> usize {
        usize::from(self.offset) + usize::from(self.width)
    }

    /// Returns the size of the whole frame whose header is at the start of `head`.
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
        let len = payload.len();
        let head = self.head_bytes();
        // The message contains the part of the header that is not stripped, and the value of the
        // field cannot be negative.
        let min = head - strip + usize::try_from(self.adjust).unwrap_or(0);
        if len < min {
            return Err(EncodeError::TooShort { len, min });
        }
        let value = (strip + len - head) as i128 - i128::from(self.adjust);
        let max_value = i128::from(u64::MAX >> (64 - 8 * u32::from(self.width)));
        if value > max_value {
            // `len - value` depends only on the header and `adjust`. `max` is the `len` at which
            // `value` is `max_value`.
            let max = max_value + (len as i128 - value);
            return Err(EncodeError::TooLarge { len, max: usize::try_from(max).unwrap_or(0) });
        }
        let frame_at = out.len();
        out.resize(frame_at + strip, 0);
        out.extend_from_slice(payload);
        let field_at = frame_at + usize::from(self.offset);
        let value = value as u64;
        let little = value.to_le_bytes();
        let big = value.to_be_bytes();
        let width = usize::from(self.width);
        out[field_at..field_at + width].copy_from_slice(match self.endian {
            Endian::Big => &big[8 - width..],
            Endian::Little => &little[..width],
        });
        Ok(())
    }
}

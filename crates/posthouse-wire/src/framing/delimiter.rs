//! Delimiters, and the search for one: a single pass over the stream, for any delimiter and for any
//! division of the stream into chunks.

use super::{EncodeError, FramingError};
use crate::op_count;

/// The longest delimiter, in bytes.
pub const MAX_DELIMITER_BYTES: usize = 64;

/// A sequence of 1 to [`MAX_DELIMITER_BYTES`] bytes that ends a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimiter {
    bytes: Box<[u8]>,
    /// The failure function of Knuth, Morris and Pratt: `fallback[n]` is the length of the longest
    /// proper suffix of the first `n + 1` bytes that is also a prefix of the delimiter. With it the
    /// search reads each byte of the stream once.
    fallback: Box<[u8]>,
}

impl Delimiter {
    /// Makes a delimiter of 1 to [`MAX_DELIMITER_BYTES`] bytes; any other number is an error.
    pub fn new(bytes: &[u8]) -> Result<Self, FramingError> {
        if bytes.is_empty() || bytes.len() > MAX_DELIMITER_BYTES {
            return Err(FramingError(format!(
                "a delimiter has 1 to {MAX_DELIMITER_BYTES} bytes, this one has {}; write for \
                 example delimiter:\\r\\n",
                bytes.len()
            )));
        }
        let mut fallback = vec![0_u8; bytes.len()];
        let mut matched = 0_u8;
        for at in 1..bytes.len() {
            matched = advance(bytes, &fallback, matched, bytes[at]);
            fallback[at] = matched;
        }
        Ok(Self { bytes: bytes.into(), fallback: fallback.into() })
    }

    /// Returns the bytes of the delimiter.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Searches `input` for the delimiter and returns the position just after it.
    ///
    /// `matched` is the number of bytes of the delimiter with which the stream ends so far. It
    /// carries the state of the search from one chunk to the next.
    pub(crate) fn find_end(&self, matched: &mut u8, input: &[u8]) -> Option<usize> {
        for (at, byte) in input.iter().enumerate() {
            *matched = advance(&self.bytes, &self.fallback, *matched, *byte);
            if usize::from(*matched) == self.bytes.len() {
                *matched = 0;
                return Some(at + 1);
            }
        }
        None
    }

    pub(super) fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut matched = 0;
        let within = self.find_end(&mut matched, payload);
        // The end of the payload and the start of the delimiter can form a delimiter together.
        let last = self.bytes.len() - 1;
        let across = || {
            let end = self.find_end(&mut matched, &self.bytes[..last]);
            end.map(|end| payload.len() + end)
        };
        if let Some(end) = within.or_else(across) {
            return Err(EncodeError::ContainsDelimiter { at: end - self.bytes.len() });
        }
        out.extend_from_slice(payload);
        out.extend_from_slice(&self.bytes);
        Ok(())
    }
}

const _: () = assert!(MAX_DELIMITER_BYTES <= u8::MAX as usize);

/// Returns the number of bytes of `bytes` that are matched after `byte`. `matched`, the number
/// before it, is less than the length of `bytes`.
fn advance(bytes: &[u8], fallback: &[u8], mut matched: u8, byte: u8) -> u8 {
    while matched > 0 && bytes[usize::from(matched)] != byte {
        op_count::add(1);
        matched = fallback[usize::from(matched) - 1];
    }
    op_count::add(1);
    matched + u8::from(bytes[usize::from(matched)] == byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive_end(delimiter: &[u8], text: &[u8]) -> Option<usize> {
        text.windows(delimiter.len()).position(|w| w == delimiter).map(|at| at + delimiter.len())
    }

    #[test]
    fn the_search_agrees_with_a_naive_one_on_every_short_text_of_two_letters() {
        let word = |bits: u32, len: u32| -> Vec<u8> {
            (0..len).map(|bit| if bits >> bit & 1 == 0 { b'a' } else { b'b' }).collect()
        };
        for len in 1..=4 {
            for bits in 0..1 << len {
                let delimiter = Delimiter::new(&word(bits, len)).unwrap();
                for text_bits in 0..1 << 10 {
                    let text = word(text_bits, 10);
                    let expected = naive_end(delimiter.bytes(), &text);
                    assert_eq!(delimiter.find_end(&mut 0, &text), expected);
                }
            }
        }
    }

    #[test]
    fn a_payload_that_makes_a_delimiter_with_the_delimiter_is_refused() {
        let delimiter = Delimiter::new(b"aa").unwrap();
        let mut out = Vec::new();
        let error = delimiter.encode(b"ba", &mut out).unwrap_err();
        assert_eq!(error, EncodeError::ContainsDelimiter { at: 1 });
        assert!(out.is_empty());
        let delimiter = Delimiter::new(b"aab").unwrap();
        delimiter.encode(b"ba", &mut out).unwrap();
        assert_eq!(out, b"baaab");
        assert_eq!(delimiter.find_end(&mut 0, &out), Some(5));
    }

    #[test]
    fn a_delimiter_is_neither_empty_nor_long() {
        assert!(Delimiter::new(b"").is_err());
        assert!(Delimiter::new(&[b'x'; MAX_DELIMITER_BYTES]).is_ok());
        assert!(Delimiter::new(&[b'x'; MAX_DELIMITER_BYTES + 1]).is_err());
    }
}

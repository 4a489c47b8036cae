//! The messages of a load. Each one is a pure function of its connection and its sequence number,
//! so its echo can be checked without a copy of the message.

use posthouse::Framing;
use posthouse::sim::SplitMix64;

/// The number of different bodies.
const BODIES: usize = 4096;
/// The size of a sequence number and a connection number.
const HEAD_BYTES: usize = 12;

/// The messages of one size for one framing.
///
/// A message begins with its sequence number and the number of its connection, as far as they fit.
/// The rest is a piece of a table of pseudo-random bytes, chosen by both numbers. If the framing
/// ends messages by a delimiter, the message is text without the bytes of the delimiter.
#[derive(Debug)]
pub(crate) struct Pattern {
    size: usize,
    table: Vec<u8>,
    /// The characters for the digits 0 to 15, if only text can be sent.
    digits: Option<[u8; 16]>,
    /// The position and the bytes of the length field, if the framing keeps it in the message.
    field: Option<(usize, Vec<u8>)>,
}

impl Pattern {
    /// Makes messages of `size` bytes.
    ///
    /// # Errors
    ///
    /// The framing cannot carry messages of this size: the reason.
    pub(crate) fn new(framing: &Framing, size: usize) -> Result<Self, String> {
        let symbols: Vec<u8> = match framing {
            Framing::Lines => text_without(b"\r\n"),
            Framing::Delimiter(delimiter) => text_without(delimiter.bytes()),
            _ => (0..=u8::MAX).collect(),
        };
        let text = matches!(framing, Framing::Lines | Framing::Delimiter(_));
        let digits = text.then(|| std::array::from_fn(|digit| symbols[digit]));
        let table =
            (0..size + BODIES).map(|at| symbols[mix(at as u64) as usize % symbols.len()]).collect();
        let mut pattern = Self { size, table, digits, field: None };
        let mut message = Vec::new();
        let mut frame = Vec::new();
        pattern.write(0, 0, &mut message);
        framing.encode(0, &message, size, &mut frame).map_err(|error| error.to_string())?;
        if let Framing::Length(field) = framing
            && field.strip() <= u16::from(field.offset())
        {
            let at = usize::from(field.offset());
            let bytes = frame[at..at + usize::from(field.width())].to_vec();
            pattern.field = Some((at - usize::from(field.strip()), bytes));
        }
        Ok(pattern)
    }

    /// Returns the size of every message in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Replaces the content of `out` by one message.
    pub(crate) fn write(&self, connection: u32, sequence: u64, out: &mut Vec<u8>) {
        let at = mix(u64::from(connection) << 40 ^ sequence) as usize % BODIES;
        out.clear();
        out.extend_from_slice(&self.table[at..at + self.size]);
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&sequence.to_le_bytes());
        head[8..].copy_from_slice(&connection.to_le_bytes());
        match self.digits {
            None => out.iter_mut().zip(head).for_each(|(byte, part)| *byte = part),
            Some(digits) => {
                let parts = head.iter().flat_map(|byte| [byte & 15, byte >> 4]);
                let parts = parts.map(|digit| digits[usize::from(digit)]);
                out.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
            }
        }
        if let Some((at, bytes)) = &self.field {
            out[*at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// Returns `count` pseudo-random bytes, the same for the same seed.
pub(crate) fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let words = (0..count.div_ceil(8) as u64).map(|at| mix(mix(seed) ^ at).to_le_bytes());
    let mut bytes: Vec<u8> = words.flatten().collect();
    bytes.truncate(count);
    bytes
}

/// Describes the first difference of `got` from `expected`. Returns `None` if they are equal.
pub(crate) fn difference(expected: &[u8], got: &[u8]) -> Option<String> {
    if expected == got {
        return None;
    }
    let differs = expected.iter().zip(got).position(|(expected, got)| expected != got);
    Some(match differs {
        Some(at) => {
            format!("byte {at} is {:#04x} in place of {:#04x}", got[at], expected[at])
        }
        None => format!("it has {} bytes in place of {}", got.len(), expected.len()),
    })
}

/// Returns the printable characters other than these. At least 30 are left: a delimiter has at most
/// 64 bytes.
fn text_without(bytes: &[u8]) -> Vec<u8> {
    (b'!'..=b'~').filter(|byte| !bytes.contains(byte)).collect()
}

fn mix(value: u64) -> u64 {
    SplitMix64::new(value).next_u64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn message(framing: &str, size: usize, connection: u32, sequence: u64) -> Vec<u8> {
        let pattern = Pattern::new(&framing.parse().unwrap(), size).unwrap();
        let mut out = vec![7; 3];
        pattern.write(connection, sequence, &mut out);
        assert_eq!(out.len(), size);
        out
    }

    #[test]
    fn messages_differ_by_connection_and_by_sequence_and_are_the_same_every_time() {
        for (framing, size) in [("native", 12), ("native", 64), ("lines", 24), ("lines", 100)] {
            let mut seen = BTreeSet::new();
            for connection in 0..20 {
                for sequence in 0..50 {
                    let one = message(framing, size, connection, sequence);
                    assert_eq!(one, message(framing, size, connection, sequence));
                    assert!(seen.insert(one), "{framing} {connection} {sequence} came before");
                }
            }
        }
    }

    #[test]
    fn a_short_message_still_tells_its_neighbours_apart() {
        assert_ne!(message("native", 1, 0, 5), message("native", 1, 0, 6));
        assert_ne!(message("lines", 1, 0, 5), message("lines", 1, 0, 6));
    }

    #[test]
    fn text_framings_never_get_a_byte_of_their_delimiter() {
        for (framing, banned) in
            [("lines", &b"\r\n"[..]), ("delimiter:01ab", b"01ab"), ("delimiter:!", b"!")]
        {
            for sequence in 0..100 {
                let one = message(framing, 200, 3, sequence);
                assert!(one.iter().all(|byte| !banned.contains(byte) && byte.is_ascii_graphic()));
            }
        }
    }

    #[test]
    fn a_length_field_that_stays_in_the_message_has_its_value() {
        let one = message("length:offset=2,width=2,strip=1", 40, 1, 1);
        assert_eq!(one[1..3], [0, 37], "41 bytes of frame, of which 37 follow the field");
    }

    #[test]
    fn a_size_that_the_framing_cannot_carry_is_refused_with_its_reason() {
        let error = Pattern::new(&"length:width=1".parse().unwrap(), 300).unwrap_err();
        assert!(error.contains("300 bytes") && error.contains("255"), "{error}");
        assert!(Pattern::new(&Framing::Native, 1 << 24).is_err());
    }

    #[test]
    fn a_difference_says_where_it_is() {
        assert_eq!(difference(b"abc", b"abc"), None);
        let text = difference(b"abc", b"axc").unwrap();
        assert_eq!(text, "byte 1 is 0x78 in place of 0x62");
        assert_eq!(difference(b"abc", b"ab").unwrap(), "it has 2 bytes in place of 3");
    }
}

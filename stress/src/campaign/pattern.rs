//! The bytes to send: at each offset they almost certainly differ between two directions.
//!
//! The bytes of all directions are parts of one long row of words; each direction begins at its own
//! position.

use posthouse_io::sim::mix64;

use super::random::Random;
use super::script::Side;

/// The bytes of one direction of one connection.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The seed of the row.
    row: u64,
    /// The index of the direction's first word in the row.
    position: u64,
}

/// The number of positions.
pub(super) const POSITIONS: u64 = 1 << 22;

/// Returns the words of the row.
pub(super) fn words(seed: u64) -> impl Iterator<Item = [u8; WORD]> {
    let row = row(seed);
    (0..).map(move |index| word(row, index))
}

fn row(seed: u64) -> u64 {
    Random::of([seed, 0, 4]).next()
}

fn word(row: u64, index: u64) -> [u8; WORD] {
    mix64(row.wrapping_add(index)).to_le_bytes()
}

const WORD: usize = size_of::<u64>();

impl Pattern {
    /// Returns the bytes that the `sender` of a connection sends.
    pub(super) fn of(seed: u64, number: u32, sender: Side) -> Self {
        let direction = u64::from(sender == Side::Server);
        let position = Random::of([seed, number.into(), 2 + direction]).next() % POSITIONS;
        Self { row: row(seed), position }
    }

    /// Returns the position of an offset in the row, in bytes.
    pub(super) fn in_row(&self, offset: u32) -> u64 {
        WORD as u64 * self.position + u64::from(offset)
    }

    /// Returns the bytes from one offset to another.
    pub(super) fn bytes(&self, from: u32, until: u32) -> Vec<u8> {
        let from = from as usize;
        let until = until as usize;
        let words = from / WORD..until.div_ceil(WORD);
        let mut bytes = Vec::with_capacity(words.len() * WORD);
        for index in words {
            bytes.extend_from_slice(&self.word(index));
        }
        bytes.drain(..from % WORD);
        bytes.truncate(until - from);
        bytes
    }

    /// Returns the index of the first wrong byte in `bytes`, which were received at the offset
    /// `from`.
    pub(super) fn first_difference(&self, from: u32, bytes: &[u8]) -> Option<usize> {
        let from = from as usize;
        let head = bytes.len().min(from.next_multiple_of(WORD) - from);
        let expected = &self.word(from / WORD)[from % WORD..];
        if let Some(at) = difference(&bytes[..head], expected) {
            return Some(at);
        }
        let mut at = head;
        for piece in bytes[head..].chunks(WORD) {
            let expected = self.word((from + at) / WORD);
            if piece != &expected[..piece.len()] {
                return difference(piece, &expected).map(|within| at + within);
            }
            at += piece.len();
        }
        None
    }

    fn word(&self, index: usize) -> [u8; WORD] {
        word(self.row, self.position + index as u64)
    }
}

fn difference(bytes: &[u8], expected: &[u8]) -> Option<usize> {
    bytes.iter().zip(expected).position(|(got, expected)| got != expected)
}

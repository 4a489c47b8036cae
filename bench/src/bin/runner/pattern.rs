//! The bytes of a connection: a pure function of the connection's number and the position in its
//! stream. So any piece of an echo can be checked without keeping the sent bytes.

use posthouse_bench::frame::{HEAD_BYTES, head};

/// The kind of all frames, one of the application's kinds.
const KIND: u8 = 40;
/// The number of bytes behind the head for the sequence number and the connection's number.
const NUMBERS_BYTES: usize = 12;
/// The number of different bodies.
const BODIES: usize = 1024;

/// The frames of one payload size.
#[derive(Debug)]
pub(crate) struct Pattern {
    frame_bytes: usize,
    head: [u8; HEAD_BYTES],
    table: Vec<u8>,
}

impl Pattern {
    pub(crate) fn new(payload_bytes: usize) -> Self {
        assert!(payload_bytes >= NUMBERS_BYTES, "a payload that holds its numbers");
        let frame_bytes = HEAD_BYTES + payload_bytes;
        let table = (0..payload_bytes + BODIES).map(|at| mix(at as u64) as u8).collect();
        Self { frame_bytes, head: head(KIND, payload_bytes), table }
    }

    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Writes frame after frame, from `sequence` on, until `out` is full. `out` must hold whole
    /// frames.
    pub(crate) fn write(&self, connection: u32, sequence: u64, out: &mut [u8]) {
        for (frame, sequence) in out.chunks_exact_mut(self.frame_bytes).zip(sequence..) {
            let (head, rest) = frame.split_at_mut(HEAD_BYTES);
            let (numbers, body) = rest.split_at_mut(NUMBERS_BYTES);
            head.copy_from_slice(&self.head);
            numbers.copy_from_slice(&numbers_of(connection, sequence));
            body.copy_from_slice(self.body(connection, sequence));
        }
    }

    /// Returns whether `bytes` are the stream's content at `position`.
    pub(crate) fn is_at(&self, connection: u32, position: u64, mut bytes: &[u8]) -> bool {
        let frame_bytes = self.frame_bytes as u64;
        let mut sequence = position / frame_bytes;
        let offset = (position % frame_bytes) as usize;
        if offset > 0 {
            let piece = bytes.len().min(self.frame_bytes - offset);
            if !self.piece_is_at(connection, sequence, offset, &bytes[..piece]) {
                return false;
            }
            bytes = &bytes[piece..];
            sequence += 1;
        }
        let mut frames = bytes.chunks_exact(self.frame_bytes);
        for frame in &mut frames {
            let (head, rest) = frame.split_at(HEAD_BYTES);
            let (numbers, body) = rest.split_at(NUMBERS_BYTES);
            let right = head == self.head
                && numbers == numbers_of(connection, sequence)
                && body == self.body(connection, sequence);
            if !right {
                return false;
            }
            sequence += 1;
        }
        self.piece_is_at(connection, sequence, 0, frames.remainder())
    }

    fn piece_is_at(&self, connection: u32, sequence: u64, offset: usize, piece: &[u8]) -> bool {
        if piece.is_empty() {
            return true;
        }
        let mut frame = vec![0; self.frame_bytes];
        self.write(connection, sequence, &mut frame);
        frame[offset..offset + piece.len()] == *piece
    }

    fn body(&self, connection: u32, sequence: u64) -> &[u8] {
        let at = mix(u64::from(connection) << 40 ^ sequence) as usize % BODIES;
        &self.table[at..at + self.frame_bytes - HEAD_BYTES - NUMBERS_BYTES]
    }
}

fn numbers_of(connection: u32, sequence: u64) -> [u8; NUMBERS_BYTES] {
    let mut numbers = [0; NUMBERS_BYTES];
    numbers[..8].copy_from_slice(&sequence.to_le_bytes());
    numbers[8..].copy_from_slice(&connection.to_le_bytes());
    numbers
}

/// Returns a mixed number, which is cheap to compute and differs between neighbours.
fn mix(value: u64) -> u64 {
    value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_piece_of_the_stream_is_recognised_and_any_changed_byte_is_seen() {
        let pattern = Pattern::new(20);
        let mut stream = vec![0; 25 * 6];
        pattern.write(3, 10, &mut stream);
        for from in 0..stream.len() {
            for to in from..=stream.len() {
                assert!(pattern.is_at(3, 250 + from as u64, &stream[from..to]));
            }
            let mut changed = stream.clone();
            changed[from] ^= 1;
            assert!(!pattern.is_at(3, 250, &changed), "byte {from}");
        }
        assert!(!pattern.is_at(4, 250, &stream), "the payload belongs to another connection");
        assert!(!pattern.is_at(3, 275, &stream), "a frame too early");
    }
}

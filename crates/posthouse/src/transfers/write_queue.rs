//! The received bytes of a file that are not written.

use std::collections::VecDeque;

use posthouse_io::{Gather, Segment};

/// The number of bytes up to which chunks are joined into one piece. A peer may send chunks of one
/// byte, and each piece costs memory and a place in the writes.
const JOINED_BYTES: usize = 64 * 1024;

/// The bytes that wait to be written, in order.
#[derive(Default)]
pub(super) struct WriteQueue {
    /// The rest of a short write, which comes first.
    rest: Gather,
    pieces: VecDeque<Vec<u8>>,
    /// The number of bytes in the pieces.
    bytes: usize,
}

impl WriteQueue {
    /// Adds the bytes of a chunk, to the last piece if it has room, otherwise to a new one.
    pub(super) fn push(&mut self, chunk: &[u8], new_piece: impl FnOnce() -> Vec<u8>) {
        let has_room = |piece: &&mut Vec<u8>| piece.len() + chunk.len() <= JOINED_BYTES;
        if let Some(last) = self.pieces.back_mut().filter(has_room) {
            last.extend_from_slice(chunk);
        } else {
            let mut piece = new_piece();
            piece.extend_from_slice(chunk);
            self.pieces.push_back(piece);
        }
        self.bytes += chunk.len();
        let max = 2 * self.bytes / JOINED_BYTES + 1;
        assert!(self.pieces.len() <= max, "two pieces in a row are together larger than one");
    }

    /// Takes the first pieces as one gather: as many as `max_bytes` allows, and at least one.
    pub(super) fn take(&mut self, max_bytes: usize) -> Gather {
        let mut data = std::mem::take(&mut self.rest);
        while let Some(piece) = self
            .pieces
            .pop_front_if(|piece| data.is_empty() || data.len() + piece.len() <= max_bytes)
        {
            self.bytes -= piece.len();
            data.push(Segment::Owned(piece));
        }
        data
    }

    /// Puts back the rest of a short write.
    pub(super) fn put_back(&mut self, rest: Gather) {
        assert!(self.rest.is_empty(), "a second write began before the first ended");
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(data: &Gather) -> Vec<u8> {
        data.slices().flatten().copied().collect()
    }

    #[test]
    fn pieces_are_written_up_to_the_bound_and_what_was_left_comes_first() {
        let mut queue = WriteQueue::default();
        let piece = |byte: u8| vec![byte; JOINED_BYTES - 1];
        for byte in 1..=3 {
            queue.push(&piece(byte), Vec::new);
        }
        let bound = 2 * JOINED_BYTES;
        let mut data = queue.take(bound);
        assert_eq!(bytes(&data), [piece(1), piece(2)].concat());
        data.advance(1, |_| ());
        queue.put_back(data);
        assert_eq!(queue.take(bound).len(), bound - 3);
        assert_eq!(bytes(&queue.take(5)), piece(3), "at least one piece");
        assert!(queue.take(5).is_empty() && queue.bytes == 0);
    }

    #[test]
    fn chunks_of_a_byte_are_joined() {
        let mut queue = WriteQueue::default();
        let mut sent = Vec::new();
        for n in 0..200_000_u32 {
            let chunk = [n as u8, 7, 9];
            let chunk = &chunk[..=(n as usize % 3)];
            queue.push(chunk, Vec::new);
            sent.extend_from_slice(chunk);
        }
        assert!(queue.pieces.len() <= sent.len() / (JOINED_BYTES - 2) + 1);
        let mut written = Vec::new();
        loop {
            let data = queue.take(1);
            if data.is_empty() {
                break;
            }
            written.extend(bytes(&data));
        }
        assert!(written == sent);
    }
}

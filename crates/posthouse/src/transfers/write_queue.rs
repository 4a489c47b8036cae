//! The received bytes of a file that are not written.

use std::collections::VecDeque;

use posthouse_io::{Gather, Segment};

/// The bytes that wait to be written, in order.
#[derive(Default)]
pub(super) struct WriteQueue {
    /// The rest of a short write, which comes first.
    rest: Gather,
    pieces: VecDeque<Vec<u8>>,
}

impl WriteQueue {
    pub(super) fn push(&mut self, piece: Vec<u8>) {
        self.pieces.push_back(piece);
    }

    /// Takes the first pieces as one gather: as many as `max_bytes` allows, and at least one.
    pub(super) fn take(&mut self, max_bytes: usize) -> Gather {
        let mut data = std::mem::take(&mut self.rest);
        while let Some(piece) = self
            .pieces
            .pop_front_if(|piece| data.is_empty() || data.len() + piece.len() <= max_bytes)
        {
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
    fn pieces_are_joined_up_to_the_bound_and_what_was_left_comes_first() {
        let mut queue = WriteQueue::default();
        for piece in ["abc", "de", "f", "ghijkl"] {
            queue.push(piece.into());
        }
        let mut data = queue.take(5);
        assert_eq!(bytes(&data), b"abcde");
        data.advance(1, |_| ());
        queue.put_back(data);
        assert_eq!(bytes(&queue.take(5)), b"bcdef");
        assert_eq!(bytes(&queue.take(5)), b"ghijkl", "at least one piece");
        assert!(queue.take(5).is_empty());
    }
}

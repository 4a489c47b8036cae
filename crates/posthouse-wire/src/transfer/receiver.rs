//! The side of a transfer that receives the file.

use blake3::{Hash, Hasher};

use super::TransferViolation;
use crate::kind;

/// The receiver's side of a transfer: counts bytes that were held, came and were written, and
/// checks the hash.
#[derive(Debug)]
pub struct FileReceiver {
    id: u32,
    size: u64,
    window_bytes: u64,
    hasher: Hasher,
    phase: ReceiverPhase,
    /// What was held at first.
    held: u64,
    /// The position up to which it has come, what was held included.
    received: u64,
    /// The position up to which it has been written.
    written: u64,
    /// Up to where the sender may send.
    limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceiverPhase {
    /// What is held is read and hashed.
    Holding,
    Receiving,
    /// The sender has said done.
    Done,
}

impl FileReceiver {
    /// A file that is offered; so much of it may be on its way or unwritten.
    ///
    /// # Panics
    ///
    /// Where nothing may be on its way.
    pub fn new(id: u32, size: u64, window_bytes: u64) -> Self {
        assert!(window_bytes > 0, "a window has bytes");
        Self {
            id,
            size,
            window_bytes,
            hasher: Hasher::new(),
            phase: ReceiverPhase::Holding,
            held: 0,
            received: 0,
            written: 0,
            limit: 0,
        }
    }

    /// Bytes that are there already, in order from the beginning.
    ///
    /// # Panics
    ///
    /// Where there are more than the file has, or it has been accepted.
    pub fn held(&mut self, bytes: &[u8]) {
        assert!(self.phase == ReceiverPhase::Holding, "what is held comes before the accept");
        assert!(bytes.len() as u64 <= self.size - self.received, "more than the file has");
        self.hasher.update(bytes);
        self.held += bytes.len() as u64;
        (self.received, self.written) = (self.held, self.held);
    }

    /// What to accept with: from where on, up to where, and the hash of what is held.
    ///
    /// # Panics
    ///
    /// On a second call.
    pub fn accept(&mut self) -> (u64, u64, [u8; 32]) {
        assert!(self.phase == ReceiverPhase::Holding, "accepted once");
        self.phase = ReceiverPhase::Receiving;
        self.limit = self.size.min(self.received.saturating_add(self.window_bytes));
        (self.received, self.limit, self.hash())
    }

    /// The next bytes have come.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), TransferViolation> {
        if self.phase != ReceiverPhase::Receiving {
            return Err(TransferViolation::OutOfTurn { kind: kind::CHUNK });
        }
        let (size, limit) = (self.size, self.limit);
        let end = self.received.saturating_add(bytes.len() as u64);
        if bytes.len() as u64 > size - self.received {
            return Err(TransferViolation::BeyondSize { end, size });
        }
        if end > limit {
            return Err(TransferViolation::BeyondCredit { end, limit });
        }
        self.hasher.update(bytes);
        self.received = end;
        Ok(())
    }

    /// So many more bytes have been written: up to where the sender may send now, where that is
    /// worth a frame.
    ///
    /// # Panics
    ///
    /// Where they have not come.
    pub fn written(&mut self, bytes: u64) -> Option<u64> {
        assert!(bytes <= self.received - self.written, "written before they came");
        self.written += bytes;
        let limit = self.size.min(self.written.saturating_add(self.window_bytes));
        let worth = limit - self.limit >= self.window_bytes.div_ceil(2)
            || limit == self.size && limit > self.limit;
        worth.then(|| {
            self.limit = limit;
            limit
        })
    }

    /// The sender says that this is all, and has this hash. False: it has another.
    pub fn done(&mut self, hash: [u8; 32]) -> Result<bool, TransferViolation> {
        if self.phase != ReceiverPhase::Receiving {
            return Err(TransferViolation::OutOfTurn { kind: kind::DONE });
        }
        if self.received < self.size {
            let (received, size) = (self.received, self.size);
            return Err(TransferViolation::TooFew { received, size });
        }
        self.phase = ReceiverPhase::Done;
        Ok(self.hasher.finalize() == Hash::from(hash))
    }

    /// BLAKE3 of what has come.
    pub fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The position up to which it has come, what was held included.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What was held when it was accepted.
    pub fn resumed_from(&self) -> u64 {
        self.held
    }

    /// Whether all of it has come and been written.
    pub fn is_written(&self) -> bool {
        self.written == self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn hash(bytes: &[u8]) -> [u8; 32] {
        *blake3::hash(bytes).as_bytes()
    }

    #[test]
    fn a_sender_that_breaks_the_rules_is_told_how() {
        let mut receiver = FileReceiver::new(1, 10, 4);
        let early = TransferViolation::OutOfTurn { kind: kind::CHUNK };
        assert_eq!(receiver.chunk(b"a"), Err(early));
        let early = TransferViolation::OutOfTurn { kind: kind::DONE };
        assert_eq!(receiver.done(hash(b"")), Err(early));
        assert_eq!(receiver.accept(), (0, 4, hash(b"")));
        let beyond = TransferViolation::BeyondCredit { end: 5, limit: 4 };
        assert_eq!(receiver.chunk(b"12345"), Err(beyond));
        let beyond = TransferViolation::BeyondSize { end: 11, size: 10 };
        assert_eq!(receiver.chunk(b"12345678901"), Err(beyond));
        assert_eq!(receiver.chunk(b"1234"), Ok(()), "what was refused does not count");
        let few = TransferViolation::TooFew { received: 4, size: 10 };
        assert_eq!(receiver.done(hash(b"1234")), Err(few));
        assert_eq!(receiver.written(4), Some(8));
        assert_eq!(receiver.chunk(b"5678"), Ok(()));
        assert_eq!(receiver.written(4), Some(10));
        assert_eq!(receiver.chunk(b"90"), Ok(()));
        let beyond = TransferViolation::BeyondSize { end: 11, size: 10 };
        assert_eq!(receiver.chunk(b"x"), Err(beyond));
        assert_eq!(receiver.done(hash(b"1234567890")), Ok(true));
        assert!(!receiver.is_written(), "all has come, and two bytes are not written");
        assert_eq!(receiver.written(2), None);
        assert!(receiver.is_written());
        let late = TransferViolation::OutOfTurn { kind: kind::DONE };
        assert_eq!(receiver.done(hash(b"1234567890")), Err(late));
        let late = TransferViolation::OutOfTurn { kind: kind::CHUNK };
        assert_eq!(receiver.chunk(b"x"), Err(late));
    }

    #[test]
    fn another_hash_is_found_and_told_once() {
        let mut receiver = FileReceiver::new(1, 5, 8);
        receiver.accept();
        receiver.chunk(b"hello").unwrap();
        assert_eq!(receiver.done(hash(b"Hello")), Ok(false));
        let late = TransferViolation::OutOfTurn { kind: kind::DONE };
        assert_eq!(receiver.done(hash(b"hello")), Err(late));
        assert_eq!(receiver.hash(), hash(b"hello"));
    }

    #[test]
    fn what_is_held_is_where_it_goes_on_and_part_of_the_hash() {
        let mut receiver = FileReceiver::new(7, 10, 4);
        receiver.held(b"he");
        receiver.held(b"l");
        assert_eq!(receiver.accept(), (3, 7, hash(b"hel")));
        assert_eq!((receiver.resumed_from(), receiver.received()), (3, 3));
        receiver.chunk(b"lo w").unwrap();
        assert_eq!((receiver.resumed_from(), receiver.received()), (3, 7));
        assert_eq!(receiver.written(4), Some(10), "what is left is less than the window");
        receiver.chunk(b"orl").unwrap();
        assert_eq!(receiver.done(hash(b"hello worl")), Ok(true));
        assert_eq!((receiver.id(), receiver.size()), (7, 10));
    }

    #[test]
    fn a_file_held_whole_needs_no_credit_and_an_empty_one_nothing() {
        let mut receiver = FileReceiver::new(1, 5, 2);
        receiver.held(b"hello");
        assert_eq!(receiver.accept(), (5, 5, hash(b"hello")));
        assert_eq!(receiver.done(hash(b"hello")), Ok(true));
        assert!(receiver.is_written());
        let mut receiver = FileReceiver::new(1, 0, 2);
        assert_eq!(receiver.accept(), (0, 0, hash(b"")));
        assert!(receiver.chunk(b"x").is_err());
        assert_eq!(receiver.done(hash(b"")), Ok(true));
    }

    #[test]
    fn credit_comes_by_half_windows_and_at_last_for_all() {
        for window in 1..9 {
            let (mut receiver, mut limits) = (FileReceiver::new(1, 20, window), Vec::new());
            let mut limit = receiver.accept().1;
            assert_eq!(limit, window);
            for _ in 0..20 {
                // Byte after byte, each written at once: the sender never has to wait for ever.
                receiver.chunk(b"x").expect("credit");
                if let Some(more) = receiver.written(1) {
                    assert!(more - limit >= window.div_ceil(2) || more == 20);
                    limit = more;
                    limits.push(more);
                }
            }
            assert_eq!(limits.last(), Some(&20));
            assert!(limits.len() as u64 <= 20_u64.div_ceil(window.div_ceil(2)), "{limits:?}");
        }
    }

    #[test]
    fn sizes_beyond_four_gibibytes_are_counted_right() {
        let size = 9 * GIB;
        let mut receiver = FileReceiver::new(1, size, GIB);
        assert_eq!(receiver.accept().1, GIB);
        // As if so much had come and been written; hashing that much takes too long for a test.
        (receiver.received, receiver.written, receiver.limit) = (5 * GIB, 5 * GIB, 6 * GIB);
        receiver.chunk(&[7; 1 << 10]).unwrap();
        assert_eq!(receiver.received(), 5 * GIB + (1 << 10));
        assert_eq!(receiver.written(1 << 10), None);
        (receiver.received, receiver.written) = (6 * GIB, 6 * GIB - 4);
        let beyond = TransferViolation::BeyondCredit { end: 6 * GIB + 1, limit: 6 * GIB };
        assert_eq!(receiver.chunk(b"x"), Err(beyond));
        assert_eq!(receiver.written(4), Some(7 * GIB));
        (receiver.received, receiver.written) = (8 * GIB + 1, 8 * GIB);
        assert_eq!(receiver.written(1), Some(size));
        let few = TransferViolation::TooFew { received: 8 * GIB + 1, size };
        assert_eq!(receiver.done([0; 32]), Err(few));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        for size in [i64::MAX as u64, u64::MAX] {
            let mut receiver = FileReceiver::new(1, size, u64::MAX);
            receiver.held(b"held");
            assert_eq!(receiver.accept().1, size);
            receiver.chunk(b"more").unwrap();
            assert_eq!(receiver.written(4), None);
            receiver.received = size - 1;
            assert!(receiver.chunk(b"xx").is_err());
            assert_eq!(receiver.chunk(b"x"), Ok(()));
            assert_eq!(receiver.written(size - 8), None);
            assert!(receiver.is_written());
        }
    }
}

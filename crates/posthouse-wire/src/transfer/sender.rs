//! The side of a transfer that sends the file.

use std::fmt;

use blake3::{Hash, Hasher};

use super::TransferViolation;
use crate::kind;

/// The sender's side of a transfer.
///
/// The caller performs each [`next_action`](Self::next_action) and hands in the bytes that it has
/// read: to [`prefix`](Self::prefix) while the receiver's prefix is compared, to
/// [`chunk`](Self::chunk) when they are sent. With a [known hash](Self::with_known_hash) a chunk
/// can be sent unread, with [`skip_chunk`](Self::skip_chunk).
#[derive(Debug)]
pub struct FileSender {
    id: u32,
    size: u64,
    max_chunk_bytes: usize,
    /// Of what was compared, and, where the hash is not known, of what was sent.
    hasher: Hasher,
    known: Option<Hash>,
    phase: SenderPhase,
    /// The position up to which the file has been compared or sent.
    position: u64,
    /// What the receiver says that it holds.
    held: u64,
    /// BLAKE3 of that.
    prefix: Hash,
    /// Up to where may be sent, at most the size.
    limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SenderPhase {
    Offered,
    /// What the receiver holds is read and hashed.
    Comparing,
    Sending,
    /// Done has been said.
    Said,
    /// What the receiver holds is something else.
    Differs,
}

/// The next step of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing, until the receiver says something.
    Wait,
    /// Read at most so much from here, to compare.
    Prefix {
        /// From where.
        offset: u64,
        /// How much.
        bytes: usize,
    },
    /// Read at most so much from here, and send it.
    Chunk {
        /// From where.
        offset: u64,
        /// How much.
        bytes: usize,
    },
    /// Say done.
    Done,
}

/// What the receiver holds is not the beginning of this file. Offer it anew, with the same number,
/// or give it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixDiffers;

impl fmt::Display for PrefixDiffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the receiver holds is not the beginning of this file")
    }
}

impl std::error::Error for PrefixDiffers {}

impl FileSender {
    /// A file that is offered. A chunk carries at most so many bytes of it.
    ///
    /// # Panics
    ///
    /// Where a chunk may have no byte.
    pub fn new(id: u32, size: u64, max_chunk_bytes: usize) -> Self {
        assert!(max_chunk_bytes > 0, "a chunk has bytes");
        Self {
            id,
            size,
            max_chunk_bytes,
            hasher: Hasher::new(),
            known: None,
            phase: SenderPhase::Offered,
            position: 0,
            held: 0,
            prefix: Hash::from([0; 32]),
            limit: 0,
        }
    }

    /// Sets the hash of the file, which need not be computed then. (The receiver computes its own:
    /// a wrong hash fails the transfer.)
    #[must_use]
    pub fn with_known_hash(self, hash: [u8; 32]) -> Self {
        Self { known: Some(Hash::from(hash)), ..self }
    }

    /// The receiver wants it from `offset` on, may get it up to `limit`, and holds bytes of this
    /// hash.
    pub fn accepted(
        &mut self,
        offset: u64,
        limit: u64,
        prefix: [u8; 32],
    ) -> Result<(), TransferViolation> {
        if self.phase != SenderPhase::Offered {
            return Err(TransferViolation::AcceptedTwice);
        }
        let (size, prefix) = (self.size, Hash::from(prefix));
        if offset > size {
            return Err(TransferViolation::OffsetBeyondSize { offset, size });
        }
        if limit < offset {
            return Err(TransferViolation::LimitBelowOffset { limit, offset });
        }
        // Nothing has been read yet, so this is the hash of nothing.
        if offset == 0 && self.hasher.finalize() != prefix {
            return Err(TransferViolation::PrefixOfNothing);
        }
        (self.held, self.prefix) = (offset, prefix);
        self.limit = limit.min(size);
        self.phase = if offset == 0 { SenderPhase::Sending } else { SenderPhase::Comparing };
        Ok(())
    }

    /// The receiver may get it up to here. A lower limit than before says nothing.
    pub fn credit(&mut self, limit: u64) -> Result<(), TransferViolation> {
        if self.phase == SenderPhase::Offered {
            return Err(TransferViolation::OutOfTurn { kind: kind::CREDIT });
        }
        self.limit = self.limit.max(limit.min(self.size));
        Ok(())
    }

    /// Returns the next step.
    pub fn next_action(&self) -> Action {
        let offset = self.position;
        match self.phase {
            SenderPhase::Offered | SenderPhase::Said | SenderPhase::Differs => Action::Wait,
            SenderPhase::Comparing => {
                Action::Prefix { offset, bytes: self.at_most(self.held - offset) }
            }
            SenderPhase::Sending if offset == self.size => Action::Done,
            SenderPhase::Sending if offset == self.limit => Action::Wait,
            SenderPhase::Sending => {
                Action::Chunk { offset, bytes: self.at_most(self.limit - offset) }
            }
        }
    }

    fn at_most(&self, bytes: u64) -> usize {
        usize::try_from(bytes).unwrap_or(usize::MAX).min(self.max_chunk_bytes)
    }

    /// Bytes that were read to compare. When all of them are there, they are compared.
    ///
    /// # Panics
    ///
    /// Where nothing, or not so much, was to be read.
    pub fn prefix(&mut self, bytes: &[u8]) -> Result<(), PrefixDiffers> {
        assert!(self.phase == SenderPhase::Comparing, "nothing is compared now");
        self.advance(bytes.len(), self.held);
        self.hasher.update(bytes);
        if self.position < self.held {
            return Ok(());
        }
        if self.hasher.finalize() != self.prefix {
            self.phase = SenderPhase::Differs;
            return Err(PrefixDiffers);
        }
        self.phase = SenderPhase::Sending;
        Ok(())
    }

    /// Bytes that are sent now.
    ///
    /// # Panics
    ///
    /// Where nothing, or not so much, may be sent.
    pub fn chunk(&mut self, bytes: &[u8]) {
        assert!(self.phase == SenderPhase::Sending, "nothing is sent now");
        self.advance(bytes.len(), self.limit);
        if self.known.is_none() {
            self.hasher.update(bytes);
        }
    }

    /// Advances by `bytes` that are sent without passing through here.
    ///
    /// # Panics
    ///
    /// If the hash is not known, or fewer bytes, or none, may be sent.
    pub fn skip_chunk(&mut self, bytes: usize) {
        assert!(self.phase == SenderPhase::Sending, "nothing is sent now");
        assert!(self.known.is_some(), "the hash must be made of what is sent");
        self.advance(bytes, self.limit);
    }

    fn advance(&mut self, bytes: usize, end: u64) {
        assert!(bytes as u64 <= end - self.position, "more bytes than were asked for");
        self.position += bytes as u64;
    }

    /// The hash of the whole file.
    fn whole(&self) -> Hash {
        self.known.unwrap_or_else(|| self.hasher.finalize())
    }

    /// All has been sent: the hash to say done with.
    ///
    /// # Panics
    ///
    /// Where not all has been sent.
    pub fn done(&mut self) -> [u8; 32] {
        assert!(self.next_action() == Action::Done, "there is more to send");
        self.phase = SenderPhase::Said;
        *self.whole().as_bytes()
    }

    /// The receiver says that it has all of it.
    pub fn confirmed(&mut self, hash: [u8; 32]) -> Result<(), TransferViolation> {
        if self.phase != SenderPhase::Said {
            return Err(TransferViolation::OutOfTurn { kind: kind::DONE });
        }
        match self.whole() == Hash::from(hash) {
            true => Ok(()),
            false => Err(TransferViolation::OtherHash),
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The position up to which it has been sent, what the receiver held included; while that is
    /// compared, up to where it has been.
    pub fn sent(&self) -> u64 {
        self.position
    }

    /// What the receiver held when it accepted; 0 before that.
    pub fn resumed_from(&self) -> u64 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn hash(bytes: &[u8]) -> [u8; 32] {
        *blake3::hash(bytes).as_bytes()
    }

    /// A file of ten bytes that was accepted from this position on, with as much credit as asked.
    fn accepted(offset: u64, prefix: &[u8]) -> FileSender {
        let mut sender = FileSender::new(1, 10, 4);
        sender.accepted(offset, u64::MAX, hash(prefix)).unwrap();
        sender
    }

    #[test]
    fn nothing_is_sent_before_the_accept_nor_beyond_the_credit() {
        let mut sender = FileSender::new(3, 10, 4);
        assert_eq!((sender.next_action(), sender.id(), sender.size()), (Action::Wait, 3, 10));
        sender.accepted(0, 5, hash(b"")).unwrap();
        assert_eq!(sender.next_action(), Action::Chunk { offset: 0, bytes: 4 });
        sender.chunk(b"12");
        assert_eq!(sender.next_action(), Action::Chunk { offset: 2, bytes: 3 }, "fewer were read");
        sender.chunk(b"345");
        assert_eq!((sender.next_action(), sender.sent()), (Action::Wait, 5));
        assert_eq!(sender.credit(4), Ok(()), "less than before says nothing");
        assert_eq!(sender.next_action(), Action::Wait);
        assert_eq!(sender.credit(u64::MAX), Ok(()));
        assert_eq!(sender.next_action(), Action::Chunk { offset: 5, bytes: 4 });
        sender.chunk(b"6789");
        assert_eq!(
            sender.next_action(),
            Action::Chunk { offset: 9, bytes: 1 },
            "never beyond the size"
        );
        sender.chunk(b"0");
        assert_eq!(sender.next_action(), Action::Done);
        assert_eq!(sender.done(), hash(b"1234567890"));
        assert_eq!((sender.next_action(), sender.sent()), (Action::Wait, 10));
        assert_eq!(sender.credit(u64::MAX), Ok(()), "it was on its way");
        assert_eq!(sender.confirmed(hash(b"1234567890")), Ok(()));
    }

    #[test]
    fn a_receiver_that_breaks_the_rules_is_told_how() {
        let mut sender = FileSender::new(1, 10, 4);
        let early = TransferViolation::OutOfTurn { kind: kind::CREDIT };
        assert_eq!(sender.credit(5), Err(early));
        let early = TransferViolation::OutOfTurn { kind: kind::DONE };
        assert_eq!(sender.confirmed(hash(b"")), Err(early));
        let beyond = TransferViolation::OffsetBeyondSize { offset: 11, size: 10 };
        assert_eq!(sender.accepted(11, u64::MAX, [0; 32]), Err(beyond));
        let below = TransferViolation::LimitBelowOffset { limit: 4, offset: 5 };
        assert_eq!(sender.accepted(5, 4, [0; 32]), Err(below));
        let nothing = TransferViolation::PrefixOfNothing;
        assert_eq!(sender.accepted(0, 10, hash(b"x")), Err(nothing));
        assert_eq!((sender.next_action(), sender.resumed_from()), (Action::Wait, 0));
        sender.accepted(0, 10, hash(b"")).unwrap();
        let twice = TransferViolation::AcceptedTwice;
        assert_eq!(sender.accepted(0, 10, hash(b"")), Err(twice));
        sender.chunk(b"1234567890");
        let early = TransferViolation::OutOfTurn { kind: kind::DONE };
        assert_eq!(sender.confirmed(hash(b"1234567890")), Err(early), "all, but not said");
        let whole = sender.done();
        assert_eq!(sender.confirmed(hash(b"")), Err(TransferViolation::OtherHash));
        assert_eq!(sender.confirmed(whole), Ok(()));
    }

    #[test]
    fn what_is_held_is_read_compared_and_part_of_the_hash() {
        let mut sender = accepted(6, b"123456");
        assert_eq!((sender.resumed_from(), sender.sent()), (6, 0));
        assert_eq!(sender.next_action(), Action::Prefix { offset: 0, bytes: 4 });
        assert_eq!(sender.prefix(b"1"), Ok(()));
        assert_eq!(sender.next_action(), Action::Prefix { offset: 1, bytes: 4 });
        assert_eq!(sender.credit(u64::MAX), Ok(()));
        assert_eq!(sender.prefix(b"2345"), Ok(()));
        assert_eq!(sender.next_action(), Action::Prefix { offset: 5, bytes: 1 });
        assert_eq!(sender.prefix(b"6"), Ok(()));
        assert_eq!(sender.next_action(), Action::Chunk { offset: 6, bytes: 4 });
        sender.chunk(b"7890");
        assert_eq!(sender.done(), hash(b"1234567890"));
        assert_eq!(sender.resumed_from(), 6);
    }

    #[test]
    fn what_is_held_of_another_file_is_found_when_all_of_it_is_compared() {
        let mut sender = accepted(6, b"12345x");
        assert_eq!(sender.prefix(b"12345"), Ok(()));
        assert_eq!(sender.prefix(b"6"), Err(PrefixDiffers));
        assert_eq!(sender.next_action(), Action::Wait, "it goes nowhere from here");
        assert_eq!(sender.credit(10), Ok(()));
        assert_eq!(sender.next_action(), Action::Wait);
        let early = TransferViolation::OutOfTurn { kind: kind::DONE };
        assert_eq!(sender.confirmed(hash(b"123456")), Err(early));
    }

    #[test]
    fn a_file_that_is_there_is_done_once_it_is_compared_and_an_empty_one_at_once() {
        let mut sender = accepted(10, b"1234567890");
        assert_eq!(sender.prefix(b"1234567890"), Ok(()));
        assert_eq!(sender.next_action(), Action::Done);
        let mut sender = FileSender::new(1, 0, 4);
        sender.accepted(0, 0, hash(b"")).unwrap();
        assert_eq!(sender.next_action(), Action::Done);
        assert_eq!(sender.done(), hash(b""));
    }

    #[test]
    fn of_a_file_whose_hash_is_known_nothing_need_be_seen() {
        let whole = hash(b"1234567890");
        let mut sender = FileSender::new(1, 10, 4).with_known_hash(whole);
        sender.accepted(0, u64::MAX, hash(b"")).unwrap();
        sender.skip_chunk(4);
        assert_eq!(sender.next_action(), Action::Chunk { offset: 4, bytes: 4 });
        sender.chunk(b"5678");
        sender.skip_chunk(2);
        assert_eq!((sender.next_action(), sender.done()), (Action::Done, whole));
        assert_eq!(sender.confirmed(whole), Ok(()));

        // What the receiver holds is read and compared all the same: it is told of nothing to be
        // there that was not looked at.
        let mut sender = FileSender::new(1, 10, 4).with_known_hash(whole);
        sender.accepted(3, u64::MAX, hash(b"123")).unwrap();
        assert_eq!(sender.next_action(), Action::Prefix { offset: 0, bytes: 3 });
        assert_eq!(sender.prefix(b"123"), Ok(()));
        sender.skip_chunk(4);
        sender.skip_chunk(3);
        assert_eq!((sender.next_action(), sender.done()), (Action::Done, whole));
        let mut sender = FileSender::new(1, 10, 4).with_known_hash(whole);
        sender.accepted(10, u64::MAX, whole).unwrap();
        assert_eq!(sender.next_action(), Action::Prefix { offset: 0, bytes: 4 });
    }

    #[test]
    #[should_panic(expected = "the hash must be made of what is sent")]
    fn what_is_not_seen_cannot_be_hashed() {
        accepted(0, b"").skip_chunk(1);
    }

    #[test]
    fn sizes_beyond_four_gibibytes_are_counted_right() {
        let mut sender = FileSender::new(1, 9 * GIB, 1 << 20);
        sender.accepted(5 * GIB, 6 * GIB, [0; 32]).unwrap();
        assert_eq!(sender.next_action(), Action::Prefix { offset: 0, bytes: 1 << 20 });
        // As if so much had been read; hashing that much takes too long for a test.
        sender.position = 5 * GIB - 3;
        assert_eq!(sender.next_action(), Action::Prefix { offset: 5 * GIB - 3, bytes: 3 });
        (sender.position, sender.phase) = (6 * GIB - 5, SenderPhase::Sending);
        assert_eq!(sender.next_action(), Action::Chunk { offset: 6 * GIB - 5, bytes: 5 });
        sender.chunk(b"12345");
        assert_eq!((sender.next_action(), sender.sent()), (Action::Wait, 6 * GIB));
        sender.credit(u64::MAX).unwrap();
        assert_eq!(sender.next_action(), Action::Chunk { offset: 6 * GIB, bytes: 1 << 20 });
        sender.position = 9 * GIB;
        assert_eq!(sender.next_action(), Action::Done);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut sender = FileSender::new(u32::MAX, u64::MAX, usize::MAX);
        sender.accepted(u64::MAX, u64::MAX, [0; 32]).unwrap();
        let bytes = usize::try_from(u64::MAX).unwrap_or(usize::MAX);
        assert_eq!(sender.next_action(), Action::Prefix { offset: 0, bytes });
        assert_eq!(sender.prefix(b"1"), Ok(()));
        assert_eq!(sender.next_action(), Action::Prefix { offset: 1, bytes: bytes - 1 });
    }
}

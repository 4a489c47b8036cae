//! Reads of a file ahead of its use: they are requested in order, end in any order, and are taken
//! in order.

use std::collections::VecDeque;

use super::operations::OpNumber;

/// A piece of the file that was read, or that can be sent unread.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) content: Content,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Memory(Vec<u8>),
    /// The number of bytes that the system sends from the file by itself.
    Unread(usize),
}

/// The reads of one file, in the order of their offsets.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    reads: VecDeque<Read>,
}

#[derive(Debug)]
struct Read {
    offset: u64,
    bytes: usize,
    state: ReadState,
}

#[derive(Debug)]
enum ReadState {
    /// The read waits for its memory.
    Asked,
    InFlight(OpNumber),
    /// The first byte of a piece that is sent unread is being read.
    Probing(OpNumber),
    Done(Content),
}

/// A read that has its memory.
pub(super) struct Granted {
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

/// The result of taking the next piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Piece(Piece),
    /// The file ends here: the memory of the read that found no bytes.
    End(Vec<u8>),
    /// The next piece has not been read.
    Nothing,
}

impl ReadAhead {
    /// Returns the number of reads that were requested and have not been taken.
    pub(super) fn len(&self) -> usize {
        self.reads.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// Returns the number of bytes of the memory that reads have, or have filled.
    pub(super) fn held_bytes(&self) -> u64 {
        let held = self.reads.iter().map(|read| match &read.state {
            ReadState::InFlight(_) | ReadState::Done(Content::Memory(_)) => read.bytes as u64,
            ReadState::Asked | ReadState::Probing(_) | ReadState::Done(Content::Unread(_)) => 0,
        });
        held.sum()
    }

    /// Adds a read after all others. The caller requests its memory.
    pub(super) fn ask(&mut self, offset: u64, bytes: usize) {
        self.reads.push_back(Read { offset, bytes, state: ReadState::Asked });
    }

    /// Adds a piece that is sent unread once its first byte has been read.
    pub(super) fn probe(&mut self, offset: u64, bytes: usize, number: OpNumber) {
        self.reads.push_back(Read { offset, bytes, state: ReadState::Probing(number) });
    }

    /// Gives memory to the first read that waits for it; `begin` numbers the operation, which reads
    /// this number of bytes. Returns `None` if no read waits.
    pub(super) fn grant(
        &mut self,
        begin: impl FnOnce(usize) -> OpNumber,
    ) -> Option<(OpNumber, Granted)> {
        let asked = |read: &&mut Read| matches!(read.state, ReadState::Asked);
        let read = self.reads.iter_mut().find(asked)?;
        let number = begin(read.bytes);
        read.state = ReadState::InFlight(number);
        Some((number, Granted { offset: read.offset, bytes: read.bytes }))
    }

    /// Stores the result of a read until it is taken.
    pub(super) fn end(&mut self, number: OpNumber, memory: Vec<u8>) {
        let is_it = |read: &&mut Read| match read.state {
            ReadState::InFlight(other) | ReadState::Probing(other) => other == number,
            ReadState::Asked | ReadState::Done(_) => false,
        };
        let read = self.reads.iter_mut().find(is_it).expect("a read that is in flight");
        assert!(memory.len() <= read.bytes, "more bytes than were asked for");
        let content = match read.state {
            ReadState::Probing(_) if !memory.is_empty() => Content::Unread(read.bytes),
            _ => Content::Memory(memory),
        };
        read.state = ReadState::Done(content);
    }

    pub(super) fn is_next_read(&self) -> bool {
        self.reads.front().is_some_and(|read| matches!(read.state, ReadState::Done(_)))
    }

    /// Takes the next piece. If the read returned fewer bytes than requested, a read of the rest is
    /// added before all others, and `ask` is called with its size.
    pub(super) fn take(&mut self, ask: impl FnOnce(usize)) -> Taken {
        if !self.is_next_read() {
            return Taken::Nothing;
        }
        let Some(Read { offset, bytes, state: ReadState::Done(content) }) = self.reads.pop_front()
        else {
            unreachable!("just looked at");
        };
        let read = match content {
            Content::Memory(memory) if memory.is_empty() => return Taken::End(memory),
            Content::Memory(ref memory) => memory.len(),
            Content::Unread(bytes) => bytes,
        };
        if read < bytes {
            let offset = offset + read as u64;
            let bytes = bytes - read;
            self.reads.push_front(Read { offset, bytes, state: ReadState::Asked });
            ask(bytes);
        }
        Taken::Piece(Piece { offset, content })
    }

    /// Drops all reads; returns the memory of those that have ended.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Vec<u8>> + use<> {
        std::mem::take(&mut self.reads).into_iter().filter_map(|read| match read.state {
            ReadState::Done(Content::Memory(memory)) => Some(memory),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(reads: &mut ReadAhead, number: u8) -> (u64, usize) {
        let (_, read) = reads.grant(|_| OpNumber(number)).expect("a read that waits for memory");
        (read.offset, read.bytes)
    }

    fn piece(offset: u64, bytes: &[u8]) -> Taken {
        Taken::Piece(Piece { offset, content: Content::Memory(bytes.to_vec()) })
    }

    #[test]
    fn reads_that_end_in_any_order_are_taken_in_order() {
        let mut reads = ReadAhead::default();
        reads.ask(0, 2);
        reads.ask(2, 2);
        assert_eq!((granted(&mut reads, 0), granted(&mut reads, 1)), ((0, 2), (2, 2)));
        assert!(reads.grant(|_| OpNumber(2)).is_none());
        reads.end(OpNumber(1), b"cd".to_vec());
        assert_eq!(reads.take(|_| panic!("all was read")), Taken::Nothing);
        reads.end(OpNumber(0), b"ab".to_vec());
        assert_eq!(reads.take(|_| panic!("all was read")), piece(0, b"ab"));
        assert_eq!(reads.take(|_| panic!("all was read")), piece(2, b"cd"));
        assert!(reads.is_empty());
    }

    #[test]
    fn the_rest_of_a_short_read_comes_before_what_was_read_behind_it() {
        let mut reads = ReadAhead::default();
        reads.ask(0, 3);
        reads.ask(3, 3);
        granted(&mut reads, 0);
        granted(&mut reads, 1);
        reads.end(OpNumber(0), b"a".to_vec());
        reads.end(OpNumber(1), b"def".to_vec());
        let mut asked = 0;
        assert_eq!(reads.take(|bytes| asked = bytes), piece(0, b"a"));
        assert_eq!((asked, reads.len()), (2, 2));
        assert_eq!(reads.take(|_| ()), Taken::Nothing);
        assert_eq!(granted(&mut reads, 2), (1, 2));
        reads.end(OpNumber(2), b"bc".to_vec());
        assert_eq!(reads.take(|_| ()), piece(1, b"bc"));
        assert_eq!(reads.take(|_| ()), piece(3, b"def"));
    }

    #[test]
    fn an_empty_read_is_the_end_and_a_probe_gives_what_it_stands_for() {
        let mut reads = ReadAhead::default();
        reads.probe(5, 7, OpNumber(3));
        reads.ask(12, 4);
        granted(&mut reads, 4);
        reads.end(OpNumber(4), b"abcd".to_vec());
        reads.end(OpNumber(3), b"x".to_vec());
        let unread = Piece { offset: 5, content: Content::Unread(7) };
        assert_eq!(reads.take(|_| ()), Taken::Piece(unread));
        assert_eq!(reads.clear().collect::<Vec<_>>(), [b"abcd".to_vec()]);
        for probes in [true, false] {
            if probes {
                reads.probe(0, 7, OpNumber(0));
            } else {
                reads.ask(0, 7);
                granted(&mut reads, 0);
            }
            reads.end(OpNumber(0), Vec::new());
            assert_eq!(reads.take(|_| ()), Taken::End(Vec::new()));
        }
    }
}

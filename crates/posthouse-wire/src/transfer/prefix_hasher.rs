//! The hash of the beginning of a file. Both sides compute it: the receiver of the bytes that it
//! holds, the sender of as many bytes of its file.

use blake3::{Hash, Hasher};

use super::operations::OpNumber;
use super::read_ahead::{Content, Granted, Piece, ReadAhead, Taken};

/// The maximum number of bytes that one read reads. The frames of the peer do not limit it.
pub(super) const PREFIX_READ_BYTES: usize = 256 * 1024;
/// The maximum number of reads that are in flight, or wait for their turn.
const MAX_READS: usize = 2;

/// The reads of the first bytes of a file, and their hash.
#[derive(Debug)]
pub(super) struct PrefixHasher {
    bytes: u64,
    hashed: u64,
    /// The offset of the next read.
    read_to: u64,
    reads: ReadAhead,
    hasher: Hasher,
}

/// An action that follows the result of a read.
pub(super) enum PrefixAction {
    /// Take this memory back.
    Free(Vec<u8>),
    /// Lend memory for the rest of a read that returned fewer bytes than it requested.
    NeedRest,
}

/// The file ended before the bytes that were to be hashed.
#[derive(Debug)]
pub(super) struct FileEnded;

impl PrefixHasher {
    /// Starts to hash the first `bytes` bytes of a file.
    pub(super) fn new(bytes: u64) -> Self {
        let reads = ReadAhead::default();
        let hasher = Hasher::new();
        Self { bytes, hashed: 0, read_to: 0, reads, hasher }
    }

    /// Returns the number of bytes to hash.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_complete(&self) -> bool {
        self.hashed == self.bytes
    }

    /// Returns the hash of the bytes that were hashed.
    pub(super) fn hash(&self) -> Hash {
        self.hasher.finalize()
    }

    /// Returns the hasher, to which the bytes after the prefix are added.
    pub(super) fn hasher(&self) -> Hasher {
        self.hasher.clone()
    }

    /// Returns the number of bytes of the memory that the reads hold.
    pub(super) fn held_bytes(&self) -> u64 {
        self.reads.held_bytes()
    }

    /// Adds the next read that may run ahead, and returns its size in bytes, for which the caller
    /// requests memory.
    pub(super) fn read_on(&mut self) -> Option<usize> {
        let left = self.bytes - self.read_to;
        if left == 0 || self.reads.len() == MAX_READS {
            return None;
        }
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(PREFIX_READ_BYTES);
        self.reads.ask(self.read_to, bytes);
        self.read_to += bytes as u64;
        Some(bytes)
    }

    /// Gives memory to the first read that waits for it, as [`ReadAhead::grant`] does.
    pub(super) fn grant(
        &mut self,
        begin: impl FnOnce(usize) -> OpNumber,
    ) -> Option<(OpNumber, Granted)> {
        self.reads.grant(begin)
    }

    /// Takes the result of a read, and hashes the bytes that have been read, in order.
    pub(super) fn end(
        &mut self,
        number: OpNumber,
        memory: Vec<u8>,
        mut act: impl FnMut(PrefixAction),
    ) -> Result<(), FileEnded> {
        self.reads.end(number, memory);
        loop {
            match self.reads.take(|_| act(PrefixAction::NeedRest)) {
                Taken::Piece(Piece { content: Content::Memory(memory), .. }) => {
                    self.hasher.update(&memory);
                    self.hashed += memory.len() as u64;
                    act(PrefixAction::Free(memory));
                }
                Taken::Piece(_) => unreachable!("the bytes of a prefix are read into memory"),
                Taken::End(memory) => {
                    act(PrefixAction::Free(memory));
                    return Err(FileEnded);
                }
                Taken::Nothing => return Ok(()),
            }
        }
    }

    /// Drops all reads; returns the memory of those that have ended.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Vec<u8>> + use<> {
        self.reads.clear()
    }
}

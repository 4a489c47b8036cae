//! The reads of a sender: to compare the bytes that the receiver holds, and to send.

use std::fmt;
use std::time::Duration;

use blake3::{Hash, Hasher};

use crate::transfer::prefix_hasher::PrefixHasher;
use crate::transfer::read_ahead::ReadAhead;

/// The sizes of the chunks that are read next.
pub struct ChunkSizes<'a> {
    /// The maximum number of bytes of a chunk, at least 1.
    pub max_bytes: usize,
    /// Returns whether the system should send this number of bytes from the file by itself.
    pub prefers_unread: &'a mut dyn FnMut(usize) -> bool,
}

impl fmt::Debug for ChunkSizes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkSizes").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

/// The state in which the sender reads and hashes the bytes that the receiver holds.
#[derive(Debug)]
pub(super) struct Comparing {
    /// The bytes of the own file.
    pub(super) own: PrefixHasher,
    /// The hash of the bytes that the receiver holds, as it sent it.
    pub(super) prefix: Hash,
    pub(super) limit: u64,
}

#[derive(Debug)]
pub(super) struct Sending {
    /// The offset up to which the sender may send, at most the size of the file.
    pub(super) limit: u64,
    pub(super) sent: u64,
    /// The offset of the next read.
    pub(super) read_to: u64,
    pub(super) reads: ReadAhead,
    pub(super) hasher: Hasher,
    /// The state of the last taken chunk: whether the system still has to read it.
    pub(super) last_chunk: LastChunk,
    /// The time since which the sender has been waiting for credit.
    pub(super) waiting_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastChunk {
    /// All of its bytes have been read.
    Read,
    /// The system reads it while it sends it, so a fault of the file shows only once it has left.
    Unread,
}

impl Sending {
    pub(super) fn new(offset: u64, limit: u64, hasher: Hasher) -> Self {
        Self {
            limit,
            sent: offset,
            read_to: offset,
            reads: ReadAhead::default(),
            hasher,
            last_chunk: LastChunk::Read,
            waiting_since: None,
        }
    }
}

//! The reads of a sender: to compare the bytes that the receiver holds, and to send.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use blake3::{Hash, Hasher};

use super::MAX_READS;
use super::actions::SenderAction;
use crate::transfer::failure::TransferFailure;
use crate::transfer::read_ahead::{Content, Piece, ReadAhead, Taken};

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
    /// The number of bytes that the receiver holds.
    pub(super) held: u64,
    /// Their hash, as the receiver sent it.
    pub(super) prefix: Hash,
    pub(super) limit: u64,
    pub(super) hashed: u64,
    /// The offset of the next read.
    pub(super) read_to: u64,
    pub(super) reads: ReadAhead,
    pub(super) hasher: Hasher,
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

impl Comparing {
    /// Hashes what has been read, in order.
    pub(super) fn hash_on<E>(
        &mut self,
        actions: &mut VecDeque<SenderAction<E>>,
    ) -> Result<(), TransferFailure<E>> {
        loop {
            match self.reads.take(|_| actions.push_back(SenderAction::NeedRest)) {
                Taken::Piece(Piece { content: Content::Memory(memory), .. }) => {
                    self.hasher.update(&memory);
                    self.hashed += memory.len() as u64;
                    actions.push_back(SenderAction::Free(memory));
                }
                Taken::Piece(_) => unreachable!("a compared byte is read into memory"),
                Taken::End(memory) => {
                    actions.push_back(SenderAction::Free(memory));
                    return Err(TransferFailure::Changed("it became shorter"));
                }
                Taken::Nothing => return Ok(()),
            }
        }
    }

    /// Requests memory for the reads that may run ahead.
    pub(super) fn read_on<E>(&mut self, max_bytes: usize, actions: &mut VecDeque<SenderAction<E>>) {
        while self.reads.len() < MAX_READS && self.read_to < self.held {
            let left = self.held - self.read_to;
            let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(max_bytes);
            self.reads.ask(self.read_to, bytes);
            self.read_to += bytes as u64;
            actions.push_back(SenderAction::Need(bytes));
        }
    }
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

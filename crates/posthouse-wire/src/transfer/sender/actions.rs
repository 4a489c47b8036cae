//! The actions of a sender.

use super::super::failure::{Tell, TransferFailure};
use super::super::operations::OpNumber;

/// An action of a sender, for its caller to perform.
#[derive(Debug)]
pub enum SenderAction<E> {
    /// Performs an operation on the disk; [`on_disk`](super::FileSender::on_disk) takes its result.
    Disk {
        /// Its number.
        number: OpNumber,
        /// The operation.
        op: SenderOp,
    },
    /// Sends a frame, other than a chunk.
    Frame(SenderFrame),
    /// Asks for memory for a read of so many bytes; [`grant`](super::FileSender::grant) takes it,
    /// now or later.
    Need(usize),
    /// Gives memory back.
    Free(Vec<u8>),
    /// Tells the program.
    Notify(SenderEvent<E>),
    /// Nothing is left to do, and no operation is in flight. This is the last action.
    Release,
}

/// An operation of a sender on the disk. Several reads may be in flight beside each other.
#[derive(Debug, PartialEq, Eq)]
pub enum SenderOp {
    /// Opens the file: [`Opened`](super::super::DiskOutcome).
    Open,
    /// Reads.
    Read {
        /// The offset of the first byte.
        offset: u64,
        /// The maximum number of bytes.
        bytes: usize,
        /// The memory to read into.
        memory: Vec<u8>,
    },
    /// Reads one byte, of a chunk that the system will send by itself: if the disk hangs, only this
    /// transfer waits.
    Probe {
        /// The offset of the byte.
        offset: u64,
    },
    /// Looks at the file again: [`Metadata`](super::super::DiskOutcome).
    Metadata,
}

/// A frame of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderFrame {
    /// The offer: the first time, or again under the same number.
    Offer,
    /// The hash of the whole file: all has been sent.
    Done([u8; 32]),
}

/// A chunk of the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes that were read.
    Memory(Vec<u8>),
    /// Bytes that the system sends from the file by itself.
    Unread {
        /// The offset of the first.
        offset: u64,
        /// The number of bytes.
        bytes: usize,
    },
}

impl Chunk {
    /// Returns the number of bytes, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a chunk is never empty")]
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.len(),
            Self::Unread { bytes, .. } => *bytes,
        }
    }
}

/// An event of a transfer, for the program.
#[derive(Debug, PartialEq, Eq)]
pub enum SenderEvent<E> {
    /// The position from which the transfer goes on.
    ResumedFrom(u64),
    /// The transfer has ended: this comes once. If the peer is told, an abort is sent.
    Ended {
        /// The hash of the file that the receiver has, or the reason for which it has none.
        result: Result<[u8; 32], TransferFailure<E>>,
        /// Whether the peer is told of the failure.
        tell: Tell,
    },
}

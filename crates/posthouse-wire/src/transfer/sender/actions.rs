//! The actions of a sender.

use super::super::failure::{Tell, TransferFailure};
use super::super::operations::OpNumber;

/// An action of a sender, for its caller to perform.
#[derive(Debug)]
pub enum SenderAction<E> {
    /// Performs an operation on the disk; [`on_disk`](super::FileSender::on_disk) takes its result.
    Disk {
        /// The number of the operation.
        number: OpNumber,
        /// The operation.
        op: SenderOp,
    },
    /// Sends a frame, other than a chunk.
    Frame(SenderFrame),
    /// Requests the place of an open file; [`grant_file`](super::FileSender::grant_file) takes it,
    /// now or later.
    NeedFile,
    /// Closes the file, and gives its place back. No operation on it is in flight.
    Close,
    /// Requests memory for a read of this number of bytes: at most a chunk, or 256 KiB to compare
    /// the bytes that the receiver holds. [`grant`](super::FileSender::grant) takes it, now or
    /// later.
    Need(usize),
    /// Requests memory for the rest of a read that returned fewer bytes than requested. The caller
    /// grants it at once: the reads behind it hold memory until the rest is there.
    NeedRest,
    /// Gives the memory of a read back to the caller.
    Free(Vec<u8>),
    /// Reports an event to the program.
    Notify(SenderEvent<E>),
    /// Nothing is left to do, and no operation is in flight. This is the last action. Memory that
    /// was requested and not granted is not needed any more.
    Release,
}

/// An operation of a sender on the disk. Several reads may be in flight at the same time.
#[derive(Debug, PartialEq, Eq)]
pub enum SenderOp {
    /// Opens the file: [`Opened`](super::super::DiskOutcome).
    Open,
    /// Opens the file again after it was closed, and compares it with the file that was offered:
    /// [`Reopened`](super::super::DiskOutcome).
    Reopen,
    /// Reads from the file.
    Read {
        /// The offset of the first byte.
        offset: u64,
        /// The maximum number of bytes.
        bytes: usize,
        /// The memory to read into.
        memory: Vec<u8>,
    },
    /// Reads the first byte of a chunk that the system will send from the file by itself. If the
    /// disk hangs, only this transfer waits.
    Probe {
        /// The offset of the byte.
        offset: u64,
    },
    /// Gets size and time of the file again: [`Metadata`](super::super::DiskOutcome).
    Metadata,
}

/// A frame of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderFrame {
    /// The first offer, or a repeated one with the same number.
    Offer,
    /// The end of the file, with the hash of the whole file, after all its bytes have been sent.
    Done([u8; 32]),
}

/// A chunk of the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes that were read.
    Memory(Vec<u8>),
    /// Bytes that the system sends from the file by itself.
    Unread {
        /// The offset of the first byte.
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
    /// The offset at which the transfer continues.
    ResumedFrom(u64),
    /// The transfer has ended. This event comes once. If the peer is to be informed of a failure,
    /// the caller sends an abort.
    Ended {
        /// The hash of the file that the receiver has, or the reason for which it has none.
        result: Result<[u8; 32], TransferFailure<E>>,
        /// The choice whether the peer is told of the failure.
        tell: Tell,
    },
}

//! The actions of a receiver.

use super::super::TransferFrame;
use super::super::failure::{Tell, TransferFailure};
use super::super::operations::OpNumber;

/// An action of a receiver, for its caller to perform.
#[derive(Debug)]
pub enum ReceiverAction<E> {
    /// Performs an operation on the disk;
    /// [`on_disk`](super::FileReceiver::on_disk) takes its result.
    Disk {
        /// Its number.
        number: OpNumber,
        /// The operation.
        op: ReceiverOp,
    },
    /// Sends a frame.
    Frame(TransferFrame<'static>),
    /// Asks for memory for a read of so many bytes;
    /// [`grant`](super::FileReceiver::grant) takes it, now or later.
    Need(usize),
    /// Gives memory back.
    Free(Vec<u8>),
    /// Changes what is reserved in the quota of the directory.
    Room(Room),
    /// Drops what the caller has queued: it will not be written.
    Discard,
    /// Tells the program.
    Notify(ReceiverEvent<E>),
    /// Nothing is left to do, and no operation is in flight. This is the last action.
    Release,
}

/// An operation of a receiver on the disk. A write and a sync may be in flight beside each other,
/// and several reads; every other one is alone.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceiverOp {
    /// Opens the file that has the final name, for reading: [`Found`](super::super::DiskOutcome).
    LookUp,
    /// Counts the directory, whose quota seems used up.
    Count,
    /// Opens the part, or makes it.
    OpenPart,
    /// Reads what was found, or the part.
    Read {
        /// The offset of the first byte.
        offset: u64,
        /// The maximum number of bytes.
        bytes: usize,
        /// The memory to read into.
        memory: Vec<u8>,
    },
    /// Cuts the part to nothing.
    Truncate,
    /// Writes the beginning of what the caller has queued into the part.
    Write {
        /// The offset of the first byte.
        offset: u64,
        /// The maximum number of bytes, if the first piece in the queue is not larger.
        max_bytes: usize,
    },
    /// Brings the part to the disk.
    Sync,
    /// Brings the file that was found to the disk, with its name.
    SyncName,
    /// Brings the part to the disk and gives it the final name.
    Publish,
    /// Removes the part's own name and closes it.
    RemovePart,
}

/// A change of what is reserved for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Reserves room; [`on_room`](super::FileReceiver::on_room) takes the answer, now or later.
    Reserve {
        /// The number of bytes.
        bytes: u64,
        /// The number of files.
        files: u64,
    },
    /// Less is needed than was reserved.
    Shrink {
        /// The number of bytes that are not needed.
        bytes: u64,
        /// The number of files that are not needed.
        files: u64,
    },
    /// More bytes are needed than were reserved.
    Extend {
        /// The number of bytes that are needed in addition.
        bytes: u64,
    },
    /// The transfer has brought bytes to the disk; the rest of the reservation returns.
    Spend {
        /// The number of bytes.
        bytes: u64,
    },
    /// The whole reservation returns.
    Return,
}

/// An event of a transfer, for the program.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceiverEvent<E> {
    /// The number of bytes of the file that are on the disk.
    Moved(u64),
    /// The position from which the transfer goes on.
    ResumedFrom(u64),
    /// The transfer has ended: this comes once. If the peer is told, an abort is sent.
    Ended {
        /// The hash of the file, or the reason for which it is not there.
        result: Result<[u8; 32], TransferFailure<E>>,
        /// Whether the peer is told of the failure.
        tell: Tell,
    },
}

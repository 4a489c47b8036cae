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
        /// The number of the operation.
        number: OpNumber,
        /// The operation.
        op: ReceiverOp,
    },
    /// Sends a frame.
    Frame(TransferFrame<'static>),
    /// Requests the place of an open file, which the receiver has until its last action;
    /// [`grant_file`](super::FileReceiver::grant_file) takes it, now or later.
    NeedFile,
    /// Requests memory for a read of this number of bytes, at most 256 KiB;
    /// [`grant`](super::FileReceiver::grant) takes it, now or later.
    Need(usize),
    /// Requests memory for the rest of a read that returned fewer bytes than requested. The caller
    /// grants it at once: the reads behind it hold memory until the rest is there.
    NeedRest,
    /// Requests memory for this number of bytes, which the sender may then send;
    /// [`extend`](super::FileReceiver::extend) grants it, now or later. One request is open at a
    /// time.
    Window(usize),
    /// Gives memory back.
    Free(Vec<u8>),
    /// Changes the reservation in the quota of the directory.
    Room(Room),
    /// Drops the bytes that the caller has queued: they will not be written.
    Discard,
    /// Tells the program.
    Notify(ReceiverEvent<E>),
    /// Nothing is left to do, and no operation is in flight. This is the last action. Memory that
    /// was requested and not granted is not needed any more.
    Release,
}

/// An operation of a receiver on the disk. A write and a sync may be in flight at the same time,
/// and so may several reads. Any other operation is in flight alone.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceiverOp {
    /// Opens the file that has the final name, for reading: [`Found`](super::super::DiskOutcome).
    LookUp,
    /// Looks for the directory that has the final name, and syncs its name to the disk.
    LookUpDirectory,
    /// Makes the directory, and syncs its name to the disk.
    MakeDirectory,
    /// Counts the files and bytes of the directory, because its quota seems to be exhausted.
    Count,
    /// Removes parts that no transfer holds, the oldest first, until the quota has this much room,
    /// and counts the directory. It fails if they are not enough.
    MakeRoom {
        /// The number of bytes.
        bytes: u64,
        /// The number of files.
        files: u64,
    },
    /// Opens the part, or creates it.
    OpenPart,
    /// Reads the found file or the part.
    Read {
        /// The offset of the first byte.
        offset: u64,
        /// The maximum number of bytes.
        bytes: usize,
        /// The memory to read into.
        memory: Vec<u8>,
    },
    /// Truncates the part to 0 bytes.
    Truncate,
    /// Writes the first of the bytes that the caller has queued into the part.
    Write {
        /// The offset of the first byte.
        offset: u64,
        /// The maximum number of bytes, if the first piece in the queue is not larger.
        max_bytes: usize,
    },
    /// Syncs the part to the disk.
    Sync,
    /// Syncs the found file and its name to the disk.
    SyncName,
    /// Syncs the part to the disk and gives it the final name.
    Publish,
    /// Removes the name of the part and closes it.
    RemovePart,
}

/// A change of the reservation for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Reserves room; [`on_room`](super::FileReceiver::on_room) takes the answer, now or later.
    Reserve {
        /// The number of bytes.
        bytes: u64,
        /// The number of files.
        files: u64,
        /// The number of directories.
        directories: u64,
    },
    /// Returns a part of the reservation that is not needed.
    Shrink {
        /// The number of bytes that are not needed.
        bytes: u64,
        /// The number of files that are not needed.
        files: u64,
    },
    /// Adds bytes to the reservation.
    Extend {
        /// The number of additional bytes.
        bytes: u64,
    },
    /// Counts bytes that the transfer has written as used, and returns the rest of the reservation.
    Spend {
        /// The number of bytes.
        bytes: u64,
    },
    /// Returns the whole reservation.
    Return,
}

/// An event of a transfer, for the program.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceiverEvent<E> {
    /// The number of bytes of the file that are on the disk.
    Moved(u64),
    /// The offset at which the transfer continues.
    ResumedFrom(u64),
    /// The transfer has ended. This event comes once. If the peer is told, the caller sends an
    /// abort.
    Ended {
        /// The hash of the file, or the reason for which it is not there.
        result: Result<[u8; 32], TransferFailure<E>>,
        /// The choice whether the peer is told of the failure.
        tell: Tell,
    },
}

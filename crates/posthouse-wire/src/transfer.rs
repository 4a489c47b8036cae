//! File transfers: their frames, the two sides as state machines, and the names of files.

pub mod abort_code;
mod entry;
mod failure;
mod file_name;
mod frames;
#[cfg(test)]
mod harness;
mod listing;
mod operations;
mod part_name;
mod prefix_hasher;
mod read_ahead;
mod receiver;
mod sender;
mod violation;

pub use abort_code::Retry;
pub use entry::{DeliveryId, Entry, EntryKind, OfferAttributes, Replace};
pub use failure::{Tell, TransferFailure};
pub use file_name::{FileName, FileNameError, MAX_FILE_NAME_BYTES, PARTS_DIRECTORY};
pub(crate) use frames::parse;
pub use frames::{
    CHUNK_HEAD_BYTES, FEATURE_TRANSFERS, MAX_ABORT_TEXT_BYTES, TransferFrame, encode_chunk_head,
};
pub use listing::{ListingEntries, encode_listed};
pub use operations::{DiskError, DiskFailure, DiskOutcome, FileFacts, MAX_OPERATIONS, OpNumber};
pub use part_name::part_file_name;
pub use receiver::{
    EndCause, FileReceiver, ReceiverAction, ReceiverConfig, ReceiverEvent, ReceiverOp, Room,
};
pub use sender::{Chunk, ChunkSizes, FileSender, SenderAction, SenderEvent, SenderFrame, SenderOp};
pub use violation::TransferViolation;

/// The minimum rate, in bytes per second, at which a side is expected to compare the bytes that it
/// holds. Transfers expire later by the time that this rate needs.
const MIN_COMPARE_BYTES_PER_SECOND: u64 = 8 << 20;

/// Returns the hash of a whole file.
pub fn file_hash(content: &[u8]) -> [u8; 32] {
    *blake3::hash(content).as_bytes()
}

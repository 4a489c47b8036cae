//! File transfers: their frames, the two sides as state machines, and the names of files.

pub mod abort_code;
mod file_name;
mod frames;
mod listing;
mod part_name;
mod receiver;
mod sender;
mod violation;

pub use file_name::{FileName, FileNameError, MAX_FILE_NAME_BYTES, PARTS_DIRECTORY};
pub(crate) use frames::parse;
pub use frames::{
    CHUNK_HEAD_BYTES, FEATURE_TRANSFERS, MAX_ABORT_TEXT_BYTES, TransferFrame, encode_chunk_head,
};
pub use listing::{ListingEntries, ListingEntry, encode_listed};
pub use part_name::part_file_name;
pub use receiver::FileReceiver;
pub use sender::{Action, FileSender, PrefixDiffers};
pub use violation::TransferViolation;

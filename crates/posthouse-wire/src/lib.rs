//! Bytes and messages of Posthouse, as state machines.
//!
//! Nothing in this crate opens a socket, reads a clock, draws a random number, starts a thread or
//! touches a file. The caller passes in received bytes and the time; it gets back messages, and
//! bytes to send. The same code therefore runs in a server, in a simulation and in a fuzzer.
//! `PROTOCOL.md` at the root of the repository is the normative text; the tests of this crate check
//! its test vectors.
//!
//! The parts, in the order in which a received byte meets them:
//! - [`Framing`]: the boundaries of messages in a stream, and [`Framing::encode`], which writes
//!   them;
//! - [`Reader`]: takes chunks as they arrive and returns whole [`Frame`]s;
//! - [`FrameRate`]: the time limit for a frame that has begun to arrive;
//! - [`Session`]: hello, proof, heartbeat, requests and bye (native framing only);
//! - [`TransferFrame`], [`FileSender`] and [`FileReceiver`]: file transfers, and [`FileName`], a
//!   name that every system can hold.
#![forbid(unsafe_code)]
#![warn(clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod bye_code;
mod escaped;
mod fields;
mod foreign;
mod frame_rate;
mod framing;
mod kind;
mod op_count;
mod reader;
mod session;
mod transfer;
mod violation;

pub use escaped::Escaped;
pub use foreign::Foreign;
pub use frame_rate::{
    FrameRate, FrameRateLimits, MAX_FRAME_TIME, MIN_BYTES_PER_SECOND, RATE_GRACE,
};
pub use framing::{
    Delimiter, EncodeError, Endian, FrameError, Framing, FramingError, LengthField,
    MAX_DELIMITER_BYTES, MAX_PAYLOAD_BYTES,
};
pub use kind::{REQUEST as REQUEST_KIND, is_reserved_kind};
pub use reader::{Frame, Reader, ReaderConfig};
pub use session::{
    Agreed, Bye, HelloPolicy, Key, KeyError, MAX_BYE_TEXT_BYTES, MAX_CONTROL_REPLIES,
    MAX_CREDENTIAL_BYTES, MIN_HEARTBEAT, MIN_PEER_PAYLOAD_BYTES, REPLY_HEAD_BYTES,
    REQUEST_HEAD_BYTES, ReplyStatus, SendQueue, Session, SessionConfig, SessionConfigError,
    SessionEvent, encode_reply, encode_request,
};
pub use transfer::{
    CHUNK_HEAD_BYTES, Chunk, ChunkSizes, DeliveryId, DiskError, DiskFailure, DiskOutcome, EndCause,
    Entry, EntryKind, FEATURE_TRANSFERS, FileFacts, FileName, FileNameError, FileReceiver,
    FileSender, ListingEntries, MAX_ABORT_TEXT_BYTES, MAX_FILE_NAME_BYTES, MAX_OPERATIONS,
    OfferAttributes, OpNumber, PARTS_DIRECTORY, ReceiverAction, ReceiverConfig, ReceiverEvent,
    ReceiverOp, Replace, Retry, Room, SenderAction, SenderEvent, SenderFrame, SenderOp, Tell,
    TransferFailure, TransferFrame, TransferViolation, abort_code, encode_chunk_head,
    encode_listed, file_hash, part_file_name,
};
pub use violation::Violation;

//! Bytes and messages of Posthouse, as state machines.
//!
//! Nothing in this crate opens a socket, reads a clock, draws a random number, starts a thread or
//! touches a file. Bytes and time come in as arguments; messages, and bytes to send, go out. So the
//! same code runs under a server, under a simulation and under a fuzzer. `PROTOCOL.md` at the root
//! of the repository is the normative text; its test vectors are checked against this crate.
//!
//! The parts, in the order in which a received byte meets them:
//! - [`Framing`]: how messages are cut out of a stream, and [`Framing::encode`], its inverse;
//! - [`Reader`]: takes chunks as they come and gives whole [`Frame`]s;
//! - [`Pace`]: how long a frame that has begun may take;
//! - [`Session`]: hello, proof, heartbeat, requests and bye (native framing only);
//! - [`TransferFrame`], [`Outgoing`] and [`Incoming`]: files, and [`FileName`], what they may be
//!   called.
#![forbid(unsafe_code)]
#![warn(clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod bye;
pub mod code;
mod file_name;
mod foreign;
mod framing;
mod kind;
mod pace;
mod reader;
mod request;
mod session;
mod transfer;
mod violation;
mod work;

pub use bye::{BYE_TEXT_BYTES_MAX, Bye};
pub use file_name::{FILE_NAME_BYTES_MAX, FileName, FileNameError, part_name};
pub use foreign::Foreign;
pub use framing::{
    DELIMITER_BYTES_MAX, Delimiter, EncodeError, Endian, Framing, FramingError, LengthField,
    PAYLOAD_BYTES_MAX,
};
pub use kind::is_own_kind;
pub use pace::{FRAME_BYTES_PER_SECOND_MIN, FRAME_GRACE, FRAME_TIME_MAX, Pace, PaceLimits};
pub use reader::{Frame, FrameError, Reader, Rules};
pub use request::{REPLY_HEAD_BYTES, REQUEST_HEAD_BYTES, Status, encode_reply, encode_request};
pub use session::{
    Agreed, CONTROL_REPLIES_MAX, CREDENTIAL_BYTES_MAX, ConfigError, Event, HEARTBEAT_MIN,
    HelloRule, Key, KeyError, PEER_PAYLOAD_BYTES_MIN, Session, SessionConfig,
};
pub use transfer::{
    ABORT_TEXT_BYTES_MAX, CHUNK_HEAD_BYTES, Entries, Entry, FEATURE_TRANSFERS, Incoming, Next,
    Outgoing, PrefixDiffers, TransferFrame, TransferViolation, abort_code, encode_chunk_head,
    encode_listed,
};
pub use violation::Violation;

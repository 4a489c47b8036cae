//! What a peer did wrong: one text for the log, one for the peer.

use std::fmt;
use std::time::Duration;

use crate::{FrameError, bye_code};

/// Why a connection is closed on the peer's account. `Display` is for our log; the peer is told
/// [`Violation::code`] and [`Violation::text_for_peer`] in a bye, where it can understand one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The bytes are no frame that may be accepted.
    Frame(FrameError),
    /// The frame that had begun was not complete in time.
    FrameLate {
        /// The limit.
        max_frame_time: Duration,
    },
    /// The frame that had begun came at less than the least rate.
    FrameSlow {
        /// Bytes of it that came.
        bytes: u64,
        /// The time they took.
        taken: Duration,
        /// The limit.
        min_bytes_per_second: u64,
    },
    /// The first frame had to be a hello and was not.
    HelloMissing {
        /// Its kind.
        kind: u8,
    },
    /// A frame of a reserved kind whose content is not what its kind prescribes.
    Malformed {
        /// Its kind.
        kind: u8,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No protocol version that both sides speak.
    Version {
        /// What the peer asked for, or chose.
        version: u16,
    },
    /// A frame of a kind that may not come now.
    OutOfState {
        /// Its kind.
        kind: u8,
    },
    /// A reserved kind that this version does not know and that may not be skipped.
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// The server demands a proof and no key is configured here.
    KeyMissing,
    /// A key is configured here and the server does not demand a proof, so it cannot give one.
    ProofNotOffered,
    /// The proof is wrong: the peer holds another key, or none.
    ProofWrong,
    /// More pings than may wait for their pongs to leave.
    ControlFlood {
        /// The limit.
        max_control_replies: u32,
    },
    /// Nothing was heard for two and a half heartbeats.
    Silent {
        /// How long nothing was heard.
        silence: Duration,
    },
}

impl Violation {
    /// The code to say bye with.
    pub fn code(&self) -> u16 {
        match self {
            Self::Frame(error) => error.code(),
            Self::FrameLate { .. } | Self::FrameSlow { .. } | Self::Silent { .. } => {
                bye_code::TOO_SLOW
            }
            Self::Version { .. } => bye_code::VERSION_NOT_SUPPORTED,
            Self::KeyMissing | Self::ProofNotOffered | Self::ProofWrong => bye_code::NOT_ADMITTED,
            Self::ControlFlood { .. } => bye_code::BUSY,
            Self::HelloMissing { .. }
            | Self::Malformed { .. }
            | Self::OutOfState { .. }
            | Self::UnknownKind { .. } => bye_code::PROTOCOL_VIOLATION,
        }
    }

    /// The words to say bye with: they tell a peer what it did, and nothing about this side.
    pub fn text_for_peer(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.text_for_peer(),
            Self::FrameLate { .. } | Self::FrameSlow { .. } => "frame too slow",
            Self::HelloMissing { .. } => "hello required",
            Self::Malformed { .. } => "malformed frame",
            Self::Version { .. } => "version not supported",
            Self::OutOfState { .. } => "frame out of state",
            Self::UnknownKind { .. } => "unknown critical kind",
            Self::KeyMissing | Self::ProofNotOffered | Self::ProofWrong => "not admitted",
            Self::ControlFlood { .. } => "too many pings",
            Self::Silent { .. } => "no sign of life",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::FrameLate { max_frame_time } => {
                write!(f, "a frame was not complete within {max_frame_time:?} of its first byte")
            }
            Self::FrameSlow { bytes, taken, min_bytes_per_second } => write!(
                f,
                "a frame came too slowly: {bytes} bytes of it in {taken:?}, and at least \
                 {min_bytes_per_second} a second are asked for"
            ),
            Self::HelloMissing { kind } => write!(
                f,
                "a hello is required and a frame of kind {kind} came instead; is the peer a plain \
                 one? then set hello to optional, and no key"
            ),
            Self::Malformed { kind, why } => {
                write!(f, "a frame of kind {kind} is malformed: {why}")
            }
            Self::Version { version } => write!(
                f,
                "the peer speaks protocol version {version}, and this side speaks version 1"
            ),
            Self::OutOfState { kind } => {
                write!(f, "a frame of kind {kind} came when none of that kind may come")
            }
            Self::UnknownKind { kind } => write!(
                f,
                "a frame of kind {kind}, which this version does not know and may not skip"
            ),
            Self::KeyMissing => {
                f.write_str("the server demands a proof of its key, and no key is configured here")
            }
            Self::ProofNotOffered => f.write_str(
                "a key is configured here, and the server demands no proof, so it would not prove \
                 itself either; give the server the key, or configure none here",
            ),
            Self::ProofWrong => {
                f.write_str("the proof of the key is wrong; do both sides hold the same key?")
            }
            Self::ControlFlood { max_control_replies } => write!(
                f,
                "more than {max_control_replies} pings came while their pongs could not be sent"
            ),
            Self::Silent { silence } => {
                write!(f, "nothing was heard for {silence:?}, two and a half heartbeats or more")
            }
        }
    }
}

impl std::error::Error for Violation {}

impl From<FrameError> for Violation {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

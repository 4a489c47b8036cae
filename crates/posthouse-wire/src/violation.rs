//! The violations of a peer, each with a text for the log and a text for the peer.

use std::fmt;
use std::time::Duration;

use crate::{FrameError, bye_code};

/// The reason why this side must close a connection: the peer broke the protocol or a limit, or the
/// two sides cannot agree. `Display` is for the log of this side. If the peer can understand a bye,
/// the bye carries [`Violation::code`] and [`Violation::text_for_peer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The received bytes are not an acceptable frame.
    Frame(FrameError),
    /// A frame had begun and was not complete in time.
    FrameLate {
        /// The limit.
        max_frame_time: Duration,
    },
    /// A frame had begun and arrived below the minimum rate.
    FrameSlow {
        /// The received bytes of the frame.
        bytes: u64,
        /// The time since its first byte.
        taken: Duration,
        /// The limit.
        min_bytes_per_second: u64,
    },
    /// A hello was required, and another frame arrived.
    HelloMissing {
        /// The kind of that frame.
        kind: u8,
    },
    /// The content of a frame is invalid for its reserved kind.
    Malformed {
        /// The kind of the frame.
        kind: u8,
        /// The mistake.
        why: &'static str,
    },
    /// The two sides have no protocol version in common.
    Version {
        /// The version that the peer asked for, or chose.
        version: u16,
    },
    /// A frame of a kind that is not valid at this point.
    OutOfState {
        /// The kind of the frame.
        kind: u8,
    },
    /// A frame of a reserved kind that this version does not know and must not skip.
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// The server demands a proof, and this side has no key.
    KeyMissing,
    /// This side has a key, and the server does not demand a proof, so it would give none either.
    ProofNotOffered,
    /// The proof is wrong: the peer has another key, or none.
    ProofWrong,
    /// The peer sent more pings than pongs may wait in the send queue.
    ControlFlood {
        /// The limit.
        max_control_replies: u32,
    },
    /// Nothing arrived for two and a half heartbeats.
    Silent {
        /// The time since the last bytes arrived.
        silence: Duration,
    },
}

impl Violation {
    /// Returns the code of the bye for this violation.
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

    /// Returns the text of the bye for this violation. It names the mistake of the peer and reveals
    /// nothing about this side.
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
                "a frame arrived too slowly: {bytes} bytes in {taken:?}, and the minimum is \
                 {min_bytes_per_second} bytes per second"
            ),
            Self::HelloMissing { kind } => write!(
                f,
                "a hello is required, and a frame of kind {kind} arrived instead; for a peer that \
                 sends no hello, set hello to optional and configure no key"
            ),
            Self::Malformed { kind, why } => {
                write!(f, "a frame of kind {kind} is malformed: {why}")
            }
            Self::Version { version } => write!(
                f,
                "the peer speaks protocol version {version}, and this side speaks version 1"
            ),
            Self::OutOfState { kind } => {
                write!(f, "a frame of kind {kind} is not valid in this state of the connection")
            }
            Self::UnknownKind { kind } => write!(
                f,
                "a frame of the unknown kind {kind} arrived, and its critical bit forbids to skip \
                 it; does the peer speak a later version?"
            ),
            Self::KeyMissing => {
                f.write_str("the server demands a proof of its key, and no key is configured here")
            }
            Self::ProofNotOffered => f.write_str(
                "this side has a key, and the server demands no proof of it, so the server would \
                 not prove that it has the key; configure the key on both sides or on neither",
            ),
            Self::ProofWrong => {
                f.write_str("the proof of the key is wrong; do both sides hold the same key?")
            }
            Self::ControlFlood { max_control_replies } => write!(
                f,
                "more than {max_control_replies} pings arrived while their pongs could not be sent"
            ),
            Self::Silent { silence } => {
                write!(f, "nothing arrived for {silence:?}, two and a half heartbeats or more")
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

//! The errors of framings: an invalid framing, a message that cannot be sent, and a stream that
//! cannot be read.

use std::fmt;

use crate::{Foreign, bye_code};

/// An invalid framing. `Display` names the mistake and a valid form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramingError(pub(crate) String);

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FramingError {}

/// The reason why a message could not be encoded. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The payload is longer than the peer, the configuration or the framing allows.
    TooLarge {
        /// Bytes of the payload. For a request or a reply its head counts, too.
        len: usize,
        /// The largest number of bytes allowed.
        max: usize,
    },
    /// The payload is shorter than the header that the length framing keeps in it.
    TooShort {
        /// Bytes of the payload.
        len: usize,
        /// The smallest number of bytes allowed.
        min: usize,
    },
    /// The payload contains the delimiter, or forms one together with the delimiter that ends the
    /// message. The receiver would end the message too early.
    ContainsDelimiter {
        /// The position in the payload at which that delimiter begins.
        at: usize,
    },
    /// The kind is not 0, and the framing is not native. Only native framing carries a kind.
    KindNotSupported {
        /// The kind of the message.
        kind: u8,
    },
    /// The kind is one of 4 to 31, which belong to Posthouse once hello is agreed. This crate does
    /// not return this error: its user checks with [`crate::Session::kinds_are_reserved`].
    KindReserved {
        /// The kind of the message.
        kind: u8,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => write!(
                f,
                "the message has {len} bytes, and at most {max} can be sent; send it in parts or \
                 raise the limit on the receiving side"
            ),
            Self::TooShort { len, min } => write!(
                f,
                "the message has {len} bytes, and this length framing needs at least {min}, \
                 because its messages include the header"
            ),
            Self::ContainsDelimiter { at } => write!(
                f,
                "the message contains the delimiter that ends messages, at byte {at}; escape it \
                 or choose another framing"
            ),
            Self::KindNotSupported { kind } => write!(
                f,
                "kind {kind} cannot be sent: only native framing carries kinds; use kind 0"
            ),
            Self::KindReserved { kind } => write!(
                f,
                "kind {kind} cannot be sent: kinds 4 to 31 belong to Posthouse once hello is \
                 agreed; use 0 to 3 or 32 to 255"
            ),
        }
    }
}

impl std::error::Error for EncodeError {}

/// The reason why the rest of a stream cannot be read. After it the start of the next frame is
/// unknown, so the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The payload is longer than the limit. Nothing was allocated for it.
    TooLarge {
        /// The announced length of the payload. Lines and delimiters announce none: for them it is
        /// the number of payload bytes received so far.
        announced: u64,
        /// The limit.
        max: usize,
    },
    /// The announced length is shorter than the header.
    TooShort {
        /// The value of the length field.
        announced: u64,
        /// The smallest valid value.
        least: u64,
    },
    /// The flags byte of a native frame is not zero.
    BadFlags {
        /// Its value.
        flags: u8,
    },
    /// The stream begins like a stream of another protocol.
    Foreign(Foreign),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { announced, max } => write!(
                f,
                "the peer sends a message of {announced} bytes or more, and the limit is {max}; \
                 raise the limit, or send the message in parts"
            ),
            Self::TooShort { announced, least } => write!(
                f,
                "a frame announced a length of {announced}, below its own header ({least}); is \
                 the peer using the same framing?"
            ),
            Self::BadFlags { flags } => write!(
                f,
                "a frame has {flags:#04x} in its flags byte, which must be 0; is the peer using \
                 the same framing?"
            ),
            Self::Foreign(foreign) => write!(f, "the stream {foreign}"),
        }
    }
}

impl std::error::Error for FrameError {}

impl FrameError {
    /// Returns the code of the bye for this error.
    pub fn code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => bye_code::FRAME_TOO_LARGE,
            _ => bye_code::PROTOCOL_VIOLATION,
        }
    }

    /// Returns the text of the bye for this error. It names the mistake of the peer and reveals
    /// nothing about this side.
    pub fn text_for_peer(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "frame too large",
            _ => "not a valid frame",
        }
    }
}

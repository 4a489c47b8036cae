//! The errors of framings: one that cannot be built, a message that cannot be sent, a stream that
//! cannot be read.

use std::fmt;

use crate::{Foreign, bye_code};

/// A framing that cannot be: what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramingError(pub(crate) String);

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FramingError {}

/// Why a message cannot be sent. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The payload is longer than the peer, the configuration or the framing allows.
    TooLarge {
        /// Bytes of the payload; for a request or a reply including its head.
        len: usize,
        /// The most there may be.
        max: usize,
    },
    /// The payload is shorter than the header that the length framing keeps in it.
    TooShort {
        /// Bytes of the payload.
        len: usize,
        /// The least there must be.
        min: usize,
    },
    /// The delimiter would be found before the end of the message.
    ContainsDelimiter {
        /// Where in the payload it begins.
        at: usize,
    },
    /// Only native framing carries a kind; elsewhere it must be 0.
    KindNotSupported {
        /// The kind asked for.
        kind: u8,
    },
    /// Kinds 4 to 31 are Posthouse's own once hello is agreed. This crate leaves it to its user to
    /// report this, with [`crate::Session::kinds_are_reserved`].
    KindReserved {
        /// The kind asked for.
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
                "the message has {len} bytes, and this length framing keeps its header in the \
                 message, so it needs at least {min}"
            ),
            Self::ContainsDelimiter { at } => write!(
                f,
                "the message contains the delimiter that ends messages, at byte {at}; escape it \
                 or choose another framing"
            ),
            Self::KindNotSupported { kind } => write!(
                f,
                "kind {kind} cannot be sent: only native framing carries kinds; send kind 0"
            ),
            Self::KindReserved { kind } => write!(
                f,
                "kind {kind} cannot be sent: 4 to 31 are Posthouse's own once hello is agreed; \
                 use 0 to 3 or 32 to 255"
            ),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Why the stream cannot be read on. Where the next frame begins is lost, so this is the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The payload is longer than the limit. Nothing was allocated for it.
    TooLarge {
        /// The payload's announced length; with lines and delimiters, what has come of it so far.
        announced: u64,
        /// The limit.
        max: usize,
    },
    /// The announced length does not even cover the header.
    TooShort {
        /// The value of the length field.
        announced: u64,
        /// The least that it may be.
        least: u64,
    },
    /// The flags byte of a native frame is not zero.
    BadFlags {
        /// Its value.
        flags: u8,
    },
    /// The stream begins as one of another protocol.
    Foreign(Foreign),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { announced, max } => write!(
                f,
                "a message of {announced} bytes or more was announced, and at most {max} are \
                 accepted; raise the limit, or send it in parts"
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
    /// The code to say bye with.
    pub fn code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => bye_code::FRAME_TOO_LARGE,
            _ => bye_code::PROTOCOL_VIOLATION,
        }
    }

    /// The words to say bye with: they tell a peer what it did, and nothing about this side.
    pub fn text_for_peer(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "frame too large",
            _ => "not a valid frame",
        }
    }
}

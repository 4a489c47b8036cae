//! What a peer does wrong in one transfer.

use std::fmt;

use super::abort_code;

/// What is wrong with a peer's part in a transfer. It ends the transfer, not the connection: say
/// abort with [`bye_code`](Self::code). `Display` tells nothing that the peer does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferViolation {
    /// An accept after an accept.
    AcceptedTwice,
    /// An accept that says that it holds more than the file has.
    OffsetBeyondSize {
        /// What it says that it holds.
        offset: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// An accept that limits what it says is there already.
    LimitBelowOffset {
        /// Up to where it may be sent.
        limit: u64,
        /// From where on.
        offset: u64,
    },
    /// An accept that says that it holds nothing, with another hash than that of nothing.
    PrefixOfNothing,
    /// A frame before the accept, or after done.
    OutOfTurn {
        /// Its kind.
        kind: u8,
    },
    /// A chunk that reaches beyond the credit.
    BeyondCredit {
        /// Up to where it reaches.
        end: u64,
        /// Up to where it may be sent.
        limit: u64,
    },
    /// A chunk that reaches beyond what was offered.
    BeyondSize {
        /// Up to where it reaches.
        end: u64,
        /// Bytes that were offered.
        size: u64,
    },
    /// Done, and not all has come.
    TooFew {
        /// Bytes that have come.
        received: u64,
        /// Bytes that were offered.
        size: u64,
    },
    /// The receiver's hash of the whole is not the one that it was told.
    OtherHash,
}

impl TransferViolation {
    /// The code to say abort with.
    pub fn code(&self) -> u16 {
        match self {
            Self::OtherHash => abort_code::HASH_DIFFERS,
            _ => abort_code::PROTOCOL,
        }
    }
}

impl fmt::Display for TransferViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptedTwice => f.write_str("what was accepted is accepted again"),
            Self::OffsetBeyondSize { offset, size } => {
                write!(f, "accepted from byte {offset} on, and the file has {size}")
            }
            Self::LimitBelowOffset { limit, offset } => {
                write!(f, "accepted from byte {offset} on, and no further than to {limit}")
            }
            Self::PrefixOfNothing => {
                f.write_str("accepted from the beginning, with another hash than that of nothing")
            }
            Self::OutOfTurn { kind } => {
                write!(f, "a frame of kind {kind} before the accept or after done")
            }
            Self::BeyondCredit { end, limit } => {
                write!(f, "a chunk up to byte {end}, and the credit ends at {limit}")
            }
            Self::BeyondSize { end, size } => {
                write!(f, "a chunk up to byte {end}, and {size} bytes were offered")
            }
            Self::TooFew { received, size } => {
                write!(f, "done after {received} of the {size} bytes that were offered")
            }
            Self::OtherHash => f.write_str("confirmed with another hash than it was told"),
        }
    }
}

impl std::error::Error for TransferViolation {}

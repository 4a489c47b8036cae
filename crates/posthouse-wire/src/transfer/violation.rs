//! The violations of the rules of one transfer by a peer.

use std::fmt;

use super::abort_code;

/// A violation of the rules of a transfer by the peer. It ends the transfer, not the connection:
/// send an abort with [`code`](Self::code). `Display` shows nothing that the peer does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferViolation {
    /// A second accept of the same offer.
    AcceptedTwice,
    /// An accept whose offset is beyond the end of the file.
    OffsetBeyondSize {
        /// The number of bytes that the receiver claims to hold.
        offset: u64,
        /// The size of the file in bytes.
        size: u64,
    },
    /// An accept whose limit is below its offset.
    LimitBelowOffset {
        /// The offset up to which the receiver allows the sender to send.
        limit: u64,
        /// The offset from which the receiver asks the sender to send.
        offset: u64,
    },
    /// An accept with offset 0 whose hash is not that of no bytes.
    PrefixOfNothing,
    /// A frame that came before the accept, or after done.
    OutOfTurn {
        /// The kind of the frame.
        kind: u8,
    },
    /// A chunk that ends beyond the credit.
    BeyondCredit {
        /// The offset at which the chunk ends.
        end: u64,
        /// The offset up to which the sender may send.
        limit: u64,
    },
    /// A chunk that ends beyond the offered size.
    BeyondSize {
        /// The offset at which the chunk ends.
        end: u64,
        /// The offered size in bytes.
        size: u64,
    },
    /// A done that came before the whole file.
    TooFew {
        /// The number of bytes that have been received.
        received: u64,
        /// The offered size in bytes.
        size: u64,
    },
    /// The receiver confirmed another hash of the whole file than the sender sent.
    OtherHash,
}

impl TransferViolation {
    /// Returns the code of the abort that tells the peer.
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

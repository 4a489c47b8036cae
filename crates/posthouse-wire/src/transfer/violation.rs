//! The violations of the rules of one transfer by a peer.

use std::fmt;

/// A violation of the rules of a transfer by the peer. It ends the transfer, not the connection,
/// with an abort of code [`PROTOCOL`](super::abort_code::PROTOCOL). `Display` shows nothing that
/// the peer does not know.
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
    /// An accept with offset 0 whose hash is not the hash of an empty prefix.
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

impl fmt::Display for TransferViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptedTwice => f.write_str("the receiver accepted the same offer twice"),
            Self::OffsetBeyondSize { offset, size } => write!(
                f,
                "the receiver accepted the offer from byte {offset}, and the file has {size} bytes"
            ),
            Self::LimitBelowOffset { limit, offset } => write!(
                f,
                "the receiver accepted the offer from byte {offset}, and its credit ends before \
                 that, at byte {limit}"
            ),
            Self::PrefixOfNothing => f.write_str(
                "the receiver accepted the offer from byte 0, and its prefix hash is not the hash \
                 of an empty prefix",
            ),
            Self::OutOfTurn { kind } => {
                write!(f, "a frame of kind {kind} arrived before the accept or after the done")
            }
            Self::BeyondCredit { end, limit } => {
                write!(f, "a chunk ends at byte {end}, and the credit ends at byte {limit}")
            }
            Self::BeyondSize { end, size } => {
                write!(f, "a chunk ends at byte {end}, and the offered file has {size} bytes")
            }
            Self::TooFew { received, size } => {
                write!(f, "the sender finished after {received} of the {size} offered bytes")
            }
            Self::OtherHash => {
                f.write_str("the receiver confirmed a different hash than the sender sent")
            }
        }
    }
}

impl std::error::Error for TransferViolation {}

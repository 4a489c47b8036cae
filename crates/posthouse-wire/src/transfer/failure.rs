//! The reasons for which a transfer ends without its file.

use std::fmt;

use super::{TransferViolation, abort_code};

/// The reason for which a transfer ended. `E` is the error type of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferFailure<E> {
    /// The peer broke the rules of the transfer.
    Violation(TransferViolation),
    /// Another file exists under the name.
    Exists {
        /// The size of that file, if it differs from the offered one.
        bytes: Option<u64>,
    },
    /// The hash of the received bytes differs from that of the sent bytes.
    HashDiffers,
    /// The bytes that the receiver holds are not the beginning of the file, for the second time.
    PrefixDiffers,
    /// A file changed while it was read.
    Changed(&'static str),
    /// Another file of the same size and time got the name of the file, or the permissions or the
    /// version of the file changed. The receiver keeps its bytes: the next attempt compares them.
    Replaced,
    /// The quota has no room for the file.
    NoRoom,
    /// A write succeeded, and the disk stored none of its bytes.
    NothingWritten,
    /// The error that the caller gave: an error of the disk, or its own reason to end the transfer.
    Given(E),
}

impl<E> TransferFailure<E> {
    /// Returns the code of the abort that tells the peer, or `None` if the caller gave the error.
    pub fn code(&self) -> Option<u16> {
        Some(match self {
            Self::Violation(_) => abort_code::PROTOCOL,
            Self::Exists { .. } => abort_code::EXISTS,
            Self::HashDiffers => abort_code::HASH_DIFFERS,
            Self::PrefixDiffers => abort_code::PREFIX_DIFFERS,
            Self::Changed(_) => abort_code::CHANGED,
            Self::Replaced => abort_code::REPLACED,
            Self::NoRoom => abort_code::QUOTA,
            Self::NothingWritten => abort_code::DISK,
            Self::Given(_) => return None,
        })
    }
}

/// Writes the details that the code of the abort does not contain.
impl<E: fmt::Display> fmt::Display for TransferFailure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Exists { bytes: Some(bytes) } => {
                write!(f, "the existing file has {bytes} bytes")
            }
            Self::Exists { bytes: None } | Self::HashDiffers | Self::Replaced => Ok(()),
            Self::PrefixDiffers => {
                f.write_str("the bytes that the receiver holds are not the beginning of the file")
            }
            Self::Changed(text) => f.write_str(text),
            Self::NoRoom => f.write_str("the file would exceed the quota of the directory"),
            Self::NothingWritten => f.write_str("a write stored no bytes"),
            Self::Given(error) => error.fmt(f),
        }
    }
}

/// The choice whether the peer is told how a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// An abort is sent.
    Peer,
    /// Nothing is sent: the peer itself ended the transfer, or the connection has ended.
    Nobody,
}

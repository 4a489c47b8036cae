//! The reasons for which a transfer ends without its file.

use std::fmt;

use super::{TransferViolation, abort_code};

/// The reason for which a transfer ended. `E` is the error type of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferFailure<E> {
    /// The peer broke the rules of the transfer.
    Violation(TransferViolation),
    /// There is another file under the name.
    Exists {
        /// Its size, if that is another than the offered one.
        bytes: Option<u64>,
    },
    /// The hash of what arrived is another than that of what was sent.
    HashDiffers,
    /// The receiver holds something else than the beginning of the file, for the second time.
    PrefixDiffers,
    /// A file changed while it was read.
    Changed(&'static str),
    /// The quota has no room for the file.
    NoRoom,
    /// The disk takes no bytes.
    NothingWritten,
    /// The error that the caller gave: the disk's, or its own reason to end the transfer.
    Given(E),
}

impl<E> TransferFailure<E> {
    /// Returns the code of the abort that tells the peer, unless the caller gave the error.
    pub fn code(&self) -> Option<u16> {
        Some(match self {
            Self::Violation(_) => abort_code::PROTOCOL,
            Self::Exists { .. } => abort_code::EXISTS,
            Self::HashDiffers => abort_code::HASH_DIFFERS,
            Self::PrefixDiffers => abort_code::PREFIX_DIFFERS,
            Self::Changed(_) => abort_code::CHANGED,
            Self::NoRoom => abort_code::NO_SPACE,
            Self::NothingWritten => abort_code::DISK,
            Self::Given(_) => return None,
        })
    }
}

/// Writes the details that the code does not tell.
impl<E: fmt::Display> fmt::Display for TransferFailure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Exists { bytes: Some(bytes) } => write!(f, "it has {bytes} bytes"),
            Self::Exists { bytes: None } | Self::HashDiffers => Ok(()),
            Self::PrefixDiffers => f.write_str("what the other side holds is not its beginning"),
            Self::Changed(text) => f.write_str(text),
            Self::NoRoom => f.write_str("it would exceed the quota of the directory"),
            Self::NothingWritten => f.write_str("it takes no bytes"),
            Self::Given(error) => error.fmt(f),
        }
    }
}

/// Whether the peer is told how a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// An abort is sent.
    Peer,
    /// Nothing is sent: the peer said so itself, or the connection is gone.
    Nobody,
}

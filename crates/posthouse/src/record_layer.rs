//! The interface for encryption: a record layer between the bytes of a connection and its frames.

mod cut;

use std::fmt;
use std::ops::Range;

use crate::sync::Arc;

pub use cut::CutRecords;

/// A layer between a connection and its socket. It packs the outgoing bytes into records (blocks
/// that it can encrypt, as TLS does) and unpacks the received records. It does no I/O and reads no
/// clock.
///
/// The connection passes received bytes to the layer and sends the layer's records. The code above
/// the layer sees plain bytes only.
pub trait RecordLayer: Send {
    /// Opens the record at the beginning of `records`, in place.
    ///
    /// # Errors
    ///
    /// If the record is not valid: the connection ends.
    fn open(&mut self, records: &mut [u8]) -> Result<Opened, RecordError>;

    /// Seals a beginning of `plain`, appends the records to `records`, and returns the number of
    /// sealed bytes: 0 if `plain` is empty or the layer needs input first.
    ///
    /// # Errors
    ///
    /// If nothing can be sealed any more: the connection ends.
    fn seal(&mut self, plain: &[u8], records: &mut Vec<u8>) -> Result<usize, RecordError>;

    /// Returns whether the layer has its own records to send: a handshake or an alert.
    fn has_output(&self) -> bool;

    /// Appends the layer's own records to `records`.
    fn take_output(&mut self, records: &mut Vec<u8>);

    /// Returns whether the handshake is done, so that plain bytes can be sealed.
    fn is_ready(&self) -> bool;

    /// Ends this side of the stream: adds the last record to the layer's own output.
    fn end(&mut self);
}

/// The result of opening a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A record was opened.
    Record {
        /// The size of the record.
        bytes: usize,
        /// The range of its plain bytes within the record. Empty for the layer's own records.
        plain: Range<usize>,
    },
    /// The record is not whole.
    Partial {
        /// The number of bytes that the argument `records` of [`RecordLayer::open`] must have
        /// before the next attempt. It is more than `records` has now.
        needed: usize,
    },
    /// The peer has ended its side of the stream.
    Ended,
}

/// A record that cannot be opened or sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordError(pub Box<str>);

/// Makes the record layer of each connection of a listener, or of a target.
pub trait MakeRecordLayer: Send + Sync {
    /// Makes the layer of a new connection.
    fn make(&self) -> Box<dyn RecordLayer>;
}

impl<F: Fn() -> Box<dyn RecordLayer> + Send + Sync> MakeRecordLayer for F {
    fn make(&self) -> Box<dyn RecordLayer> {
        self()
    }
}

/// The record layer of a listener or a target, if it has one.
#[derive(Clone, Default)]
pub(crate) struct LayerChoice(pub(crate) Option<Arc<dyn MakeRecordLayer>>);

impl fmt::Debug for LayerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "records" } else { "plain" })
    }
}

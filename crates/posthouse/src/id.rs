//! The ids of connections, and the tags of their operations.

use std::fmt;

use posthouse_io::Tag;

/// The id of a connection: a slot and the slot's generation.
///
/// Later connections reuse the slot, but never the id: with the id of an ended connection every
/// call returns [`NotConnected`](crate::SendError::NotConnected), and never reaches another peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u64);

/// The number of a handler in its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HandlerId(pub(crate) u16);

/// Bits of a slot number: 16 million connections.
pub(crate) const SLOT_BITS: u32 = 24;
/// Bits of a generation: a slot is reused 268 million times before an id could come again.
pub(crate) const GENERATION_BITS: u32 = 28;
const OPERATION_BITS: u32 = 4;
const SEQUENCE_BITS: u32 = 8;
const _: () = assert!(SLOT_BITS + GENERATION_BITS + OPERATION_BITS + SEQUENCE_BITS == u64::BITS);

pub(crate) const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl PeerId {
    pub(crate) fn new(slot: u32, generation: u32) -> Self {
        assert!(slot < 1 << SLOT_BITS && generation <= GENERATION_MASK);
        Self(u64::from(slot) << GENERATION_BITS | u64::from(generation))
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 >> GENERATION_BITS) as u32
    }

    pub(crate) fn generation(self) -> u32 {
        self.0 as u32 & GENERATION_MASK
    }

    /// Returns the id as a number, for a log or for code that does not know this type.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.generation())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

/// The operation of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    /// The slot is the listener's number.
    Accept,
    /// The slot is the listener's number.
    CloseListener,
    Resolve,
    Connect,
    Receive,
    Send,
    Close,
    /// The sequence number is the slot of a transfer.
    File,
    /// The close of the socket of an attempt to connect that failed.
    CloseAttempt,
}

impl Operation {
    const ALL: [Operation; 9] = [
        Operation::Accept,
        Operation::CloseListener,
        Operation::Resolve,
        Operation::Connect,
        Operation::Receive,
        Operation::Send,
        Operation::Close,
        Operation::File,
        Operation::CloseAttempt,
    ];

    /// Returns whether the operation belongs to a listener, not to a connection.
    pub(crate) fn is_listeners(self) -> bool {
        matches!(self, Operation::Accept | Operation::CloseListener)
    }
}

/// Packs the tag of a connection's operation. `sequence` orders the receives of a connection.
pub(crate) fn pack(id: PeerId, operation: Operation, sequence: u8) -> Tag {
    Tag(id.0 << (OPERATION_BITS + SEQUENCE_BITS)
        | (operation as u64) << SEQUENCE_BITS
        | u64::from(sequence))
}

/// Unpacks a tag.
pub(crate) fn unpack(tag: Tag) -> (PeerId, Operation, u8) {
    let operation = (tag.0 >> SEQUENCE_BITS) as usize & ((1 << OPERATION_BITS) - 1);
    let id = PeerId(tag.0 >> (OPERATION_BITS + SEQUENCE_BITS));
    (id, Operation::ALL[operation], tag.0 as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_back_what_was_packed_at_every_edge() {
        for slot in [0, 1, (1 << SLOT_BITS) - 1] {
            for generation in [1, GENERATION_MASK] {
                for (number, operation) in Operation::ALL.into_iter().enumerate() {
                    assert_eq!(operation as usize, number);
                    let id = PeerId::new(slot, generation);
                    assert_eq!((id.slot(), id.generation()), (slot, generation));
                    assert_eq!(unpack(pack(id, operation, 255)), (id, operation, 255));
                }
            }
        }
    }
}

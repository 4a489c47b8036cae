//! The ids of connections, and the tags of their operations.

use std::fmt;

use posthouse_io::Tag;

/// The id of a connection. It consists of the number of the connection's slot in the endpoint's
/// table, and of the slot's generation, which grows with every use of the slot.
///
/// Later connections reuse the slot, but never the id. A call with the id of an ended connection
/// never reaches another peer. [`Endpoint::send`](crate::Endpoint::send),
/// [`run`](crate::Endpoint::run) and [`close`](crate::Endpoint::close) then return
/// [`NotConnected`](crate::SendError::NotConnected), and [`peer`](crate::Endpoint::peer) returns
/// `None`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u64);

/// The number of a handler in its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HandlerId(pub(crate) u16);

/// The number of bits of a slot number, for 4 million slots.
pub(crate) const SLOT_BITS: u32 = 22;
/// The number of bits of a connection's generation. A slot has 2 trillion connections, and is
/// retired after them.
pub(crate) const GENERATION_BITS: u32 = 42;
/// The number of low generation bits in a tag.
const TAG_GENERATION_BITS: u32 = 26;
const OPERATION_BITS: u32 = 4;
const SEQUENCE_BITS: u32 = 12;
const _: () = assert!(SLOT_BITS + GENERATION_BITS == u64::BITS);
const _: () =
    assert!(SLOT_BITS + TAG_GENERATION_BITS + OPERATION_BITS + SEQUENCE_BITS == u64::BITS);

pub(crate) const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
pub(crate) const TAG_GENERATION_MASK: u32 = (1 << TAG_GENERATION_BITS) - 1;

/// The maximum of `max_connections`. There are enough slots for it, even if some are retired or
/// abandoned.
pub(crate) const MAX_CONNECTIONS: u64 = 1_000_000;
const _: () = assert!(MAX_CONNECTIONS * 4 < 1 << SLOT_BITS);

impl PeerId {
    pub(crate) fn new(slot: u32, generation: u64) -> Self {
        assert!(slot < 1 << SLOT_BITS && generation <= GENERATION_MASK);
        Self(u64::from(slot) << GENERATION_BITS | generation)
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 >> GENERATION_BITS) as u32
    }

    pub(crate) fn generation(self) -> u64 {
        self.0 & GENERATION_MASK
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
    /// The sequence number is a [`FileSequence`].
    File,
    /// The close of the socket of an attempt to connect that failed.
    CloseAttempt,
    Watch,
}

impl Operation {
    const ALL: [Operation; 10] = [
        Operation::Accept,
        Operation::CloseListener,
        Operation::Resolve,
        Operation::Connect,
        Operation::Receive,
        Operation::Send,
        Operation::Close,
        Operation::File,
        Operation::CloseAttempt,
        Operation::Watch,
    ];

    /// Returns whether the operation belongs to a listener, not to a connection.
    pub(crate) fn is_listeners(self) -> bool {
        matches!(self, Operation::Accept | Operation::CloseListener)
    }
}

/// The owner of an operation in a tag: a slot and the low bits of its generation. They suffice,
/// because a slot is not reused while one of its operations is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TagOwner {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl From<PeerId> for TagOwner {
    fn from(id: PeerId) -> Self {
        let generation = (id.generation() & u64::from(TAG_GENERATION_MASK)) as u32;
        Self { slot: id.slot(), generation }
    }
}

impl TagOwner {
    /// Returns the whole id of the connection. A tag has only the lowest bits of the generation:
    /// this is the last connection of the slot whose generation has them. `newest` must be the
    /// present generation of the slot.
    pub(crate) fn peer(self, newest: u64) -> PeerId {
        let behind = (newest as u32).wrapping_sub(self.generation) & TAG_GENERATION_MASK;
        PeerId::new(self.slot, newest - u64::from(behind))
    }
}

/// Packs the tag of an operation. `sequence` orders the receives of a connection, and identifies
/// its file operations.
pub(crate) fn pack(owner: impl Into<TagOwner>, operation: Operation, sequence: u16) -> Tag {
    let TagOwner { slot, generation } = owner.into();
    assert!(sequence < 1 << SEQUENCE_BITS);
    let owner = u64::from(slot) << TAG_GENERATION_BITS | u64::from(generation);
    Tag(owner << (OPERATION_BITS + SEQUENCE_BITS)
        | (operation as u64) << SEQUENCE_BITS
        | u64::from(sequence))
}

/// Returns the parts of a tag.
pub(crate) fn unpack(tag: Tag) -> (TagOwner, Operation, u16) {
    let owner = tag.0 >> (OPERATION_BITS + SEQUENCE_BITS);
    let operation = (tag.0 >> SEQUENCE_BITS) as usize & ((1 << OPERATION_BITS) - 1);
    let sequence = tag.0 as u16 & ((1 << SEQUENCE_BITS) - 1);
    let slot = (owner >> TAG_GENERATION_BITS) as u32;
    let owner = TagOwner { slot, generation: owner as u32 & TAG_GENERATION_MASK };
    (owner, Operation::ALL[operation], sequence)
}

/// A file operation of a connection: the slot of its transfer, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSequence {
    pub(crate) slot: u8,
    /// A number below 16.
    pub(crate) number: u8,
}

const NUMBER_BITS: u32 = 4;
const _: () = assert!(u8::BITS + NUMBER_BITS == SEQUENCE_BITS);

impl FileSequence {
    pub(crate) fn pack(self) -> u16 {
        assert!(self.number < 1 << NUMBER_BITS);
        u16::from(self.slot) << NUMBER_BITS | u16::from(self.number)
    }

    pub(crate) fn unpack(sequence: u16) -> Self {
        let number = sequence as u8 & ((1 << NUMBER_BITS) - 1);
        Self { slot: (sequence >> NUMBER_BITS) as u8, number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_back_what_was_packed_at_every_edge() {
        for slot in [0, 1, (1 << SLOT_BITS) - 1] {
            for generation in [1, u64::from(TAG_GENERATION_MASK), GENERATION_MASK] {
                for (number, operation) in Operation::ALL.into_iter().enumerate() {
                    assert_eq!(operation as usize, number);
                    let id = PeerId::new(slot, generation);
                    assert_eq!((id.slot(), id.generation()), (slot, generation));
                    let (owner, unpacked, sequence) = unpack(pack(id, operation, 4095));
                    assert_eq!((unpacked, sequence), (operation, 4095));
                    assert_eq!(owner.peer(generation), id);
                }
            }
        }
    }

    #[test]
    fn a_tag_finds_the_last_connection_with_its_bits() {
        let wrap = u64::from(TAG_GENERATION_MASK) + 1;
        for generation in [1, wrap - 1, wrap + 1, 7 * wrap - 1, 7 * wrap + 1] {
            let id = PeerId::new(5, generation);
            for newest in [generation, generation + 1] {
                assert_eq!(TagOwner::from(id).peer(newest), id, "{newest}");
            }
        }
    }

    #[test]
    fn a_file_sequence_has_a_slot_and_a_number() {
        for slot in [0, 1, 255] {
            for number in [0, 15] {
                let sequence = FileSequence { slot, number };
                assert_eq!(FileSequence::unpack(sequence.pack()), sequence);
            }
        }
    }
}

//! The tags of operations, which identify the end of a completion.

use posthouse_io::Tag;

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpKind {
    Connect,
    Send,
    Receive,
    Close,
    /// An accept on a listener.
    Accept,
    /// The close of a listener.
    Unlisten,
}

const OP_KINDS: [OpKind; 6] = [
    OpKind::Connect,
    OpKind::Send,
    OpKind::Receive,
    OpKind::Close,
    OpKind::Accept,
    OpKind::Unlisten,
];

/// The largest sequence number, after which sequences begin again.
pub(super) const SEQUENCE_MASK: u16 = 0x0fff;

/// The end that submitted an operation: slot and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

const SLOT_BITS: u32 = 16;
const GENERATION_MASK: u32 = 0x0fff_ffff;

impl ConnId {
    /// Returns the tag of an operation: generation, slot, sequence, kind.
    pub(super) fn tag(self, kind: OpKind, sequence: u16) -> Tag {
        assert!(self.slot >> SLOT_BITS == 0 && self.generation <= GENERATION_MASK);
        let who = (u64::from(self.generation) << SLOT_BITS) | u64::from(self.slot);
        let what = (u64::from(sequence & SEQUENCE_MASK) << 4) | kind as u64;
        Tag((who << 16) | what)
    }

    pub(super) fn of(tag: Tag) -> (Self, OpKind, u16) {
        let slot = (tag.0 >> 16) as u32 & ((1 << SLOT_BITS) - 1);
        let generation = (tag.0 >> (16 + SLOT_BITS)) as u32 & GENERATION_MASK;
        let kind = OP_KINDS[(tag.0 & 0xf) as usize];
        (Self { slot, generation }, kind, (tag.0 >> 4) as u16 & SEQUENCE_MASK)
    }

    /// Returns the id of the next end in the same slot.
    pub(super) fn successor(self) -> Self {
        Self { generation: (self.generation + 1) & GENERATION_MASK, ..self }
    }
}

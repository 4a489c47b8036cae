//! Small copyable identifiers of a lane, of a socket and of an operation.

use std::fmt;

/// The number of a lane, which is one queue of completions. Lanes are numbered from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

impl LaneId {
    /// Returns the lane's number as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The submitter's identifier of an operation. Its completions carry it back unchanged.
///
/// The port never interprets it: the framework packs slot, generation, operation and sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:#018x})", self.0)
    }
}

/// A registered socket or listener: slot and generation in the port's table.
///
/// It is valid on the lane that registered it, from [`Lane::socket`](crate::Lane::socket),
/// [`Lane::adopt`](crate::Lane::adopt) or [`Lane::adopt_listener`](crate::Lane::adopt_listener)
/// until the terminal completion of its [`Op::Close`](crate::Op::Close). The port recognises a
/// stale one (a bug of the caller, asserted) and never takes it for another socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Socket {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

#[cfg(any(target_os = "linux", windows))]
impl Socket {
    /// Returns the socket as one number.
    pub(crate) fn key(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// Returns the socket of a number from [`key`](Self::key).
    pub(crate) fn of_key(key: u64) -> Self {
        Self { slot: key as u32, generation: (key >> 32) as u32 }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({}.{})", self.slot, self.generation)
    }
}

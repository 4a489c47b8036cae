//! The socket table of a lane that owns its sockets: slots and generations.

use crate::token::Socket;

/// The panic message for a socket that is closed or belongs to another lane.
pub(crate) const STALE: &str = "a stale socket: it has been closed, or belongs to another lane";

/// A slot of a socket table, which can be occupied and vacated, and counts its generations.
pub(crate) trait Slot: Default {
    /// Occupies the vacant slot for a socket that has no handle yet.
    fn occupy(&mut self, slot: u32) -> Socket;

    /// Returns whether this is the state of `socket`, and not of an earlier or later socket in the
    /// slot.
    fn is(&self, socket: Socket) -> bool;
}

/// The socket states of a pinned lane.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
pub(crate) struct SlotTable<R> {
    states: Vec<R>,
    free: Vec<u32>,
}

#[cfg(target_os = "linux")]
impl<R: Slot> SlotTable<R> {
    /// Takes a slot for a socket that has no handle yet.
    pub(crate) fn socket(&mut self) -> Socket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.states.push(R::default());
            u32::try_from(self.states.len() - 1).expect("fewer than 2^32 sockets")
        });
        self.states[slot as usize].occupy(slot)
    }

    /// Returns the state of `socket`, which must not be closed (asserted).
    pub(crate) fn get(&mut self, socket: Socket) -> &mut R {
        self.find(socket).expect(STALE)
    }

    /// Returns the state of `socket`, or `None` if the socket has been closed.
    pub(crate) fn find(&mut self, socket: Socket) -> Option<&mut R> {
        self.states.get_mut(socket.slot as usize).filter(|state| state.is(socket))
    }

    /// Returns the state in a slot, for any socket.
    pub(crate) fn at(&mut self, slot: u32) -> &mut R {
        &mut self.states[slot as usize]
    }

    /// Makes a vacated slot available again.
    pub(crate) fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }
}

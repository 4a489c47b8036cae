//! The table of a lane that owns its sockets: slots and generations.

use crate::token::Socket;

/// The message for a socket that is closed, or of another lane.
pub(crate) const STALE: &str = "a stale socket: it has been closed, or belongs to another lane";

/// A slot of the table: it is taken and vacated, and knows its generation.
pub(crate) trait Slot: Default {
    /// Takes the vacant slot for a socket that has no handle yet.
    fn occupy(&mut self, slot: u32) -> Socket;

    /// Whether this is the state of `socket`, and not of one that had or has the same slot.
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

    /// The state of `socket`, which the caller believes to be open.
    pub(crate) fn get(&mut self, socket: Socket) -> &mut R {
        self.find(socket).expect(STALE)
    }

    /// The state of `socket`, unless it has been closed meanwhile.
    pub(crate) fn find(&mut self, socket: Socket) -> Option<&mut R> {
        self.states.get_mut(socket.slot as usize).filter(|state| state.is(socket))
    }

    /// The state in a slot, whatever socket it is of.
    pub(crate) fn at(&mut self, slot: u32) -> &mut R {
        &mut self.states[slot as usize]
    }

    /// A slot has been vacated: it may be taken again.
    pub(crate) fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }
}

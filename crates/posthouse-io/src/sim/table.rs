//! The world's sockets and listeners, by slot and generation.

use super::LaneAddr;
use super::listener::Listening;
use super::stream::Stream;
use crate::token::Socket;

/// The holder of a socket: the lane that serves it, a script of a test, or nobody yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// No lane and no script holds the socket yet: it waits in a listener's accept queue, or the
    /// program has it as a value that it has not registered with a lane.
    Nobody,
    /// A script of a test, which uses the simulated network without a port.
    Script,
    Lane(LaneAddr),
}

/// The content of an occupied slot of the table.
pub(super) struct Entry {
    pub(super) owner: Owner,
    /// The number of the socket's operations whose terminal completion has not been taken.
    pub(super) in_flight: u32,
    /// The number of completions of the socket's operations that wait to be taken.
    pub(super) queued: u32,
    /// True exactly when a `Close` of the socket has been submitted.
    pub(super) closing: bool,
    pub(super) kind: SocketKind,
}

pub(super) enum SocketKind {
    Stream(Box<Stream>),
    Listener(Box<Listening>),
}

#[derive(Default)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

/// The table of all sockets and listeners. A freed slot is the next to be used: if something still
/// uses the name of a closed socket, it meets another socket in the slot as soon as possible.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Table {
    pub(super) fn insert(&mut self, owner: Owner, kind: SocketKind) -> Socket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 sockets")
        });
        let place = &mut self.slots[slot as usize];
        place.entry = Some(Entry { owner, in_flight: 0, queued: 0, closing: false, kind });
        Socket { slot, generation: place.generation }
    }

    pub(super) fn remove(&mut self, socket: Socket) {
        let place = &mut self.slots[socket.slot as usize];
        assert!(place.generation == socket.generation, "a stale socket is removed");
        assert!(place.entry.take().is_some(), "an empty slot is removed");
        place.generation = place.generation.wrapping_add(1);
        self.free.push(socket.slot);
    }

    /// Returns the entry of a socket; `None` if the socket is closed and its slot is free or
    /// reused.
    pub(super) fn entry(&mut self, socket: Socket) -> Option<&mut Entry> {
        let place = self.slots.get_mut(socket.slot as usize)?;
        place.entry.as_mut().filter(|_| place.generation == socket.generation)
    }

    /// Returns the stream of a socket; `None` if the socket is closed or is a listener.
    pub(super) fn stream(&mut self, socket: Socket) -> Option<&mut Stream> {
        match &mut self.entry(socket)?.kind {
            SocketKind::Stream(stream) => Some(stream),
            SocketKind::Listener(_) => None,
        }
    }

    /// Returns the listener of a socket; `None` if the socket is closed or is a stream.
    pub(super) fn listener(&mut self, socket: Socket) -> Option<&mut Listening> {
        match &mut self.entry(socket)?.kind {
            SocketKind::Listener(listener) => Some(listener),
            SocketKind::Stream(_) => None,
        }
    }

    /// Returns the lane that a socket is registered with.
    pub(super) fn lane(&mut self, socket: Socket) -> Option<LaneAddr> {
        match self.entry(socket)?.owner {
            Owner::Lane(at) => Some(at),
            Owner::Nobody | Owner::Script => None,
        }
    }

    /// Returns all sockets that are registered with a port.
    pub(super) fn of_port(&self, port: usize) -> Vec<Socket> {
        let ours = |slot: &Slot| {
            let owner = slot.entry.as_ref().map(|entry| entry.owner);
            matches!(owner, Some(Owner::Lane(at)) if at.port == port)
        };
        let name =
            |(i, slot): (usize, &Slot)| Socket { slot: i as u32, generation: slot.generation };
        self.slots.iter().enumerate().filter(|(_, slot)| ours(slot)).map(name).collect()
    }
}

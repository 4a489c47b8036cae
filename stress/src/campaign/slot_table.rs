//! The ends of a lane, in slots that are reused.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use posthouse_io::{LaneId, Listener, NewSocket, Socket};

use super::conn::{Check, Conn};
use super::exchange::lock;
use super::tags::ConnId;

/// The ends and the listeners of one lane. In the shared layout all workers share them.
pub(super) struct SlotTable {
    pub(super) lane: LaneId,
    pub(super) listeners: Vec<Mutex<ListenerSlot>>,
    /// The peers that another lane has accepted for this one.
    pub(super) moved: Mutex<Vec<NewSocket>>,
    /// The number of connecting ends in this table.
    pub(super) clients: AtomicUsize,
    slots: Box<[Mutex<Slot>]>,
    vacant: Mutex<Vec<u32>>,
}

/// A slot for an end.
pub(super) struct Slot {
    id: ConnId,
    pub(super) conn: Option<Box<Conn>>,
}

/// A listener and its accept.
pub(super) struct ListenerSlot {
    /// The listener, until a worker has registered it.
    pub(super) listener: Option<Listener>,
    pub(super) socket: Option<Socket>,
    /// The accept in flight.
    pub(super) accept: Option<u16>,
    pub(super) next_sequence: u16,
    /// True exactly when the accept has been cancelled.
    pub(super) cancelled: bool,
    /// True exactly when the listener is to be closed after the end of the accept.
    pub(super) closing: bool,
    pub(super) serves: bool,
}

impl ListenerSlot {
    pub(super) fn new(listener: Listener, serves: bool) -> Mutex<Self> {
        Mutex::new(Self {
            listener: Some(listener),
            socket: None,
            accept: None,
            next_sequence: 0,
            cancelled: false,
            closing: false,
            serves,
        })
    }
}

impl Slot {
    /// Returns the end with this id, which must be in this slot.
    pub(super) fn conn(&mut self, id: ConnId) -> Check<&mut Conn> {
        if self.id != id || self.conn.is_none() {
            return Err(format!(
                "a completion for an end that is over: {id:?}; its slot has {:?}: {:?}",
                self.id, self.conn
            ));
        }
        Ok(self.conn.as_deref_mut().expect("the slot was just checked"))
    }

    /// Returns the end with this id, or `None` if it is over.
    pub(super) fn find(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conn.as_deref_mut().filter(|_| self.id == id)
    }
}

impl SlotTable {
    pub(super) fn new(lane: LaneId, slots: u32, listeners: Vec<Mutex<ListenerSlot>>) -> Self {
        let slot = |slot| Mutex::new(Slot { id: ConnId { slot, generation: 0 }, conn: None });
        Self {
            lane,
            listeners,
            moved: Mutex::default(),
            clients: AtomicUsize::new(0),
            slots: (0..slots).map(slot).collect(),
            vacant: Mutex::new((0..slots).rev().collect()),
        }
    }

    /// Takes a vacant slot and returns the id of its future end.
    pub(super) fn take(&self) -> Check<ConnId> {
        let slot = lock(&self.vacant).pop().ok_or("more ends than slots")?;
        Ok(lock(self.slot(slot)).id)
    }

    pub(super) fn slot(&self, slot: u32) -> &Mutex<Slot> {
        &self.slots[slot as usize]
    }

    /// Vacates the slot of an end that is over.
    pub(super) fn leave(&self, slot: &mut Slot) {
        slot.conn = None;
        slot.id = slot.id.successor();
        lock(&self.vacant).push(slot.id.slot);
    }

    /// Describes the first ends in this table.
    pub(super) fn describe(&self, text: &mut String) {
        let live = |slot: &&Mutex<Slot>| slot.try_lock().is_ok_and(|slot| slot.conn.is_some());
        let count = self.slots.iter().filter(live).count();
        let clients = self.clients.load(Ordering::Relaxed);
        let _ = writeln!(text, "{:?}: {count} ends, {clients} of them connecting", self.lane);
        for slot in self.slots.iter().filter(live).take(5) {
            if let Ok(slot) = slot.try_lock() {
                let _ = writeln!(text, "  {:?}", slot.conn);
            }
        }
    }
}

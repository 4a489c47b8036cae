//! The connections of the shared layout. Each has a slot with its box and its pending events.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::connection::{Connection, ConnectionEvent};
use crate::error::SendError;
use crate::id::{PeerId, SLOT_BITS};
use crate::mailbox::PeerPost;
use crate::sync::{Mutex, OnceLock, lock};

/// The number of slots in a segment. Segments are allocated when first needed and never move.
const SEGMENT: usize = 1024;

type Segment = OnceLock<Box<[Mutex<Slot>]>>;

/// The connections of the shared lane, each in its slot.
pub(crate) struct Strands {
    segments: Box<[Segment]>,
    /// The slots with pending events that no worker runs.
    pub(crate) ready: Mutex<VecDeque<u32>>,
}

pub(crate) struct Slot {
    pub(crate) pending: VecDeque<(PeerId, ConnectionEvent)>,
    /// The connection, while no worker runs it. `None` while a worker has it, or if the connection
    /// has not begun.
    pub(crate) connection: Option<Box<Connection>>,
    pub(crate) state: SlotState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// No event of the slot is pending.
    Idle,
    /// The slot is in [`Strands::ready`], or is about to be added.
    Ready,
    /// A worker has taken the box of the connection, and runs the connection.
    Running,
}

impl Default for Slot {
    fn default() -> Self {
        Self { pending: VecDeque::new(), connection: None, state: SlotState::Idle }
    }
}

impl Strands {
    pub(crate) fn new(max_slots: usize) -> Self {
        let segments = max_slots.min(1 << SLOT_BITS).div_ceil(SEGMENT) + 1;
        let segments = (0..segments).map(|_| OnceLock::new()).collect();
        Self { segments, ready: Mutex::default() }
    }

    pub(crate) fn slot(&self, slot: u32) -> &Mutex<Slot> {
        let segment = slot as usize / SEGMENT;
        let index = slot as usize % SEGMENT;
        let make = || (0..SEGMENT).map(|_| Mutex::default()).collect();
        &self.segments[segment].get_or_init(make)[index]
    }

    /// Adds a post to the slot's queue. Returns whether a worker should be woken for it.
    pub(crate) fn post(
        &self,
        id: PeerId,
        post: PeerPost,
        max_posts: usize,
    ) -> Result<bool, SendError> {
        let mut slot = lock(self.slot(id.slot()));
        if slot.pending.len() >= max_posts {
            return Err(SendError::Busy);
        }
        slot.pending.push_back((id, ConnectionEvent::Post(post)));
        if slot.state != SlotState::Idle {
            return Ok(false);
        }
        slot.state = SlotState::Ready;
        drop(slot);
        lock(&self.ready).push_back(id.slot());
        Ok(true)
    }

    /// Drops the abandoned connections and the late posts of an endpoint that has ended. They hold
    /// references to the endpoint.
    pub(crate) fn clear(&self) {
        for slot in self.segments.iter().filter_map(OnceLock::get).flatten() {
            let mut slot = lock(slot);
            let left = (slot.connection.take(), std::mem::take(&mut slot.pending));
            drop(slot);
            // A panic in a drop of the user's values is contained here.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
        }
    }

    /// Returns the number of pending events of a connection.
    pub(crate) fn pending(&self, id: PeerId) -> usize {
        lock(self.slot(id.slot())).pending.len()
    }

    /// Adds an event to the slot's queue. Returns whether the caller must run the slot.
    pub(crate) fn deliver(&self, id: PeerId, event: ConnectionEvent) -> bool {
        let mut slot = lock(self.slot(id.slot()));
        slot.pending.push_back((id, event));
        let idle = slot.state == SlotState::Idle;
        if idle {
            slot.state = SlotState::Running;
        }
        idle
    }

    /// Takes the next ready slot, which the caller must run.
    pub(crate) fn take_ready(&self) -> Option<u32> {
        let slot = lock(&self.ready).pop_front()?;
        let mut guard = lock(self.slot(slot));
        assert_eq!(guard.state, SlotState::Ready, "a ready slot is run once");
        guard.state = SlotState::Running;
        Some(slot)
    }
}

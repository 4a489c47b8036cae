//! The connections of the shared layout. Each has a slot with its box and its pending events.

use std::collections::VecDeque;
use std::time::Duration;

use crate::connection::{Connection, ConnectionEvent};
use crate::contained::contain;
use crate::error::SendError;
use crate::id::{PeerId, SLOT_BITS};
use crate::mailbox::PeerPost;
use crate::sync::{AtomicBool, LockGuard, Mutex, OnceLock, Ordering, lock};

/// The number of slots in a segment. Segments are allocated when first needed and never move.
const SEGMENT: usize = 1024;

type Segment = OnceLock<Box<[Mutex<Slot>]>>;

/// The connections of the shared lane, each in its slot.
pub(crate) struct Strands {
    segments: Box<[Segment]>,
    /// The slots with pending events that no worker runs.
    pub(crate) ready: Mutex<VecDeque<u32>>,
    /// True exactly when the endpoint has ended and takes no more posts. It is read under the lock
    /// of a slot, and written before the slots are cleared.
    closed: AtomicBool,
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
        Self { segments, ready: Mutex::default(), closed: AtomicBool::new(false) }
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
        let slot = lock(self.slot(id.slot()));
        if self.closed.load(Ordering::Relaxed) {
            return Err(SendError::NotConnected);
        }
        if slot.pending.len() >= max_posts {
            return Err(SendError::Busy);
        }
        Ok(self.queue(slot, id, ConnectionEvent::Post(post)))
    }

    /// Adds the deadline of a connection to the slot's queue.
    pub(crate) fn add_deadline(&self, id: PeerId, at: Duration) {
        self.queue(lock(self.slot(id.slot())), id, ConnectionEvent::Deadline(at));
    }

    /// Returns whether the slot became ready, so that a worker should be woken for it.
    fn queue(&self, mut slot: LockGuard<'_, Slot>, id: PeerId, event: ConnectionEvent) -> bool {
        slot.pending.push_back((id, event));
        if slot.state != SlotState::Idle {
            return false;
        }
        slot.state = SlotState::Ready;
        drop(slot);
        lock(&self.ready).push_back(id.slot());
        true
    }

    /// Drops the abandoned connections and the late posts of an endpoint that has ended. They hold
    /// references to the endpoint.
    pub(crate) fn clear(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for slot in self.segments.iter().filter_map(OnceLock::get).flatten() {
            let mut slot = lock(slot);
            let left = (slot.connection.take(), std::mem::take(&mut slot.pending));
            drop(slot);
            contain(|| drop(left.0));
            drop(left.1);
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

    /// Puts the box of a connection back, because its queue is empty or it has had its turn.
    pub(crate) fn put_back(&self, slot: u32, connection: Option<Box<Connection>>) {
        let mut guard = lock(self.slot(slot));
        guard.connection = connection;
        if guard.pending.is_empty() {
            guard.state = SlotState::Idle;
        } else {
            guard.state = SlotState::Ready;
            drop(guard);
            lock(&self.ready).push_back(slot);
        }
    }

    /// Gives up a slot that this worker has entered and not begun to run.
    pub(crate) fn hand_over(&self, slot: u32) {
        lock(self.slot(slot)).state = SlotState::Ready;
        lock(&self.ready).push_back(slot);
    }

    /// Returns whether a slot is ready.
    pub(crate) fn has_ready(&self) -> bool {
        !lock(&self.ready).is_empty()
    }

    /// Takes the next ready slot, which the caller must run. Also returns whether more are ready:
    /// one wake-up may have stood for several posts, and the caller may block in a callback.
    pub(crate) fn take_ready(&self) -> Option<(u32, bool)> {
        let mut ready = lock(&self.ready);
        let slot = ready.pop_front()?;
        let more = !ready.is_empty();
        drop(ready);
        let mut guard = lock(self.slot(slot));
        assert_eq!(guard.state, SlotState::Ready, "a ready slot is run once");
        guard.state = SlotState::Running;
        Some((slot, more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::Close;

    #[test]
    fn a_post_that_comes_after_the_end_is_refused() {
        let strands = Strands::new(1);
        let id = PeerId::new(0, 1);
        let post = || strands.post(id, PeerPost::Close(Close::abort()), 10);
        assert_eq!(post(), Ok(true));
        strands.clear();
        assert_eq!((post(), strands.pending(id)), (Err(SendError::NotConnected), 0));
    }
}

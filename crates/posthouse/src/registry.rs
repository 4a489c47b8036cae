//! The registry of connections: slots, their gates, and the facts that other threads can read.

use std::time::Duration;

use posthouse_io::{Address, LaneId};

use crate::gate::Gate;
use crate::id::{PeerId, SLOT_BITS, TagOwner};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, OnceLock, Ordering, lock};

/// The number of slots in a segment of the table. Segments are allocated when first needed and
/// never move.
const SEGMENT: usize = 1024;

/// The table of connections. A slot belongs to one lane for ever: `slot % lanes`.
#[derive(Debug)]
pub(crate) struct Registry {
    segments: Box<[OnceLock<Box<[Entry]>>]>,
    lanes: Box<[LaneSlots]>,
    connections: AtomicUsize,
    /// The maximum number of connections, those that the caller of `allocate` counts as spare not
    /// included.
    max_connections: usize,
    /// The number of slots that the table can have.
    max_slots: u32,
}

#[derive(Debug, Default)]
struct Entry {
    gate: Gate,
    stats: Mutex<Option<Arc<ConnectionStats>>>,
}

#[derive(Debug, Default)]
struct LaneSlots {
    connections: AtomicUsize,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<u32>,
    used: u32,
}

/// The addresses and counts of a connection, for other threads. The connection's strand updates
/// them.
#[derive(Debug)]
pub(crate) struct ConnectionStats {
    pub(crate) id: PeerId,
    pub(crate) peer: Address,
    pub(crate) local: Option<Address>,
    pub(crate) outgoing: bool,
    pub(crate) since: Duration,
    last_received_ns: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    messages_received: AtomicU64,
    messages_sent: AtomicU64,
}

/// Adds to a count. Only one strand writes the count, so a load and a store suffice, without a
/// locked instruction.
fn count(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

impl ConnectionStats {
    pub(crate) fn new(
        id: PeerId,
        (peer, local): (Address, Option<Address>),
        outgoing: bool,
        now: Duration,
    ) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            id,
            peer,
            local,
            outgoing,
            since: now,
            last_received_ns: AtomicU64::new(now.as_nanos() as u64),
            bytes_received: zero(),
            bytes_sent: zero(),
            messages_received: zero(),
            messages_sent: zero(),
        }
    }

    pub(crate) fn received_bytes(&self, bytes: usize, now: Duration) {
        count(&self.bytes_received, bytes as u64);
        self.last_received_ns.store(now.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent_bytes(&self, bytes: usize) {
        count(&self.bytes_sent, bytes as u64);
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    pub(crate) fn messages_received(&self) -> u64 {
        self.messages_received.load(Ordering::Relaxed)
    }

    pub(crate) fn received_message(&self) {
        count(&self.messages_received, 1);
    }

    pub(crate) fn sent_message(&self) {
        count(&self.messages_sent, 1);
    }
}

/// A snapshot of a connection: its addresses, age and counts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The id of the connection.
    pub id: PeerId,
    /// The address of the peer.
    pub address: Address,
    /// The address of this side, if the system reports it.
    pub local_address: Option<Address>,
    /// True exactly when this side made the connection.
    pub outgoing: bool,
    /// The time since the connection was established.
    pub age: Duration,
    /// The time since the last received bytes.
    pub idle: Duration,
    /// The number of received bytes.
    pub bytes_received: u64,
    /// The number of bytes passed to the system.
    pub bytes_sent: u64,
    /// The number of messages and requests passed to the handler.
    pub messages_received: u64,
    /// The number of messages, requests and replies queued for the peer.
    pub messages_sent: u64,
    /// The number of bytes queued for the peer and not yet passed to the system.
    pub queued_bytes: usize,
}

impl Registry {
    /// Makes a table for `max_connections`, and `max_spare` that do not count.
    pub(crate) fn new(lanes: usize, max_connections: usize, max_spare: usize) -> Self {
        // The accepting lane assigns a connection to the lane with the fewest, so a lane's slots
        // stay near its share. In the worst case one lane has all connections.
        let slots = ((max_connections + max_spare) * lanes + lanes).min(1 << SLOT_BITS);
        let lane = |_| LaneSlots::default();
        Self {
            segments: (0..slots.div_ceil(SEGMENT)).map(|_| OnceLock::new()).collect(),
            lanes: (0..lanes).map(lane).collect(),
            connections: AtomicUsize::new(0),
            max_connections,
            max_slots: slots as u32,
        }
    }

    pub(crate) fn connections(&self) -> usize {
        // Sequentially consistent, like the update in `allocate`: if a worker sees no connection
        // left after the shutdown began, every later `allocate` is followed by a check that sees
        // the shutdown.
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn connections_of(&self, lane: LaneId) -> usize {
        self.lanes[lane.index()].connections.load(Ordering::SeqCst)
    }

    /// Allocates a slot on the lane with the fewest connections. `None` if there are
    /// `max_connections` beside the `spare` ones that do not count, or if no slot is left.
    pub(crate) fn allocate(&self, spare: usize) -> Option<PeerId> {
        let more = |n| (n < self.max_connections + spare).then_some(n + 1);
        self.connections.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more).ok()?;
        let load = |i: &usize| self.lanes[*i].connections.load(Ordering::Relaxed);
        let lane = (0..self.lanes.len()).min_by_key(load).expect("at least one lane");
        self.lanes[lane].connections.fetch_add(1, Ordering::SeqCst);
        let Some(slot) = self.take_slot(lane) else {
            self.lanes[lane].connections.fetch_sub(1, Ordering::SeqCst);
            self.connections.fetch_sub(1, Ordering::SeqCst);
            return None;
        };
        let segment = slot as usize / SEGMENT;
        self.segments[segment].get_or_init(|| (0..SEGMENT).map(|_| Entry::default()).collect());
        Some(PeerId::new(slot, self.entry(slot).expect("just made").gate.renew()))
    }

    /// Takes a released slot, or the next unused one. `None` if all slots that are left were
    /// abandoned or retired.
    fn take_slot(&self, lane: usize) -> Option<u32> {
        let mut slots = lock(&self.lanes[lane].slots);
        if let Some(slot) = slots.free.pop() {
            return Some(slot);
        }
        let slot = slots.used * self.lanes.len() as u32 + lane as u32;
        let is_slot = slot < self.max_slots;
        slots.used += u32::from(is_slot);
        is_slot.then_some(slot)
    }

    /// Releases the slot of an ended connection for a later one, or retires it if its generations
    /// are used up: an id never names a second connection.
    pub(crate) fn release(&self, id: PeerId) {
        self.forget(id, |slots, generation| {
            if Gate::is_reusable(generation) {
                slots.free.push(id.slot());
            }
        });
    }

    /// Keeps the slot of an abandoned connection occupied, because its operations may still end.
    pub(crate) fn abandon(&self, id: PeerId) {
        self.forget(id, |_, _| {});
    }

    fn forget(&self, id: PeerId, change: impl FnOnce(&mut Slots, u64)) {
        let entry = self.entry(id.slot()).expect("a connection's slot");
        assert_eq!(entry.gate.generation(), id.generation(), "a slot is released once");
        *lock(&entry.stats) = None;
        let generation = entry.gate.renew();
        let lane = &self.lanes[self.lane_of(id).index()];
        change(&mut lock(&lane.slots), generation);
        lane.connections.fetch_sub(1, Ordering::SeqCst);
        self.connections.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn lane_of(&self, id: PeerId) -> LaneId {
        LaneId((id.slot() as usize % self.lanes.len()) as u16)
    }

    /// Returns the connection that an operation belongs to.
    pub(crate) fn owner(&self, owner: TagOwner) -> PeerId {
        let entry = self.entry(owner.slot).expect("a completion's slot has had a connection");
        owner.peer(entry.gate.generation())
    }

    /// Returns the index of a slot among its lane's slots.
    pub(crate) fn index_on_lane(&self, id: PeerId) -> usize {
        id.slot() as usize / self.lanes.len()
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.segments.get(slot as usize / SEGMENT)?.get()?.get(slot as usize % SEGMENT)
    }

    /// Returns the gate of a slot that has had a connection.
    pub(crate) fn gate(&self, id: PeerId) -> Option<&Gate> {
        self.entry(id.slot()).map(|entry| &entry.gate)
    }

    /// Returns whether the connection exists, established or not.
    pub(crate) fn is_current(&self, id: PeerId) -> bool {
        self.gate(id).is_some_and(|gate| gate.generation() == id.generation())
    }

    pub(crate) fn set_stats(&self, stats: Arc<ConnectionStats>) {
        let entry = self.entry(stats.id.slot()).expect("a connection's slot");
        *lock(&entry.stats) = Some(stats);
    }

    pub(crate) fn info(&self, id: PeerId, now: Duration) -> Option<PeerInfo> {
        let entry = self.entry(id.slot())?;
        let stats = lock(&entry.stats).clone().filter(|stats| stats.id == id)?;
        Some(info(&stats, entry.gate.queued_bytes(), now))
    }

    /// Returns the ids of all connections of one lane or of all lanes, in any phase.
    pub(crate) fn current(&self, lane: Option<LaneId>) -> Vec<PeerId> {
        let segments = self.segments.iter().enumerate();
        let made = segments.filter_map(|(n, segment)| Some((n, segment.get()?)));
        made.flat_map(|(n, segment)| {
            segment.iter().enumerate().filter_map(move |(index, entry)| {
                let generation = entry.gate.generation();
                let id = PeerId::new((n * SEGMENT + index) as u32, generation);
                Gate::in_use(generation).then_some(id)
            })
        })
        .filter(|id| lane.is_none_or(|lane| self.lane_of(*id) == lane))
        .collect()
    }

    /// Returns a snapshot of all established connections, taken one after the other.
    pub(crate) fn infos(&self, now: Duration) -> Vec<PeerInfo> {
        let entries = self.segments.iter().filter_map(OnceLock::get).flatten();
        entries
            .filter_map(|entry| {
                let stats = lock(&entry.stats).clone()?;
                Some(info(&stats, entry.gate.queued_bytes(), now))
            })
            .collect()
    }
}

pub(crate) fn info(stats: &ConnectionStats, queued_bytes: usize, now: Duration) -> PeerInfo {
    let last_received = Duration::from_nanos(stats.last_received_ns.load(Ordering::Relaxed));
    PeerInfo {
        id: stats.id,
        address: stats.peer,
        local_address: stats.local,
        outgoing: stats.outgoing,
        age: now.saturating_sub(stats.since),
        idle: now.saturating_sub(last_received),
        bytes_received: stats.bytes_received.load(Ordering::Relaxed),
        bytes_sent: stats.bytes_sent.load(Ordering::Relaxed),
        messages_received: stats.messages_received.load(Ordering::Relaxed),
        messages_sent: stats.messages_sent.load(Ordering::Relaxed),
        queued_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::GENERATION_MASK;

    #[test]
    fn a_released_slot_is_used_again_under_another_id() {
        let registry = Registry::new(2, 3, 0);
        let ids: Vec<_> = (0..3).map(|_| registry.allocate(0).unwrap()).collect();
        assert_eq!(registry.allocate(0), None, "three are as many as there may be");
        assert_eq!(registry.connections_of(LaneId(0)), 2, "dealt to the lane with fewest");
        registry.release(ids[0]);
        let again = registry.allocate(0).unwrap();
        assert_eq!(again.slot(), ids[0].slot());
        assert_ne!(again, ids[0]);
        assert!(registry.is_current(again) && !registry.is_current(ids[0]));
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_retired() {
        let registry = Registry::new(1, 2, 0);
        let first = registry.allocate(0).unwrap();
        let last = GENERATION_MASK - 2;
        registry.entry(first.slot()).unwrap().gate.set_generation(last);
        let first = PeerId::new(first.slot(), last);
        assert_eq!(registry.owner(first.into()), first);
        registry.release(first);
        assert!(!registry.is_current(first));
        assert_eq!(registry.owner(first.into()), first, "a late completion still finds its owner");
        let others = [registry.allocate(0).unwrap(), registry.allocate(0).unwrap()];
        assert!(others.iter().all(|other| other.slot() != first.slot()));
        assert_eq!(registry.allocate(0), None);
        registry.abandon(others[0]);
        assert_eq!((registry.allocate(0), registry.connections()), (None, 1), "no slot is left");
    }
}

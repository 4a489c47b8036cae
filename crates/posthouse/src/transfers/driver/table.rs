//! The table of the transfers of a connection: their slots, their numbers on the wire, their
//! bounds.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use posthouse_io::FileOp;
use posthouse_wire::{Escaped, FileName, OpNumber};

use super::listing::Listing;
use super::receiving::Receiving;
use super::reclaiming::UseCheck;
use super::sending::Sending;
use super::walking::WalkQueue;
use super::{ListTask, TransferCommand};
use crate::connection::{Context, Strand};
use crate::directory::Directory;
use crate::id::FileSequence;
use crate::transfer::{OfferFacts, TransferHandle};
use crate::transfers::budgets::TransferLeases;

/// The last number on the wire with which this side starts a command. The numbers above it are left
/// for the answers to requests.
const MAX_ID: u32 = u32::MAX - 100_000;
/// The number of used slots at which no further transfer of the peer and no orphaned operation
/// starts.
pub(super) const MAX_PEER_SLOTS: usize = 150;
/// The maximum number of slots of a connection; an index of a slot fits a byte. At least 100 slots
/// are left for the transfers of this side.
pub(super) const MAX_SLOTS: usize = 255;
const _: () = assert!(MAX_PEER_SLOTS + 100 <= MAX_SLOTS);
/// The maximum time for which a file stays open while its transfer waits for credit. The receiver
/// may be waiting for another file that waits for a place.
const MAX_IDLE_FILE: Duration = Duration::from_secs(1);
/// The initial size of a chunk in bytes; later it follows the speed of the line.
const INITIAL_CHUNK_BYTES: usize = 64 * 1024;

/// All transfers of a connection.
pub(crate) struct Transfers {
    slots: Vec<Option<Box<TransferSlot>>>,
    /// The slots of transfers that have a number on the wire.
    slots_by_id: BTreeMap<u32, u8>,
    /// The requests of files that the peer has not answered yet.
    pub(super) gets: BTreeMap<u32, PendingGet>,
    /// The requests of listings that the peer has not answered yet.
    pub(super) lists: BTreeMap<u32, PendingList>,
    /// The offers of the peer that the handler answers later.
    pub(super) offers: BTreeMap<u32, PendingOffer>,
    /// The commands that wait because a bound has been reached.
    pub(super) waiting: VecDeque<TransferCommand>,
    /// The slots that have a chunk to send, in the order of their turns.
    pub(super) ready: VecDeque<u8>,
    /// The next number that this side gives to a transfer; 0 if it has given none yet.
    next_id: u32,
    /// The greatest number that the peer has given to a transfer.
    pub(super) last_peer_id: u32,
    /// The size in bytes of a chunk that the line sends in a short time.
    pub(super) chunk_bytes: usize,
    /// The chunk that was queued last.
    pub(super) last_chunk: LastChunk,
    /// The requests that need walks of directories.
    pub(super) walks: WalkQueue,
    /// The memory and places of open files that transfers were lent, once they needed some.
    pub(super) leases: Option<Box<TransferLeases>>,
    /// The number of bytes of files that the connection has sent and received.
    pub(super) moved_bytes: u64,
    /// The checks that the peer uses what the transfers hold, one for each resource.
    pub(super) use_checks: [UseCheck; 4],
    /// The time at which the last frame of a transfer arrived. Later by the times since then in
    /// which this side did not read.
    pub(super) last_activity: Duration,
    /// The time at which this side last queued a frame of a transfer.
    pub(super) last_said: Duration,
    pub(super) life: Life,
}

/// Whether the connection has ended its transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    Ended,
}

/// The chunk in the queue; the default once it has been sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastChunk {
    /// The time at which the chunk was queued.
    pub(super) since: Option<Duration>,
    pub(super) bytes: u64,
    /// Whether the chunk holds the file open; otherwise its bytes are in memory.
    pub(super) has_file: bool,
    /// The slot of the chunk's transfer; the transfer may have ended.
    pub(super) slot: u8,
    pub(super) id: u32,
}

impl Default for Transfers {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            slots_by_id: BTreeMap::new(),
            gets: BTreeMap::new(),
            lists: BTreeMap::new(),
            offers: BTreeMap::new(),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            next_id: 0,
            last_peer_id: 0,
            chunk_bytes: INITIAL_CHUNK_BYTES,
            last_chunk: LastChunk::default(),
            walks: WalkQueue::default(),
            leases: None,
            moved_bytes: 0,
            use_checks: Default::default(),
            last_activity: Duration::ZERO,
            last_said: Duration::ZERO,
            life: Life::Running,
        }
    }
}

pub(super) struct PendingGet {
    pub(super) directory: Directory,
    /// The name under which this side stores the file.
    pub(super) name: FileName,
    pub(super) progress: TransferHandle,
    /// The time at which the request expires at the earliest; later if frames of transfers arrive.
    pub(super) until: Duration,
}

pub(super) struct PendingList {
    /// The name that all listed names follow.
    pub(super) after: Box<str>,
    pub(super) then: ListTask,
    /// As of a [`PendingGet`].
    pub(super) until: Duration,
}

/// An offer of the peer that the handler answers later.
pub(super) struct PendingOffer {
    pub(super) name: FileName,
    pub(super) facts: OfferFacts,
    pub(super) until: Duration,
}

/// The side that started a transfer or request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Local,
    Peer,
}

/// A transfer or operation that has files open, or opens them.
pub(super) struct TransferSlot {
    /// The number of the transfer on the wire; 0 while it has none.
    pub(super) id: u32,
    pub(super) begun_by: Side,
    /// The time at which the transfer got the first memory that it has waited for.
    pub(super) lent_at: Option<Duration>,
    pub(super) state: TransferState,
}

pub(super) enum TransferState {
    Sending(Box<Sending>),
    Receiving(Box<Receiving>),
    Listing(Listing),
    /// An operation on a directory is in flight, and nothing waits for its result.
    Orphaned,
}

impl TransferState {
    /// Returns whether the transfer has ended. Only operations on the disk may be left.
    fn is_over(&self) -> bool {
        match self {
            TransferState::Sending(sending) => sending.sender.is_ended(),
            TransferState::Receiving(receiving) => receiving.receiver.is_ended(),
            TransferState::Listing(_) => false,
            TransferState::Orphaned => true,
        }
    }

    /// Returns the time at which the transfer expires, or `None` if it does not wait for the peer.
    pub(super) fn expires_at(
        &self,
        last_activity: Duration,
        idle_timeout: Duration,
    ) -> Option<Duration> {
        match self {
            TransferState::Sending(sending) => {
                sending.sender.expires_at(last_activity, idle_timeout)
            }
            TransferState::Receiving(receiving) => {
                receiving.receiver.expires_at(last_activity, idle_timeout)
            }
            TransferState::Listing(_) | TransferState::Orphaned => None,
        }
    }

    /// Returns the time at which the file is closed until there is credit, if it is idle.
    pub(super) fn idle_file_until(&self) -> Option<Duration> {
        match self {
            TransferState::Sending(sending) => Some(sending.sender.idle_since()? + MAX_IDLE_FILE),
            _ => None,
        }
    }

    /// Returns the numbers of the operations in flight.
    fn operations(&self) -> Vec<OpNumber> {
        match self {
            TransferState::Sending(sending) => sending.sender.operations().collect(),
            TransferState::Receiving(receiving) => receiving.receiver.operations().collect(),
            TransferState::Listing(_) | TransferState::Orphaned => vec![OpNumber(0)],
        }
    }
}

impl fmt::Display for TransferState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferState::Sending(sending) => {
                write!(f, "sending {}", Escaped(sending.progress.name()))
            }
            TransferState::Receiving(receiving) => write!(f, "receiving {receiving}"),
            TransferState::Listing(_) | TransferState::Orphaned => {
                f.write_str("listing a directory")
            }
        }
    }
}

impl Transfers {
    /// Adds a transfer or operation, and returns its slot.
    pub(super) fn insert(&mut self, id: u32, begun_by: Side, state: TransferState) -> u8 {
        let vacant = self.slots.iter().position(Option::is_none);
        let slot = vacant.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Box::new(TransferSlot { id, begun_by, lent_at: None, state }));
        let slot = u8::try_from(slot).expect("MAX_SLOTS fits into a u8");
        if id != 0 {
            self.slots_by_id.insert(id, slot);
        }
        slot
    }

    pub(super) fn transfer(&mut self, slot: u8) -> &mut TransferSlot {
        self.slots[usize::from(slot)].as_mut().expect("the slot holds a transfer")
    }

    /// Returns a slot, if it is used.
    pub(super) fn used_slot(&mut self, slot: u8) -> Option<&mut TransferSlot> {
        self.slots.get_mut(usize::from(slot))?.as_deref_mut()
    }

    pub(super) fn sending(&mut self, slot: u8) -> &mut Sending {
        match &mut self.transfer(slot).state {
            TransferState::Sending(sending) => sending,
            _ => unreachable!("the transfer does not send"),
        }
    }

    pub(super) fn receiving(&mut self, slot: u8) -> &mut Receiving {
        match &mut self.transfer(slot).state {
            TransferState::Receiving(receiving) => receiving,
            _ => unreachable!("the transfer does not receive"),
        }
    }

    /// Frees a slot that has no operation in flight.
    pub(super) fn release(&mut self, slot: u8) {
        self.withdraw(slot);
        self.slots[usize::from(slot)] = None;
    }

    /// Removes the number of an ended transfer and its requests of memory and files, and returns
    /// the number. Its slot stays while operations are in flight.
    pub(super) fn withdraw(&mut self, slot: u8) -> u32 {
        let id = self.transfer(slot).id;
        self.slots_by_id.remove(&id);
        self.ready.retain(|other| *other != slot);
        if let Some(leases) = &mut self.leases {
            leases.forget(slot);
        }
        id
    }

    /// Removes and returns all slots. Nothing waits for their operations in flight any more.
    pub(super) fn take_slots(&mut self) -> impl Iterator<Item = TransferState> + use<> {
        let slots = std::mem::take(&mut self.slots);
        slots.into_iter().flatten().map(|transfer| transfer.state)
    }

    // ---- numbers ----

    /// Returns the slot of a transfer that has this number.
    pub(super) fn slot_by_id(&self, id: u32) -> Option<u8> {
        self.slots_by_id.get(&id).copied()
    }

    /// Returns the next number for a transfer or request that this side starts.
    pub(super) fn next_id(&mut self, first: u32) -> u32 {
        let id = if self.next_id == 0 { first } else { self.next_id };
        self.next_id = id.saturating_add(2);
        id
    }

    /// Gives a number to a transfer of this side.
    pub(super) fn assign_id(&mut self, slot: u8, first: u32) -> u32 {
        let id = self.next_id(first);
        self.transfer(slot).id = id;
        self.slots_by_id.insert(id, slot);
        id
    }

    /// Takes back a number that was never sent: the next transfer gets it.
    pub(super) fn unassign_id(&mut self, slot: u8) {
        let id = std::mem::take(&mut self.transfer(slot).id);
        self.slots_by_id.remove(&id);
        self.next_id = id;
    }

    /// Returns whether this side has used the number.
    pub(super) fn has_begun(&self, id: u32) -> bool {
        id < self.next_id
    }

    pub(super) fn is_out_of_ids(&self) -> bool {
        self.next_id > MAX_ID
    }

    // ---- bounds ----

    pub(super) fn slots(&self) -> impl Iterator<Item = (u8, &TransferSlot)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, transfer)| Some((slot as u8, &**transfer.as_ref()?)))
    }

    pub(super) fn slot_of(&self, mut is_it: impl FnMut(&TransferState) -> bool) -> Option<u8> {
        self.slots().find(|(_, transfer)| is_it(&transfer.state)).map(|(slot, _)| slot)
    }

    pub(super) fn slots_taken(&self) -> usize {
        self.slots().count()
    }

    /// Returns whether one side may start one more transfer or request. Ended transfers that wait
    /// for the disk do not count to `max`, but to the number of slots.
    pub(super) fn has_room(&self, by: Side, max: usize) -> bool {
        let max_slots = if by == Side::Peer { MAX_PEER_SLOTS } else { MAX_SLOTS };
        self.slots_taken() < max_slots && self.under_way(by) < max
    }

    /// Returns the number of transfers and requests that one side has started and that have not
    /// ended.
    fn under_way(&self, by: Side) -> usize {
        let is_under_way =
            |transfer: &TransferSlot| transfer.begun_by == by && !transfer.state.is_over();
        let slots = self.slots().filter(|(_, transfer)| is_under_way(transfer)).count();
        match by {
            Side::Peer => slots + self.offers.len(),
            Side::Local => slots + self.gets.len() + self.lists.len(),
        }
    }

    // ---- queries ----

    /// Returns the time before which no request of this side expires: the peer has sent a frame of
    /// a transfer.
    pub(super) fn unheard_until(&self, idle_timeout: Duration) -> Duration {
        self.last_activity + idle_timeout
    }

    pub(super) fn deadline(&self, idle_timeout: Duration) -> Option<Duration> {
        let last_activity = self.last_activity;
        let unheard_until = self.unheard_until(idle_timeout);
        let gets = self.gets.values().map(|get| get.until.max(unheard_until));
        let lists = self.lists.values().map(|list| list.until.max(unheard_until));
        let offers = self.offers.values().map(|offer| offer.until);
        let expiries = self
            .slots()
            .filter_map(|(_, transfer)| transfer.state.expires_at(last_activity, idle_timeout));
        let idle = self.slots().filter_map(|(_, transfer)| transfer.state.idle_file_until());
        let ours = gets.chain(lists).chain(offers);
        ours.chain(expiries).chain(idle).min()
    }

    pub(super) fn in_flight(&self) -> (Vec<FileSequence>, Option<String>) {
        let mut sequences = Vec::new();
        let mut named = None;
        let mut unnamed = None;
        for (slot, transfer) in self.slots() {
            let operations = transfer.state.operations();
            if operations.is_empty() || self.walks.is_waiting(slot) {
                continue;
            }
            let sequence = |number: OpNumber| FileSequence { slot, number: number.0 };
            sequences.extend(operations.into_iter().map(sequence));
            let example = match transfer.state {
                TransferState::Orphaned => &mut unnamed,
                _ => &mut named,
            };
            example.get_or_insert_with(|| transfer.state.to_string());
        }
        (sequences, named.or(unnamed))
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.slots().any(|(_, transfer)| match &transfer.state {
            TransferState::Receiving(receiving) => receiving.receiver.is_finishing(),
            _ => false,
        })
    }
}

impl Strand {
    /// Adds a transfer or operation to the table and submits its first operation. It has one
    /// operation in flight at a time.
    pub(super) fn begin_directory_op(
        &mut self,
        cx: &mut Context<'_>,
        begun_by: Side,
        state: TransferState,
        op: FileOp,
    ) {
        let slot = self.transfers().insert(0, begun_by, state);
        self.submit_file(cx, slot, OpNumber(0), op);
    }
}

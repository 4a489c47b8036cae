//! The walks of directories for a connection: one at a time, in the order of its requests.
//!
//! A request waits in the connection's queue. The first one is answered with the result of another
//! walk if there is one; otherwise the connection waits for its turn to walk that directory itself.
//! A connection that ends gives up its turn; a walk that has begun ends, and serves others.

use std::collections::VecDeque;
use std::time::Duration;

use posthouse_io::{Error, Failure, FileOp, FileOutcome};
use posthouse_wire::{DiskError, DiskFailure, DiskOutcome, FileName, OpNumber, ReceiverOp};

use super::receiving::amount_of;
use super::table::TransferState;
use super::{disk_error, unexpected};
use crate::connection::{Context, Strand};
use crate::directory::Directory;
use crate::fair_budget::{FairBudget, Lease};
use crate::quota::Amount;
use crate::sync::Arc;
use crate::transfer::{TransferError, TransferErrorKind};
use crate::transfers::walks::{Arrival, LastCount, Reserved, Snapshot, WalkTime};

/// The walks of a connection.
#[derive(Default)]
pub(super) struct WalkQueue {
    waiting: VecDeque<WalkRequest>,
    /// The place for the walk of the first request.
    place: Option<Place>,
    running: Option<Box<RunningWalk>>,
    /// The time at which the directory of the first request may be walked again.
    pub(super) waits_until: Option<Duration>,
}

/// A request that needs a walk, or the result of another one.
struct WalkRequest {
    slot: u8,
    directory: Directory,
    arrival: Arrival,
    purpose: Purpose,
}

pub(super) enum Purpose {
    /// The files after a name.
    List {
        id: u32,
        after: Box<str>,
        /// The number of files that were passed over, because the peer accepts no such names.
        passed: usize,
    },
    /// A count before an offer is rejected.
    Count { number: OpNumber, amount: Amount },
    /// The removal of parts that nobody continues. It reads the names and sizes of all parts.
    MakeRoom { number: OpNumber, bytes: u64, files: u64 },
}

/// The turn of a connection, or its place in the queue for it.
struct Place {
    budget: Arc<FairBudget>,
    lease: Lease,
}

/// The walk in flight. Its place is free again when this is dropped.
struct RunningWalk {
    request: WalkRequest,
    place: Place,
    begun: Duration,
    /// The number of changes of the directory before the walk.
    changes: u64,
    kind: WalkKind,
}

enum WalkKind {
    List { start: Box<str>, memory: Reserved },
    Count { before: Amount },
    MakeRoom { missing: (u64, u64) },
}

fn no_room(text: &str) -> DiskError<TransferError> {
    let error = TransferError::here(TransferErrorKind::QuotaExceeded, text.to_owned());
    DiskError { failure: DiskFailure::Other, error }
}

impl Purpose {
    /// Returns the number of the operation of a receiver that waits for the walk.
    pub(super) fn receiver_op(&self) -> Option<OpNumber> {
        match *self {
            Purpose::List { .. } => None,
            Purpose::Count { number, .. } | Purpose::MakeRoom { number, .. } => Some(number),
        }
    }
}

impl WalkQueue {
    /// Returns whether a slot waits for a walk that has not begun.
    pub(super) fn is_waiting(&self, slot: u8) -> bool {
        self.waiting.iter().any(|request| request.slot == slot)
    }

    /// Forgets the request of a slot, if its walk has not begun.
    pub(super) fn forget(&mut self, slot: u8) -> Option<Purpose> {
        let at = self.waiting.iter().position(|request| request.slot == slot)?;
        let request = self.waiting.remove(at)?;
        if at == 0 {
            self.place = None;
            self.waits_until = None;
        }
        Some(request.purpose)
    }

    /// Moves the first request of an offer to the front, if there is one.
    fn pass_lists(&mut self) {
        let is_of_offer = |request: &WalkRequest| request.purpose.receiver_op().is_some();
        let Some(at @ 1..) = self.waiting.iter().position(is_of_offer) else { return };
        if let Some(request) = self.waiting.remove(at) {
            self.waiting.push_front(request);
        }
        self.place = None;
        self.waits_until = None;
    }

    /// Returns whether the walk in flight is for this slot.
    pub(super) fn is_walking(&self, slot: u8) -> bool {
        self.running.as_ref().is_some_and(|running| running.request.slot == slot)
    }

    /// Abandons the walk in flight.
    pub(super) fn abandon(&mut self) {
        self.running = None;
    }
}

impl Strand {
    /// Queues a request that needs a walk.
    pub(super) fn request_walk(
        &mut self,
        cx: &Context<'_>,
        slot: u8,
        directory: Directory,
        purpose: Purpose,
    ) {
        let arrival = Arrival { at: cx.now, changes: directory.changes() };
        let request = WalkRequest { slot, directory, arrival, purpose };
        self.transfers().walks.waiting.push_back(request);
    }

    /// Takes the turn that was granted.
    pub(crate) fn on_walk_granted(&mut self) {
        if self.has_transfers()
            && let Some(place) = &mut self.transfers().walks.place
        {
            place.lease.collect();
        }
    }

    /// Answers requests, and begins the next walk if it is this connection's turn. If the peer does
    /// not read its answers, its lists lose their turn. Its offers do not wait: they have a file
    /// open.
    pub(super) fn run_walks(&mut self, cx: &mut Context<'_>) {
        while self.transfers().walks.running.is_none() {
            let is_held_up = self.is_over_high();
            let walks = &mut self.transfers().walks;
            if is_held_up {
                walks.pass_lists();
            }
            let next = walks.waiting.front();
            if next.is_none_or(|next| is_held_up && next.purpose.receiver_op().is_none()) {
                walks.place = None;
                walks.waits_until = None;
                return;
            }
            if self.answer_without_walk(cx) {
                continue;
            }
            if !self.may_walk_now(cx) || !self.has_turn(cx) {
                return;
            }
            // Another walk may have ended before the turn came.
            if !self.answer_without_walk(cx) {
                self.begin_walk(cx);
            }
        }
    }

    /// Answers the first request if that needs no further walk.
    fn answer_without_walk(&mut self, cx: &mut Context<'_>) -> bool {
        let walks = &cx.shared.walks;
        let Some(WalkRequest { directory, arrival, purpose, .. }) =
            self.transfers().walks.waiting.front()
        else {
            return false;
        };
        match purpose {
            Purpose::List { after, .. } => {
                let Some(snapshot) = walks.snapshot(directory, after, *arrival, cx.now) else {
                    return false;
                };
                if let Some(request) = self.pop_request() {
                    self.answer_list(cx, request, &snapshot);
                }
            }
            Purpose::Count { amount, .. } => {
                let could_hold = directory.could_hold(*amount);
                let serves = walks.last_count(directory, *arrival) == LastCount::Serves;
                if !serves && could_hold {
                    return false;
                }
                if let Some(request) = self.pop_request() {
                    let impossible = || no_room("the file is larger than the whole quota");
                    let result = could_hold.then_some(DiskOutcome::Done).ok_or_else(impossible);
                    self.answer_receiver(cx, &request, result);
                }
            }
            Purpose::MakeRoom { bytes, files, .. } => {
                // If nothing is missing any more, the walk still counts the part of the request.
                let missing = directory.missing_room(amount_of(*bytes, *files));
                if !walks.lacks(directory, *arrival, cx.now, missing) {
                    return false;
                }
                if let Some(request) = self.pop_request() {
                    self.answer_receiver(cx, &request, Err(no_room("")));
                }
            }
        }
        true
    }

    /// Returns whether the directory of the first request may be walked. It may not be listed or
    /// counted again immediately; then the connection continues at the time that it may.
    fn may_walk_now(&mut self, cx: &Context<'_>) -> bool {
        let walks = &mut self.transfers().walks;
        walks.waits_until = None;
        let Some(WalkRequest { directory, arrival, purpose, .. }) = walks.waiting.front() else {
            return true;
        };
        let next_at = match purpose {
            Purpose::List { .. } => cx.shared.walks.next_list_at(directory),
            Purpose::Count { .. } => match cx.shared.walks.last_count(directory, *arrival) {
                LastCount::NextAt(at) => at,
                LastCount::Serves => Duration::ZERO,
            },
            Purpose::MakeRoom { .. } => Duration::ZERO,
        };
        let is_early = next_at > cx.now;
        if is_early {
            walks.waits_until = Some(next_at);
            walks.place = None;
        }
        !is_early
    }

    /// Takes the first request. The next one has a place of its own if it needs another directory.
    fn pop_request(&mut self) -> Option<WalkRequest> {
        let walks = &mut self.transfers().walks;
        let request = walks.waiting.pop_front()?;
        let next = walks.waiting.front();
        if next.is_none_or(|next| !Arc::ptr_eq(&next.directory.inner, &request.directory.inner)) {
            walks.place = None;
        }
        Some(request)
    }

    /// Returns whether it is this connection's turn to walk the directory of its first request.
    /// Otherwise the connection is notified of its turn.
    fn has_turn(&mut self, cx: &Context<'_>) -> bool {
        let Some(peer) = self.stats.as_ref().map(|stats| stats.peer) else { return false };
        let id = self.id;
        let walks = &mut self.transfers().walks;
        if let Some(place) = &walks.place {
            return place.lease.amount() > 0;
        }
        let Some(request) = walks.waiting.front() else { return false };
        let budget = cx.shared.walks.place(&request.directory);
        let mut lease = Lease::empty(&budget, cx.shared.prefix_of(peer), id);
        let is_granted = lease.extend(1);
        walks.place = Some(Place { budget, lease });
        is_granted
    }

    fn begin_walk(&mut self, cx: &mut Context<'_>) {
        let walks = &mut self.transfers().walks;
        let (Some(request), Some(place)) = (walks.waiting.pop_front(), walks.place.take()) else {
            return;
        };
        let changes = request.directory.changes();
        let directory = request.directory.io().clone();
        let (number, kind, op) = match &request.purpose {
            Purpose::MakeRoom { number, bytes, files } => {
                let missing = request.directory.missing_room(amount_of(*bytes, *files));
                let op = ReceiverOp::MakeRoom { bytes: *bytes, files: *files };
                let op = self.transfers().receiving(request.slot).file_op(op);
                (*number, WalkKind::MakeRoom { missing }, op)
            }
            Purpose::List { after, .. } => {
                let (start, memory) = cx.shared.walks.begin_list(&request.directory, after);
                let op = FileOp::List {
                    directory,
                    after: start.clone(),
                    max_entries: usize::MAX,
                    max_bytes: memory.bytes(),
                    // Files that could not be offered either are not shown.
                    is_listed: |path| FileName::parse(path).is_ok(),
                };
                (OpNumber(0), WalkKind::List { start, memory }, op)
            }
            Purpose::Count { number, .. } => {
                let before = request.directory.spent();
                (*number, WalkKind::Count { before }, FileOp::Usage { directory })
            }
        };
        let slot = request.slot;
        let running = RunningWalk { request, place, begun: cx.now, changes, kind };
        self.transfers().walks.running = Some(Box::new(running));
        cx.shared.stats.walks.add(1);
        self.submit_file(cx, slot, number, op);
    }

    /// Handles the result of the walk of a slot. The transfer may have ended
    /// meanwhile; then the result still serves others.
    pub(super) fn on_walked(
        &mut self,
        cx: &mut Context<'_>,
        slot: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let Some(running) = self.transfers().walks.running.take() else { return };
        let RunningWalk { request, place, begun, changes, kind } = *running;
        let time = WalkTime { begun, ended: cx.now, changes };
        match (kind, result) {
            (WalkKind::List { start, memory }, Ok(FileOutcome::Listed { entries, more })) => {
                let snapshot = Arc::new(Snapshot { after: start, entries, more, time });
                cx.shared.walks.keep(&request.directory, &snapshot, memory);
                self.on_snapshot(cx, request, &snapshot);
            }
            (WalkKind::Count { before }, Ok(FileOutcome::Usage(usage))) => {
                request.directory.counted(usage, before);
                cx.shared.walks.note_count(&request.directory, time);
                self.answer_receiver(cx, &request, Ok(DiskOutcome::Done));
            }
            (WalkKind::MakeRoom { missing }, result) => {
                match &result {
                    Ok(_) => cx.shared.walks.note_count(&request.directory, time),
                    Err(error) if error.failure == Failure::NoSpace => {
                        cx.shared.walks.note_lack(&request.directory, time, missing);
                    }
                    Err(_) => {}
                }
                if let Some(number) = request.purpose.receiver_op() {
                    self.on_receiver_op(cx, slot, number, result);
                }
            }
            (_, Ok(outcome)) => unexpected(&outcome),
            (WalkKind::List { .. }, Err(error)) => {
                if let Purpose::List { id, .. } = request.purpose
                    && self.is_listing(slot)
                {
                    self.send_abort(cx, id, &error.into());
                }
                self.transfers().release(slot);
            }
            (WalkKind::Count { .. }, Err(error)) => {
                self.answer_receiver(cx, &request, Err(disk_error(error)));
            }
        }
        place.budget.notify_waiting();
    }

    fn is_listing(&mut self, slot: u8) -> bool {
        matches!(self.transfers().transfer(slot).state, TransferState::Listing(_))
    }

    /// Answers the request for which a directory was walked, unless the peer has gone.
    fn on_snapshot(&mut self, cx: &mut Context<'_>, request: WalkRequest, snapshot: &Snapshot) {
        let Purpose::List { after, .. } = &request.purpose else { return };
        if !self.is_listing(request.slot) {
            return self.transfers().release(request.slot);
        }
        if snapshot.covers(after) {
            self.answer_list(cx, request, snapshot);
        } else {
            // The directory is large: the next walk begins later.
            self.transfers().walks.waiting.push_front(request);
        }
    }

    /// Answers a request with a snapshot. If the peer accepts none of the names, it goes on with
    /// those behind the snapshot.
    fn answer_list(&mut self, cx: &mut Context<'_>, mut request: WalkRequest, files: &Snapshot) {
        let slot = request.slot;
        let Purpose::List { id, after, passed } = &mut request.purpose else { return };
        if self.send_listed(cx, *id, after, passed, files) {
            self.transfers().release(slot);
        } else {
            self.transfers().walks.waiting.push_front(request);
        }
    }

    fn answer_receiver(
        &mut self,
        cx: &mut Context<'_>,
        request: &WalkRequest,
        result: Result<DiskOutcome, posthouse_wire::DiskError<crate::transfer::TransferError>>,
    ) {
        if let Some(number) = request.purpose.receiver_op() {
            self.transfers().receiving(request.slot).receiver.on_disk(number, result);
            self.run_receiver(cx, request.slot);
        }
    }
}

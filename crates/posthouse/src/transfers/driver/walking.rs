//! The walks of directories for a connection: one at a time.
//!
//! A request waits in one of two queues of the connection: that of the offers, in which removals of
//! parts go before counts, or that of the lists. The first one is answered with the result of
//! another walk if there is one; otherwise the connection waits for its turn to walk that directory
//! itself. A connection that ends gives up its turn; a walk that has begun ends, and serves others.

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
    /// The counts and removals of parts for offers. They come first: an offer has a file open.
    offers: Line,
    lists: Line,
    running: Option<Box<RunningWalk>>,
}

/// The requests of one kind, in their order.
#[derive(Default)]
struct Line {
    waiting: VecDeque<WalkRequest>,
    /// The place for the walk of the first request.
    place: Option<Place>,
    /// The time at which the directory of the first request may be walked again.
    waits_until: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalkKind {
    /// A count, or a removal of parts.
    Offer,
    List,
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
    work: WalkWork,
}

enum WalkWork {
    List { start: Box<str>, memory: Reserved },
    Count { before: Amount },
    MakeRoom { missing: (u64, u64) },
}

fn no_room(text: &str) -> DiskError<TransferError> {
    let error = TransferError::here(TransferErrorKind::QuotaExceeded, text.to_owned());
    DiskError { failure: DiskFailure::Other, error }
}

impl Purpose {
    fn kind(&self) -> WalkKind {
        match self {
            Purpose::List { .. } => WalkKind::List,
            Purpose::Count { .. } | Purpose::MakeRoom { .. } => WalkKind::Offer,
        }
    }

    /// Returns the number of the operation of a receiver that waits for the walk.
    pub(super) fn receiver_op(&self) -> Option<OpNumber> {
        match *self {
            Purpose::List { .. } => None,
            Purpose::Count { number, .. } | Purpose::MakeRoom { number, .. } => Some(number),
        }
    }
}

impl Line {
    /// Gives up the turn, or the place in the queue for it.
    fn leave(&mut self) {
        self.place = None;
        self.waits_until = None;
    }

    /// Adds a request. A removal of parts comes before counts, which may have to wait for a time.
    fn push(&mut self, request: WalkRequest) {
        let is_count = |it: &WalkRequest| matches!(it.purpose, Purpose::Count { .. });
        let before_counts = match request.purpose {
            Purpose::MakeRoom { .. } => self.waiting.iter().position(is_count),
            Purpose::List { .. } | Purpose::Count { .. } => None,
        };
        match before_counts {
            Some(0) => {
                self.leave();
                self.waiting.push_front(request);
            }
            Some(at) => self.waiting.insert(at, request),
            None => self.waiting.push_back(request),
        }
    }

    /// Takes the first request. The next one has a place of its own if it needs another directory.
    fn pop(&mut self) -> Option<WalkRequest> {
        let request = self.waiting.pop_front()?;
        let next = self.waiting.front();
        if next.is_none_or(|next| !Arc::ptr_eq(&next.directory.inner, &request.directory.inner)) {
            self.place = None;
        }
        Some(request)
    }

    fn forget(&mut self, slot: u8) -> Option<Purpose> {
        let at = self.waiting.iter().position(|request| request.slot == slot)?;
        if at == 0 {
            self.leave();
        }
        self.waiting.remove(at).map(|request| request.purpose)
    }
}

impl WalkQueue {
    fn line(&mut self, kind: WalkKind) -> &mut Line {
        match kind {
            WalkKind::Offer => &mut self.offers,
            WalkKind::List => &mut self.lists,
        }
    }

    /// Returns the time at which the first request of a kind may begin its walk.
    pub(super) fn waits_until(&self) -> Option<Duration> {
        self.offers.waits_until.into_iter().chain(self.lists.waits_until).min()
    }

    /// Returns whether a slot waits for a walk that has not begun.
    pub(super) fn is_waiting(&self, slot: u8) -> bool {
        let mut waiting = self.offers.waiting.iter().chain(&self.lists.waiting);
        waiting.any(|request| request.slot == slot)
    }

    /// Forgets the request of a slot, if its walk has not begun.
    pub(super) fn forget(&mut self, slot: u8) -> Option<Purpose> {
        self.offers.forget(slot).or_else(|| self.lists.forget(slot))
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
        self.transfers().walks.line(request.purpose.kind()).push(request);
    }

    /// Takes the turns that were granted.
    pub(crate) fn on_walk_granted(&mut self) {
        if self.has_transfers() {
            let walks = &mut self.transfers().walks;
            for place in [&mut walks.offers.place, &mut walks.lists.place].into_iter().flatten() {
                place.lease.collect();
            }
        }
    }

    /// Answers requests, and begins the next walk if it is this connection's turn. The lists of a
    /// peer that is not read lose their turn, because it does not read its answers either.
    pub(super) fn run_walks(&mut self, cx: &mut Context<'_>) {
        self.run_line(cx, WalkKind::Offer);
        self.run_line(cx, WalkKind::List);
    }

    fn run_line(&mut self, cx: &mut Context<'_>, kind: WalkKind) {
        loop {
            let is_held_up = kind == WalkKind::List && self.is_held_up();
            let walks = &mut self.transfers().walks;
            let is_walking = walks.running.is_some();
            let line = walks.line(kind);
            line.waits_until = None;
            if line.waiting.is_empty() || is_held_up {
                return line.leave();
            }
            if is_walking {
                // A turn that it cannot use now is for others.
                line.place.take_if(|place| place.lease.amount() > 0);
                return;
            }
            if self.answer_without_walk(cx, kind) {
                continue;
            }
            if !self.may_walk_now(cx, kind) {
                return;
            }
            // Another walk may have ended before the turn came.
            if !self.answer_without_walk(cx, kind) {
                self.begin_walk(cx, kind);
            }
        }
    }

    /// Answers the first request if that needs no further walk.
    fn answer_without_walk(&mut self, cx: &mut Context<'_>, kind: WalkKind) -> bool {
        let walks = &cx.shared.walks;
        let Some(WalkRequest { directory, arrival, purpose, .. }) =
            self.transfers().walks.line(kind).waiting.front()
        else {
            return false;
        };
        match purpose {
            Purpose::List { after, .. } => {
                let Some(snapshot) = walks.snapshot(directory, after, *arrival, cx.now) else {
                    return false;
                };
                if let Some(request) = self.transfers().walks.line(kind).pop() {
                    self.answer_list(cx, request, &snapshot);
                }
            }
            Purpose::Count { amount, .. } => {
                let could_hold = directory.could_hold(*amount);
                let serves = walks.last_count(directory, *arrival) == LastCount::Serves;
                if !serves && could_hold {
                    return false;
                }
                if let Some(request) = self.transfers().walks.line(kind).pop() {
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
                if let Some(request) = self.transfers().walks.line(kind).pop() {
                    self.answer_receiver(cx, &request, Err(no_room("")));
                }
            }
        }
        true
    }

    /// Returns whether this connection may walk the directory of its first request now. A directory
    /// may not be listed or counted again immediately; then the connection continues at the time
    /// that it may.
    fn may_walk_now(&mut self, cx: &Context<'_>, kind: WalkKind) -> bool {
        let Some(request) = self.transfers().walks.line(kind).waiting.front() else { return false };
        let next_at = match &request.purpose {
            Purpose::List { .. } => cx.shared.walks.next_list_at(&request.directory),
            Purpose::Count { .. } => {
                match cx.shared.walks.last_count(&request.directory, request.arrival) {
                    LastCount::NextAt(at) => at,
                    LastCount::Serves => Duration::ZERO,
                }
            }
            Purpose::MakeRoom { .. } => Duration::ZERO,
        };
        let is_early = next_at > cx.now;
        // The next list is for the connection whose turn it is, so it keeps the turn. One count
        // serves all, and a count that is early must not hold up removals of parts.
        let has_turn = (!is_early || kind == WalkKind::List) && self.has_turn(cx, kind);
        let line = self.transfers().walks.line(kind);
        if is_early && (has_turn || kind == WalkKind::Offer) {
            line.waits_until = Some(next_at);
        }
        if is_early && kind == WalkKind::Offer {
            line.place = None;
        }
        has_turn && !is_early
    }

    /// Returns whether it is this connection's turn to walk the directory of its first request.
    /// Otherwise the connection is notified of its turn.
    fn has_turn(&mut self, cx: &Context<'_>, kind: WalkKind) -> bool {
        let Some(peer) = self.stats.as_ref().map(|stats| stats.peer) else { return false };
        let id = self.id;
        let line = self.transfers().walks.line(kind);
        if let Some(place) = &line.place {
            return place.lease.amount() > 0;
        }
        let Some(request) = line.waiting.front() else { return false };
        let budget = cx.shared.walks.place(&request.directory, kind);
        let mut lease = Lease::empty(&budget, cx.shared.prefix_of(peer), id);
        let is_granted = lease.extend(1);
        line.place = Some(Place { budget, lease });
        is_granted
    }

    fn begin_walk(&mut self, cx: &mut Context<'_>, kind: WalkKind) {
        let line = self.transfers().walks.line(kind);
        let (Some(request), Some(place)) = (line.waiting.pop_front(), line.place.take()) else {
            return;
        };
        let changes = request.directory.changes();
        let directory = request.directory.io().clone();
        let (number, work, op) = match &request.purpose {
            Purpose::MakeRoom { number, bytes, files } => {
                let missing = request.directory.missing_room(amount_of(*bytes, *files));
                let op = ReceiverOp::MakeRoom { bytes: *bytes, files: *files };
                let op = self.transfers().receiving(request.slot).file_op(op);
                (*number, WalkWork::MakeRoom { missing }, op)
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
                (OpNumber(0), WalkWork::List { start, memory }, op)
            }
            Purpose::Count { number, .. } => {
                let before = request.directory.spent();
                (*number, WalkWork::Count { before }, FileOp::Usage { directory })
            }
        };
        let slot = request.slot;
        let running = RunningWalk { request, place, begun: cx.now, changes, work };
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
        let RunningWalk { request, place, begun, changes, work } = *running;
        let time = WalkTime { begun, ended: cx.now, changes };
        match (work, result) {
            (WalkWork::List { start, memory }, Ok(FileOutcome::Listed { entries, more })) => {
                let snapshot = Arc::new(Snapshot { after: start, entries, more, time });
                cx.shared.walks.keep(&request.directory, &snapshot, memory);
                self.on_snapshot(cx, request, &snapshot);
            }
            (WalkWork::Count { before }, Ok(FileOutcome::Usage(usage))) => {
                request.directory.counted(usage, before);
                cx.shared.walks.note_count(&request.directory, time);
                self.answer_receiver(cx, &request, Ok(DiskOutcome::Done));
            }
            (WalkWork::MakeRoom { missing }, result) => {
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
            (WalkWork::List { .. }, Err(error)) => {
                cx.shared.walks.note_list(&request.directory, time);
                if let Purpose::List { id, .. } = request.purpose
                    && self.is_listing(slot)
                {
                    self.send_abort(cx, id, &error.into());
                }
                self.transfers().release(slot);
            }
            (WalkWork::Count { .. }, Err(error)) => {
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
            self.transfers().walks.lists.waiting.push_front(request);
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
            self.transfers().walks.lists.waiting.push_front(request);
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

//! Files on a connection: what goes out, what comes in, what is asked for, and the one place where
//! the system's answers about files are seen.
//!
//! Each transfer is a [`TransferSlot`] in a table; its index is the sequence number of its file
//! operations, of which it has at most one in flight. A transfer that ends while one is in flight
//! stays, orphaned, until that has come back. Commands of callbacks wait as a [`TransferCommand`]
//! until the turn settles, so that the table is never changed under a callback.

mod frames;
mod listing;
mod receiving;
mod sending;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use posthouse_io::{Error, FileFault, FileOp, FileOutcome, Op, Outcome as IoOutcome};
use posthouse_wire::{FileName, TransferFrame};

use crate::connection::{Context, Phase, Strand};
use posthouse_wire::Escaped;

use crate::callbacks::Callbacks;
use crate::close::HandlerResult;
use crate::directory::Directory;
use crate::id::{FileSequence, Operation};
use crate::output::Output;
use crate::transfer::{
    Destination, FileEntry, FinishedTransfer, Reject, TransferError, TransferErrorKind,
    TransferHandle,
};

use listing::Listing;
use receiving::Receiving;
use sending::Sending;

/// The last number on the wire from which something is begun: answers to requests need numbers,
/// too.
const MAX_ID: u32 = u32::MAX - 100_000;
/// The slots of the table that are given to what peers begin and to orphaned operations: their
/// indices fit a byte.
const MAX_PEER_SLOTS: usize = 150;
/// All slots, at most 100 of them more for this side's own transfers.
const MAX_SLOTS: usize = 255;
const _: () = assert!(MAX_PEER_SLOTS + 100 <= MAX_SLOTS);
/// The maximum number of offers and requests of this side that wait for their turn.
const MAX_WAITING: usize = 4096;
/// A chunk's size at first; it follows what the line carries.
const INITIAL_CHUNK_BYTES: usize = 64 * 1024;
/// A chunk is never cut smaller for a slow line.
const MIN_CHUNK_BYTES: usize = 4 * 1024;

/// What runs with a listing.
pub(crate) type ListTask =
    Box<dyn FnOnce(&mut dyn Callbacks, Output<'_>, Entries) -> HandlerResult + Send>;
type Entries = Result<Vec<FileEntry>, TransferError>;

/// A command of a callback.
pub(crate) enum TransferCommand {
    /// Offers a file.
    Offer { directory: Directory, name: Box<str>, progress: TransferHandle },
    /// Requests a file.
    Get { directory: Directory, name: Box<str>, progress: TransferHandle },
    /// Requests a listing.
    List { after: Box<str>, then: ListTask },
    /// Cancels a transfer.
    Cancel(TransferHandle),
}

/// All transfers of a connection.
pub(crate) struct Transfers {
    slots: Vec<Option<Box<TransferSlot>>>,
    /// The slots of transfers that have a number on the wire.
    slots_by_id: BTreeMap<u32, u8>,
    /// Requested files that are not offered yet.
    gets: BTreeMap<u32, PendingGet>,
    /// Requested listings that are not answered yet.
    lists: BTreeMap<u32, PendingList>,
    /// Offers of the peer that the handler answers later.
    offers: BTreeMap<u32, PendingOffer>,
    /// The commands that wait because as much as may be is under way.
    waiting: VecDeque<TransferCommand>,
    /// The slots that have a chunk to send, in turn.
    ready: VecDeque<u8>,
    /// The next number of this side's; 0: none has been given.
    next_id: u32,
    /// The greatest number that the peer has given.
    last_peer_id: u32,
    chunk_bytes: usize,
    /// Since when a chunk is on its way out.
    chunk_since: Option<Duration>,
    /// The slot and the number of the transfer whose chunk was the last to be queued.
    chunk_of: (u8, u32),
    /// The time at which the peer last did something for a transfer.
    last_activity: Duration,
    /// True exactly when the connection has ended them all.
    over: bool,
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
            chunk_since: None,
            chunk_of: (0, 0),
            last_activity: Duration::ZERO,
            over: false,
        }
    }
}

struct PendingGet {
    directory: Directory,
    /// Under what name it is kept.
    name: FileName,
    progress: TransferHandle,
    until: Duration,
}

struct PendingList {
    then: ListTask,
    until: Duration,
}

/// An offer of the peer's that the handler answers later.
struct PendingOffer {
    name: FileName,
    size: u64,
    modified_ms: Option<i64>,
    executable: bool,
    until: Duration,
}

/// Something under way that has files open, or opens them.
struct TransferSlot {
    /// Its number on the wire; 0 while it has none.
    id: u32,
    /// True exactly when it counts as the peer's: it offered, or it asked.
    begun_by_peer: bool,
    /// True exactly while an operation of it is in flight.
    busy: bool,
    state: TransferState,
}

enum TransferState {
    Sending(Sending),
    Receiving(Receiving),
    Listing(Listing),
    /// The transfer is over; an operation of it is in flight: of a file that goes out, or about a
    /// directory.
    Orphaned(Option<TransferHandle>),
}

impl TransferState {
    /// Returns the time at which the transfer expires, if it is the peer's turn.
    fn expires_at(&self, last_activity: Duration, idle_timeout: Duration) -> Option<Duration> {
        match self {
            TransferState::Sending(sending) => sending.expires_at(last_activity, idle_timeout),
            TransferState::Receiving(receiving) => {
                receiving.expires_at(last_activity + idle_timeout)
            }
            TransferState::Listing(_) | TransferState::Orphaned(_) => None,
        }
    }
}

impl fmt::Display for TransferState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferState::Sending(Sending { progress, .. })
            | TransferState::Orphaned(Some(progress)) => {
                write!(f, "sending {}", Escaped(progress.name()))
            }
            TransferState::Receiving(receiving) => write!(f, "receiving {receiving}"),
            TransferState::Listing(_) | TransferState::Orphaned(None) => {
                f.write_str("looking through a directory")
            }
        }
    }
}

impl TransferSlot {
    /// Whether nothing is left of it but work for the disk.
    fn is_over(&self) -> bool {
        match &self.state {
            TransferState::Sending(_) | TransferState::Listing(_) => false,
            TransferState::Receiving(receiving) => receiving.is_over(),
            TransferState::Orphaned(_) => true,
        }
    }
}

/// The strand and the worker, for the functions that work on the table.
struct TransferCx<'a, 'b> {
    strand: &'a mut Strand,
    cx: &'a mut Context<'b>,
}

impl Strand {
    /// Works on the transfers; they are out of the strand's reach meanwhile.
    fn with_transfers<T>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut Transfers, &mut TransferCx<'_, '_>) -> T,
    ) -> T {
        let mut transfers = self.cold().transfers.take().unwrap_or_default();
        let result = call(&mut transfers, &mut TransferCx { strand: self, cx });
        self.cold().transfers = Some(transfers);
        result
    }

    fn has_transfers(&self) -> bool {
        let cold = self.cold.as_ref();
        cold.is_some_and(|cold| cold.transfers.is_some() || !cold.commands.is_empty())
    }

    /// Does what callbacks asked for, and sends the next chunk where there is room.
    pub(crate) fn run_transfers(&mut self, cx: &mut Context<'_>) {
        if self.has_transfers() && self.phase == Phase::Open {
            self.with_transfers(cx, |transfers, tcx| {
                transfers.run_commands(tcx);
                transfers.send_next_chunk(tcx);
            });
        }
    }

    /// The connection ends: so does every transfer. What has been received is still written.
    pub(crate) fn end_transfers(&mut self, cx: &mut Context<'_>) {
        if self.has_transfers() {
            self.with_transfers(cx, Transfers::end_all);
        }
    }

    /// Returns the slots of the operations in flight, and what one of them is about.
    pub(crate) fn busy_transfers(&self) -> (Vec<FileSequence>, Option<String>) {
        let Some(transfers) = self.cold.as_ref().and_then(|cold| cold.transfers.as_ref()) else {
            return (Vec::new(), None);
        };
        let slots = (0..).zip(&transfers.slots);
        let busy = slots.filter_map(|(slot, transfer)| Some((slot, transfer.as_ref()?)));
        let busy: Vec<_> = busy.filter(|(_, transfer)| transfer.busy).collect();
        let named = busy
            .iter()
            .find(|(_, transfer)| !matches!(transfer.state, TransferState::Orphaned(None)));
        let example = named.or(busy.first()).map(|(_, transfer)| transfer.state.to_string());
        (busy.into_iter().map(|(slot, _)| FileSequence { slot, number: 0 }).collect(), example)
    }

    /// Abandons all operations in flight and reports their transfers as failed.
    pub(crate) fn abandon_transfers(&mut self, cx: &mut Context<'_>) {
        if self.has_transfers() {
            self.with_transfers(cx, Transfers::abandon_all);
        }
    }

    /// Whether a file is about to be there, so that the peer should hear of it before the end.
    pub(crate) fn is_finishing_transfers(&self) -> bool {
        let transfers = self.cold.as_ref().and_then(|cold| cold.transfers.as_ref());
        transfers.is_some_and(|transfers| {
            transfers.slots.iter().flatten().any(|transfer| match &transfer.state {
                TransferState::Receiving(receiving) => receiving.is_finishing(),
                _ => false,
            })
        })
    }

    /// A frame of a transfer.
    pub(crate) fn on_transfer_frame(&mut self, cx: &mut Context<'_>, frame: TransferFrame<'_>) {
        if self.phase != Phase::Open {
            return;
        }
        if !self.unadmitted {
            self.phase_deadline = None; // the first message's: here is something as good
        }
        let result = self.with_transfers(cx, |transfers, tcx| transfers.on_frame(tcx, frame));
        if let Err(violation) = result {
            self.on_violation(cx, &violation);
        }
    }

    /// An operation on files has come back.
    pub(crate) fn on_file(
        &mut self,
        cx: &mut Context<'_>,
        sequence: FileSequence,
        outcome: IoOutcome,
    ) {
        let result = match outcome {
            IoOutcome::File(outcome) => Ok(*outcome),
            IoOutcome::Failed(error) => Err(error),
            other => unreachable!("an operation on files ended in {other:?}"),
        };
        self.with_transfers(cx, |transfers, tcx| transfers.on_file_op(tcx, sequence.slot, result));
    }

    /// Zeros leave in place of a chunk.
    pub(crate) fn on_chunk_fault(&mut self, cx: &mut Context<'_>, fault: FileFault) {
        self.with_transfers(cx, |transfers, tcx| transfers.on_chunk_fault(tcx, fault));
    }

    /// Returns the time at which a transfer, or a request, expires.
    pub(crate) fn transfers_deadline(&self) -> Option<Duration> {
        let transfers = self.cold.as_ref()?.transfers.as_ref()?;
        transfers.deadline(self.transfer_timeout())
    }

    fn transfer_timeout(&self) -> Duration {
        Duration::from_millis(self.config.options.transfer_timeout_ms)
    }

    /// The program answers an offer that it has kept.
    pub(crate) fn on_offer_answer(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        answer: Result<Destination, Reject>,
    ) {
        if self.has_transfers() && self.phase == Phase::Open {
            self.with_transfers(cx, |transfers, tcx| transfers.answer_offer(tcx, id, answer));
        }
    }

    /// Gives up what nothing came for.
    pub(crate) fn expire_transfers(&mut self, cx: &mut Context<'_>) {
        if self.transfers_deadline().is_some_and(|at| at <= cx.now) {
            self.with_transfers(cx, Transfers::expire);
        }
    }
}

impl TransferCx<'_, '_> {
    /// Submits the next operation of a transfer.
    fn submit(&mut self, slot: u8, op: FileOp) {
        let sequence = FileSequence { slot, number: 0 }.pack();
        self.strand.submit(self.cx, Operation::File, sequence, Op::File(Box::new(op)));
    }

    /// Queues a frame. False: it is larger than the peer takes.
    fn send_frame(&mut self, frame: TransferFrame<'_>) -> bool {
        if self.strand.phase != Phase::Open {
            return true; // nobody would hear it
        }
        let max = self.strand.send_limits().max_payload_bytes;
        let output = &mut self.strand.output;
        output.append(&mut self.cx.worker.free_list, |tail| frame.encode(max, tail)).is_ok()
    }

    fn abort(&mut self, id: u32, error: &TransferError) {
        let text = error.text_for_peer().as_bytes();
        self.send_frame(TransferFrame::Abort { id, code: error.code(), text });
    }

    fn refuse(&mut self, id: u32, code: u16, text: &str) {
        self.send_frame(TransferFrame::Abort { id, code, text: text.as_bytes() });
    }

    /// Tells the handler how a transfer ended.
    fn notify(&mut self, progress: TransferHandle, result: Result<[u8; 32], TransferError>) {
        let peer = self.strand.id;
        match &result {
            Ok(_) => self.cx.shared.stats.transfers.add(1),
            Err(_) => self.cx.shared.stats.transfers_failed.add(1),
        }
        let (incoming, bytes) = (progress.is_incoming(), progress.transferred_bytes());
        let name = posthouse_wire::Escaped(progress.name()).to_string();
        match &result {
            Ok(_) => tracing::info!(%peer, name, incoming, bytes, "file transferred"),
            Err(error) => {
                tracing::debug!(%peer, name, incoming, bytes, %error, "file not transferred");
            }
        }
        let transfer = FinishedTransfer { progress, result };
        self.strand
            .run_callback(self.cx, |callbacks, output| callbacks.transferred(output, &transfer));
    }

    /// Asks the handler; its answer counts unless the call failed.
    fn ask<T>(
        &mut self,
        call: impl FnOnce(&mut dyn Callbacks, Output<'_>) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        let mut answer = Err(Reject::new("internal error"));
        self.strand.run_callback(self.cx, |callbacks, output| {
            answer = call(callbacks, output);
            Ok(())
        });
        answer
    }

    fn max_transfers(&self) -> usize {
        self.strand.config.options.max_transfers
    }

    fn timeout_at(&self) -> Duration {
        self.cx.now + self.strand.transfer_timeout()
    }

    /// How much one chunk may carry to this peer.
    fn max_chunk_bytes(&self) -> usize {
        let max = self.strand.send_limits().max_payload_bytes;
        let room = max - posthouse_wire::CHUNK_HEAD_BYTES;
        room.min(self.cx.shared.tuning.chunk_bytes)
    }
}

impl Transfers {
    /// Adds a transfer whose first operation this is.
    fn begin(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        by_peer: bool,
        state: TransferState,
        first: FileOp,
    ) -> u8 {
        let vacant = self.slots.iter().position(Option::is_none);
        let slot = vacant.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let transfer = TransferSlot { id: 0, begun_by_peer: by_peer, busy: true, state };
        self.slots[slot] = Some(Box::new(transfer));
        let slot = u8::try_from(slot).expect("transfers are bounded");
        tcx.submit(slot, first);
        slot
    }

    fn transfer(&mut self, slot: u8) -> &mut TransferSlot {
        self.slots[usize::from(slot)].as_mut().expect("a transfer that is under way")
    }

    fn submit(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8, op: FileOp) {
        let transfer = self.transfer(slot);
        assert!(!transfer.busy, "one operation at a time for each transfer");
        transfer.busy = true;
        tcx.submit(slot, op);
    }

    fn slots_taken(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether one side may begin one more. What is over and waits for the disk does not count, up
    /// to the slots that there are.
    fn has_room(&self, by_peer: bool, max: usize) -> bool {
        let max_slots = if by_peer { MAX_PEER_SLOTS } else { MAX_SLOTS };
        self.slots_taken() < max_slots && self.under_way(by_peer) < max
    }

    /// Returns the number of transfers that one side has begun.
    fn under_way(&self, by_peer: bool) -> usize {
        let slots = self.slots.iter().flatten();
        let slots = slots
            .filter(|transfer| transfer.begun_by_peer == by_peer && !transfer.is_over())
            .count();
        match by_peer {
            true => slots + self.offers.len(),
            false => slots + self.gets.len() + self.lists.len(),
        }
    }

    /// A number for what this side begins.
    fn next_id(&mut self, tcx: &TransferCx<'_, '_>) -> u32 {
        let id = match self.next_id {
            0 => tcx.strand.session.first_transfer_id(),
            id => id,
        };
        self.next_id = id.saturating_add(2);
        id
    }

    /// Takes a transfer's number off the wire; the slot stays until its operation has come back.
    fn release(&mut self, slot: u8) -> TransferState {
        let transfer =
            self.slots[usize::from(slot)].as_mut().expect("a transfer that is under way");
        self.slots_by_id.remove(&transfer.id);
        let what = match &transfer.state {
            TransferState::Sending(sending) => Some(sending.progress.clone()),
            _ => None,
        };
        let state = std::mem::replace(&mut transfer.state, TransferState::Orphaned(what));
        if !transfer.busy {
            self.slots[usize::from(slot)] = None;
        }
        self.ready.retain(|other| *other != slot);
        state
    }

    fn on_file_op(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let transfer = self.transfer(slot);
        transfer.busy = false;
        match &transfer.state {
            TransferState::Sending(_) => self.on_sending(tcx, slot, result),
            TransferState::Receiving(_) => self.on_receiving(tcx, slot, result),
            TransferState::Listing(_) => self.on_listed(tcx, slot, result),
            TransferState::Orphaned(_) => self.slots[usize::from(slot)] = None,
        }
        self.run_waiting(tcx);
    }

    fn run_commands(&mut self, tcx: &mut TransferCx<'_, '_>) {
        let cold = tcx.strand.cold();
        let mut commands = std::mem::take(&mut cold.commands);
        while let Some(command) = commands.pop_front() {
            match command {
                TransferCommand::Cancel(progress) => self.cancel(tcx, &progress),
                command if !tcx.strand.session.may_transfer() => {
                    let kind = TransferErrorKind::Unsupported;
                    fail_command(tcx, command, TransferError::here(kind, ""));
                }
                command if self.waiting.len() >= MAX_WAITING => {
                    let text = "too many offers and requests wait on this connection";
                    let busy = TransferError::here(TransferErrorKind::Busy, text);
                    fail_command(tcx, command, busy);
                }
                command => self.waiting.push_back(command),
            }
        }
        self.run_waiting(tcx);
    }

    /// Begins what may be begun now.
    fn run_waiting(&mut self, tcx: &mut TransferCx<'_, '_>) {
        let max = tcx.max_transfers().max(1);
        while tcx.strand.phase == Phase::Open && self.has_room(false, max) {
            match self.waiting.pop_front() {
                Some(command) if self.next_id > MAX_ID => {
                    let text = "this connection has used up its numbers: connect again";
                    let busy = TransferError::here(TransferErrorKind::Busy, text);
                    fail_command(tcx, command, busy);
                }
                Some(TransferCommand::Offer { directory, name, progress }) => {
                    self.begin_offer(tcx, &directory, &name, progress);
                }
                Some(TransferCommand::Get { directory, name, progress }) => {
                    self.begin_get(tcx, directory, &name, progress);
                }
                Some(TransferCommand::List { after, then }) => self.begin_list(tcx, &after, then),
                Some(TransferCommand::Cancel(_)) => unreachable!("a cancel does not wait"),
                None => return,
            }
        }
    }

    fn begin_get(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        directory: Directory,
        name: &str,
        progress: TransferHandle,
    ) {
        let name = match FileName::parse(name) {
            Ok(name) => name,
            Err(error) => {
                let kind = TransferErrorKind::BadName;
                return tcx.notify(progress, Err(TransferError::here(kind, error.to_string())));
            }
        };
        let id = self.next_id(tcx);
        let until = tcx.timeout_at();
        if tcx.send_frame(TransferFrame::Get { id, name: progress.name().as_bytes() }) {
            self.gets.insert(id, PendingGet { directory, name, progress, until });
        } else {
            let text = "longer than the peer takes";
            tcx.notify(progress, Err(TransferError::here(TransferErrorKind::BadName, text)));
        }
    }

    fn cancel(&mut self, tcx: &mut TransferCx<'_, '_>, progress: &TransferHandle) {
        let error = || TransferError::here(TransferErrorKind::Cancelled, "");
        let waits = |command: &TransferCommand| match command {
            TransferCommand::Offer { progress: it, .. }
            | TransferCommand::Get { progress: it, .. } => it == progress,
            _ => false,
        };
        if let Some(at) = self.waiting.iter().position(waits) {
            self.waiting.remove(at);
            return tcx.notify(progress.clone(), Err(error()));
        }
        if let Some((id, _)) = self.gets.iter().find(|(_, get)| get.progress == *progress) {
            let id = *id;
            self.gets.remove(&id);
            tcx.abort(id, &error());
            return tcx.notify(progress.clone(), Err(error()));
        }
        if let Some(slot) = self.slot_of(|state| match state {
            TransferState::Sending(sending) => sending.progress == *progress,
            TransferState::Receiving(receiving) => receiving.is_open_for(progress),
            _ => false,
        }) {
            self.end(tcx, slot, error(), true);
        }
    }

    fn slot_of(&self, mut is_it: impl FnMut(&TransferState) -> bool) -> Option<u8> {
        let is_it = |transfer: &Option<Box<TransferSlot>>| {
            transfer.as_ref().is_some_and(|transfer| is_it(&transfer.state))
        };
        self.slots.iter().position(is_it).map(|slot| slot as u8)
    }

    /// A transfer ends without success; `notify_peer`: the peer is told.
    fn end(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        error: TransferError,
        notify_peer: bool,
    ) {
        match &self.transfer(slot).state {
            TransferState::Sending(_) => self.end_sending(tcx, slot, Err(error), notify_peer),
            TransferState::Receiving(_) => self.end_receiving(tcx, slot, error, notify_peer),
            TransferState::Listing(_) | TransferState::Orphaned(_) => {
                self.release(slot);
            }
        }
    }

    /// The connection has ended.
    fn end_all(&mut self, tcx: &mut TransferCx<'_, '_>) {
        let gone = || TransferError::here(TransferErrorKind::Disconnected, "");
        let mut commands = std::mem::take(&mut tcx.strand.cold().commands);
        commands.append(&mut self.waiting);
        if !std::mem::replace(&mut self.over, true) {
            for slot in 0..self.slots.len() as u8 {
                if self.slots[usize::from(slot)].is_some() {
                    self.end(tcx, slot, gone(), false);
                }
            }
            while let Some((_, get)) = self.gets.pop_first() {
                tcx.notify(get.progress, Err(gone()));
            }
            while let Some((_, list)) = self.lists.pop_first() {
                tcx.strand.run_callback(tcx.cx, |callbacks, output| {
                    (list.then)(callbacks, output, Err(gone()))
                });
            }
            self.offers.clear();
        }
        for command in commands {
            fail_command(tcx, command, gone());
        }
    }

    /// Abandons the transfers that the disk holds.
    fn abandon_all(&mut self, tcx: &mut TransferCx<'_, '_>) {
        assert!(self.over, "transfers end before their connection is abandoned");
        for transfer in std::mem::take(&mut self.slots).into_iter().flatten() {
            if let TransferState::Receiving(receiving) = transfer.state
                && let Some(progress) = receiving.abandon()
            {
                let text = "it did not answer before the endpoint ended";
                tcx.notify(progress, Err(TransferError::here(TransferErrorKind::Disk, text)));
            }
        }
    }

    fn deadline(&self, idle_timeout: Duration) -> Option<Duration> {
        let gets = self.gets.values().map(|get| get.until);
        let lists = self.lists.values().map(|list| list.until);
        let offers = self.offers.values().map(|offer| offer.until);
        let (last_activity, slots) = (self.last_activity, self.slots.iter().flatten());
        let expiries =
            slots.filter_map(|transfer| transfer.state.expires_at(last_activity, idle_timeout));
        gets.chain(lists).chain(offers).chain(expiries).min()
    }

    fn expire(&mut self, tcx: &mut TransferCx<'_, '_>) {
        let now = tcx.cx.now;
        let expired = || TransferError::here(TransferErrorKind::Expired, "");
        while let Some((id, _)) = self.gets.iter().find(|(_, get)| get.until <= now) {
            let id = *id;
            let get = self.gets.remove(&id).expect("just found");
            tcx.abort(id, &expired());
            tcx.notify(get.progress, Err(expired()));
        }
        while let Some((id, _)) = self.lists.iter().find(|(_, list)| list.until <= now) {
            let id = *id;
            let list = self.lists.remove(&id).expect("just found");
            tcx.strand.run_callback(tcx.cx, |callbacks, output| {
                (list.then)(callbacks, output, Err(expired()))
            });
        }
        while let Some((id, _)) = self.offers.iter().find(|(_, offer)| offer.until <= now) {
            let id = *id;
            self.offers.remove(&id);
            tcx.abort(id, &expired());
        }
        let (last_activity, idle_timeout) = (self.last_activity, tcx.strand.transfer_timeout());
        let over = |state: &TransferState| {
            state.expires_at(last_activity, idle_timeout).is_some_and(|at| at <= now)
        };
        while let Some(slot) = self.slot_of(over) {
            self.end(tcx, slot, expired(), true);
        }
        self.run_waiting(tcx);
    }
}

fn fail_command(tcx: &mut TransferCx<'_, '_>, command: TransferCommand, error: TransferError) {
    match command {
        TransferCommand::Offer { progress, .. } | TransferCommand::Get { progress, .. } => {
            tcx.notify(progress, Err(error));
        }
        TransferCommand::List { then, .. } => {
            tcx.strand
                .run_callback(tcx.cx, |callbacks, output| then(callbacks, output, Err(error)));
        }
        TransferCommand::Cancel(_) => {}
    }
}

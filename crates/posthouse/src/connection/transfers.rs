//! Files on a connection: what goes out, what comes in, what is asked for, and the one place where
//! the system's answers about files are seen.
//!
//! Each transfer is a [`Job`] in a table; its place is the sequence number of its file operations,
//! of which it has at most one in flight. A job that ends while one is in flight stays until that
//! has come back. What callbacks ask for waits as an [`Errand`] until the turn settles, so that the
//! table is never changed under a callback.

mod frames;
mod listing;
mod receiving;
mod sending;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use posthouse_io::{Error, FileFault, FileOp, FileOutcome, Op, Outcome as IoOutcome};
use posthouse_wire::{FileName, TransferFrame};

use super::{Context, Phase, Strand};
use posthouse_wire::Escaped;

use crate::close::HandlerResult;
use crate::directory::Directory;
use crate::erased::Callbacks;
use crate::id::Operation;
use crate::peer::Output;
use crate::transfer::{
    Destination, FileEntry, FinishedTransfer, Reject, TransferError, TransferErrorKind,
    TransferHandle,
};

use listing::Listing;
use receiving::Receiving;
use sending::Sending;

/// Beyond this number nothing is begun: each needs one, and answers to wishes do as well.
const IDS_MAX: u32 = u32::MAX - 100_000;
/// Places in the table that are given to what peers begin and to chores: their numbers fit a byte.
const JOBS_MAX: usize = 150;
/// Places that this side's own take besides, at most 100 of them.
const PLACES_MAX: usize = 255;
const _: () = assert!(JOBS_MAX + 100 <= PLACES_MAX);
/// Offers and wishes of this side that wait for their turn.
const WAITING_MAX: usize = 4096;
/// A chunk's size at first; it follows what the line carries.
const CHUNK_BYTES_FIRST: usize = 64 * 1024;
/// A chunk is never cut smaller for a slow line.
const CHUNK_BYTES_MIN: usize = 4 * 1024;

/// What runs with a listing.
pub(crate) type ListTask =
    Box<dyn FnOnce(&mut dyn Callbacks, Output<'_>, Entries) -> HandlerResult + Send>;
type Entries = Result<Vec<FileEntry>, TransferError>;

/// What a callback asked for.
pub(crate) enum Errand {
    /// To offer a file.
    Offer { directory: Directory, name: Box<str>, progress: TransferHandle },
    /// To ask for a file.
    Get { directory: Directory, name: Box<str>, progress: TransferHandle },
    /// To ask what files there are.
    List { after: Box<str>, then: ListTask },
    /// To give a transfer up.
    Cancel(TransferHandle),
}

/// All transfers of a connection.
pub(crate) struct Transfers {
    jobs: Vec<Option<Box<Job>>>,
    /// The places of jobs that have a number on the wire.
    places: BTreeMap<u32, u8>,
    /// Files that were asked for and are not offered yet.
    gets: BTreeMap<u32, Getting>,
    /// Listings that were asked for.
    lists: BTreeMap<u32, Asking>,
    /// Offers of the peer that the handler answers later.
    offers: BTreeMap<u32, PendingOffer>,
    /// What waits because as much as may be is under way.
    waiting: VecDeque<Errand>,
    /// Places that have a chunk to send, in turn.
    ready: VecDeque<u8>,
    /// The next number of this side's; 0: none has been given.
    next_id: u32,
    /// The greatest number that the peer has given.
    last_peer_id: u32,
    chunk_bytes: usize,
    /// Since when a chunk is on its way out.
    chunk_since: Option<Duration>,
    /// The place and the number of the transfer whose chunk was the last to be queued.
    chunk_of: (u8, u32),
    /// When the peer last did something for a transfer.
    heard: Duration,
    /// True exactly when the connection has ended them all.
    over: bool,
}

impl Default for Transfers {
    fn default() -> Self {
        Self {
            jobs: Vec::new(),
            places: BTreeMap::new(),
            gets: BTreeMap::new(),
            lists: BTreeMap::new(),
            offers: BTreeMap::new(),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            next_id: 0,
            last_peer_id: 0,
            chunk_bytes: CHUNK_BYTES_FIRST,
            chunk_since: None,
            chunk_of: (0, 0),
            heard: Duration::ZERO,
            over: false,
        }
    }
}

struct Getting {
    directory: Directory,
    /// Under what name it is kept.
    name: FileName,
    progress: TransferHandle,
    until: Duration,
}

struct Asking {
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
struct Job {
    /// Its number on the wire; 0 while it has none.
    id: u32,
    /// True exactly when it counts as the peer's: it offered, or it asked.
    begun_by_peer: bool,
    /// True exactly while an operation of it is in flight.
    busy: bool,
    work: Work,
}

enum Work {
    Sending(Sending),
    Receiving(Receiving),
    Listing(Listing),
    /// Nothing but the operation in flight: of what goes out, or about a directory.
    Chore(Option<TransferHandle>),
}

impl Work {
    /// Until when the peer may be silent, where it is its turn.
    fn patience_ends(&self, heard: Duration, patience: Duration) -> Option<Duration> {
        match self {
            Work::Sending(sending) => sending.patience_ends(heard, patience),
            Work::Receiving(receiving) => receiving.patience_ends(heard + patience),
            Work::Listing(_) | Work::Chore(_) => None,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Sending(Sending { progress, .. }) | Work::Chore(Some(progress)) => {
                write!(f, "sending {}", Escaped(progress.name()))
            }
            Work::Receiving(receiving) => write!(f, "receiving {receiving}"),
            Work::Listing(_) | Work::Chore(None) => f.write_str("looking through a directory"),
        }
    }
}

impl Job {
    /// Whether nothing is left of it but work for the disk.
    fn is_over(&self) -> bool {
        match &self.work {
            Work::Sending(_) | Work::Listing(_) => false,
            Work::Receiving(receiving) => receiving.is_over(),
            Work::Chore(_) => true,
        }
    }
}

/// The strand and the worker, for whoever works on the table.
struct Hands<'a, 'b> {
    strand: &'a mut Strand,
    cx: &'a mut Context<'b>,
}

impl Strand {
    /// Works on the transfers; they are out of the strand's reach meanwhile.
    fn with_transfers<T>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut Transfers, &mut Hands<'_, '_>) -> T,
    ) -> T {
        let mut transfers = self.extras().transfers.take().unwrap_or_default();
        let result = call(&mut transfers, &mut Hands { strand: self, cx });
        self.extras().transfers = Some(transfers);
        result
    }

    fn has_transfers(&self) -> bool {
        let extras = self.extras.as_ref();
        extras.is_some_and(|extras| extras.transfers.is_some() || !extras.errands.is_empty())
    }

    /// Does what callbacks asked for, and sends the next chunk where there is room.
    pub(super) fn run_transfers(&mut self, cx: &mut Context<'_>) {
        if self.has_transfers() && self.phase == Phase::Open {
            self.with_transfers(cx, |transfers, hands| {
                transfers.run_errands(hands);
                transfers.feed(hands);
            });
        }
    }

    /// The connection ends: so does every transfer. What has been received is still written.
    pub(super) fn end_transfers(&mut self, cx: &mut Context<'_>) {
        if self.has_transfers() {
            self.with_transfers(cx, Transfers::end_all);
        }
    }

    /// The places of the operations in flight, and what one of them is about.
    pub(super) fn busy_transfers(&self) -> (Vec<u8>, Option<String>) {
        let Some(transfers) = self.extras.as_ref().and_then(|extras| extras.transfers.as_ref())
        else {
            return (Vec::new(), None);
        };
        let jobs = (0..).zip(&transfers.jobs);
        let busy = jobs.filter_map(|(place, job)| Some((place, job.as_ref()?)));
        let busy: Vec<_> = busy.filter(|(_, job)| job.busy).collect();
        let told = busy.iter().find(|(_, job)| !matches!(job.work, Work::Chore(None)));
        let example = told.or(busy.first()).map(|(_, job)| job.work.to_string());
        (busy.into_iter().map(|(place, _)| place).collect(), example)
    }

    /// What is in flight is not awaited any more: who waits for how it ends is told that it failed.
    pub(super) fn give_up_transfers(&mut self, cx: &mut Context<'_>) {
        if self.has_transfers() {
            self.with_transfers(cx, Transfers::give_up_all);
        }
    }

    /// Whether a file is about to be there, so that the peer should hear of it before the end.
    pub(super) fn is_finishing_transfers(&self) -> bool {
        let transfers = self.extras.as_ref().and_then(|extras| extras.transfers.as_ref());
        transfers.is_some_and(|transfers| {
            transfers.jobs.iter().flatten().any(
                |job| matches!(&job.work, Work::Receiving(receiving) if receiving.is_finishing()),
            )
        })
    }

    /// A frame of a transfer.
    pub(super) fn on_transfer_frame(&mut self, cx: &mut Context<'_>, frame: TransferFrame<'_>) {
        if self.phase != Phase::Open {
            return;
        }
        if !self.unadmitted {
            self.phase_deadline = None; // the first message's: here is something as good
        }
        let result = self.with_transfers(cx, |transfers, hands| transfers.take_frame(hands, frame));
        if let Err(violation) = result {
            self.on_violation(cx, &violation);
        }
    }

    /// An operation on files has come back.
    pub(super) fn on_file(&mut self, cx: &mut Context<'_>, place: u8, outcome: IoOutcome) {
        let result = match outcome {
            IoOutcome::File(outcome) => Ok(*outcome),
            IoOutcome::Failed(error) => Err(error),
            other => unreachable!("an operation on files ended in {other:?}"),
        };
        self.with_transfers(cx, |transfers, hands| transfers.take_file(hands, place, result));
    }

    /// Zeros leave in place of a chunk.
    pub(super) fn on_chunk_fault(&mut self, cx: &mut Context<'_>, fault: FileFault) {
        self.with_transfers(cx, |transfers, hands| transfers.on_chunk_fault(hands, fault));
    }

    /// When a transfer, or a wish, should be looked at again.
    pub(super) fn transfers_deadline(&self) -> Option<Duration> {
        let transfers = self.extras.as_ref()?.transfers.as_ref()?;
        transfers.deadline(self.transfer_timeout())
    }

    fn transfer_timeout(&self) -> Duration {
        Duration::from_millis(self.config.options.transfer_timeout_ms)
    }

    /// The program answers an offer that it has kept.
    pub(super) fn on_offer_answer(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        answer: Result<Destination, Reject>,
    ) {
        if self.has_transfers() && self.phase == Phase::Open {
            self.with_transfers(cx, |transfers, hands| transfers.answer_offer(hands, id, answer));
        }
    }

    /// Gives up what nothing came for.
    pub(super) fn expire_transfers(&mut self, cx: &mut Context<'_>) {
        if self.transfers_deadline().is_some_and(|at| at <= cx.now) {
            self.with_transfers(cx, Transfers::expire);
        }
    }
}

impl Hands<'_, '_> {
    /// Submits the next operation of a job.
    fn submit(&mut self, place: u8, op: FileOp) {
        self.strand.submit(self.cx, Operation::File, place, Op::File(Box::new(op)));
    }

    /// Queues a frame. False: it is larger than the peer takes.
    fn say(&mut self, frame: TransferFrame<'_>) -> bool {
        if self.strand.phase != Phase::Open {
            return true; // nobody would hear it
        }
        let max = self.strand.spoken().payload_bytes_max;
        let output = &mut self.strand.output;
        output.append(&mut self.cx.local.spares, |tail| frame.encode(max, tail)).is_ok()
    }

    fn abort(&mut self, id: u32, error: &TransferError) {
        let text = error.text_for_peer().as_bytes();
        self.say(TransferFrame::Abort { id, code: error.code(), text });
    }

    fn refuse(&mut self, id: u32, code: u16, text: &str) {
        self.say(TransferFrame::Abort { id, code, text: text.as_bytes() });
    }

    /// Tells the handler how a transfer ended.
    fn tell(&mut self, progress: TransferHandle, result: Result<[u8; 32], TransferError>) {
        let peer = self.strand.id;
        match &result {
            Ok(_) => self.cx.core.stats.transfers.add(1),
            Err(_) => self.cx.core.stats.transfers_failed.add(1),
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
        self.strand.call(self.cx, |callbacks, output| callbacks.transferred(output, &transfer));
    }

    /// Asks the handler; its answer counts unless the call failed.
    fn ask<T>(
        &mut self,
        call: impl FnOnce(&mut dyn Callbacks, Output<'_>) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        let mut answer = Err(Reject::new("internal error"));
        self.strand.call(self.cx, |callbacks, output| {
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
    fn chunk_bytes_max(&self) -> usize {
        let max = self.strand.spoken().payload_bytes_max;
        let room = max - posthouse_wire::CHUNK_HEAD_BYTES;
        room.min(self.cx.core.tuning.chunk_bytes)
    }
}

impl Transfers {
    /// Enters a job whose first operation this is.
    fn begin(&mut self, hands: &mut Hands<'_, '_>, by_peer: bool, work: Work, first: FileOp) -> u8 {
        let vacant = self.jobs.iter().position(Option::is_none);
        let place = vacant.unwrap_or_else(|| {
            self.jobs.push(None);
            self.jobs.len() - 1
        });
        let job = Job { id: 0, begun_by_peer: by_peer, busy: true, work };
        self.jobs[place] = Some(Box::new(job));
        let place = u8::try_from(place).expect("transfers are bounded");
        hands.submit(place, first);
        place
    }

    fn job(&mut self, place: u8) -> &mut Job {
        self.jobs[usize::from(place)].as_mut().expect("a job that is under way")
    }

    fn submit(&mut self, hands: &mut Hands<'_, '_>, place: u8, op: FileOp) {
        let job = self.job(place);
        assert!(!job.busy, "one operation at a time for each transfer");
        job.busy = true;
        hands.submit(place, op);
    }

    fn places_taken(&self) -> usize {
        self.jobs.iter().flatten().count()
    }

    /// Whether one side may begin one more. What is over and waits for the disk does not count, up
    /// to the places that there are.
    fn has_room(&self, by_peer: bool, max: usize) -> bool {
        let places_max = if by_peer { JOBS_MAX } else { PLACES_MAX };
        self.places_taken() < places_max && self.under_way(by_peer) < max
    }

    /// How many jobs one side has begun.
    fn under_way(&self, by_peer: bool) -> usize {
        let jobs = self.jobs.iter().flatten();
        let jobs = jobs.filter(|job| job.begun_by_peer == by_peer && !job.is_over()).count();
        match by_peer {
            true => jobs + self.offers.len(),
            false => jobs + self.gets.len() + self.lists.len(),
        }
    }

    /// A number for what this side begins.
    fn next_id(&mut self, hands: &Hands<'_, '_>) -> u32 {
        let id = match self.next_id {
            0 => hands.strand.session.first_transfer_id(),
            id => id,
        };
        self.next_id = id.saturating_add(2);
        id
    }

    /// Takes a job's number off the wire; it stays until its operation has come back.
    fn release(&mut self, place: u8) -> Work {
        let job = self.jobs[usize::from(place)].as_mut().expect("a job that is under way");
        self.places.remove(&job.id);
        let what = match &job.work {
            Work::Sending(sending) => Some(sending.progress.clone()),
            _ => None,
        };
        let work = std::mem::replace(&mut job.work, Work::Chore(what));
        if !job.busy {
            self.jobs[usize::from(place)] = None;
        }
        self.ready.retain(|other| *other != place);
        work
    }

    fn take_file(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let job = self.job(place);
        job.busy = false;
        match &job.work {
            Work::Sending(_) => self.on_sending(hands, place, result),
            Work::Receiving(_) => self.on_receiving(hands, place, result),
            Work::Listing(_) => self.on_listed(hands, place, result),
            Work::Chore(_) => self.jobs[usize::from(place)] = None,
        }
        self.run_waiting(hands);
    }

    fn run_errands(&mut self, hands: &mut Hands<'_, '_>) {
        let extras = hands.strand.extras();
        let mut errands = std::mem::take(&mut extras.errands);
        while let Some(errand) = errands.pop_front() {
            match errand {
                Errand::Cancel(progress) => self.cancel(hands, &progress),
                errand if !hands.strand.session.may_transfer() => {
                    let kind = TransferErrorKind::Unsupported;
                    fail_errand(hands, errand, TransferError::here(kind, ""));
                }
                errand if self.waiting.len() >= WAITING_MAX => {
                    let text = "too many offers and wishes wait on this connection";
                    let busy = TransferError::here(TransferErrorKind::Busy, text);
                    fail_errand(hands, errand, busy);
                }
                errand => self.waiting.push_back(errand),
            }
        }
        self.run_waiting(hands);
    }

    /// Begins what may be begun now.
    fn run_waiting(&mut self, hands: &mut Hands<'_, '_>) {
        let max = hands.max_transfers().max(1);
        while hands.strand.phase == Phase::Open && self.has_room(false, max) {
            match self.waiting.pop_front() {
                Some(errand) if self.next_id > IDS_MAX => {
                    let text = "this connection has used up its numbers: connect again";
                    let busy = TransferError::here(TransferErrorKind::Busy, text);
                    fail_errand(hands, errand, busy);
                }
                Some(Errand::Offer { directory, name, progress }) => {
                    self.begin_offer(hands, &directory, &name, progress);
                }
                Some(Errand::Get { directory, name, progress }) => {
                    self.begin_get(hands, directory, &name, progress);
                }
                Some(Errand::List { after, then }) => self.begin_list(hands, &after, then),
                Some(Errand::Cancel(_)) => unreachable!("a cancel does not wait"),
                None => return,
            }
        }
    }

    fn begin_get(
        &mut self,
        hands: &mut Hands<'_, '_>,
        directory: Directory,
        name: &str,
        progress: TransferHandle,
    ) {
        let name = match FileName::parse(name) {
            Ok(name) => name,
            Err(error) => {
                let kind = TransferErrorKind::BadName;
                return hands.tell(progress, Err(TransferError::here(kind, error.to_string())));
            }
        };
        let id = self.next_id(hands);
        let until = hands.timeout_at();
        if hands.say(TransferFrame::Get { id, name: progress.name().as_bytes() }) {
            self.gets.insert(id, Getting { directory, name, progress, until });
        } else {
            let text = "longer than the peer takes";
            hands.tell(progress, Err(TransferError::here(TransferErrorKind::BadName, text)));
        }
    }

    fn cancel(&mut self, hands: &mut Hands<'_, '_>, progress: &TransferHandle) {
        let error = || TransferError::here(TransferErrorKind::Cancelled, "");
        let waits = |errand: &Errand| match errand {
            Errand::Offer { progress: it, .. } | Errand::Get { progress: it, .. } => it == progress,
            _ => false,
        };
        if let Some(at) = self.waiting.iter().position(waits) {
            self.waiting.remove(at);
            return hands.tell(progress.clone(), Err(error()));
        }
        if let Some((id, _)) = self.gets.iter().find(|(_, get)| get.progress == *progress) {
            let id = *id;
            self.gets.remove(&id);
            hands.abort(id, &error());
            return hands.tell(progress.clone(), Err(error()));
        }
        if let Some(place) = self.place_of(|work| match work {
            Work::Sending(sending) => sending.progress == *progress,
            Work::Receiving(receiving) => receiving.is_open_for(progress),
            _ => false,
        }) {
            self.end(hands, place, error(), true);
        }
    }

    fn place_of(&self, mut is_it: impl FnMut(&Work) -> bool) -> Option<u8> {
        let is_it = |job: &Option<Box<Job>>| job.as_ref().is_some_and(|job| is_it(&job.work));
        self.jobs.iter().position(is_it).map(|place| place as u8)
    }

    /// A transfer ends without success; `say`: the peer is told.
    fn end(&mut self, hands: &mut Hands<'_, '_>, place: u8, error: TransferError, say: bool) {
        match &self.job(place).work {
            Work::Sending(_) => self.end_sending(hands, place, Err(error), say),
            Work::Receiving(_) => self.end_receiving(hands, place, error, say),
            Work::Listing(_) | Work::Chore(_) => {
                self.release(place);
            }
        }
    }

    /// The connection has ended.
    fn end_all(&mut self, hands: &mut Hands<'_, '_>) {
        let gone = || TransferError::here(TransferErrorKind::Disconnected, "");
        let mut errands = std::mem::take(&mut hands.strand.extras().errands);
        errands.append(&mut self.waiting);
        if !std::mem::replace(&mut self.over, true) {
            for place in 0..self.jobs.len() as u8 {
                if self.jobs[usize::from(place)].is_some() {
                    self.end(hands, place, gone(), false);
                }
            }
            while let Some((_, get)) = self.gets.pop_first() {
                hands.tell(get.progress, Err(gone()));
            }
            while let Some((_, list)) = self.lists.pop_first() {
                hands.strand.call(hands.cx, |callbacks, output| {
                    (list.then)(callbacks, output, Err(gone()))
                });
            }
            self.offers.clear();
        }
        for errand in errands {
            fail_errand(hands, errand, gone());
        }
    }

    /// The connection ends although the disk is at some of them.
    fn give_up_all(&mut self, hands: &mut Hands<'_, '_>) {
        assert!(self.over, "transfers end before their connection is given up");
        for job in std::mem::take(&mut self.jobs).into_iter().flatten() {
            if let Work::Receiving(receiving) = job.work
                && let Some(progress) = receiving.give_up()
            {
                let text = "it did not answer before the endpoint ended";
                hands.tell(progress, Err(TransferError::here(TransferErrorKind::Disk, text)));
            }
        }
    }

    fn deadline(&self, patience: Duration) -> Option<Duration> {
        let gets = self.gets.values().map(|get| get.until);
        let lists = self.lists.values().map(|list| list.until);
        let offers = self.offers.values().map(|offer| offer.until);
        let (heard, jobs) = (self.heard, self.jobs.iter().flatten());
        let fed = jobs.filter_map(|job| job.work.patience_ends(heard, patience));
        gets.chain(lists).chain(offers).chain(fed).min()
    }

    fn expire(&mut self, hands: &mut Hands<'_, '_>) {
        let now = hands.cx.now;
        let expired = || TransferError::here(TransferErrorKind::Expired, "");
        while let Some((id, _)) = self.gets.iter().find(|(_, get)| get.until <= now) {
            let id = *id;
            let get = self.gets.remove(&id).expect("just found");
            hands.abort(id, &expired());
            hands.tell(get.progress, Err(expired()));
        }
        while let Some((id, _)) = self.lists.iter().find(|(_, list)| list.until <= now) {
            let id = *id;
            let list = self.lists.remove(&id).expect("just found");
            hands
                .strand
                .call(hands.cx, |callbacks, output| (list.then)(callbacks, output, Err(expired())));
        }
        while let Some((id, _)) = self.offers.iter().find(|(_, offer)| offer.until <= now) {
            let id = *id;
            self.offers.remove(&id);
            hands.abort(id, &expired());
        }
        let (heard, patience) = (self.heard, hands.strand.transfer_timeout());
        let over = |work: &Work| work.patience_ends(heard, patience).is_some_and(|at| at <= now);
        while let Some(place) = self.place_of(over) {
            self.end(hands, place, expired(), true);
        }
        self.run_waiting(hands);
    }
}

fn fail_errand(hands: &mut Hands<'_, '_>, errand: Errand, error: TransferError) {
    match errand {
        Errand::Offer { progress, .. } | Errand::Get { progress, .. } => {
            hands.tell(progress, Err(error));
        }
        Errand::List { then, .. } => {
            hands.strand.call(hands.cx, |callbacks, output| then(callbacks, output, Err(error)));
        }
        Errand::Cancel(_) => {}
    }
}

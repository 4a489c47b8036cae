//! The transfer checker: collects the callbacks about files of every side, and checks that they
//! agree with each other and with the disks.

mod checks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use posthouse_wire::{FileName, part_file_name};

use super::disk_checker::DiskChecker;
use super::later::KeptOffer;
use crate::ledger::{Ledger, Side};
use crate::{Summary, lock};
use posthouse::{
    DisconnectKind, DisconnectReason, FileList, FinishedTransfer, Offer, PeerId, Stats,
    TransferError, TransferErrorKind, TransferHandle,
};

/// The transfer checker of a run. It writes violations into the ledger.
#[derive(Debug)]
pub(super) struct TransferChecker {
    ledger: Arc<Ledger>,
    inner: Mutex<Inner>,
    /// The place of the disk that must crash now, plus one; 0 for none.
    crash_wanted: AtomicUsize,
    /// The offers that wait for an answer from any later callback.
    kept: Mutex<Vec<KeptOffer>>,
}

/// The maximum number of kept offers, of all connections together.
const KEPT_MAX: usize = 4;

/// A file that a peer offers.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    name: String,
    size: u64,
    modified_ns: Option<i64>,
    is_directory: bool,
}

impl From<&Offer<'_>> for Offered {
    fn from(offer: &Offer<'_>) -> Self {
        let size = offer.size();
        let modified_ns = offer.modified_ns();
        let is_directory = offer.is_directory();
        Self { name: offer.name().to_owned(), size, modified_ns, is_directory }
    }
}

#[derive(Debug)]
struct Inner {
    disks: DiskChecker,
    logs: BTreeMap<(Side, PeerId), ConnLog>,
    /// The files that each client wants to transfer. They outlast its connections.
    wants: Vec<Vec<Want>>,
    /// The receivers into each path of each disk.
    receivers: BTreeMap<(usize, String), Receivers>,
    /// The number of ends of transfers reported to each side: successes, failures.
    told: BTreeMap<Side, [u64; 2]>,
    /// True exactly after the end of all faults.
    quiescent: bool,
    summary: Summary,
}

/// A file that a client wants to send or to get.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) get: bool,
    pub(super) name: String,
    over: bool,
    under_way: u32,
    /// True exactly when its last attempt failed for a reason that may last. It is then tried on
    /// another connection only.
    rests: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Receivers {
    /// The receivers whose connection is not gone.
    now: u32,
    /// All receivers since the start of the run.
    ever: u64,
}

/// One side of a connection, and the disks at both ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    pub(super) side: Side,
    pub(super) id: PeerId,
    pub(super) place: usize,
    /// The disk of the peer. `None` if it is not known yet, or the peer is an adversary.
    pub(super) other: Option<usize>,
    /// The maximum number of transfers that the peer has begun at the same time.
    pub(super) max_transfers: usize,
}

/// The end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reported {
    Whole,
    Failed(TransferErrorKind),
}

/// One side of one connection.
#[derive(Debug, Default)]
struct ConnLog {
    begun: Vec<Begun>,
    agreed: Vec<Agreed>,
    /// The reported ends of transfers that the peer has begun.
    told: Vec<TransferHandle>,
    /// The number of listings requested and reported.
    lists: [u64; 2],
    /// The number of the line, the kind of its end, and its unsent bytes.
    end: Option<(u64, DisconnectKind, u64)>,
    /// True exactly when the connection ended while its side did not read.
    was_not_reading: bool,
}

/// A transfer that this side has begun.
#[derive(Debug)]
struct Begun {
    progress: TransferHandle,
    want: Option<usize>,
    quiescent: bool,
    told: Option<Reported>,
}

/// A transfer of the peer that the handler has accepted.
#[derive(Debug)]
struct Agreed {
    name: String,
    is_directory: bool,
    incoming: bool,
    /// True exactly when the handler accepted it after the callback, perhaps too late.
    late: bool,
    told: Option<Reported>,
    coming: Option<Coming>,
}

/// The kind of an accepted transfer of the peer, as far as its name and size tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptedKind {
    File,
    Directory,
    /// The handler accepted both kinds with this name and size.
    Either,
}

/// The state of the receiver's disk when the handler accepted a file.
#[derive(Debug)]
struct Coming {
    path: String,
    part: String,
    size: u64,
    /// True exactly when there was no file of that name.
    anew: bool,
    /// The content of the part file.
    held: Vec<u8>,
    /// The number of receivers into this path so far.
    ever: u64,
    /// The number of crashes of the disk so far.
    crashes: u64,
    /// The number of parts of the disk that were removed to make room so far.
    freed_parts: u64,
    /// The number of changes of the file so far. It may have its former content again at the end.
    changes: u64,
    /// The number of failed operations on all disks so far.
    failures: u64,
    /// True exactly when no other receiver could change the part file.
    alone: bool,
    /// The bytes of the file or its part file that were left when the connection was gone.
    left_bytes: Option<u64>,
}

impl Receivers {
    fn add(&mut self) {
        self.now += 1;
        self.ever += 1;
    }
}

impl Inner {
    fn log(&mut self, actor: Actor) -> &mut ConnLog {
        self.logs.entry((actor.side, actor.id)).or_default()
    }

    fn receivers(&mut self, place: usize, path: &str) -> &mut Receivers {
        self.receivers.entry((place, path.to_owned())).or_default()
    }
}

impl TransferChecker {
    pub(super) fn new(ledger: Arc<Ledger>, disks: DiskChecker, wants: Vec<Vec<Want>>) -> Self {
        let inner = Inner {
            disks,
            logs: BTreeMap::new(),
            wants,
            receivers: BTreeMap::new(),
            told: BTreeMap::new(),
            quiescent: false,
            summary: Summary::default(),
        };
        Self {
            ledger,
            inner: Mutex::new(inner),
            crash_wanted: AtomicUsize::new(0),
            kept: Mutex::default(),
        }
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Calls `call` with the disk checker.
    pub(super) fn with_disks<T>(&self, call: impl FnOnce(&mut DiskChecker) -> T) -> T {
        call(&mut lock(&self.inner).disks)
    }

    pub(super) fn is_quiescent(&self) -> bool {
        lock(&self.inner).quiescent
    }

    /// Notes the end of all faults, and rejects the kept offers.
    pub(super) fn quiesce(&self) {
        lock(&self.inner).quiescent = true;
        self.ledger.quiesce();
        let kept = std::mem::take(&mut *lock(&self.kept));
        drop(kept); // dropping an offer rejects it
    }

    /// Keeps an offer for later. If more than [`KEPT_MAX`] are kept, it answers the oldest.
    pub(super) fn keep(&self, offer: KeptOffer, way: u64) {
        let mut kept = lock(&self.kept);
        kept.push(offer);
        if kept.len() > KEPT_MAX {
            drop(kept);
            self.answer_kept(way);
        }
    }

    /// Answers the oldest kept offer, if there is one.
    pub(super) fn answer_kept(&self, way: u64) {
        let mut kept = lock(&self.kept);
        if !kept.is_empty() {
            let offer = kept.remove(0);
            drop(kept);
            offer.answer(self, way);
        }
    }

    /// Checks the disks, and that the ledger has no violation.
    pub(super) fn check(&self) -> Result<(), String> {
        self.ledger.holds()?;
        lock(&self.inner).disks.check()
    }

    /// Makes a disk crash at the end of this step.
    pub(super) fn want_crash(&self, place: usize) {
        self.crash_wanted.store(place + 1, Ordering::Relaxed);
    }

    /// Returns the disk that must crash now, once.
    pub(super) fn take_crash(&self) -> Option<usize> {
        self.crash_wanted.swap(0, Ordering::Relaxed).checked_sub(1)
    }

    // ---- the wants of clients ----

    /// Returns the wants of a client that are not over and not under way. It includes those that
    /// failed for a lasting reason only if `all` is true or all faults have ended.
    pub(super) fn open_wants(&self, client: usize, all: bool) -> Vec<(usize, bool, String)> {
        let inner = lock(&self.inner);
        let all = all || inner.quiescent;
        let wants = inner.wants[client].iter().enumerate();
        let is_open = |want: &Want| !want.over && want.under_way == 0 && (all || !want.rests);
        let open = wants.filter(|(_, want)| is_open(want));
        open.map(|(place, want)| (place, want.get, want.name.clone())).collect()
    }

    /// Returns the files that a client is sending for its wants.
    pub(super) fn under_way(&self, client: usize) -> Vec<String> {
        let inner = lock(&self.inner);
        let sent = inner.wants[client].iter().filter(|want| !want.get && want.under_way > 0);
        sent.map(|want| want.name.clone()).collect()
    }

    /// Returns the wants of all clients that are not over, as text.
    pub(super) fn left(&self) -> Vec<String> {
        let inner = lock(&self.inner);
        let wants = inner.wants.iter().enumerate();
        let left = wants.flat_map(|(client, wants)| {
            let left = wants.iter().filter(|want| !want.over);
            left.map(move |want| format!("client {client}: {want:?}"))
        });
        left.collect()
    }

    // ---- the start of transfers ----

    /// Notes that a side has begun a transfer.
    pub(super) fn begun(&self, actor: Actor, progress: &TransferHandle, want: Option<usize>) {
        let mut inner = lock(&self.inner);
        let quiescent = inner.quiescent;
        if let Some(want) = want {
            inner.wants[actor.place][want].under_way += 1;
        }
        let begun = Begun { progress: progress.clone(), want, quiescent, told: None };
        inner.log(actor).begun.push(begun);
        if progress.is_incoming() {
            // It will change a part file, at an unknown time.
            let path = inner.disks.path_of(actor.place, progress.name());
            inner.receivers(actor.place, &path).add();
        }
    }

    /// Notes that a handler accepts an offer, in the callback or later.
    pub(super) fn takes(&self, actor: Actor, offered: &Offered, late: bool) {
        let mut inner = lock(&self.inner);
        if inner.log(actor).end.is_some() {
            return; // the connection is gone: the answer has no effect
        }
        let Offered { name, size, modified_ns, is_directory } = offered;
        let Ok(path) = FileName::parse(&inner.disks.path_of(actor.place, name)) else {
            return self.ledger.wrong(format!("T17: {name:?} was offered"));
        };
        let part = part_file_name(&path, *size, *modified_ns);
        let path = path.as_str().to_owned();
        let receivers = inner.receivers(actor.place, &path);
        receivers.add();
        let Receivers { now, ever } = *receivers;
        let coming = Coming {
            anew: inner.disks.disk(actor.place).read(&path).is_none(),
            held: inner.disks.part(actor.place, &part).unwrap_or_default(),
            size: *size,
            ever,
            crashes: inner.disks.crashes(actor.place),
            freed_parts: inner.disks.freed_parts(actor.place),
            changes: inner.disks.changes(&path),
            failures: inner.disks.failures(),
            alone: now == 1,
            left_bytes: None,
            path,
            part,
        };
        let name = name.clone();
        let coming = Some(coming);
        let is_directory = *is_directory;
        let agreed = Agreed { name, is_directory, incoming: true, late, told: None, coming };
        self.agree(inner.log(actor), actor, agreed);
    }

    /// Notes that a handler accepts a request for a file.
    pub(super) fn gives(&self, actor: Actor, name: &str) {
        let name = name.to_owned();
        let agreed = Agreed {
            name,
            is_directory: false,
            incoming: false,
            late: false,
            told: None,
            coming: None,
        };
        self.agree(lock(&self.inner).log(actor), actor, agreed);
    }

    fn agree(&self, log: &mut ConnLog, actor: Actor, agreed: Agreed) {
        log.agreed.push(agreed);
        let now = log.agreed.iter().filter(|agreed| agreed.is_due()).count();
        if now > actor.max_transfers {
            let Actor { side, id, max_transfers, .. } = actor;
            let text = format!("{now} transfers of the peer, {max_transfers} are allowed");
            self.ledger.wrong(format!("C8: {text} ({side:?} {id})"));
        }
    }

    /// Notes that a side requests a listing. Returns the names that it must contain.
    pub(super) fn asked_for_list(&self, actor: Actor, after: &str) -> Vec<String> {
        let mut inner = lock(&self.inner);
        inner.log(actor).lists[0] += 1;
        actor.other.map_or(Vec::new(), |place| inner.disks.promised_after(place, after))
    }

    // ---- the reports to handlers ----

    /// Checks the reported end of a transfer.
    pub(super) fn told(&self, actor: Actor, transfer: &FinishedTransfer) {
        self.ledger.called(actor.side, actor.id);
        if let Err(text) = self.take_end(actor, transfer) {
            let Actor { side, id, .. } = actor;
            self.ledger.wrong(format!("{text} ({side:?} {id}; {transfer:?})"));
        }
    }

    fn take_end(&self, actor: Actor, transfer: &FinishedTransfer) -> Result<(), String> {
        let mut inner = lock(&self.inner);
        let told = match transfer.result() {
            Ok(_) => Reported::Whole,
            Err(error) => Reported::Failed(error.kind()),
        };
        let own = matches!(actor.side, Side::Client(_)) || actor.other.is_some();
        let hash_differs = told == Reported::Failed(TransferErrorKind::HashDiffers)
            && !inner.disks.may_be_known_wrong(transfer.name());
        if own && (hash_differs || told == Reported::Failed(TransferErrorKind::Protocol)) {
            return Err("a protocol error, and both sides follow the protocol".to_owned());
        }
        inner.told.entry(actor.side).or_default()[usize::from(told != Reported::Whole)] += 1;
        let progress = transfer.handle();
        let log = inner.log(actor);
        let mut kind = AcceptedKind::File;
        if let Some(begun) = log.begun.iter_mut().find(|begun| begun.progress == *progress) {
            if begun.told.replace(told).is_some() {
                return Err("C6: the end of a transfer was reported twice".to_owned());
            }
            let want = begun.want;
            let quiescent = begun.quiescent;
            inner.end_begun(actor, transfer, want, quiescent)?;
        } else {
            if log.told.contains(progress) {
                return Err("C6: the end of a transfer of the peer was reported twice".to_owned());
            }
            log.told.push(progress.clone());
            let (name, size) = (transfer.name(), progress.size());
            let ended = log.end_agreed(name, size, transfer.is_incoming(), told);
            kind = ended.ok_or("C6: the end of a transfer that the handler did not accept")?;
        }
        inner.check_content(actor, transfer, kind)
    }

    /// Checks a reported listing.
    pub(super) fn listed(
        &self,
        actor: Actor,
        after: &str,
        must: &[String],
        listed: Result<FileList, TransferError>,
    ) {
        self.ledger.called(actor.side, actor.id);
        let mut inner = lock(&self.inner);
        inner.log(actor).lists[1] += 1;
        let Ok(FileList { files: entries, invalid_names, next, .. }) = listed else { return };
        let mut names: Vec<&str> = entries.iter().map(|entry| &*entry.name).collect();
        names.insert(0, after);
        if !names.is_sorted_by(|one, other| one < other) {
            self.ledger.wrong(format!("a listing is not in order: {names:?}"));
        }
        if let Some(entry) = entries.iter().find(|it| !inner.disks.was_ever(&it.name, it.size)) {
            self.ledger.wrong(format!("a listing has a file that never existed: {entry:?}"));
        }
        if !invalid_names.is_empty() {
            self.ledger.wrong(format!("a listing has invalid names: {invalid_names:?}"));
        }
        // A listing without a name to continue after promises that no other files follow.
        let is_due = |name: &str| next.as_deref().is_none_or(|next| name <= next);
        let missing = |name: &&String| is_due(name) && !names.contains(&&***name);
        if let Some(name) = must.iter().find(missing) {
            self.ledger.wrong(format!("a listing leaves out {name}: {names:?}, next {next:?}"));
        }
        if names.len() == 1 && next.is_some() {
            self.ledger.wrong(format!("a listing is empty and continues after {next:?}"));
        }
    }

    /// Checks the end of a connection.
    pub(super) fn disconnected(&self, actor: Actor, line: u64, why: &DisconnectReason) {
        self.ledger.disconnected(actor.side, actor.id, why);
        let mut inner = lock(&self.inner);
        let result = inner.end_log(actor, line, why).and_then(|()| inner.compare(line));
        if let Err(text) = result {
            let Actor { side, id, .. } = actor;
            self.ledger.wrong(format!("{text} ({side:?} {id}; {why})"));
        }
    }

    /// Checks the statistics of an endpoint that has ended.
    pub(super) fn ended(&self, side: Side, stats: &Stats) -> Result<(), String> {
        let mut inner = lock(&self.inner);
        let told = inner.told.remove(&side).unwrap_or_default();
        inner.summary.operations += stats.operations_submitted;
        if told == [stats.transfers, stats.transfers_failed] {
            Ok(())
        } else {
            Err(format!("C6: {told:?} ends of transfers were reported; {stats:?}"))
        }
    }

    /// Returns the checker's part of the run's summary.
    pub(super) fn summary(&self) -> Summary {
        lock(&self.inner).summary
    }

    pub(super) fn count_crash(&self) {
        lock(&self.inner).summary.crashes += 1;
    }
}

impl Want {
    pub(super) fn new(get: bool, name: impl Into<String>) -> Self {
        Self { get, name: name.into(), over: false, under_way: 0, rests: false }
    }
}

impl Agreed {
    /// Returns whether its end must still be reported.
    fn is_due(&self) -> bool {
        self.told.is_none() && !self.late
    }

    fn may_be(&self, name: &str, size: Option<u64>, incoming: bool) -> bool {
        let sizes_fit = match (&self.coming, size) {
            (Some(coming), Some(size)) => coming.size == size,
            _ => true,
        };
        self.name == name && self.incoming == incoming && sizes_fit
    }
}

impl ConnLog {
    /// Notes the end of a transfer that the handler has accepted. Returns `None` if there is no
    /// such transfer.
    fn end_agreed(
        &mut self,
        name: &str,
        size: Option<u64>,
        incoming: bool,
        told: Reported,
    ) -> Option<AcceptedKind> {
        let same = self.agreed.iter_mut().filter(|agreed| agreed.may_be(name, size, incoming));
        let mut same: Vec<_> = same.collect();
        let directories = same.iter().filter(|agreed| agreed.is_directory).count();
        let kind = match directories {
            0 => AcceptedKind::File,
            _ if directories == same.len() => AcceptedKind::Directory,
            _ => AcceptedKind::Either,
        };
        // Prefers one that was accepted in time: a late acceptance may have had no effect.
        let open = same.iter_mut().filter(|agreed| agreed.told.is_none());
        open.min_by_key(|agreed| agreed.late)?.told = Some(told);
        Some(kind)
    }
}

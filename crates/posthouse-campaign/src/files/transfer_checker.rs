//! The transfer checker: what every side was told of files, and the check that it fits together and
//! with the disks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use posthouse_wire::{FileName, part_file_name};

use super::SERVER_PLACE;
use super::disk_checker::DiskChecker;
use super::later::KeptOffer;
use crate::ledger::{Ledger, Side};
use crate::{Summary, lock};
use posthouse::{
    DisconnectKind, DisconnectReason, FileEntry, FinishedTransfer, Offer, PeerId, Stats,
    TransferError, TransferErrorKind, TransferHandle,
};

/// The transfer checker of a run: violations are written into the ledger.
#[derive(Debug)]
pub(super) struct TransferChecker {
    ledger: Arc<Ledger>,
    inner: Mutex<Inner>,
    /// The place of the disk that is to crash now, and one more; 0: none.
    crash_wanted: AtomicUsize,
    /// Offers that wait to be answered by whichever callback comes to it.
    kept: Mutex<Vec<KeptOffer>>,
}

/// Offers that wait for their answer at the same time, of all connections.
const KEPT_MAX: usize = 4;

/// A file that a peer offers.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    name: String,
    size: u64,
    modified_ms: Option<i64>,
}

impl From<&Offer<'_>> for Offered {
    fn from(offer: &Offer<'_>) -> Self {
        let (size, modified_ms) = (offer.size(), offer.modified_ms());
        Self { name: offer.name().to_owned(), size, modified_ms }
    }
}

#[derive(Debug)]
struct Inner {
    disks: DiskChecker,
    logs: BTreeMap<(Side, PeerId), ConnLog>,
    /// What each client wants, whatever becomes of its connections.
    wants: Vec<Vec<Want>>,
    /// Who receives into each path, and how often somebody has begun to.
    receivers: BTreeMap<(usize, String), Receivers>,
    /// How many ends of transfers each side was told: good ones, others.
    told: BTreeMap<Side, [u64; 2]>,
    /// True exactly from the moment from which on nothing goes wrong any more.
    quiescent: bool,
    summary: Summary,
}

/// A file that a client wants to have sent, or to get.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) get: bool,
    pub(super) name: String,
    over: bool,
    under_way: u32,
    /// True exactly when it failed for a reason that may last: it is tried on another connection.
    rests: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Receivers {
    /// Those whose connection is not gone.
    now: u32,
    ever: u64,
}

/// Who acts: a side of a connection, and which disks are at its two ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    pub(super) side: Side,
    pub(super) id: PeerId,
    pub(super) place: usize,
    /// `None`: not known, or somebody who lies.
    pub(super) other: Option<usize>,
    /// How many transfers its peer may have begun at a time.
    pub(super) max_transfers: usize,
}

/// How a transfer ended.
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
    /// Ends of transfers that the peer has begun.
    told: Vec<TransferHandle>,
    lists: [u64; 2],
    /// The connection's number, and how it ended.
    end: Option<(u64, DisconnectKind, u64)>,
}

/// A transfer that this side has begun.
#[derive(Debug)]
struct Begun {
    progress: TransferHandle,
    want: Option<usize>,
    quiescent: bool,
    told: Option<Reported>,
}

/// A transfer of the peer's that the handler has said yes to.
#[derive(Debug)]
struct Agreed {
    name: String,
    incoming: bool,
    /// True exactly when it was said later: then it may have been too late.
    late: bool,
    told: Option<Reported>,
    coming: Option<Coming>,
}

/// What was there when a file was to be received.
#[derive(Debug)]
struct Coming {
    path: String,
    part: String,
    size: u64,
    /// True exactly when there was no file of that name.
    anew: bool,
    held: Vec<u8>,
    /// How often somebody had begun to receive it, the disk had crashed, any disk had failed.
    ever: u64,
    crashes: u64,
    failures: u64,
    /// True exactly when nobody else could touch the part.
    alone: bool,
    /// What was left of it when the connection was gone.
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

    /// Works on what is known of the disks.
    pub(super) fn with_disks<T>(&self, call: impl FnOnce(&mut DiskChecker) -> T) -> T {
        call(&mut lock(&self.inner).disks)
    }

    pub(super) fn is_quiescent(&self) -> bool {
        lock(&self.inner).quiescent
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn quiesce(&self) {
        lock(&self.inner).quiescent = true;
        self.ledger.quiesce();
        let kept = std::mem::take(&mut *lock(&self.kept));
        drop(kept); // which rejects them
    }

    /// Keeps an offer for later. If as many are kept as may be, another is answered.
    pub(super) fn keep(&self, offer: KeptOffer, way: u64) {
        let mut kept = lock(&self.kept);
        kept.push(offer);
        if kept.len() > KEPT_MAX {
            drop(kept);
            self.answer_kept(way);
        }
    }

    /// Answers an offer that was kept, if there is one.
    pub(super) fn answer_kept(&self, way: u64) {
        let mut kept = lock(&self.kept);
        if !kept.is_empty() {
            let offer = kept.remove(0);
            drop(kept);
            offer.answer(self, way);
        }
    }

    /// Checks the disks, and that nothing was wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        self.ledger.holds()?;
        lock(&self.inner).disks.check()
    }

    /// A disk is to crash at the end of this step.
    pub(super) fn want_crash(&self, place: usize) {
        self.crash_wanted.store(place + 1, Ordering::Relaxed);
    }

    /// The disk that is to crash now.
    pub(super) fn take_crash(&self) -> Option<usize> {
        self.crash_wanted.swap(0, Ordering::Relaxed).checked_sub(1)
    }

    // ---- what clients want ----

    /// The wishes of a client that are open and not under way; those that rest where they are
    /// asked for.
    pub(super) fn open_wants(&self, client: usize, all: bool) -> Vec<(usize, bool, String)> {
        let inner = lock(&self.inner);
        let all = all || inner.quiescent;
        let wants = inner.wants[client].iter().enumerate();
        let is_open = |want: &Want| !want.over && want.under_way == 0 && (all || !want.rests);
        let open = wants.filter(|(_, want)| is_open(want));
        open.map(|(place, want)| (place, want.get, want.name.clone())).collect()
    }

    /// The files that a client is sending because it wants to.
    pub(super) fn under_way(&self, client: usize) -> Vec<String> {
        let inner = lock(&self.inner);
        let sent = inner.wants[client].iter().filter(|want| !want.get && want.under_way > 0);
        sent.map(|want| want.name.clone()).collect()
    }

    /// The wishes of all clients that are not over.
    pub(super) fn left(&self) -> Vec<String> {
        let inner = lock(&self.inner);
        let wants = inner.wants.iter().enumerate();
        let left = wants.flat_map(|(client, wants)| {
            let left = wants.iter().filter(|want| !want.over);
            left.map(move |want| format!("client {client}: {want:?}"))
        });
        left.collect()
    }

    // ---- what begins ----

    /// A side has begun a transfer.
    pub(super) fn begun(&self, actor: Actor, progress: &TransferHandle, want: Option<usize>) {
        let mut inner = lock(&self.inner);
        let quiescent = inner.quiescent;
        if let Some(want) = want {
            inner.wants[actor.place][want].under_way += 1;
        }
        let begun = Begun { progress: progress.clone(), want, quiescent, told: None };
        inner.log(actor).begun.push(begun);
        if progress.is_incoming() {
            // It touches a part, and nobody knows when.
            let path = inner.disks.path_of(actor.place, progress.name());
            inner.receivers(actor.place, &path).add();
        }
    }

    /// A handler says yes to an offer, at once or later.
    pub(super) fn takes(&self, actor: Actor, offered: &Offered, late: bool) {
        let mut inner = lock(&self.inner);
        if inner.log(actor).end.is_some() {
            return; // later than late
        }
        let Offered { name, size, modified_ms } = offered;
        let Ok(path) = FileName::parse(&inner.disks.path_of(actor.place, name)) else {
            return self.ledger.wrong(format!("T17: {name:?} was offered"));
        };
        let part = part_file_name(&path, *size, *modified_ms);
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
            failures: inner.disks.failures(),
            alone: now == 1,
            left_bytes: None,
            path,
            part,
        };
        let (name, coming) = (name.clone(), Some(coming));
        let agreed = Agreed { name, incoming: true, late, told: None, coming };
        self.agree(inner.log(actor), actor, agreed);
    }

    /// A handler has said yes to a wish for a file.
    pub(super) fn gives(&self, actor: Actor, name: &str) {
        let name = name.to_owned();
        let agreed = Agreed { name, incoming: false, late: false, told: None, coming: None };
        self.agree(lock(&self.inner).log(actor), actor, agreed);
    }

    fn agree(&self, log: &mut ConnLog, actor: Actor, agreed: Agreed) {
        log.agreed.push(agreed);
        let now = log.agreed.iter().filter(|agreed| agreed.is_due()).count();
        if now > actor.max_transfers {
            let Actor { side, id, max_transfers, .. } = actor;
            let text = format!("{now} transfers of the peer's, {max_transfers} are allowed");
            self.ledger.wrong(format!("C8: {text} ({side:?} {id})"));
        }
    }

    /// A side asks for a list: what must be in it.
    pub(super) fn asked_for_list(&self, actor: Actor, after: &str) -> Vec<String> {
        let mut inner = lock(&self.inner);
        inner.log(actor).lists[0] += 1;
        actor.other.map_or(Vec::new(), |place| inner.disks.promised_after(place, after))
    }

    // ---- what is told ----

    /// The end of a transfer.
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
            return Err("both sides keep to the protocol".to_owned());
        }
        inner.told.entry(actor.side).or_default()[usize::from(told != Reported::Whole)] += 1;
        let progress = transfer.handle();
        let log = inner.log(actor);
        if let Some(begun) = log.begun.iter_mut().find(|begun| begun.progress == *progress) {
            if begun.told.replace(told).is_some() {
                return Err("C6: a transfer was told twice".to_owned());
            }
            let (want, quiescent) = (begun.want, begun.quiescent);
            inner.end_begun(actor, transfer, want, quiescent)?;
        } else {
            if log.told.contains(progress) {
                return Err("C6: a transfer of the peer's was told twice".to_owned());
            }
            log.told.push(progress.clone());
            // One that was agreed to in time, if there is one: a later one may be none.
            let agreed = log.agreed.iter_mut().filter(|agreed| agreed.is_of(transfer));
            let Some(agreed) = agreed.min_by_key(|agreed| agreed.late) else {
                return Err("C6: told of a transfer that nobody agreed to".to_owned());
            };
            agreed.told = Some(told);
        }
        inner.check_content(actor, transfer)
    }

    /// What a list said.
    pub(super) fn listed(
        &self,
        actor: Actor,
        after: &str,
        must: &[String],
        listed: Result<Vec<FileEntry>, TransferError>,
    ) {
        self.ledger.called(actor.side, actor.id);
        let mut inner = lock(&self.inner);
        inner.log(actor).lists[1] += 1;
        let Ok(entries) = listed else { return };
        let mut names: Vec<&str> = entries.iter().map(|entry| &*entry.name).collect();
        names.insert(0, after);
        if !names.is_sorted_by(|one, other| one < other) {
            self.ledger.wrong(format!("a list is not in order: {names:?}"));
        }
        if let Some(entry) = entries.iter().find(|it| !inner.disks.was_ever(&it.name, it.size)) {
            self.ledger.wrong(format!("a list has what never was: {entry:?}"));
        }
        let last = names[names.len() - 1];
        let missing = |name: &&String| &***name <= last && !names.contains(&&***name);
        if let Some(name) = must.iter().find(missing) {
            self.ledger.wrong(format!("a list passes over {name}: {names:?}"));
        }
    }

    /// A connection is gone.
    pub(super) fn disconnected(&self, actor: Actor, line: u64, why: &DisconnectReason) {
        self.ledger.disconnected(actor.side, actor.id, why);
        let mut inner = lock(&self.inner);
        let result = inner.end_log(actor, line, why).and_then(|()| inner.compare(line));
        if let Err(text) = result {
            let Actor { side, id, .. } = actor;
            self.ledger.wrong(format!("{text} ({side:?} {id}; {why})"));
        }
    }

    /// An endpoint is over.
    pub(super) fn ended(&self, side: Side, stats: &Stats) -> Result<(), String> {
        let mut inner = lock(&self.inner);
        let told = inner.told.remove(&side).unwrap_or_default();
        inner.summary.operations += stats.operations_submitted;
        if told == [stats.transfers, stats.transfers_failed] {
            Ok(())
        } else {
            Err(format!("C6: {told:?} ends of transfers were told; {stats:?}"))
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
    /// Whether its end must still be told.
    fn is_due(&self) -> bool {
        self.told.is_none() && !self.late
    }

    fn is_of(&self, transfer: &FinishedTransfer) -> bool {
        let sizes_fit = match (&self.coming, transfer.handle().size()) {
            (Some(coming), Some(size)) => coming.size == size,
            _ => true,
        };
        let same = self.name == transfer.name() && self.incoming == transfer.is_incoming();
        self.told.is_none() && same && sizes_fit
    }
}

impl Inner {
    /// Something that this side has begun is over.
    fn end_begun(
        &mut self,
        actor: Actor,
        transfer: &FinishedTransfer,
        want: Option<usize>,
        quiescent: bool,
    ) -> Result<(), String> {
        match transfer.result() {
            Ok(_) => self.summary.files += 1,
            Err(_) => self.summary.files_failed += 1,
        }
        let Some(want) = want else { return Ok(()) };
        let lasting = transfer.result().is_err_and(|error| !error.is_passing());
        let it = &mut self.wants[actor.place][want];
        it.under_way -= 1;
        it.rests = lasting;
        let over = match transfer.result() {
            Ok(_) => true,
            // Before that anything may have been put in the way of it.
            Err(_) if !quiescent => false,
            Err(error) => self.is_final(actor, want, error)?,
        };
        self.wants[actor.place][want].over |= over;
        Ok(())
    }

    /// Whether trying again is in vain; then it must be for a reason that can be seen.
    fn is_final(&self, actor: Actor, want: usize, error: &TransferError) -> Result<bool, String> {
        use TransferErrorKind as Kind;
        if error.is_passing() {
            return Ok(false);
        }
        let Want { get, name, .. } = &self.wants[actor.place][want];
        let (from, to) =
            if *get { (SERVER_PLACE, actor.place) } else { (actor.place, SERVER_PLACE) };
        let path = self.disks.path_of(to, name);
        let sent = self.disks.disk(from).read(name);
        let there = self.disks.disk(to).read(&path);
        let so = match error.kind() {
            // It may have come since.
            Kind::NotFound if sent.is_some() => return Ok(false),
            Kind::NotFound => true,
            // Another was sooner with the same; who asks again hears that it is there.
            Kind::Exists if there == sent => return Ok(false),
            Kind::Exists => there.is_some() || self.disks.may_be_a_directory(name),
            Kind::NoSpace if to != SERVER_PLACE => false,
            // Others may have held the room, and not have used it.
            Kind::NoSpace => {
                let bytes = sent.map_or(0, |content| content.len());
                return Ok(self.disks.is_full_for(bytes as u64));
            }
            Kind::BadName => self.disks.may_be_a_directory(name),
            _ => false,
        };
        if so { Ok(true) } else { Err("nothing fails any more, and no reason is seen".to_owned()) }
    }

    /// Holds what was told against the disks.
    fn check_content(&mut self, actor: Actor, transfer: &FinishedTransfer) -> Result<(), String> {
        let Ok(hash) = transfer.result() else { return Ok(()) };
        let receiver = if transfer.is_incoming() { Some(actor.place) } else { actor.other };
        let Some(place) = receiver else { return Ok(()) };
        let path = self.disks.path_of(place, transfer.name());
        let bytes = self.disks.promise(place, path, hash)?;
        let progress = transfer.handle();
        if progress.size() != Some(bytes) || progress.transferred_bytes() != bytes {
            return Err(format!("{bytes} bytes are there"));
        }
        if transfer.is_incoming() {
            self.summary.resumed_bytes += progress.resumed_from();
            self.check_resumed(actor, transfer)?;
        }
        Ok(())
    }

    /// What a part held was not sent again; and if it was no part of this file, all was.
    fn check_resumed(&mut self, actor: Actor, transfer: &FinishedTransfer) -> Result<(), String> {
        let agreed = &self.logs[&(actor.side, actor.id)].agreed;
        let mut same = agreed.iter().filter(|agreed| {
            agreed.name == transfer.name() && agreed.incoming && agreed.coming.is_some()
        });
        // With two of the same name on one connection it is not known which of them this is.
        let (Some(agreed), None) = (same.next(), same.next()) else { return Ok(()) };
        let Some(coming) = &agreed.coming else { return Ok(()) };
        let Coming { path, held, ever, crashes, alone, size, .. } = coming;
        let others = self.receivers.get(&(actor.place, path.clone())).map(|them| them.ever);
        if !alone || others != Some(*ever) || self.disks.crashes(actor.place) != *crashes {
            return Ok(());
        }
        let content = self.disks.disk(actor.place).read(path).unwrap_or_default();
        let from = transfer.handle().resumed_from();
        let right = if content.starts_with(held) {
            from >= held.len() as u64
        } else {
            from == 0 || from == *size
        };
        if right { Ok(()) } else { Err(format!("T21: gone on from {from}, {} held", held.len())) }
    }

    /// A connection is gone: everything has been told, and what its parts hold is settled.
    fn end_log(&mut self, actor: Actor, line: u64, why: &DisconnectReason) -> Result<(), String> {
        let own = matches!(actor.side, Side::Client(_)) || line != 0;
        if own && why.kind() == DisconnectKind::Protocol {
            return Err("both sides keep to the protocol".to_owned());
        }
        let mut log = std::mem::take(self.log(actor));
        log.end = Some((line, why.kind(), why.unsent_bytes()));
        let begun = log.begun.iter().filter(|begun| begun.told.is_none()).count();
        let agreed = log.agreed.iter().filter(|agreed| agreed.is_due()).count();
        if begun + agreed > 0 {
            let text = format!("{begun} of its own, {agreed} of the peer's");
            return Err(format!("C6: the ends of transfers were not told: {text}"));
        }
        if log.lists[0] != log.lists[1] {
            return Err(format!("C6: lists asked for and told: {:?}", log.lists));
        }
        for begun in log.begun.iter().filter(|begun| begun.progress.is_incoming()) {
            let path = self.disks.path_of(actor.place, begun.progress.name());
            self.receivers(actor.place, &path).now -= 1;
        }
        for coming in log.agreed.iter_mut().filter_map(|agreed| agreed.coming.as_mut()) {
            self.settle(actor.place, coming)?;
        }
        *self.log(actor) = log;
        Ok(())
    }

    /// Looks at what a connection that is gone has left of a file that it was to receive, where
    /// nothing but this connection could do something to it.
    fn settle(&mut self, place: usize, coming: &mut Coming) -> Result<(), String> {
        let (crashes, failures) = (self.disks.crashes(place), self.disks.failures());
        let receivers = self.receivers(place, &coming.path);
        receivers.now -= 1;
        let alone = coming.alone && receivers.ever == coming.ever;
        let harmed = (crashes, failures) != (coming.crashes, coming.failures);
        if !alone || harmed || self.disks.is_tight || self.disks.has_hung(place) {
            return Ok(());
        }
        let part = self.disks.part(place, &coming.part);
        let whole = self.disks.disk(place).read(&coming.path);
        if coming.anew && whole.is_some() && part.is_some() {
            return Err(format!("{} is there, and its part as well", coming.path));
        }
        // Only a crash, or a disk that failed, may leave one.
        if crashes + failures == 0 && part.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("an empty part of {} is left", coming.path));
        }
        coming.left_bytes = Some(whole.or(part).map_or(0, |bytes| bytes.len() as u64));
        Ok(())
    }

    /// Where one side left cleanly and the other saw it, all that was sent of a file is kept.
    fn compare(&self, line: u64) -> Result<(), String> {
        let mut ends = [None, None];
        for ((side, _), log) in &self.logs {
            if log.end.is_some_and(|(other, ..)| line != 0 && other == line) {
                ends[usize::from(matches!(side, Side::Client(_)))] = Some(log);
            }
        }
        let [Some(server), Some(client)] = ends else { return Ok(()) };
        let clean = matches!(server.end, Some((_, DisconnectKind::Ended, _)))
            && matches!(client.end, Some((_, _, 0)));
        if !clean {
            return Ok(());
        }
        let cut = Some(Reported::Failed(TransferErrorKind::Disconnected));
        for begun in client.begun.iter().filter(|begun| begun.told == cut) {
            let progress = &begun.progress;
            let fits = |agreed: &&Agreed| agreed.incoming && agreed.name == progress.name();
            let mut agreed = server.agreed.iter().filter(fits);
            let (Some(agreed), None) = (agreed.next(), agreed.next()) else { continue };
            let Some(Coming { left_bytes: Some(left), .. }) = agreed.coming else { continue };
            if agreed.told == cut && left < progress.transferred_bytes() {
                let text = format!("{} of {}", progress.transferred_bytes(), progress.name());
                return Err(format!("line {line}: {text} were sent, and {left} are kept"));
            }
        }
        Ok(())
    }
}

//! The walks of directories: lists, counts for quotas, and removals of parts to make room.
//!
//! A walk takes the longer, the more files a directory has, while a peer asks for it with a few
//! bytes. So walks are shared. At most one walk of a directory for lists runs at a time, and one
//! for offers; the connections that need another one wait for their turn, fairly by address prefix.
//! The result of a walk serves all requests that arrived before it began, and those of a time that
//! is proportional to its duration. A list never lacks a file that this endpoint published before
//! the request. While files arrive, a list therefore needs a new walk, which begins only after as
//! much time as the last one took, at most [`MAX_AGE`]. Lists of a directory thus take half of one
//! thread at most, whatever the number of peers that ask, unless a walk takes longer than that
//! maximum.

use std::time::Duration;

use posthouse_io::FileEntry;

use crate::directory::{Directory, Inner};
use crate::fair_budget::FairBudget;
use crate::mailbox::PeerPost;
use crate::shared::Shared;
use crate::sync::{Arc, Mutex, Weak, lock};
use crate::transfers::driver::WalkKind;

/// The time for which the result of a walk is used, in durations of that walk.
const AGE_IN_WALKS: u32 = 10;
/// The maximum time for which the result of a walk is used.
const MAX_AGE: Duration = Duration::from_secs(30);
/// The minimum time between two counts of a directory.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// The minimum time for which a snapshot is kept, for those that waited for it.
const MIN_KEPT: Duration = Duration::from_millis(100);
/// The memory in bytes that a walk may use in any case.
const MIN_BYTES: u64 = 128 * 1024;

/// The walks of an endpoint.
pub(crate) struct Walks {
    /// The maximum number of bytes of all snapshots.
    max_bytes: u64,
    shared: Weak<Shared>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    directories: Vec<Walked>,
    /// The number of bytes of the snapshots.
    kept: u64,
    /// The number of bytes that running walks may use.
    reserved: u64,
    /// True exactly when the endpoint shuts down and keeps no snapshot any more.
    is_closed: bool,
}

/// A directory that peers list, or fill.
struct Walked {
    directory: Weak<Inner>,
    /// The places for the one walk for an offer and the one for a list that run.
    places: [Arc<FairBudget>; 2],
    snapshot: Option<Arc<Snapshot>>,
    /// True exactly when a walk from the beginning was last cut short by the bound of its memory.
    is_large: bool,
    /// The last walk for a list.
    listed: Option<WalkTime>,
    /// The last count.
    counted: Option<WalkTime>,
    /// The last removal of parts that could not free the bytes and files that were missing.
    lacking: Option<(WalkTime, (u64, u64))>,
}

/// The time of a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkTime {
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
    /// The number of changes of the directory before the walk.
    pub(crate) changes: u64,
}

/// The time at which a request arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    /// The number of changes of the directory until then.
    pub(crate) changes: u64,
}

/// The files of a directory, or a range of them, in the order of their names. All have valid names.
pub(crate) struct Snapshot {
    /// The name after which the range begins; empty for the first file.
    pub(crate) after: Box<str>,
    pub(crate) entries: Vec<FileEntry>,
    /// Whether other files follow.
    pub(crate) more: bool,
    pub(crate) time: WalkTime,
}

/// The last count of a directory, as a later request sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastCount {
    /// The request need not count.
    Serves,
    /// The request may count from this time on.
    NextAt(Duration),
}

/// The memory of a running walk. The drop gives it back.
pub(crate) struct Reserved {
    walks: Arc<Walks>,
    bytes: u64,
}

impl WalkTime {
    fn duration(&self) -> Duration {
        self.ended.saturating_sub(self.begun)
    }

    /// Returns the end of the time for which others use the result.
    fn fresh_until(&self) -> Duration {
        self.ended + self.duration().saturating_mul(AGE_IN_WALKS).min(MAX_AGE)
    }

    /// Returns the end of the time for which the result is kept. Requests that waited for it use it
    /// even if the walk took no time.
    fn kept_until(&self) -> Duration {
        self.fresh_until().max(self.ended + MIN_KEPT)
    }

    fn serves(&self, arrival: Arrival, now: Duration) -> bool {
        self.is_recent(arrival, now) && self.changes >= arrival.changes
    }

    fn is_recent(&self, arrival: Arrival, now: Duration) -> bool {
        self.begun >= arrival.at || now < self.fresh_until()
    }
}

impl Snapshot {
    /// Returns whether the answer to a request of the files after a name is in the range.
    pub(crate) fn covers(&self, after: &str) -> bool {
        let precedes_last = || self.entries.last().is_some_and(|last| after < &*last.path);
        *self.after <= *after && (!self.more || precedes_last())
    }

    /// Returns the entries after a name.
    pub(crate) fn entries_after(&self, after: &str) -> &[FileEntry] {
        let first = self.entries.partition_point(|entry| *entry.path <= *after);
        &self.entries[first..]
    }

    fn memory_bytes(&self) -> u64 {
        let bytes = |entry: &FileEntry| FileEntry::memory_bytes(entry.path.len()) as u64;
        self.entries.iter().map(bytes).sum::<u64>() + size_of::<Self>() as u64
    }
}

impl Walks {
    /// Makes the walks of an endpoint whose snapshots use at most `max_bytes` bytes.
    pub(crate) fn new(max_bytes: u64, shared: &Weak<Shared>) -> Arc<Self> {
        Arc::new(Self { max_bytes, shared: shared.clone(), state: Mutex::default() })
    }

    /// Returns the number of bytes that snapshots and running walks use.
    pub(crate) fn used(&self) -> u64 {
        let state = lock(&self.state);
        state.kept + state.reserved
    }

    /// Drops all snapshots and keeps no more of them, because the endpoint shuts down.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let dropped = state.take_all(|_| true);
        drop(state);
        drop(dropped);
    }

    /// Returns the place for the walk of a directory for this purpose. Its budget is one.
    pub(crate) fn place(&self, directory: &Directory, kind: WalkKind) -> Arc<FairBudget> {
        lock(&self.state).walked(directory, &self.shared).places[kind as usize].clone()
    }

    // ---- lists ----

    /// Returns the snapshot that answers a request of the files after a name, if there is one.
    pub(crate) fn snapshot(
        &self,
        directory: &Directory,
        after: &str,
        arrival: Arrival,
        now: Duration,
    ) -> Option<Arc<Snapshot>> {
        let state = lock(&self.state);
        let snapshot = state.find(directory)?.snapshot.as_ref()?;
        let serves = snapshot.covers(after) && snapshot.time.serves(arrival, now);
        serves.then(|| snapshot.clone())
    }

    /// Returns the earliest time of the next walk for a list.
    pub(crate) fn next_list_at(&self, directory: &Directory) -> Duration {
        let state = lock(&self.state);
        let last = state.find(directory).and_then(|walked| walked.listed);
        last.map_or(Duration::ZERO, |last| last.ended + last.duration().min(MAX_AGE))
    }

    /// Notes a walk for a list that failed.
    pub(crate) fn note_list(&self, directory: &Directory, time: WalkTime) {
        lock(&self.state).walked(directory, &self.shared).listed = Some(time);
    }

    /// Reserves memory for a walk that is to find the files after a name. Returns the name after
    /// which the walk should begin, so that the result serves as many others as possible.
    pub(crate) fn begin_list(
        self: &Arc<Self>,
        directory: &Directory,
        after: &str,
    ) -> (Box<str>, Reserved) {
        let mut state = lock(&self.state);
        let is_large = state.find(directory).is_some_and(|walked| walked.is_large);
        // Half of the rest is left for other directories.
        let bytes = (self.max_bytes.saturating_sub(state.reserved) / 2).max(MIN_BYTES);
        state.reserved += bytes;
        let start = if is_large { after } else { "" };
        (start.into(), Reserved { walks: self.clone(), bytes })
    }

    /// Keeps the result of a walk for others, as long as it is fresh.
    pub(crate) fn keep(&self, directory: &Directory, snapshot: &Arc<Snapshot>, memory: Reserved) {
        drop(memory);
        let bytes = snapshot.memory_bytes();
        let mut state = lock(&self.state);
        if state.is_closed {
            return;
        }
        let walked = state.walked(directory, &self.shared);
        walked.listed = Some(snapshot.time);
        if snapshot.after.is_empty() {
            walked.is_large = snapshot.more;
        }
        let former = walked.snapshot.take();
        state.kept -= former.as_ref().map_or(0, |it| it.memory_bytes());
        let mut dropped: Vec<_> = former.into_iter().collect();
        while state.kept + state.reserved + bytes > self.max_bytes
            && let Some(oldest) = state.take_first(|_| true)
        {
            dropped.push(oldest);
        }
        state.kept += bytes;
        state.walked(directory, &self.shared).snapshot = Some(snapshot.clone());
        drop(state);
        self.expire_at(snapshot.time.kept_until());
    }

    /// Drops the snapshots of this time when it has come.
    fn expire_at(&self, at: Duration) {
        let Some(shared) = self.shared.upgrade() else { return };
        let weak = self.shared.clone();
        let expire = move || {
            let Some(shared) = weak.upgrade() else { return };
            let mut state = lock(&shared.walks.state);
            let expired = state.take_all(|snapshot| snapshot.time.kept_until() <= at);
            drop(state);
            drop(expired);
        };
        shared.add_own_timer(at, expire);
    }

    // ---- counts ----

    /// Returns whether a request of a count can use the last one, which began after the request. If
    /// not, returns the earliest time of another count.
    pub(crate) fn last_count(&self, directory: &Directory, arrival: Arrival) -> LastCount {
        let state = lock(&self.state);
        match state.find(directory).and_then(|walked| walked.counted) {
            Some(last) if last.begun >= arrival.at => LastCount::Serves,
            Some(last) => LastCount::NextAt(last.fresh_until().max(last.ended + COUNT_INTERVAL)),
            None => LastCount::NextAt(Duration::ZERO),
        }
    }

    pub(crate) fn note_count(&self, directory: &Directory, time: WalkTime) {
        lock(&self.state).walked(directory, &self.shared).counted = Some(time);
    }

    // ---- removals of parts ----

    /// Returns whether a removal of parts could not free as many bytes and files as the request
    /// misses, after the request or a short time before it.
    pub(crate) fn lacks(
        &self,
        directory: &Directory,
        arrival: Arrival,
        now: Duration,
        (bytes, files): (u64, u64),
    ) -> bool {
        let state = lock(&self.state);
        let last = state.find(directory).and_then(|walked| walked.lacking);
        last.is_some_and(|(time, missing)| {
            time.is_recent(arrival, now) && bytes >= missing.0 && files >= missing.1
        })
    }

    pub(crate) fn note_lack(&self, directory: &Directory, time: WalkTime, missing: (u64, u64)) {
        lock(&self.state).walked(directory, &self.shared).lacking = Some((time, missing));
    }
}

impl State {
    fn find(&self, directory: &Directory) -> Option<&Walked> {
        self.directories.iter().find(|walked| walked.is_of(directory))
    }

    /// Returns the entry of a directory, and makes it if there is none.
    fn walked(&mut self, directory: &Directory, shared: &Weak<Shared>) -> &mut Walked {
        let found = self.directories.iter().position(|walked| walked.is_of(directory));
        let at = found.unwrap_or_else(|| {
            // Those that the program has dropped go with their snapshots.
            self.directories.retain(|it| it.snapshot.is_some() || it.directory.strong_count() > 0);
            self.directories.push(Walked::new(directory, shared));
            self.directories.len() - 1
        });
        &mut self.directories[at]
    }

    fn take_all(&mut self, is_it: impl Fn(&Snapshot) -> bool) -> Vec<Arc<Snapshot>> {
        std::iter::from_fn(|| self.take_first(&is_it)).collect()
    }

    /// Takes the oldest of the snapshots for which `is_it` holds.
    fn take_first(&mut self, is_it: impl Fn(&Snapshot) -> bool) -> Option<Arc<Snapshot>> {
        let snapshots = self.directories.iter_mut().map(|walked| &mut walked.snapshot);
        let those = snapshots.filter(|it| it.as_ref().is_some_and(|it| is_it(it)));
        let ended = |it: &&mut Option<Arc<Snapshot>>| it.as_ref().map(|it| it.time.ended);
        let taken = those.min_by_key(ended)?.take()?;
        self.kept -= taken.memory_bytes();
        Some(taken)
    }
}

impl Walked {
    fn new(directory: &Directory, shared: &Weak<Shared>) -> Self {
        let places = [WalkKind::Offer, WalkKind::List].map(|_| {
            let shared = shared.clone();
            FairBudget::new(1, move |peer| {
                if let Some(shared) = shared.upgrade() {
                    // It fails only if the connection has ended; then it gives up its turn.
                    let _ = shared.post_bounded(peer, PeerPost::WalkGranted);
                }
            })
        });
        let directory = Arc::downgrade(&directory.inner);
        Self {
            directory,
            places,
            snapshot: None,
            is_large: false,
            listed: None,
            counted: None,
            lacking: None,
        }
    }

    fn is_of(&self, directory: &Directory) -> bool {
        std::ptr::eq(self.directory.as_ptr(), Arc::as_ptr(&directory.inner))
    }
}

impl Reserved {
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        lock(&self.walks.state).reserved -= self.bytes;
    }
}

//! Directories, which files are received into and sent from.

use std::fmt;
use std::io;
use std::path::Path;

use super::quota::{Amount, Quota, Reservation};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};

// No file of a peer can have the name of the directory of parts.
const _: () =
    assert!(posthouse_io::PARTS_DIRECTORY.eq_ignore_ascii_case(posthouse_wire::PARTS_DIRECTORY));

/// A directory for files that peers get or send. Posthouse reads and writes such a file only
/// beneath the directory, even if the file's name tries to lead out of it, or if another program
/// replaces directories by links meanwhile. A clone refers to the same directory and the same
/// quota.
///
/// A received file is first written to a part file in the subdirectory `.posthouse`. Posthouse then
/// verifies it, syncs it and links it to its final name. Linking never replaces another file. So a
/// file is there whole or not at all. If a transfer is interrupted and the same file is offered
/// again, the transfer resumes with the part file. Part files that have not changed for a week are
/// removed. Part files that no transfer uses are also removed when a quota has no room for an
/// offer.
///
/// ```no_run
/// use posthouse::Directory;
/// let inbox = Directory::open("inbox")?.with_quota(10 << 30, 100_000)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Directory {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    io: posthouse_io::Directory,
    pub(crate) quota: Option<Quota>,
    /// The number of names that peers have given to files.
    changes: AtomicU64,
    /// The time of the last search for expired parts, since the port's start.
    expired_ms: Mutex<Option<u64>>,
}

/// The interval between searches for expired parts.
const EXPIRY_EVERY_MS: u64 = 60 * 60 * 1000;

impl Directory {
    /// Opens a directory. The call blocks; make it at the start of a program.
    ///
    /// # Errors
    ///
    /// The system's error, with the path, if the directory does not exist, is not a directory, or
    /// cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let io = posthouse_io::Directory::open(path).map_err(|error| {
            let text = format!("cannot open the directory {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self::without_quota(io))
    }

    /// Sets the maximum total size and number of the files beneath the directory, part files
    /// included. An offered file that would exceed a limit is rejected before any of its bytes are
    /// sent; until then an empty part file for it may exist. Without this call there is no limit.
    /// `u64::MAX` bytes are no limit, either.
    ///
    /// The limits include all files beneath the directory, also those that Posthouse did not
    /// receive. The number of empty directories has a limit of its own, which is also `max_files`.
    /// This call counts the files. Before Posthouse rejects a file because of a limit, it counts
    /// the files again, and then removes part files that no transfer uses, the oldest first, as
    /// many as the offer needs. If all part files together, used ones included, hold less than the
    /// offer needs, it removes none. If all of them together hold enough, but those that no
    /// transfer uses hold too little, it removes the latter nevertheless and then rejects the file.
    /// Between two counts of a directory an endpoint waits ten times as long as the last count
    /// took, but at least 1 s and at most 30 s. Offers that need a count wait until then, and share
    /// the next count. A file that is larger than the whole `max_bytes` is rejected without a
    /// count.
    ///
    /// # Errors
    ///
    /// The system's error if the files cannot be counted.
    pub fn with_quota(self, max_bytes: u64, max_files: u64) -> io::Result<Self> {
        let there = self.inner.io.usage()?;
        let quota = Quota::new(max_bytes, max_files, there.into());
        Ok(Self::new(self.inner.io.clone(), Some(quota)))
    }

    pub(crate) fn without_quota(io: posthouse_io::Directory) -> Self {
        Self::new(io, None)
    }

    fn new(io: posthouse_io::Directory, quota: Option<Quota>) -> Self {
        let changes = AtomicU64::new(0);
        let expired_ms = Mutex::new(None);
        Self { inner: Arc::new(Inner { io, quota, changes, expired_ms }) }
    }

    pub(crate) fn io(&self) -> &posthouse_io::Directory {
        &self.inner.io
    }

    /// Returns whether a search for expired parts is due. If so, the caller searches.
    pub(crate) fn is_expiry_due(&self, now_ms: u64) -> bool {
        let mut last = lock(&self.inner.expired_ms);
        let due = last.is_none_or(|last| now_ms.saturating_sub(last) >= EXPIRY_EVERY_MS);
        if due {
            *last = Some(now_ms);
        }
        due
    }

    /// Returns the number of names that peers have given to files so far. A walk that begins later
    /// finds these files.
    pub(crate) fn changes(&self) -> u64 {
        self.inner.changes.load(Ordering::Acquire)
    }

    /// Notes that a file may have got its name.
    pub(crate) fn changed(&self) {
        self.inner.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns whether the quota is larger than this amount.
    pub(crate) fn could_hold(&self, amount: Amount) -> bool {
        self.inner.quota.as_ref().is_none_or(|quota| quota.could_hold(amount))
    }

    /// Reserves space; `None` if that would exceed the quota.
    pub(crate) fn reserve(&self, amount: Amount) -> Option<Reservation> {
        let has_room = self.inner.quota.as_ref().is_none_or(|quota| quota.reserve(amount));
        has_room.then(|| Reservation { directory: self.clone(), amount })
    }

    /// Returns the numbers of bytes and files that would have to be removed before this amount can
    /// be reserved.
    pub(crate) fn missing_room(&self, amount: Amount) -> (u64, u64) {
        self.inner.quota.as_ref().map_or((0, 0), |quota| quota.missing_room(amount))
    }

    /// Returns the sum of received files so far. Pass it to [`counted`](Self::counted) after a new
    /// count that begins now.
    pub(crate) fn spent(&self) -> Amount {
        let quota = self.inner.quota.as_ref();
        quota.map(|quota| lock(&quota.used).spent).unwrap_or_default()
    }

    /// Takes the result of a new count.
    pub(crate) fn counted(&self, usage: posthouse_io::Usage, before: Amount) {
        if let Some(quota) = &self.inner.quota {
            quota.counted(usage.into(), before);
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

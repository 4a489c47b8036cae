//! A directory that files are received into and sent from.

use std::fmt;
use std::io;
use std::path::Path;

use super::quota::{Quota, Reservation, Spent, Used};
use crate::sync::{Arc, Mutex, lock};

// The directory of parts on the disk is the name that no file of a peer may have.
const _: () =
    assert!(posthouse_io::PARTS_DIRECTORY.eq_ignore_ascii_case(posthouse_wire::PARTS_DIRECTORY));

/// A directory, opened as a capability: a peer's file is read or written beneath it and nowhere
/// else, whatever its name says and whoever swaps links meanwhile. `Clone` names the same one.
///
/// A file that arrives is written to a part in `.posthouse`, a directory of its own beneath this
/// one, verified, synced, and given its final name, which never replaces anything: it is there
/// whole or not at all. A part that its peer left behind is gone on with when the same file comes
/// again; parts that nobody touched for a week are removed.
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
    /// When parts were last looked through for those that are too old, since the port's start.
    expired_ms: Mutex<Option<u64>>,
}

/// Parts are looked through so often.
const EXPIRY_EVERY_MS: u64 = 60 * 60 * 1000;

impl Directory {
    /// Opens a directory. It blocks, and is for the start of a program.
    ///
    /// # Errors
    ///
    /// The system's, with the path: it is not there, is no directory, or may not be opened.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let io = posthouse_io::Directory::open(path).map_err(|error| {
            let text = format!("cannot open the directory {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self::without_quota(io))
    }

    /// Bounds what lies beneath it, unfinished files included: a file that would bring more is
    /// refused when it is offered, before anything is written. Everything beneath it counts, and is
    /// counted now (and again before a file is refused), which takes a while where there are many
    /// files.
    ///
    /// # Errors
    ///
    /// The system's, where what is there cannot be counted.
    pub fn with_quota(self, max_bytes: u64, max_files: u64) -> io::Result<Self> {
        let there = self.inner.io.usage()?;
        let used = Used { bytes: there.bytes, files: there.files, ..Used::default() };
        let quota = Quota { max_bytes, max_files, used: Mutex::new(used) };
        Ok(Self::new(self.inner.io.clone(), Some(quota)))
    }

    pub(crate) fn without_quota(io: posthouse_io::Directory) -> Self {
        Self::new(io, None)
    }

    fn new(io: posthouse_io::Directory, quota: Option<Quota>) -> Self {
        Self { inner: Arc::new(Inner { io, quota, expired_ms: Mutex::new(None) }) }
    }

    pub(crate) fn io(&self) -> &posthouse_io::Directory {
        &self.inner.io
    }

    /// Whether it is time to look for parts that are too old; the caller does.
    pub(crate) fn is_expiry_due(&self, now_ms: u64) -> bool {
        let mut last = lock(&self.inner.expired_ms);
        let due = last.is_none_or(|last| now_ms.saturating_sub(last) >= EXPIRY_EVERY_MS);
        if due {
            *last = Some(now_ms);
        }
        due
    }

    /// Reserves room for so many bytes and files more.
    pub(crate) fn reserve(&self, bytes: u64, files: u64) -> Option<Reservation> {
        if let Some(quota) = &self.inner.quota {
            let mut used = lock(&quota.used);
            let bytes_then = used.bytes.saturating_add(used.reserved_bytes).saturating_add(bytes);
            let files_then = used.files.saturating_add(used.reserved_files).saturating_add(files);
            if bytes_then > quota.max_bytes || files_then > quota.max_files {
                return None;
            }
            used.reserved_bytes += bytes;
            used.reserved_files += files;
        }
        Some(Reservation { directory: self.clone(), bytes, files })
    }

    /// What has come so far: to be handed to [`counted`](Self::counted) when what is there has been
    /// counted anew from now on.
    pub(crate) fn spent(&self) -> Spent {
        let used = self.inner.quota.as_ref().map(|quota| *lock(&quota.used)).unwrap_or_default();
        Spent { bytes: used.spent_bytes, files: used.spent_files }
    }

    /// What is there was counted anew. What came meanwhile, and what transfers under way have
    /// written, may count twice: rather too much than too little.
    pub(crate) fn counted(&self, usage: posthouse_io::Usage, before: Spent) {
        if let Some(quota) = &self.inner.quota {
            let mut used = lock(&quota.used);
            used.bytes = usage.bytes.saturating_add(used.spent_bytes - before.bytes);
            used.files = usage.files.saturating_add(used.spent_files - before.files);
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

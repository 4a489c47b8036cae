//! The quota of a directory: its use, and the reservations of transfers.

use super::directory::Directory;
use crate::sync::{Mutex, lock};

/// The limits of a directory, and their use.
pub(crate) struct Quota {
    pub(crate) max_bytes: u64,
    pub(crate) max_files: u64,
    pub(crate) used: Mutex<Used>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// The result of the last count, and everything received since.
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// Everything received since the start. A new count may miss files that arrive while it runs.
    pub(crate) spent_bytes: u64,
    pub(crate) spent_files: u64,
    /// The reservations of active transfers.
    pub(crate) reserved_bytes: u64,
    pub(crate) reserved_files: u64,
}

/// The sums of files received into a directory, up to a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// Reserved space for one file. Dropping it returns the unused rest.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) directory: Directory,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

impl Reservation {
    /// Makes the reservation smaller.
    pub(crate) fn shrink(&mut self, bytes: u64, files: u64) {
        self.bytes -= bytes;
        self.files -= files;
        if let Some(quota) = &self.directory.inner.quota {
            let mut used = lock(&quota.used);
            used.reserved_bytes -= bytes;
            used.reserved_files -= files;
        }
    }

    /// Makes the reservation larger.
    pub(crate) fn extend(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(quota) = &self.directory.inner.quota {
            lock(&quota.used).reserved_bytes += bytes;
        }
    }

    /// Counts this number of bytes as written to the disk.
    pub(crate) fn spend(self, bytes: u64) {
        if let Some(quota) = &self.directory.inner.quota {
            let mut used = lock(&quota.used);
            used.bytes = used.bytes.saturating_add(bytes);
            used.files = used.files.saturating_add(self.files);
            used.spent_bytes += bytes;
            used.spent_files += self.files;
        }
    }

    /// Counts the whole reservation as written, because the written part is unknown. The next count
    /// corrects it.
    pub(crate) fn spend_all(self) {
        let bytes = self.bytes;
        self.spend(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(quota) = &self.directory.inner.quota {
            let mut used = lock(&quota.used);
            used.reserved_bytes -= self.bytes;
            used.reserved_files -= self.files;
        }
    }
}

//! The quota of a directory: what lies in it, and what transfers have reserved.

use super::directory::Directory;
use crate::sync::{Mutex, lock};

/// What may lie beneath a directory.
pub(crate) struct Quota {
    pub(crate) max_bytes: u64,
    pub(crate) max_files: u64,
    pub(crate) used: Mutex<Used>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// What was there when it was last counted, and what has come since.
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// What has come in all, since the start: what came while it was counted anew may not have
    /// been seen by that.
    pub(crate) spent_bytes: u64,
    pub(crate) spent_files: u64,
    /// What transfers under way may still bring.
    pub(crate) reserved_bytes: u64,
    pub(crate) reserved_files: u64,
}

/// What has come into a directory up to a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// Room for one file; what of it was not used returns when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) directory: Directory,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

impl Reservation {
    /// So many fewer are needed than was thought.
    pub(crate) fn shrink(&mut self, bytes: u64, files: u64) {
        self.bytes -= bytes;
        self.files -= files;
        if let Some(quota) = &self.directory.inner.quota {
            let mut used = lock(&quota.used);
            used.reserved_bytes -= bytes;
            used.reserved_files -= files;
        }
    }

    /// So many more are needed than was thought.
    pub(crate) fn extend(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(quota) = &self.directory.inner.quota {
            lock(&quota.used).reserved_bytes += bytes;
        }
    }

    /// So many bytes lie on the disk now.
    pub(crate) fn spend(self, bytes: u64) {
        if let Some(quota) = &self.directory.inner.quota {
            let mut used = lock(&quota.used);
            used.bytes = used.bytes.saturating_add(bytes);
            used.files = used.files.saturating_add(self.files);
            used.spent_bytes += bytes;
            used.spent_files += self.files;
        }
    }

    /// Nobody knows what of it comes to lie on the disk: it counts as if all did, until what is
    /// there is counted anew.
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

//! The quota of a directory: its use, and the reservations of transfers.

use super::directory::Directory;
use crate::sync::{Mutex, lock};

/// The limits of a directory, and their use.
pub(crate) struct Quota {
    /// The maximum number of bytes; `u64::MAX` is no limit.
    pub(crate) max_bytes: u64,
    pub(crate) max_files: u64,
    pub(crate) used: Mutex<Used>,
}

/// A number of bytes, of files and of empty directories. Sums of bytes do not overflow: a peer can
/// announce sizes up to 2^63 - 1, and the number of transfers is far below 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) bytes: u128,
    pub(crate) files: u64,
    /// The number of directories without entries. They are limited to as many as files.
    pub(crate) directories: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// The result of the last count, and everything received since.
    pub(crate) counted: Amount,
    /// Everything received since the start. A new count may miss files that arrive while it runs.
    pub(crate) spent: Amount,
    /// The reservations of active transfers.
    pub(crate) reserved: Amount,
}

/// Reserved space for one file or directory. Dropping it returns the unused rest.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) directory: Directory,
    pub(crate) amount: Amount,
}

impl Amount {
    pub(crate) fn of_bytes(bytes: u64) -> Self {
        Self { bytes: bytes.into(), ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.files += other.files;
        self.directories += other.directories;
    }

    fn subtract(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.files -= other.files;
        self.directories -= other.directories;
    }
}

impl From<posthouse_io::Usage> for Amount {
    fn from(usage: posthouse_io::Usage) -> Self {
        let posthouse_io::Usage { bytes, files, empty_directories: directories } = usage;
        Self { bytes: bytes.into(), files, directories }
    }
}

impl Quota {
    /// Makes a quota for a directory that has been counted.
    pub(crate) fn new(max_bytes: u64, max_files: u64, there: Amount) -> Self {
        let used = Used { counted: there, ..Used::default() };
        Self { max_bytes, max_files, used: Mutex::new(used) }
    }

    /// Reserves an amount. Returns false, and reserves nothing, if that would exceed the quota.
    pub(crate) fn reserve(&self, amount: Amount) -> bool {
        let mut used = lock(&self.used);
        let mut then = used.counted;
        then.add(used.reserved);
        then.add(amount);
        let has_room = self.permits(then, amount);
        if has_room {
            used.reserved.add(amount);
        }
        has_room
    }

    /// Returns whether an empty directory would have room for this amount.
    pub(crate) fn could_hold(&self, amount: Amount) -> bool {
        self.permits(amount, amount)
    }

    /// Returns whether the use after an addition is within the limits.
    fn permits(&self, then: Amount, added: Amount) -> bool {
        (self.max_bytes == u64::MAX || then.bytes <= self.max_bytes.into())
            && then.files <= self.max_files
            && (then.directories <= self.max_files || added.directories == 0)
    }

    /// Returns the numbers of bytes and files by which the quota would be exceeded if this amount
    /// was reserved. The maximum stands for an amount that could never be reserved.
    pub(crate) fn missing_room(&self, amount: Amount) -> (u64, u64) {
        let used = lock(&self.used);
        let mut then = used.counted;
        then.add(used.reserved);
        then.add(amount);
        let max_bytes = if self.max_bytes == u64::MAX { u128::MAX } else { self.max_bytes.into() };
        if amount.bytes > max_bytes || amount.files > self.max_files {
            return (u64::MAX, u64::MAX);
        }
        let bytes = u64::try_from(then.bytes.saturating_sub(max_bytes)).unwrap_or(u64::MAX);
        (bytes, then.files.saturating_sub(self.max_files))
    }

    /// Takes the result of a new count. `before` is [`Used::spent`] when the count began. Files
    /// that arrived during the count, and data that active transfers have written, may count
    /// twice: too much is safer than too little.
    pub(crate) fn counted(&self, there: Amount, before: Amount) {
        let mut used = lock(&self.used);
        let mut since = used.spent;
        since.subtract(before);
        used.counted = there;
        used.counted.add(since);
    }
}

impl Reservation {
    /// Makes the reservation smaller.
    pub(crate) fn shrink(&mut self, amount: Amount) {
        self.amount.subtract(amount);
        if let Some(quota) = &self.directory.inner.quota {
            lock(&quota.used).reserved.subtract(amount);
        }
    }

    /// Makes the reservation larger.
    pub(crate) fn extend(&mut self, amount: Amount) {
        self.amount.add(amount);
        if let Some(quota) = &self.directory.inner.quota {
            lock(&quota.used).reserved.add(amount);
        }
    }

    /// Counts this number of bytes as written to the disk.
    pub(crate) fn spend(self, bytes: u64) {
        if let Some(quota) = &self.directory.inner.quota {
            let spent = Amount { bytes: bytes.into(), ..self.amount };
            let mut used = lock(&quota.used);
            used.counted.add(spent);
            used.spent.add(spent);
        }
    }

    /// Counts the whole reservation as written, because the written part is unknown. The next count
    /// corrects it.
    pub(crate) fn spend_all(self) {
        let bytes = u64::try_from(self.amount.bytes).unwrap_or(u64::MAX);
        self.spend(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(quota) = &self.directory.inner.quota {
            lock(&quota.used).reserved.subtract(self.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64) -> Amount {
        Amount { files: 1, ..Amount::of_bytes(bytes) }
    }

    #[test]
    fn sizes_that_overflow_when_added_neither_panic_nor_take_the_room_of_others() {
        let quota = Quota::new(u64::MAX, 5, Amount::default());
        for _ in 0..4 {
            assert!(quota.reserve(file(i64::MAX as u64)));
        }
        assert!(quota.reserve(file(11)));
        assert!(!quota.reserve(file(11)), "a sixth file");
        let quota = Quota::new(u64::MAX - 1, 9, Amount::default());
        assert!(quota.reserve(file(i64::MAX as u64)));
        assert!(quota.reserve(file(i64::MAX as u64)));
        assert!(!quota.reserve(file(1)));
    }

    #[test]
    fn empty_directories_have_a_bound_of_their_own() {
        let there = Amount { directories: 1, ..file(7) };
        let quota = Quota::new(100, 2, there);
        let directory = Amount { directories: 1, ..Amount::default() };
        assert!(quota.reserve(directory));
        assert!(!quota.reserve(directory));
        assert!(quota.reserve(file(1)), "directories take no room of files");
        assert!(!quota.reserve(file(1)));
    }
}

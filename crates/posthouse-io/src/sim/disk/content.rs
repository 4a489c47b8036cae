//! The content of a file: its present state, and its state after a crash.

use crate::sim::random::Random;

/// The bytes of a file.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The present bytes, as a read returns them.
    now: Vec<u8>,
    /// The bytes that are on the disk, and stay in a crash.
    synced: Vec<u8>,
    /// The changes that lead from `synced` to `now`, in order.
    unsynced: Vec<Change>,
    /// The number of older changes: those that `synced` contains, and those that a crash lost.
    settled: u64,
    /// The number of changes that the file system shows (as a new change time of the file).
    changes: u64,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut { bytes: usize },
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    // The bytes in between are a hole, which reads as zeros.
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
            Self::Cut { bytes } => to.resize(*bytes, 0),
        }
    }
}

impl Content {
    /// Returns a content whose bytes are all on the disk.
    pub(super) fn synced(bytes: &[u8]) -> Self {
        Self { now: bytes.to_vec(), synced: bytes.to_vec(), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    /// Returns the bytes from `offset` on.
    pub(super) fn from(&self, offset: u64) -> &[u8] {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.now.get(offset..).unwrap_or_default()
    }

    pub(super) fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        self.change(Change::Write { offset, bytes });
    }

    /// Truncates to this length, or extends with zeros up to it.
    pub(super) fn cut(&mut self, bytes: usize) {
        self.change(Change::Cut { bytes });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
        self.changes += 1;
    }

    /// Replaces all bytes without the file system seeing a change.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        let seen = self.changes;
        self.cut(0);
        self.write(0, bytes.to_vec());
        self.changes = seen;
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns the number of all writes and truncations of this file so far, synced or not. Those
    /// that a crash lost count, too.
    pub(super) fn made(&self) -> u64 {
        self.settled + self.unsynced.len() as u64
    }

    pub(super) fn sync(&mut self) {
        self.sync_to(self.made());
    }

    /// Brings the first `changes` changes of the file to the disk. A sync need not bring the
    /// changes that were made after it had begun.
    pub(super) fn sync_to(&mut self, changes: u64) {
        let count = changes.saturating_sub(self.settled) as usize;
        for change in self.unsynced.drain(..count) {
            change.apply(&mut self.synced);
        }
        self.settled += count as u64;
    }

    /// Simulates a crash: for each unsynced change, chance decides whether all of it, a part of it
    /// or nothing of it is on the disk. Returns the number of changes of which something is lost.
    pub(super) fn crash(&mut self, random: &mut Random) -> u64 {
        let mut lost = 0;
        self.changes += u64::from(!self.unsynced.is_empty());
        self.settled = self.made();
        for mut change in std::mem::take(&mut self.unsynced) {
            if random.coin() {
                lost += 1;
                continue;
            }
            if let Change::Write { bytes, .. } = &mut change
                && bytes.len() > 1
                && random.below(TORN_OF) == 0
            {
                lost += 1;
                bytes.truncate(1 + random.below(bytes.len() - 1));
            }
            change.apply(&mut self.synced);
        }
        self.now.clone_from(&self.synced);
        lost
    }
}

/// The denominator of a chance: if a write survives a crash, this is the chance that only its first
/// part survives.
const TORN_OF: usize = 3;

//! What is in a file: as it is read, and as a crash would leave it.

use crate::sim::random::Random;

/// The bytes of a file.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// As they are read.
    now: Vec<u8>,
    /// As they are on the disk for certain.
    synced: Vec<u8>,
    /// What makes the second the first, in order.
    unsynced: Vec<Change>,
    /// How many changes came before those.
    settled: u64,
    /// Counts what a file system sees of changes.
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
                    // What lies between is a hole, and reads as zeros.
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
            Self::Cut { bytes } => to.resize(*bytes, 0),
        }
    }
}

impl Content {
    /// Bytes that are on the disk.
    pub(super) fn synced(bytes: &[u8]) -> Self {
        Self { now: bytes.to_vec(), synced: bytes.to_vec(), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    /// What can be read from there on.
    pub(super) fn from(&self, offset: u64) -> &[u8] {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.now.get(offset..).unwrap_or_default()
    }

    pub(super) fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        self.change(Change::Write { offset, bytes });
    }

    /// Cuts to this length, or fills up to it with zeros.
    pub(super) fn cut(&mut self, bytes: usize) {
        self.change(Change::Cut { bytes });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
        self.changes += 1;
    }

    /// Other bytes in place of all, unseen by the file system.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        let seen = self.changes;
        self.cut(0);
        self.write(0, bytes.to_vec());
        self.changes = seen;
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// How many changes were ever made.
    pub(super) fn made(&self) -> u64 {
        self.settled + self.unsynced.len() as u64
    }

    pub(super) fn sync(&mut self) {
        self.sync_to(self.made());
    }

    /// Brings the first so many of all changes to the disk: a sync need not bring those that were
    /// made after it had begun.
    pub(super) fn sync_to(&mut self, changes: u64) {
        let count = changes.saturating_sub(self.settled) as usize;
        for change in self.unsynced.drain(..count) {
            change.apply(&mut self.synced);
        }
        self.settled += count as u64;
    }

    /// What was not synced is kept, kept in part, or lost. Gives how many changes were not kept
    /// whole.
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

/// One of so many writes that a crash keeps is kept in a part from its beginning only.
const TORN_OF: usize = 3;

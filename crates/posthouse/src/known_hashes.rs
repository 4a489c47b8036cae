//! Hashes of files that were sent whole: who sends one of them again need not look at its bytes.

use std::collections::{BTreeMap, VecDeque};

use posthouse_io::FileVersion;

use crate::sync::{Mutex, lock};

/// Files whose hashes are kept, about 200 bytes each; the oldest make room for others.
const KEPT_MAX: usize = 1024;

/// The hashes that an endpoint knows. Each was agreed upon with a receiver that had the whole file.
#[derive(Debug, Default)]
pub(crate) struct KnownHashes {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    hashes: BTreeMap<FileVersion, [u8; 32]>,
    /// In the order in which they came; those that were forgotten since may still be here.
    order: VecDeque<FileVersion>,
}

impl KnownHashes {
    pub(crate) fn of(&self, version: FileVersion) -> Option<[u8; 32]> {
        lock(&self.kept).hashes.get(&version).copied()
    }

    pub(crate) fn keep(&self, version: FileVersion, hash: [u8; 32]) {
        let Kept { hashes, order } = &mut *lock(&self.kept);
        if hashes.insert(version, hash).is_none() {
            order.push_back(version);
        }
        while order.len() > KEPT_MAX {
            let oldest = order.pop_front();
            oldest.and_then(|oldest| hashes.remove(&oldest));
        }
    }

    /// A transfer of the file failed: it may be another than it was.
    pub(crate) fn forget(&self, version: FileVersion) {
        let Kept { hashes, order } = &mut *lock(&self.kept);
        if hashes.remove(&version).is_some() {
            order.retain(|kept| *kept != version);
        }
    }
}

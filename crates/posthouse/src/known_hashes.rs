//! Hashes of files that were sent whole: who sends one of them again need not look at its bytes.

use std::collections::{BTreeMap, VecDeque};

use posthouse_io::FileVersion;

use crate::sync::{Mutex, lock};

/// Files whose hashes are kept, about 200 bytes each; the oldest make room for others.
const KEPT_MAX: usize = 1024;

/// The hashes that an endpoint knows. Each was agreed upon with a receiver that had the whole file.
#[derive(Debug)]
pub(crate) struct KnownHashes<V = FileVersion> {
    kept: Mutex<Kept<V>>,
}

#[derive(Debug)]
struct Kept<V> {
    hashes: BTreeMap<V, [u8; 32]>,
    /// The same files, in the order in which they came.
    order: VecDeque<V>,
}

impl<V> Default for KnownHashes<V> {
    fn default() -> Self {
        Self { kept: Mutex::new(Kept { hashes: BTreeMap::new(), order: VecDeque::new() }) }
    }
}

impl<V: Copy + Ord> KnownHashes<V> {
    pub(crate) fn of(&self, version: V) -> Option<[u8; 32]> {
        lock(&self.kept).hashes.get(&version).copied()
    }

    pub(crate) fn keep(&self, version: V, hash: [u8; 32]) {
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
    pub(crate) fn forget(&self, version: V) {
        let Kept { hashes, order } = &mut *lock(&self.kept);
        if hashes.remove(&version).is_some() {
            order.retain(|kept| *kept != version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_what_is_forgotten_takes_none() {
        let known = KnownHashes::default();
        for version in 0..=KEPT_MAX {
            known.keep(version, [version as u8; 32]);
            known.keep(version, [version as u8; 32]);
        }
        assert_eq!((known.of(0), known.of(1)), (None, Some([1; 32])));
        known.forget(5);
        known.forget(5);
        assert_eq!(known.of(5), None);
        known.keep(KEPT_MAX + 1, [7; 32]);
        assert_eq!(known.of(1), Some([1; 32]), "there was room");
        let kept = lock(&known.kept);
        assert_eq!((kept.hashes.len(), kept.order.len()), (KEPT_MAX, KEPT_MAX));
    }
}
